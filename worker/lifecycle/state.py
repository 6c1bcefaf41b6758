"""Data of the lifecycle: a job's state, the events that may be observed, and the actions that may follow.

`JobState` survives a kill: it is stored as JSON with the row before any request that costs money. All times
are Unix seconds of a clock that never jumps (`worker.runtime.redis_clock`); in the store they follow Redis'
clock.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from askmill.jobs.model.models import Attempt, JobStatus, Step
from askmill.worker.lifecycle.api_types import (
    Answer,
    ApiError,
    LookupKind,
    Run,
    RunLookup,
    ToolCall,
    ToolOutput,
)
from askmill.worker.lifecycle.retry import RequestKind


class Phase(StrEnum):
    """How far the current attempt is."""

    NEW = "new"
    """No run yet; perhaps a thread. Nothing has been paid for."""
    CREATE_SENT = "create_sent"
    """The create has been sent or is about to be sent; its reply is unknown."""
    POLLING = "polling"
    """The run's id is stored; the run is polled until it ends."""
    CALLING_TOOLS = "calling_tools"
    """The functions have been called; their outputs are stored and submitted."""
    READING = "reading"
    """The run has ended; its messages and steps are to be read."""
    CHECKING_DUPLICATES = "checking_duplicates"
    """The answer is read; a create was repeated, so the thread is searched for a duplicate run."""


class CancelReason(StrEnum):
    """Why the worker cancels a run."""

    DEADLINE = "deadline"
    USER = "user"
    ROW = "row"
    """The row itself: its outputs were refused, or it called functions too often."""


@dataclass(frozen=True, slots=True)
class JobState:
    """Everything stored about a row in progress. Fields marked (memory) need not survive a kill."""

    phase: Phase = Phase.NEW
    attempt: int = 1
    attempts_before_retry: int = 0
    """Attempts made before `askmill retry`; the limit of attempts counts from here."""
    thread_id: str | None = None
    run_id: str | None = None
    shared_thread: bool = False
    """The thread belongs to a conversation of several rows."""
    last_message_id_before: str | None = None
    """The last message of the conversation's previous turn."""
    earlier_runs: tuple[str, ...] = ()
    """The last runs of the conversation's earlier turns."""
    follow_up: bool = False
    """The thread existed before this attempt: the question is sent with the run."""
    delete_failed_turn: bool = False
    """The messages of a failed run are to be deleted from the shared thread first."""
    continuing: bool = False
    """This attempt asks the model to continue a truncated answer."""
    create_sent_at: float | None = None
    began_at: float | None = None
    """When this worker, or an earlier one, first saw the run."""
    lifetime_s: float | None = None
    """How long the API lets the run live, from its start, measured by the API's clock."""
    locked_since: float | None = None
    """Since when another run has locked the thread."""
    doubled_limits: tuple[str, ...] = ()
    """Token limits that `raise-limit` has doubled."""
    partial_answers: tuple[str, ...] = ()
    """Truncated answers that `continue` adds to."""
    outputs: tuple[ToolOutput, ...] = ()
    tool_rounds: int = 0
    create_unconfirmed: bool = False
    """A create without a reply was not found: look once more before the create is repeated."""
    create_repeated: bool = False
    """An unconfirmed create was repeated."""
    past_attempts: tuple[Attempt, ...] = ()
    past_steps: tuple[Step, ...] = ()
    """Steps of earlier attempts."""
    ended_run: Run | None = None
    """The run as it ended, while it is being read."""
    answer: Answer | None = None
    schema_error: str | None = None
    crashes: int = 0
    """How often an unexpected exception ended the work on this row."""
    cancel_reason: CancelReason | None = None
    cancel_error: str | None = None
    cancel_requested_at: float | None = None
    unknown_status: str | None = None
    """A run status that askmill does not know (memory)."""
    overdue: bool = False
    """The deadline has passed; the run is polled once more before it is cancelled (memory)."""
    failures: int = 0
    """Consecutive failed requests of the current step (memory)."""
    failing_since: float | None = None
    """When those failures began (memory)."""
    not_found_since: float | None = None
    """Since when the server has answered nothing but 404 (memory)."""

    @property
    def known_run_ids(self) -> frozenset[str]:
        """Runs of earlier attempts and the last runs of earlier turns."""
        return frozenset(
            (*self.earlier_runs, *(attempt.run_id for attempt in self.past_attempts if attempt.run_id))
        )

    def with_failure(self, at: float) -> "JobState":
        """The state after one more failed request of the current step."""
        since = self.failing_since if self.failing_since is not None else at
        return replace(self, failures=self.failures + 1, failing_since=since)


# ── events ──


@dataclass(frozen=True, slots=True)
class Event:
    """Something observed at a time, with a random number in [0, 1) for jitter."""

    at: float
    jitter: float = 0.5


@dataclass(frozen=True, slots=True)
class Claimed(Event):
    """The row is claimed, new or released by another worker; or a wait is over."""


@dataclass(frozen=True, slots=True)
class Reserved(Event):
    """The rate limits allow one run."""


@dataclass(frozen=True, slots=True)
class FailedTurnDeleted(Event):
    """The messages of a failed run are deleted from the shared thread."""


@dataclass(frozen=True, slots=True)
class ThreadCreated(Event):
    """The thread exists, with the question on it."""

    thread_id: str = ""


@dataclass(frozen=True, slots=True)
class CreateSkipped(Event):
    """The create was delayed so long that it was not sent; its mark must be stored again first."""


@dataclass(frozen=True, slots=True)
class RunObserved(Event):
    """The API has returned the run. The subclasses name the request."""

    run: Run = field(default_factory=lambda: Run(id="", status=""))


@dataclass(frozen=True, slots=True)
class RunCreated(RunObserved):
    """The reply to the create."""


@dataclass(frozen=True, slots=True)
class RunPolled(RunObserved):
    """The reply to a poll."""


@dataclass(frozen=True, slots=True)
class CancelAccepted(RunObserved):
    """The reply to a cancel; the run may still complete."""


@dataclass(frozen=True, slots=True)
class OutputsSubmitted(RunObserved):
    """The reply to a submit of tool outputs. The run may have a new id (Responses)."""


@dataclass(frozen=True, slots=True)
class LookupDone(Event):
    """The result of a search for a run whose create (or submit) got no reply."""

    lookup: RunLookup = field(default_factory=lambda: RunLookup(kind=LookupKind.NOTHING))


@dataclass(frozen=True, slots=True)
class ToolsCalled(Event):
    """All functions have been called."""

    outputs: tuple[ToolOutput, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerRead(Event):
    """All messages and steps of an ended run."""

    answer: Answer = field(default_factory=Answer)
    schema_error: str | None = None
    """How the answer misses the response schema."""
    duplicates_checked: bool = False


@dataclass(frozen=True, slots=True)
class RequestFailed(Event):
    """The last request failed."""

    error: ApiError = field(default_factory=lambda: ApiError(status=None))
    request: RequestKind = RequestKind.READ
    row_overrides: frozenset[str] = frozenset()
    """Names of the settings that the row itself overrides (`--override`)."""


@dataclass(frozen=True, slots=True)
class CancelRequested(Event):
    """The user cancels the batch."""


@dataclass(frozen=True, slots=True)
class PauseRequested(Event):
    """The batch is paused: start no run."""


@dataclass(frozen=True, slots=True)
class BudgetFull(Event):
    """The budget has no room until runs in flight have ended."""


# ── actions ──


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do; its outcome is the next event."""


@dataclass(frozen=True, slots=True)
class Reserve(Action):
    """Ensure that the assistant exists, and wait until the rate limits allow one run."""


@dataclass(frozen=True, slots=True)
class DeleteFailedTurn(Action):
    """Delete the messages that a failed run left on the shared thread."""


@dataclass(frozen=True, slots=True)
class CreateThread(Action):
    """Create the thread."""


@dataclass(frozen=True, slots=True)
class CreateRun(Action):
    """Create the run; the state is stored with phase CREATE_SENT first."""


@dataclass(frozen=True, slots=True)
class RecoverRun(Action):
    """After a wait, search for the run of a create without a reply."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RecoverSubmit(Action):
    """After a wait, check whether outputs whose submission got no reply have arrived."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PollRun(Action):
    """Read the run. `after_s` None: when the polling plan says, but no later than `by`."""

    after_s: float | None = None
    by: float | None = None


@dataclass(frozen=True, slots=True)
class CancelRun(Action):
    """After a wait, ask the API to end the run."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CallTools(Action):
    """Call the functions that the model asks for."""

    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmitOutputs(Action):
    """After a wait, submit the stored outputs."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReadAnswer(Action):
    """After a wait, read all messages and steps of the ended run."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait(Action):
    """Keep the slot and wait; the next event is Claimed."""

    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReleaseRow(Action):
    """Release the row and its slot; the row is due again after a wait."""

    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PauseBatch(Action):
    """Pause the whole batch and release the row; the row is due again after a wait."""

    reason: str = ""
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish(Action):
    """The row has ended."""

    status: JobStatus
    error: str | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The new state and the action that follows."""

    state: JobState
    action: Action
    store: bool = False
    """`state` must be stored before the action."""
    throttled_s: float | None = None
    """Every worker sends less for so long: the API asked for it."""
    create_failed: bool = False
    """Counts towards pausing the batch."""
    duplicate_run_ids: tuple[str, ...] = ()
    """Runs to cancel: a late create made them in addition."""
    retry_reason: str | None = None
    """Why a new attempt begins."""
    unknown_create: bool = False
    """A create left no trace and is repeated, or the row ends without it."""

    @classmethod
    def create_run(cls, state: JobState, at: float) -> "Decision":
        """Create the run, with the mark CREATE_SENT stored first."""
        sent = replace(
            state, phase=Phase.CREATE_SENT, create_sent_at=at, failing_since=None, not_found_since=None
        )
        return cls(sent, CreateRun(), store=True)

    @classmethod
    def cancel_run(cls, state: JobState, reason: CancelReason, at: float) -> "Decision":
        """Cancel the run; what follows is decided when it has ended.

        Stored first: a worker that finds the run cancelled after a kill must know who cancelled it, and why.
        """
        return cls(replace(state, cancel_reason=reason, cancel_requested_at=at), CancelRun(), store=True)

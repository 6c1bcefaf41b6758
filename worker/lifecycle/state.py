"""What a worker knows of one job, what it may observe, and what it may do: the data of the lifecycle.

`JobState` is what survives a kill: it is stored with the job as JSON before anything that costs money is sent.
All times are Unix seconds of a time that never jumps (`worker.runtime.redis_clock`); stored, they are by Redis' clock.
"""

from dataclasses import dataclass, field
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
    """How far the present attempt is."""

    NEW = "new"
    """Nothing paid for yet: a thread perhaps, no run."""
    CREATE_SENT = "sent"
    """A create has been or is about to be sent; its reply is not known."""
    POLLING = "follow"
    """The run's id is stored; look at it until it ends."""
    CALLING_TOOLS = "act"
    """The run waits for functions; their outputs, once stored, are submitted."""
    READING = "read"
    """The run has ended; its messages and steps are to be read."""
    CHECKING_DUPLICATES = "check"
    """The answer is read; a create was repeated in doubt, so look for a surplus run."""


class CancelReason(StrEnum):
    """Why we asked the API to end a run."""

    DEADLINE = "deadline"
    USER = "user"
    ROW = "row"
    """Something about this row: refused outputs, too many rounds of functions."""


@dataclass(frozen=True, slots=True)
class JobState:
    """All that is known of a job whose row is claimed. Fields marked (memory) need not survive a kill."""

    phase: Phase = Phase.NEW
    attempt: int = 1
    attempts_before_retry: int = 0
    """Attempts made before `askmill retry`: the limit counts from here."""
    thread_id: str | None = None
    run_id: str | None = None
    shared_thread: bool = False
    """The thread belongs to a conversation of several rows."""
    last_message_id_before: str | None = None
    """The last message of the conversation's previous turn."""
    earlier_runs: tuple[str, ...] = ()
    """The last runs of the conversation's earlier turns."""
    follow_up: bool = False
    """The thread stood before this attempt: the question goes along with the run."""
    delete_failed_turn: bool = False
    """A dead run's turn is to be deleted from the shared thread first."""
    continuing: bool = False
    """This attempt asks the model to go on with a truncated answer."""
    create_sent_at: float | None = None
    began_at: float | None = None
    """When we first saw the run."""
    lifetime_s: float | None = None
    """How long the API lets the run live, by its own clock, from its start."""
    locked_since: float | None = None
    doubled_limits: tuple[str, ...] = ()
    """Token limits that `raise-limit` has doubled."""
    partial_answers: tuple[str, ...] = ()
    """Truncated answers that `continue` goes on from."""
    outputs: tuple[ToolOutput, ...] = ()
    tool_rounds: int = 0
    create_unconfirmed: bool = False
    """A create without a reply was not found: look once more before creating again."""
    create_repeated: bool = False
    """A create was repeated in doubt."""
    past_attempts: tuple[Attempt, ...] = ()
    steps: tuple[Step, ...] = ()
    """Steps of earlier attempts."""
    ended_run: Run | None = None
    """The run as it ended, while it is being read."""
    answer: Answer | None = None
    schema_error: str | None = None
    crashes: int = 0
    """How often following this row has raised what nobody expected."""
    cancel_reason: CancelReason | None = None
    cancel_error: str | None = None
    cancel_requested_at: float | None = None
    unknown_status: str | None = None
    """A status never seen before (memory)."""
    overdue: bool = False
    """Its deadline has passed: one more look, and only then is it asked to end (memory)."""
    failures: int = 0
    """Faults in a row at the present step (memory)."""
    failing_since: float | None = None
    """When those faults began (memory)."""
    gone_since: float | None = None
    """Since when the server has answered nothing but 404 (memory)."""

    @property
    def known_run_ids(self) -> frozenset[str]:
        """Runs of earlier attempts and, the last of them, of earlier turns."""
        return frozenset(
            (*self.earlier_runs, *(attempt.run_id for attempt in self.past_attempts if attempt.run_id))
        )


# ── what may be observed ──


@dataclass(frozen=True, slots=True)
class Event:
    """Something observed, at a time, with a random number in [0, 1) for jitter."""

    at: float
    draw: float = 0.5


@dataclass(frozen=True, slots=True)
class Claimed(Event):
    """The row is ours, new or left by another worker; or a wait is over."""


@dataclass(frozen=True, slots=True)
class Reserved(Event):
    """The shared limits and the budget let us make a run."""


@dataclass(frozen=True, slots=True)
class FailedTurnDeleted(Event):
    """A dead run's messages are gone from the shared thread."""


@dataclass(frozen=True, slots=True)
class ThreadCreated(Event):
    """The thread stands, with the question on it."""

    thread_id: str = ""


@dataclass(frozen=True, slots=True)
class CreateSkipped(Event):
    """The create was held up for so long that it was not sent: its mark is to be stored anew."""


@dataclass(frozen=True, slots=True)
class RunObserved(Event):
    """A run as a create, a look, a cancel or a submit showed it."""

    run: Run = field(default_factory=lambda: Run(id="", status=""))


@dataclass(frozen=True, slots=True)
class LookupDone(Event):
    """What a look for a run whose create (or submit) got no reply has shown."""

    lookup: RunLookup = field(default_factory=lambda: RunLookup(kind=LookupKind.NOTHING))


@dataclass(frozen=True, slots=True)
class ToolsCalled(Event):
    """All functions have been called."""

    outputs: tuple[ToolOutput, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerRead(Event):
    """All messages and steps of an ended run. `schema_error` says how it misses the response schema."""

    answer: Answer = field(default_factory=Answer)
    schema_error: str | None = None
    checked: bool = False
    """Surplus runs have been looked for."""


@dataclass(frozen=True, slots=True)
class RequestFailed(Event):
    """The last request did not succeed."""

    error: ApiError = field(default_factory=lambda: ApiError(status=None))
    request: RequestKind = RequestKind.READ
    """Which request it was."""
    row_fields: frozenset[str] = frozenset()
    """What the row chose itself (`--override`)."""


@dataclass(frozen=True, slots=True)
class CancelRequested(Event):
    """The user cancels the batch."""


@dataclass(frozen=True, slots=True)
class PauseRequested(Event):
    """The batch is paused: start nothing."""


@dataclass(frozen=True, slots=True)
class BudgetFull(Event):
    """The budget has no room while other runs are in flight: it may, once they have ended."""


# ── what may be done ──


@dataclass(frozen=True, slots=True)
class Action:
    """One thing for the runner to do; its outcome is the next event."""


@dataclass(frozen=True, slots=True)
class Reserve(Action):
    """Ask the shared limits and the budget for one run."""


@dataclass(frozen=True, slots=True)
class DeleteFailedTurn(Action):
    """Delete what a dead run left on the shared thread."""


@dataclass(frozen=True, slots=True)
class CreateThread(Action):
    """Make the thread."""


@dataclass(frozen=True, slots=True)
class CreateRun(Action):
    """Make the run; `JobState` is stored with phase SENT first."""


@dataclass(frozen=True, slots=True)
class RecoverRun(Action):
    """Look for the run of a create without a reply, after a wait."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RecoverSubmit(Action):
    """Look whether outputs whose submission got no reply have arrived, after a wait."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PollRun(Action):
    """Look at the run. `after_s` None: when the polling plan says, but no later than `by`."""

    after_s: float | None = None
    by: float | None = None


@dataclass(frozen=True, slots=True)
class CancelRun(Action):
    """Ask the API to end the run, after a wait."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CallTools(Action):
    """Call the functions the model asks for."""

    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmitOutputs(Action):
    """Submit the stored outputs, after a wait."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReadAnswer(Action):
    """Read all messages and steps of the ended run, after a wait."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait(Action):
    """Do nothing for a while; then the event is Claimed."""

    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReleaseRow(Action):
    """Give the row and its slot back; it is due again after a while."""

    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PauseBatch(Action):
    """Pause the whole batch with this reason, and give the row back; it is due again after a while."""

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
    """What is known now, and what to do next.

    `store`: `known` must be stored before the action. `throttled_s`: slow every worker for so long.
    `create_failed`: counts towards pausing the batch. `surplus`: runs to cancel, made twice by a late create.
    `retried`: why a new attempt begins. `unknown_create`: a create left no trace and is repeated.
    """

    state: JobState
    action: Action
    store: bool = False
    throttled_s: float | None = None
    create_failed: bool = False
    duplicate_run_ids: tuple[str, ...] = ()
    retry_reason: str | None = None
    unknown_create: bool = False

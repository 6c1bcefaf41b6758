"""The state of a row in progress.

`JobState` survives a kill: it is stored as JSON with the row before any request that costs money. All times
are Unix seconds of a clock that never jumps (`worker.runtime.redis_clock`); in the store they follow Redis'
clock.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from askmill.jobs.model.models import NO_USAGE, Attempt, Step, Usage
from askmill.worker.lifecycle.api_types import Answer, Run, ToolCall, ToolOutput


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
    NEVER_STARTED = "never_started"
    """Its create failed at the server, which stored the run but never started it."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What earlier attempts wrote and were paid for: the row's answer unless a later attempt has a better.

    `error`: the reason of an incomplete answer, such as `max_completion_tokens`; None for any other.
    `answer` has no steps: they are in `JobState.past_steps`.
    """

    answer: Answer
    error: str | None = None


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
    """This attempt asks the model to continue the truncated answer in `kept`."""
    kept: KeptAnswer | None = None
    create_sent_at: float | None = None
    """When the create was sent; None in CREATE_SENT: a lock refused it."""
    began_at: float | None = None
    """When this worker, or an earlier one, first saw the run."""
    began_at_corrected: bool = False
    """`began_at` follows the API's clock: what was stored was too early, as after a step of Redis' clock."""
    lifetime_s: float | None = None
    """How long the API lets the run live, from its start, measured by the API's clock."""
    locked_since: float | None = None
    """Since when another run has locked the thread."""
    doubled_limits: tuple[str, ...] = ()
    """Token limits that `raise-limit` has doubled."""
    tier_fallen_back: bool = False
    """The tier asked for had no capacity: this attempt asks for the standard tier."""
    calls: tuple[ToolCall, ...] = ()
    """The calls whose outputs are being made or submitted."""
    outputs: tuple[ToolOutput, ...] = ()
    answered_calls: tuple[ToolCall, ...] = ()
    """Calls whose outputs the API has accepted: it may show them as open for a while."""
    answered_run_id: str | None = None
    """The run that made those calls."""
    calls_are_new_at: float | None = None
    """The run has moved on: from then on, an equal call is a new one (memory)."""
    tool_rounds: int = 0
    messages: tuple[dict[str, Any], ...] = ()
    """Chat completions: the messages after the question, verbatim: calls, outputs, parts of the answer."""
    rounds_usage: Usage = NO_USAGE
    """Chat completions: the tokens of this attempt's earlier calls, one for each round of functions."""
    create_unconfirmed: bool = False
    """A create without a reply was not found: look once more before the create is repeated."""
    create_repeated: bool = False
    """An unconfirmed create was repeated."""
    create_fault: str | None = None
    """The server's error on the create of a run that was found all the same."""
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
    cancel_refusal: str | None = None
    """How the server refused the last cancel."""
    unknown_status: str | None = None
    """A run status that askmill does not know (memory)."""
    overdue: bool = False
    """The deadline has passed; the run is polled once more before it is cancelled (memory)."""
    unsettled_since: float | None = None
    """Since when the API shows what must be passing: open calls that are answered, a run that has completed
    without its message (memory)."""
    last_read: bool = False
    """The time for a late message is over; the answer is read once more (memory)."""
    failures: int = 0
    """Consecutive failed requests of the current step (memory)."""
    failing_since: float | None = None
    """When those failures began (memory)."""
    not_found_since: float | None = None
    """Since when the server has answered nothing but 404 (memory)."""

    @property
    def has_run(self) -> bool:
        """Whether the attempt has a run; in READING also one without an id, whose answer was found."""
        return self.run_id is not None or self.phase is Phase.READING

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

"""What may follow an event: the actions of the lifecycle, and the decision for one of them."""

from dataclasses import dataclass, field, replace

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import ApiError, ToolCall
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase


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
class RecordRefusal(Action):
    """Record a refusal that does not say what it is about, and read how the batch's other rows fare."""

    error: ApiError = field(default_factory=lambda: ApiError(status=None))


@dataclass(frozen=True, slots=True)
class PauseBatch(Action):
    """Pause the whole batch and release the row; the row is due again after a wait."""

    reason: str = ""
    wait_s: float = 0.0
    resume_after_s: float | None = None
    """The batch resumes by itself after so long: the server named a time. None: `askmill resume`."""


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
    """Every worker starts no run for so long: the API asked for it."""
    throttled_by: str = ""
    """The API's words with which it asked."""
    create_failed: bool = False
    """Counts towards pausing the batch."""
    duplicate_run_ids: tuple[str, ...] = ()
    """Runs to cancel: a late create made them in addition."""
    retry_reason: str | None = None
    """Why a new attempt begins."""
    unknown_create: bool = False
    """A create left no trace and is repeated, or the row ends without it."""
    tier_fallback: bool = False
    """The row falls back to the standard tier."""
    uncancelled_run: bool = False
    """The row goes on, or ends, without a run that the server has not cancelled: it may still be paid."""

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


def without_create(decision: Decision) -> JobState:
    """The state if the decision is not carried out: an earlier create stays unconfirmed."""
    state = decision.state
    if not isinstance(decision.action, CreateRun):
        return state
    return replace(
        state,
        phase=Phase.NEW,
        create_unconfirmed=state.create_repeated,
        # An unknown create is counted when it is repeated; this repeat is not sent.
        create_repeated=state.create_repeated and not decision.unknown_create,
    )


def wait_or_release(wait_s: float, policy: RetryPolicy) -> Wait | ReleaseRow:
    """Keep the slot for a short wait; release it for a longer one, so that another row can use it."""
    return ReleaseRow(wait_s=wait_s) if wait_s > policy.slot_wait_s else Wait(wait_s=wait_s)

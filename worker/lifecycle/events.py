"""What may be observed of a row: the events of the lifecycle."""

from dataclasses import dataclass, field

from askmill.jobs.model.models import Refusals
from askmill.worker.lifecycle.api_types import Answer, ApiError, LookupKind, Run, RunLookup, ToolOutput
from askmill.worker.lifecycle.error_rule import RequestKind


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
    """The reply to the create. `answer`: what the run wrote, where the reply has it (chat completions)."""

    answer: "AnswerRead | None" = None


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
class TakenOver:
    """How the server knows what other workers created, for one such run that it does not have."""

    unknown: int
    """Runs of other workers that the server does not have, this one included."""
    first: bool
    """This is the first of them."""
    others_known: bool
    """The server has some run of another worker."""
    own_known: bool
    """The server has some run of this worker."""


@dataclass(frozen=True, slots=True)
class RequestFailed(Event):
    """The last request failed."""

    error: ApiError = field(default_factory=lambda: ApiError(status=None))
    request: RequestKind = RequestKind.READ
    row_overrides: frozenset[str] = frozenset()
    """Names of the settings that the row itself overrides (`--override`)."""
    model: str | None = None
    """The model that was asked for."""
    taken_over: TakenOver | None = None
    """The run, or its thread, is another worker's, and the server answers 404."""
    partial: AnswerRead | None = None
    """What was read of the answer before the request for another part of it failed."""


@dataclass(frozen=True, slots=True)
class RefusalRecorded(Event):
    """A refusal that does not say what it is about is recorded; how the batch's other rows fare."""

    error: ApiError = field(default_factory=lambda: ApiError(status=None))
    refusals: Refusals = field(default_factory=Refusals)


@dataclass(frozen=True, slots=True)
class CancelRequested(Event):
    """The user cancels the batch."""


@dataclass(frozen=True, slots=True)
class PauseRequested(Event):
    """The batch is paused: start no run."""


@dataclass(frozen=True, slots=True)
class BudgetFull(Event):
    """The budget has no room until runs in flight have ended."""

"""What a worker knows of one job, what it may observe, and what it may do: the data of the lifecycle.

`Known` is what survives a kill: it is stored with the job as JSON before anything that costs money is sent.
All times are Unix seconds of a time that never jumps (`worker.runtime.redis_clock`); stored, they are by Redis' clock.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from askmill.jobs.model.models import Attempt, JobStatus, Step
from askmill.worker.lifecycle.api_types import Answer, ApiFault, Found, FoundKind, Run, ToolCall, ToolOutput
from askmill.worker.lifecycle.retry import On


class Phase(StrEnum):
    """How far the present attempt is."""

    NEW = "new"
    """Nothing paid for yet: a thread perhaps, no run."""
    SENT = "sent"
    """A create has been or is about to be sent; its reply is not known."""
    FOLLOW = "follow"
    """The run's id is stored; look at it until it ends."""
    ACT = "act"
    """The run waits for functions; their outputs, once stored, are submitted."""
    READ = "read"
    """The run has ended; its messages and steps are to be read."""
    CHECK = "check"
    """The answer is read; a create was repeated in doubt, so look for a surplus run."""


class Stop(StrEnum):
    """Why we asked the API to end a run."""

    DEADLINE = "deadline"
    USER = "user"
    ROW = "row"
    """Something about this row: refused outputs, too many rounds of functions."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a job whose row is claimed. Fields marked (memory) need not survive a kill."""

    phase: Phase = Phase.NEW
    attempt: int = 1
    base: int = 0
    """Attempts made before `askmill retry`: the limit counts from here."""
    thread_id: str | None = None
    run_id: str | None = None
    shared: bool = False
    """The thread belongs to a conversation of several rows."""
    anchor: str | None = None
    """The last message of the conversation's previous turn."""
    earlier_runs: tuple[str, ...] = ()
    """The last runs of the conversation's earlier turns."""
    follow_up: bool = False
    """The thread stood before this attempt: the question goes along with the run."""
    clear: bool = False
    """A dead run's turn is to be deleted from the shared thread first."""
    going_on: bool = False
    """This attempt asks the model to go on with a truncated answer."""
    sent_at: float | None = None
    began_at: float | None = None
    """When we first saw the run."""
    lifetime_s: float | None = None
    """How long the API lets the run live, by its own clock, from its start."""
    locked_since: float | None = None
    doubled: tuple[str, ...] = ()
    """Token limits that `raise-limit` has doubled."""
    pieces: tuple[str, ...] = ()
    """Truncated answers that `continue` goes on from."""
    outputs: tuple[ToolOutput, ...] = ()
    rounds: int = 0
    doubt: bool = False
    """A create without a reply was not found: look once more before creating again."""
    repeated: bool = False
    """A create was repeated in doubt."""
    past: tuple[Attempt, ...] = ()
    steps: tuple[Step, ...] = ()
    """Steps of earlier attempts."""
    ended: Run | None = None
    """The run as it ended, while it is being read."""
    answer: Answer | None = None
    schema_error: str | None = None
    crashes: int = 0
    """How often following this row has raised what nobody expected."""
    stop: Stop | None = None
    stop_error: str | None = None
    stopped_at: float | None = None
    odd_status: str | None = None
    """A status never seen before (memory)."""
    overdue: bool = False
    """Its deadline has passed: one more look, and only then is it asked to end (memory)."""
    tries: int = 0
    """Faults in a row at the present step (memory)."""
    since: float | None = None
    """When those faults began (memory)."""
    gone_since: float | None = None
    """Since when the server has answered nothing but 404 (memory)."""

    @property
    def known_runs(self) -> frozenset[str]:
        """Runs of earlier attempts and, the last of them, of earlier turns."""
        return frozenset((*self.earlier_runs, *(attempt.run_id for attempt in self.past if attempt.run_id)))


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
class TurnCleared(Event):
    """A dead run's messages are gone from the shared thread."""


@dataclass(frozen=True, slots=True)
class ThreadMade(Event):
    """The thread stands, with the question on it."""

    thread_id: str = ""


@dataclass(frozen=True, slots=True)
class NotSent(Event):
    """The create was held up for so long that it was not sent: its mark is to be stored anew."""


@dataclass(frozen=True, slots=True)
class RunSeen(Event):
    """A run as a create, a look, a cancel or a submit showed it."""

    run: Run = field(default_factory=lambda: Run(id="", status=""))


@dataclass(frozen=True, slots=True)
class Looked(Event):
    """What a look for a run whose create (or submit) got no reply has shown."""

    found: Found = field(default_factory=lambda: Found(kind=FoundKind.NOTHING))


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
class Faulted(Event):
    """The last request did not succeed."""

    fault: ApiFault = field(default_factory=lambda: ApiFault(status=None))
    on: On = On.READ
    """Which request it was."""
    row_fields: frozenset[str] = frozenset()
    """What the row chose itself (`--override`)."""


@dataclass(frozen=True, slots=True)
class CancelAsked(Event):
    """The user cancels the batch."""


@dataclass(frozen=True, slots=True)
class PauseAsked(Event):
    """The batch is paused: start nothing."""


@dataclass(frozen=True, slots=True)
class NoRoom(Event):
    """The budget has no room while other runs are in flight: it may, once they have ended."""


# ── what may be done ──


@dataclass(frozen=True, slots=True)
class Action:
    """One thing for the runner to do; its outcome is the next event."""


@dataclass(frozen=True, slots=True)
class Reserve(Action):
    """Ask the shared limits and the budget for one run."""


@dataclass(frozen=True, slots=True)
class ClearTurn(Action):
    """Delete what a dead run left on the shared thread."""


@dataclass(frozen=True, slots=True)
class MakeThread(Action):
    """Make the thread."""


@dataclass(frozen=True, slots=True)
class MakeRun(Action):
    """Make the run; `Known` is stored with phase SENT first."""


@dataclass(frozen=True, slots=True)
class FindRun(Action):
    """Look for the run of a create without a reply, after a wait."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FindSubmitted(Action):
    """Look whether outputs whose submission got no reply have arrived, after a wait."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Look(Action):
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
class Submit(Action):
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
class GiveBack(Action):
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

    known: Known
    action: Action
    store: bool = False
    throttled_s: float | None = None
    create_failed: bool = False
    surplus: tuple[str, ...] = ()
    retried: str | None = None
    unknown_create: bool = False

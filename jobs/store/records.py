"""What goes into the store and comes out of it, as data. Times in `_ms`: Redis's clock, Unix milliseconds."""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from askmill.jobs.model.models import (
    STATUS_OF_BYTE,
    UNFINISHED,
    Api,
    BatchState,
    InputSpec,
    JobStatus,
    Limits,
    Result,
)
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store.codec import result_of, unpack_result
from askmill.jobs.store.eta import TimeLeft

POISON_KILLS = 3
"""So many dead workers while a row's function ran or its result was processed: the row is poison."""
NANO = 1_000_000_000
"""Money is kept in whole nano-dollars: Lua's numbers are exact up to 2^53 of them, nine million dollars."""


@dataclass(frozen=True)
class NewBatch:
    """All that is frozen when a batch is submitted."""

    name: str
    file: str
    spec: InputSpec
    profile: Profile
    resources: Resources
    api: Api
    base_url: str
    model: str
    limits: Limits
    identity: str
    options: dict[str, Any] = field(default_factory=dict)
    retention_days: float | None = None
    """How long it stays after its end; None: until `purge`."""


@dataclass(frozen=True)
class Found:
    """The batch of an identity. `loading`: another command stores its rows at this moment."""

    batch: str
    loading: bool


@dataclass(frozen=True)
class Loading:
    """A batch whose rows this store is to add. `continued`: another command had begun it, with `options`."""

    batch: str
    continued: bool
    options: dict[str, Any]


class LeaseLost(Exception):
    """Another command loads this batch now: it stood still for longer than a loader's lease."""


@dataclass(frozen=True)
class ResourceKey:
    """What a batch needs at the API and others may too, by its content; and who would make it.

    `kind`: `assistant`, `file`, `vector_store`. `batch` is empty for who has none (`chat`).
    """

    batch: str
    kind: str
    sha256: str
    creator: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def script_args(self) -> tuple[str, str, str, str]:
        """As the scripts take it."""
        return self.batch, self.kind, self.sha256, self.creator


class NewRow(NamedTuple):
    """A row on its way in. `reject`: why it is never asked; `conversation` names its thread, if shared.

    `taken` is the packed result of an equal row that is `completed`: this one then is too.
    """

    cells: list[Any]
    reject: str | None = None
    conversation: str | None = None
    reused_result: bytes | None = None


@dataclass(frozen=True, slots=True)
class BatchUpdate:
    """What of a batch may change while it runs."""

    state: BatchState
    limits: Limits
    paused_reason: str | None = None


@dataclass(frozen=True)
class Batch:
    """A stored batch. `accepted`: the API has taken a run of it since it was submitted or last in trouble."""

    id: str
    name: str
    file: str
    rows: int
    spec: InputSpec
    profile: Profile
    resources: Resources
    api: Api
    base_url: str
    model: str
    limits: Limits
    identity: str
    options: dict[str, Any]
    state: BatchState
    paused_reason: str | None
    accepted: bool
    submitted_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None

    @cached_property
    def effective_profile(self) -> Profile:
        """The profile with the model that was settled at submit; a stored assistant has one of its own."""
        model = self.profile.model if self.profile.assistant_id else self.model
        return self.profile.model_copy(update={"model": model})


@dataclass(frozen=True)
class Counts:
    """Rows a status byte, and the batch's other counters by name (`runs`, `requests`, `cost_nano`, …)."""

    rows_by_byte: dict[str, int]
    totals: dict[str, int]

    @property
    def by_status(self) -> dict[JobStatus, int]:
        """Every status, also those at 0."""
        counts = dict.fromkeys(JobStatus, 0)
        for byte, rows in self.rows_by_byte.items():
            counts[STATUS_OF_BYTE[byte]] += rows
        return counts

    @property
    def unfinished(self) -> int:
        return sum(self.by_status[status] for status in UNFINISHED)

    @property
    def cost_usd(self) -> float | None:
        """None while nothing is known of any cost."""
        nano = self.totals.get("cost_nano")
        return None if nano is None else nano / NANO


@dataclass(frozen=True)
class WorkerInfo:
    """A worker as it presents itself. `slots`: how many jobs it holds at most."""

    id: str
    host: str
    pid: int
    slots: int
    api: Api
    base_url: str
    started_at_ms: int = 0


@dataclass(frozen=True)
class StatusView:
    """How far a batch is. `workers` are alive and speak to its API; `strangers` are alive and do not."""

    batch: Batch
    counts: Counts
    workers: tuple[WorkerInfo, ...]
    other_workers: tuple[WorkerInfo, ...]
    rows_per_s: float | None
    eta_s: float | None
    time_left: TimeLeft | None = None

    def to_json(self) -> dict[str, Any]:
        """What `status --json` prints."""
        batch, totals = self.batch, self.counts.totals
        return {
            "batch": batch.id,
            "name": batch.name,
            "file": batch.file,
            "state": batch.state.value,
            "rows": batch.rows,
            "counts": {status.value: rows for status, rows in self.counts.by_status.items()},
            "runs": totals.get("runs", 0),
            "requests": totals.get("requests", 0),
            "tokens": {"prompt": totals.get("prompt"), "completion": totals.get("completion")},
            "cost_usd": self.counts.cost_usd,
            "submitted_at": iso(batch.submitted_at_ms),
            "started_at": iso(batch.started_at_ms),
            "finished_at": iso(batch.finished_at_ms),
            "rows_per_s": self.rows_per_s,
            "eta_s": self.eta_s,
            "workers": len(self.workers),
            "paused_reason": batch.paused_reason,
            "unknown_creates": totals.get("unknown_creates", 0),
        }


def iso(at_ms: int | None) -> str | None:
    """ISO 8601, UTC, with milliseconds."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RowView(NamedTuple):
    """A row as results show it. `packed` is its newest result; under a retry, the one of before."""

    row: int
    cells: list[Any]
    status: JobStatus
    packed: bytes | None

    @property
    def stored(self) -> dict[str, Any] | None:
        """The result as plain data with the names of `Result`: what writers of many rows use."""
        return None if self.packed is None else unpack_result(self.row, self.packed)

    @property
    def result(self) -> Result | None:
        stored = self.stored
        return None if stored is None else result_of(stored)


@dataclass(frozen=True)
class RowDetail:
    """One row with what its worker last stored (`state`), who holds it, and when it may be fed again."""

    view: RowView
    state: bytes | None
    worker: str | None
    due_ms: int | None
    kills: int


class DispatchedRow(NamedTuple):
    """A row to publish. `attempt` only makes the Celery task's id unique."""

    batch: str
    row: int
    attempt: int


class Refusal(StrEnum):
    """Why a row was not handed out; where it has to be asked later it was put back already."""

    FINISHED = "finished"
    RUNNING = "running"
    WAITING = "waiting"
    NOT_PUBLISHED = "not_published"
    PAUSED = "paused"
    MISMATCH = "mismatch"
    """The worker speaks to another API or address."""
    STRANGER = "stranger"
    """The worker has no beating heart in this Redis."""
    GONE = "gone"
    NO_SUCH_ROW = "no_such_row"
    """The message names none of the batch's rows: not one of ours."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that is ours until we finish it, give it back or are taken for dead."""

    batch: str
    row: int
    worker: str
    fence: str
    cells: list[Any]
    state: bytes | None
    previous_turn: bytes | None
    kills: int
    previous: Result | None
    now_ms: int
    update: BatchUpdate


@dataclass(frozen=True)
class SaveReply:
    """Truthy while we hold the row. `first`: the API's first run for this batch, so its window opens: feed.

    Before a create nothing is saved when the batch's budget has no room for the reservation (`affordable`
    False; `affordable_later`: perhaps when runs in flight have ended), or the batch has been paused or
    cancelled (`may_start` False).
    """

    held: bool
    first_accepted: bool = False
    affordable: bool = True
    may_start: bool = True
    affordable_later: bool = True

    def __bool__(self) -> bool:
        return self.held


@dataclass(frozen=True)
class HeartbeatReply:
    """`alive` False: our rows are with others; drop all, come back under a new id. None: a purged batch."""

    alive: bool
    now_ms: int
    batches: dict[str, BatchUpdate | None]


@dataclass(frozen=True)
class ReapResult:
    """Dead workers found, and how many of their rows were given back."""

    workers: tuple[str, ...]
    rows: int

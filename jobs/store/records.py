"""The records that the store takes and returns. Times in `_ms` are Unix milliseconds by Redis' clock."""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple

from askmill.jobs.model.expected import Accuracy, Expectation
from askmill.jobs.model.models import (
    STATUS_OF_BYTE,
    UNFINISHED,
    Api,
    BatchState,
    InputSpec,
    JobStatus,
    Limits,
    Result,
    Server,
)
from askmill.jobs.model.profile import Functions, Profile, Resources
from askmill.jobs.store.codec import result_of, unpack_result
from askmill.jobs.store.eta import TimeLeft
from askmill.jobs.store.shard_views import ShardSummary, ShardView
from askmill.jobs.store.waits import LastFault, Poll, RunLimit, Waiting, iso

MAX_CRASHES = 3
"""A row that has crashed so many workers, in its functions or its result, ends as `poison_row`."""
NANO = 1_000_000_000
"""Nano-dollars per dollar. Lua's numbers are exact up to 2^53 nano-dollars: 9 million dollars."""


BATCH_TIER = "batch"
"""The service tier whose rows travel in shards (OpenAI's Batch API)."""


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
    organization: str = ""
    project: str = ""
    expected: Expectation | None = None
    retention_days: float | None = None
    """How long its keys stay after its end; None: until `purge`."""


@dataclass(frozen=True)
class FoundBatch:
    """The existing batch of an identity. `loading`: another command is storing its rows."""

    batch: str
    loading: bool


@dataclass(frozen=True)
class BatchToLoad:
    """A batch whose rows this store is to add. `continued`: another command began it, with `options`."""

    batch: str
    continued: bool
    options: dict[str, Any]


class LeaseLost(Exception):
    """Another command loads the batch now: this one did nothing for longer than its lease."""


@dataclass(frozen=True)
class ResourceKey:
    """An object at the API, by its content, and who would create it.

    `kind`: `assistant`, `file`, `vector_store`. `batch` is empty outside a batch (`chat`).
    """

    batch: str
    kind: str
    sha256: str
    creator: str = field(default_factory=lambda: secrets.token_hex(8))


class Acquired(NamedTuple):
    """What `acquire_resource` has found."""

    is_creator: bool
    """Whether the caller is to create the object."""
    object_id: str | None = None
    lock: bytes = b""
    """Of another one that creates it. A living creator changes it every few seconds."""
    note: str = ""
    """Of a dead creator whose place the caller has taken, or the caller's own; '' for none."""


class NewRow(NamedTuple):
    """A row to store. `reject`: why it is never asked. `conversation`: name of the thread it shares, if any.

    `reused_result`: the packed result of an equal, completed row; the row is then completed with it.
    """

    cells: list[Any]
    reject: str | None = None
    conversation: str | None = None
    reused_result: bytes | None = None


@dataclass(frozen=True, slots=True)
class BatchUpdate:
    """The parts of a batch that may change while it runs."""

    state: BatchState
    limits: Limits
    paused_reason: str | None = None


@dataclass(frozen=True)
class Batch:
    """A stored batch. `accepted`: the API has accepted a run since the submit or the last fault."""

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
    paused_at_ms: int | None = None
    paused_until_ms: int | None = None
    """When the pause ends by itself; None: only `resume` ends it."""
    last_fault: LastFault | None = None
    expected: Expectation | None = None
    organization: str = ""
    project: str = ""

    @property
    def server(self) -> Server:
        return Server(self.api, self.base_url, self.organization, self.project)

    @property
    def in_shards(self) -> bool:
        """Whether rows travel in jobs of the Batch API (`--tier batch`)."""
        return self.profile.service_tier == BATCH_TIER

    @cached_property
    def effective_profile(self) -> Profile:
        """The profile with the model resolved at submit; a stored assistant has its own model."""
        model = self.profile.model if self.profile.assistant_id else self.model
        return self.profile.model_copy(update={"model": model})


@dataclass(frozen=True)
class Counts:
    """Rows per status byte, and the batch's other counters by name (`runs`, `requests`, `cost_nano`, …)."""

    rows_by_byte: dict[str, int]
    totals: dict[str, int]

    @property
    def by_status(self) -> dict[JobStatus, int]:
        """Rows per status, also those at 0."""
        counts = dict.fromkeys(JobStatus, 0)
        for byte, rows in self.rows_by_byte.items():
            counts[STATUS_OF_BYTE[byte]] += rows
        return counts

    @property
    def unfinished(self) -> int:
        """Rows that are queued or running."""
        return sum(self.by_status[status] for status in UNFINISHED)

    @property
    def schema_misses(self) -> dict[str, int]:
        """Answers that missed the response schema, by field; the field missed most comes first."""
        misses = {
            name.removeprefix("schema:"): count
            for name, count in self.totals.items()
            if name.startswith("schema:")
        }
        return dict(sorted(misses.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def cost_usd(self) -> float | None:
        """None while no cost is known."""
        nano = self.totals.get("cost_nano")
        return None if nano is None else nano / NANO


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's description of itself. `slots`: most rows that it works on at a time.

    `api`: '' for any. `batch`: the only batch that it serves; '' for all of its API and address. `functions`:
    sha256 of the modules whose functions it may call, separated by commas.
    """

    id: str
    host: str
    pid: int
    slots: int
    api: Api | Literal[""]
    base_url: str
    organization: str = ""
    project: str = ""
    started_at_ms: int = 0
    batch: str = ""
    functions: str = ""

    def allows(self, functions: Functions | None) -> bool:
        """Whether the worker may call these functions."""
        return functions is None or functions.sha256 in self.functions.split(",")

    def serves(self, batch: Batch) -> bool:
        """Whether the worker may claim rows of the batch."""
        same_server = self.server.serves(batch.server)
        return same_server and self.batch in {"", batch.id} and self.allows(batch.profile.functions)

    @property
    def server(self) -> Server:
        return Server(self.api, self.base_url, self.organization, self.project)


@dataclass(frozen=True)
class StatusView:
    """A batch's progress. `workers` are alive and serve it; `other_workers` are alive and do not."""

    batch: Batch
    counts: Counts
    workers: tuple[WorkerInfo, ...]
    other_workers: tuple[WorkerInfo, ...]
    rows_per_s: float | None
    eta_s: float | None
    time_left: TimeLeft | None = None
    waiting: Waiting | None = None
    now_ms: int = 0
    accuracy: Accuracy | None = None  # of a batch with expected answers, where they were judged
    run_limit: RunLimit | None = None
    claimed: int = 0  # rows that `workers` hold, those of other batches too
    shards: ShardSummary | None = None  # of a batch with tier `batch`
    write_refusal: str | None = None  # why Redis takes no changes, asked while no worker is alive

    def to_json(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
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
            "waiting": None if self.waiting is None else self.waiting.to_json(),
            "last_fault": None if batch.last_fault is None else batch.last_fault.to_json(),
            "recovered_writes": totals.get("recovered_writes", 0),
            "cut_contexts": totals.get("cut_contexts", 0),
            "tier": batch.profile.tier_name,
            "tier_fallbacks": totals.get("tier_fallbacks", 0),
            "schema_misses": self.counts.schema_misses,
            "shards": None if self.shards is None else self.shards.to_json(),
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
        }


class RowView(NamedTuple):
    """A row with its newest result, packed; during a retry the result of before."""

    row: int
    cells: list[Any]
    status: JobStatus
    packed: bytes | None

    @property
    def stored(self) -> dict[str, Any] | None:
        """The result as plain data with the names of `Result`: faster than `result` for many rows."""
        return None if self.packed is None else unpack_result(self.row, self.packed)

    @property
    def result(self) -> Result | None:
        """The result; None before the first."""
        stored = self.stored
        return None if stored is None else result_of(stored)


@dataclass(frozen=True)
class RowDetail:
    """A row with its saved `state`, the worker that holds it, when it is due, and the workers it crashed."""

    view: RowView
    state: bytes | None
    worker: str | None
    due_ms: int | None
    crashes: int
    poll: Poll | None = None
    shards: tuple[tuple[ShardView, int], ...] = ()
    """Tier batch: the shards that have had the row, and its line in the file of each."""


class DispatchedRow(NamedTuple):
    """A row to publish. `delivery` counts its messages, and makes the Celery task id unique."""

    batch: str
    row: int
    delivery: int
    own_queue: bool = False
    """Into the queue of the batch's own workers, else into that of the workers for all batches."""
    shard: int | None = None
    """Tier batch: the number of the shard that is published in place of a row."""


class Refusal(StrEnum):
    """Why a claim failed. A row that has to wait is back in its queue already."""

    FINISHED = "finished"
    RUNNING = "running"
    WAITING = "waiting"
    NOT_PUBLISHED = "not_published"
    PAUSED = "paused"
    MISMATCH = "mismatch"
    """The worker uses another API or address, serves another batch, or may not call the batch's functions."""
    STRANGER = "stranger"
    """The worker has no fresh heartbeat in this Redis."""
    RECOVERING = "recovering"
    """Redis has lost writes, and not all workers have redone theirs yet."""
    GONE = "gone"
    NO_SUCH_ROW = "no_such_row"
    """The message names no row of the batch: askmill has not published it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that a worker holds, until it finishes or releases the row or is declared dead.

    `state`: as last saved. `previous_turn`: state that the previous turn of the conversation left. `crashes`:
    workers that the row has crashed. `previous`: its earlier result, in a retry.
    """

    batch: str
    row: int
    worker: str
    fence: str
    cells: list[Any]
    state: bytes | None
    previous_turn: bytes | None
    crashes: int
    previous: Result | None
    now_ms: int
    update: BatchUpdate


@dataclass(frozen=True)
class SaveReply:
    """Reply to a save; truthy while the claim holds the row.

    `first_accepted`: this is the first run that the API accepted for the batch: dispatch more rows now.
    Before a create, nothing is saved if the budget has no room for the reservation (`affordable` False;
    `affordable_later`: perhaps when runs in flight have ended), or if the batch is paused or cancelled
    (`may_start` False).
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
    """Reply to a heartbeat. `alive` False: the worker was declared dead and its rows are with others."""

    alive: bool
    now_ms: int
    batches: dict[str, BatchUpdate | None]
    """The state of each batch that was asked for; None for one that no longer exists."""
    other_server: bool = False
    """Another Redis than at the last heartbeat: restarted, or a replica that took over."""


@dataclass(frozen=True)
class ReapResult:
    """Dead workers that were found, how many of their rows were released, and entries that are not ours."""

    workers: tuple[str, ...]
    rows: int
    removed: tuple[str, ...] = ()

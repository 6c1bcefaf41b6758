"""What queries return of batches, rows and workers. Times in `_ms` are Unix milliseconds by Redis' clock."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from askmill.jobs.model.expected import Accuracy
from askmill.jobs.model.models import STATUS_OF_BYTE, UNFINISHED, Api, JobStatus, Result, Server
from askmill.jobs.model.profile import Functions
from askmill.jobs.store.codec import result_of, unpack_result
from askmill.jobs.store.eta import TimeLeft
from askmill.jobs.store.records import NANO, Batch
from askmill.jobs.store.shard_views import ShardSummary, ShardView
from askmill.jobs.store.waits import Poll, RunLimit, Waiting, iso


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
    sha256 of the modules whose functions it may call, separated by commas. `version`: askmill's; '' before
    1.0.0.
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
    version: str = ""

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

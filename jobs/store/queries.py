"""Batches and their progress, and the living workers. Rows: row_queries.py."""

import re
from dataclasses import replace
from difflib import get_close_matches
from typing import NoReturn

from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.models import FINISHED, BatchState, JobStatus
from askmill.jobs.store import keys
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.decode import batch_of, counts_of, readable_batch, worker_of
from askmill.jobs.store.eta import BUCKET_S, BUCKETS, time_left
from askmill.jobs.store.records import Batch
from askmill.jobs.store.shard_queries import summarize_shards
from askmill.jobs.store.views import Counts, StatusView, WorkerInfo
from askmill.jobs.store.waits import Waiting, hold_of, run_limit_of

_WITH_RUNS = FINISHED - {JobStatus.REJECTED, JobStatus.CANCELLED}
_SUGGESTIONS = 5


async def _batch_ids(connection: Connection) -> list[str]:
    """Return all batches, newest first. Expired ones stay in the list until a reap, and are left out."""
    listed = [
        name.decode(errors="replace") for name in await connection.execute("ZREVRANGE", keys.BATCHES, 0, -1)
    ]
    if not listed:
        return []
    kinds = await connection.pipeline(*(("TYPE", keys.batch(name)) for name in listed))
    return [name for name, kind in zip(listed, kinds, strict=True) if kind == b"hash"]


async def raise_not_found(connection: Connection, batch: str) -> NoReturn:
    """Raise NotFound, naming the batches with a similar id, else the newest."""
    ids = await _batch_ids(connection)
    suggested = get_close_matches(batch, ids, _SUGGESTIONS) or ids[:_SUGGESTIONS]
    hint = f"here are {', '.join(suggested)}" if suggested else "there is none in this Redis"
    raise NotFound(f"no batch {batch!r}: {hint} (`askmill list` shows all)")


async def read_batch(connection: Connection, batch: str) -> Batch:
    """Return a batch. One that is still loading counts as unknown; raises NotFound."""
    # Anything else would name another key of a batch, such as its counters.
    is_id = re.fullmatch(keys.BATCH_ID, batch) is not None
    stored = await connection.execute("HGETALL", keys.batch(batch)) if is_id else {}
    if not stored or stored[b"state"] == b"loading":
        await raise_not_found(connection, batch)
    return batch_of(batch, stored)


async def count_rows(connection: Connection, batch: str) -> Counts:
    """Return the batch's counters; raises NotFound."""
    stored = await connection.execute("HGETALL", keys.part(batch, "counters"))
    return counts_of(stored) if stored else await raise_not_found(connection, batch)


def _rows_per_s(batch: Batch, counts: Counts, throughput: dict[bytes, bytes], now_s: float) -> float | None:
    """Return rows per second of the last minutes, or of an ended batch's whole time; None before a run."""
    if batch.started_at_ms is None:
        return None
    started_s = batch.started_at_ms / 1000
    if batch.duration_s is not None:
        rows = sum(rows for status, rows in counts.by_status.items() if status in _WITH_RUNS)
        return rows / max(batch.duration_s, 0.001)
    oldest = int(now_s / BUCKET_S) - BUCKETS + 1
    rows = sum(int(finished) for bucket, finished in throughput.items() if int(bucket) >= oldest)
    return rows / max(now_s - max(started_s, float(oldest * BUCKET_S)), 1.0)


def _rows_per_bucket(started_s: float, throughput: dict[bytes, bytes], now_s: float) -> list[int]:
    """Return the rows finished in each whole bucket of the last minutes, empty buckets included."""
    now = int(now_s / BUCKET_S)
    first = max(now - BUCKETS + 1, int(started_s / BUCKET_S) + 1)
    return [int(throughput.get(b"%d" % bucket, 0)) for bucket in range(first, now)]


def _waiting(batch: Batch, throttle: dict[bytes, bytes], now_ms: int) -> Waiting | None:
    """Return the wait that the API has asked of this batch, or of all."""
    if batch.state is BatchState.PAUSED:
        until_ms = batch.paused_until_ms
        reason = batch.paused_reason or ""
        return None if until_ms is None else Waiting("batch", reason, batch.paused_at_ms, until_ms)
    going = batch.state in {BatchState.QUEUED, BatchState.RUNNING}
    return hold_of(throttle, now_ms) if going else None


async def living_workers(connection: Connection) -> tuple[WorkerInfo, ...]:
    """Return the workers that are alive: their heartbeat is fresh."""
    (names,) = await connection.pipeline(("ZRANGE", keys.WORKERS, 0, -1))
    if not names:
        return ()
    listed = [name.decode(errors="replace") for name in names]
    kinds = await connection.pipeline(*(("TYPE", keys.worker(worker)) for worker in listed))
    ids = [worker for worker, kind in zip(listed, kinds, strict=True) if kind == b"hash"]
    if not ids:
        return ()
    stored = await connection.pipeline(*(("HGETALL", keys.worker(worker)) for worker in ids))
    return tuple(
        worker_of(worker, values) for worker, values in zip(ids, stored, strict=True) if b"slots" in values
    )


class QueryMixin:
    """Queries. Those that name a batch raise NotFound for an unknown one."""

    _connection: Connection

    async def newest_batch(self) -> str | None:
        """Return the batch submitted last."""
        return next(iter(await _batch_ids(self._connection)), None)

    async def batch(self, batch: str) -> Batch:
        """Return a batch. One that is still loading counts as unknown."""
        return await read_batch(self._connection, batch)

    async def list_batches(self) -> list[Batch]:
        """Return all batches, newest first."""
        names = await _batch_ids(self._connection)
        stored = (
            await self._connection.pipeline(*(("HGETALL", keys.batch(name)) for name in names))
            if names
            else []
        )
        # A batch may have expired between the two commands.
        found = (readable_batch(name, values) for name, values in zip(names, stored, strict=True) if values)
        return [batch for batch in found if batch is not None]

    async def counts(self, batch: str) -> Counts:
        """Return the rows per status and the batch's other counters."""
        return await count_rows(self._connection, batch)

    async def status(self, batch: str) -> StatusView:
        """Return the batch's progress. Takes the same time for any number of rows."""
        found = await self.batch(batch)
        stored, throughput, throttle, limits, (now_s, _) = await self._connection.pipeline(
            ("HGETALL", keys.part(batch, "counters")),
            ("HGETALL", keys.part(batch, "throughput")),
            ("HGETALL", keys.THROTTLE),
            ("HGETALL", keys.LIMITS),
            ("TIME",),
        )
        counts = counts_of(stored)
        rows_per_s = _rows_per_s(found, counts, throughput, float(now_s))
        alive = await self.workers()
        own = tuple(worker for worker in alive if worker.serves(found))
        view = StatusView(
            batch=found,
            counts=counts,
            workers=own,
            other_workers=tuple(worker for worker in alive if worker not in own),
            rows_per_s=rows_per_s,
            eta_s=None,
            waiting=_waiting(found, throttle, int(now_s) * 1000),
            now_ms=int(now_s) * 1000,
        )
        if found.in_shards:
            view = replace(view, shards=await summarize_shards(self._connection, batch))
        if counts.unfinished and not own:
            view = replace(view, write_refusal=await self._connection.write_refusal())
        elif counts.unfinished:
            claims = await self._connection.pipeline(*(("SCARD", keys.claims(worker.id)) for worker in own))
            view = replace(view, claimed=sum(claims), run_limit=run_limit_of(limits, throttle, view.now_ms))
        going = found.state in {BatchState.QUEUED, BatchState.RUNNING}
        if not (going and rows_per_s and counts.unfinished and found.started_at_ms):
            return view
        slots = min(found.rows, sum(worker.slots for worker in own))
        buckets = _rows_per_bucket(found.started_at_ms / 1000, throughput, float(now_s))
        left = time_left(counts.unfinished, slots, rows_per_s, buckets) if own else None
        return replace(view, eta_s=counts.unfinished / rows_per_s, time_left=left)

    async def write_refusal(self) -> str | None:
        """Return why Redis takes no changes just now, such as a full disk; None if it takes them."""
        return await self._connection.write_refusal()

    async def workers(self) -> tuple[WorkerInfo, ...]:
        """Return the workers that are alive: their heartbeat is fresh."""
        return await living_workers(self._connection)

"""Read side of the store: batches, their progress, rows with results, ids of objects at the API."""

import re
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import partial
from itertools import compress, count
from typing import Any, NoReturn

import orjson
import structlog

from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import (
    BY_ITEMS,
    FINISHED,
    STATUS_OF_BYTE,
    UNFINISHED,
    BatchState,
    InputSpec,
    JobStatus,
)
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import keys
from askmill.jobs.store.codec import BLOCK_ROWS, block_of, limits_of, unpack
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.eta import BUCKET_S, BUCKETS, time_left
from askmill.jobs.store.records import Batch, Counts, RowDetail, RowView, StatusView, WorkerInfo
from askmill.jobs.store.shard_queries import shards_of_row, summarize_shards
from askmill.jobs.store.waits import Waiting, hold_of, last_fault_of, poll_of, run_limit_of

_CHUNK_ROWS = 64 * BLOCK_ROWS
"""Rows per round trip: 1,024, about half a megabyte."""
_WITH_RUNS = FINISHED - {JobStatus.REJECTED, JobStatus.CANCELLED}
_SUGGESTIONS = 5

log = structlog.get_logger()


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


async def count_rows(connection: Connection, batch: str) -> Counts:
    """Return the batch's counters; raises NotFound."""
    stored = await connection.execute("HGETALL", keys.part(batch, "counters"))
    return _counts_of(stored) if stored else await raise_not_found(connection, batch)


def _spec_of(stored: bytes) -> InputSpec:
    names = {field.name for field in fields(InputSpec)}
    values = {name: value for name, value in orjson.loads(stored).items() if name in names}
    return InputSpec(
        **{**values, "columns": tuple(values["columns"]), "overrides": tuple(values["overrides"])}
    )


def _batch_of(batch: str, stored: dict[bytes, bytes]) -> Batch:
    text = {name.decode(): value.decode() for name, value in stored.items()}
    frozen: dict[str, Any] = {
        name: text[name]
        for name in ("name", "file", "api", "base_url", "model", "identity", "organization", "project")
    }
    times: dict[str, Any] = {
        f"{name}_ms": int(text[name]) if name in text else None
        for name in ("started_at", "finished_at", "paused_at", "paused_until")
    }
    return Batch(
        id=batch,
        rows=int(text["rows"]),
        spec=_spec_of(stored[b"spec"]),
        profile=Profile.model_validate_json(text["profile"]),
        resources=Resources.model_validate_json(text["resources"]),
        limits=limits_of(stored[b"limits"]),
        options=orjson.loads(text["options"]),
        state=BatchState(text["state"]),
        paused_reason=text.get("paused_reason"),
        accepted=text["accepted"] == "1",
        submitted_at_ms=int(text["submitted_at"]),
        last_fault=last_fault_of(text.get("last_fault")),
        expected=Expectation(**orjson.loads(text["expected"])) if "expected" in text else None,
        **frozen,
        **times,
    )


def _readable(batch: str, stored: dict[bytes, bytes]) -> Batch | None:
    """Return the batch; None, and a line in the log, where another program has written under its name."""
    try:
        return _batch_of(batch, stored)
    except (KeyError, ValueError):
        log.warning("batch.unreadable", batch=batch)
        return None


def _worker_of(worker: str, stored: dict[bytes, bytes]) -> WorkerInfo:
    names = {field.name for field in fields(WorkerInfo)}
    text: dict[str, Any] = {
        name.decode(): value.decode() for name, value in stored.items() if name.decode() in names
    }
    numbers = {name: int(text[name]) for name in ("pid", "slots", "started_at_ms")}
    return WorkerInfo(id=worker, **{**text, **numbers})


def _counts_of(stored: dict[bytes, bytes]) -> Counts:
    numbers = {name.decode(): int(value) for name, value in stored.items()}
    return Counts(
        {name: rows for name, rows in numbers.items() if name in STATUS_OF_BYTE},
        {name: number for name, number in numbers.items() if name not in STATUS_OF_BYTE},
    )


def _rows_per_s(batch: Batch, counts: Counts, throughput: dict[bytes, bytes], now_s: float) -> float | None:
    """Return rows per second of the last minutes, or of an ended batch's whole time; None before a run."""
    if batch.started_at_ms is None:
        return None
    started_s = batch.started_at_ms / 1000
    if batch.finished_at_ms is not None:
        rows = sum(rows for status, rows in counts.by_status.items() if status in _WITH_RUNS)
        return rows / max(batch.finished_at_ms / 1000 - started_s, 0.001)
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


def _views(
    first: int, status: str, inputs: list[bytes], results: list[bytes | None], bytes_: set[str]
) -> Iterator[RowView]:
    """Yield the rows with these status bytes of a chunk from row `first` on; unpack only their blocks."""
    for start in range(0, len(status), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        chosen = [byte in bytes_ for byte in status[block]]
        if any(chosen):
            statuses, cells = map(STATUS_OF_BYTE.get, status[block]), unpack(inputs[start // BLOCK_ROWS])
            # `zip` and `tuple.__new__` run in C: for a million rows, RowView's constructor takes a second.
            yield from map(
                _new_view, compress(zip(count(first + start), cells, statuses, results[block]), chosen)
            )


_new_view = partial(tuple.__new__, RowView)


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
        _worker_of(worker, values) for worker, values in zip(ids, stored, strict=True) if b"slots" in values
    )


class QueryMixin:
    """Queries. Those that name a batch raise NotFound for an unknown one."""

    _connection: Connection

    async def newest_batch(self) -> str | None:
        """Return the batch submitted last."""
        return next(iter(await _batch_ids(self._connection)), None)

    async def batch(self, batch: str) -> Batch:
        """Return a batch. One that is still loading counts as unknown."""
        # Anything else would name another key of a batch, such as its counters.
        is_id = re.fullmatch(keys.BATCH_ID, batch) is not None
        stored = await self._connection.execute("HGETALL", keys.batch(batch)) if is_id else {}
        if not stored or stored[b"state"] == b"loading":
            await raise_not_found(self._connection, batch)
        return _batch_of(batch, stored)

    async def list_batches(self) -> list[Batch]:
        """Return all batches, newest first."""
        names = await _batch_ids(self._connection)
        stored = (
            await self._connection.pipeline(*(("HGETALL", keys.batch(name)) for name in names))
            if names
            else []
        )
        # A batch may have expired between the two commands.
        found = (_readable(name, values) for name, values in zip(names, stored, strict=True) if values)
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
        counts = _counts_of(stored)
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

    async def status_bytes(self, batch: str) -> str:
        """Return every row's status byte (jobs/model/models.py) in file order: cheap to poll."""
        stored = await self._connection.execute("GET", keys.part(batch, "status"))
        return str(stored.decode()) if stored else await raise_not_found(self._connection, batch)

    async def workers(self) -> tuple[WorkerInfo, ...]:
        """Return the workers that are alive: their heartbeat is fresh."""
        return await living_workers(self._connection)

    async def results(
        self, batch: str, statuses: Collection[JobStatus] | None = None
    ) -> AsyncIterator[RowView]:
        """Yield all rows in file order, or those of these statuses; a thousand at a time are in memory."""
        async for chunk in self.result_chunks(batch, statuses):
            for view in chunk:
                yield view

    async def result_chunks(
        self, batch: str, statuses: Collection[JobStatus] | None = None
    ) -> AsyncIterator[Iterator[RowView]]:
        """Yield what `results` yields, a thousand rows at a time: one await per chunk."""
        rows = (await self.batch(batch)).rows
        bytes_ = {byte for byte, status in STATUS_OF_BYTE.items() if statuses is None or status in statuses}
        for first in range(1, rows + 1, _CHUNK_ROWS):
            last = min(first + _CHUNK_ROWS - 1, rows)
            status, inputs, results = await self._connection.scripts.read_rows(batch, first, last, BLOCK_ROWS)
            if None in inputs:
                await raise_not_found(self._connection, batch)
            yield _views(first, status.decode(), inputs, results, bytes_)

    async def row(self, batch: str, row: int) -> RowDetail:
        """Return one row with its result and what is stored of it in progress.

        Raises:
            NotFound: no such batch, or a row number outside it.
        """
        found = await self.batch(batch)
        if not 1 <= row <= found.rows:
            raise NotFound(f"no row {row} in batch {batch}: it has the rows 1 to {found.rows}")
        status, block, packed, live, due, due_running = await self._connection.pipeline(
            ("GETRANGE", keys.part(batch, "status"), row - 1, row - 1),
            ("HGET", keys.part(batch, "input"), block_of(row)),
            ("HGET", keys.part(batch, "results"), row),
            ("HGETALL", keys.live(batch, row)),
            ("ZSCORE", keys.part(batch, "due"), row),
            ("ZSCORE", keys.part(batch, "due_running"), row),
        )
        waits_until = due if due is not None else due_running
        worker = live.get(b"worker")
        return RowDetail(
            view=RowView(row, unpack(block)[(row - 1) % BLOCK_ROWS], STATUS_OF_BYTE[status.decode()], packed),
            state=live.get(b"state"),
            worker=worker.decode() if worker else None,
            due_ms=None if waits_until is None else int(waits_until),
            crashes=int(live.get(b"crashes", 0)),
            poll=poll_of(live) if worker else None,
            shards=tuple(await shards_of_row(self._connection, batch, row)) if found.in_shards else (),
        )

    async def find_row_by_id(self, batch: str, own_id: str) -> int:
        """Return the row whose id column has this value. Reads the batch up to it: there is no index.

        Raises:
            NotFound: no such batch or id, or the batch has no id column.
        """
        spec = (await self.batch(batch)).spec
        if spec.id_column is None:
            raise NotFound(f"batch {batch} has no id column: name the row by its number")
        async for view in self.results(batch):
            if spec.cell(spec.id_column, view.cells) == own_id:
                return view.row
        raise NotFound(f"no row with {spec.id_column} {own_id!r} in batch {batch}")

    async def created_objects(self, batch: str) -> AsyncIterator[tuple[str, str]]:
        """Yield ("thread" | "run" | "file", id) of all that the batch's rows created at the API."""
        async for chunk in self.result_chunks(batch):
            views = list(chunk)
            states = await self._states(batch, [view.row for view in views if view.status in UNFINISHED])
            for view in views:
                stored, state = view.stored, states.get(view.row)
                # Without an attempt the answer was reused, and all ids belong to another batch.
                parts = [stored] if stored and stored.get("attempts_made") != 0 else []
                parts += [orjson.loads(state)] if state else []
                for created in dict.fromkeys(_created_in(parts)):
                    yield created

    async def unfinished_states(self, batch: str) -> AsyncIterator[tuple[int, bytes]]:
        """Yield row and saved state of the unfinished rows that have one."""
        async for chunk in self.result_chunks(batch, UNFINISHED):
            for row, state in (await self._states(batch, [view.row for view in chunk])).items():
                yield row, state

    async def _states(self, batch: str, rows: Sequence[int]) -> dict[int, bytes]:
        """Row → saved state, in one round trip."""
        if not rows:
            return {}
        states = await self._connection.pipeline(*(("HGET", keys.live(batch, row), "state") for row in rows))
        return {row: state for row, state in zip(rows, states, strict=True) if state}

    async def read_file(self, batch: str, row: int, number: int) -> bytes | None:
        """Return a generated file; None when it was not stored."""
        content: bytes | None = await self._connection.execute(
            "HGET", keys.part(batch, "files"), f"{row}:{number}"
        )
        return content


def _created_in(stored: Any) -> Iterator[tuple[str, str]]:
    """Yield the ids of what runs created, anywhere in stored JSON. Citations name the user's own files."""
    if isinstance(stored, list):
        for part in stored:
            yield from _created_in(part)
    elif isinstance(stored, dict):
        if stored.get("thread_id"):
            yield "thread", stored["thread_id"]
        # A run that is known only by the items of its conversation has no id at the API.
        if stored.get("run_id") and not stored["run_id"].startswith(BY_ITEMS):
            yield "run", stored["run_id"]
        for file in stored.get("files") or ():
            # A file in a container is deleted with the container.
            if file.get("file_id") and not file.get("container_id"):
                yield "file", file["file_id"]
        for name, part in stored.items():
            if name not in {"citations", "details", "files"}:
                yield from _created_in(part)

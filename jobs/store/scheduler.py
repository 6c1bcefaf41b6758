"""Scheduling: which rows to publish now, which messages were lost, which workers are dead."""

from collections.abc import Iterator
from typing import Any

import orjson

from askmill.jobs.store import keys
from askmill.jobs.store.broker import QUEUE
from askmill.jobs.store.claim_records import DispatchedRow, ReapResult
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.queries import living_workers

_ROWS_PER_REAP = 1000
"""Rows per script: a few milliseconds, in which Redis does nothing else."""
_TOMBSTONE_MS = 86_400_000
_LATEST_MS = 1e15
"""No time is later: an entry of `dispatched` with a larger score is not askmill's."""


def _rows_in(flat: list[Any], width: int) -> Iterator[tuple[Any, ...]]:
    return zip(*(flat[field::width] for field in range(width)), strict=True)


def _dispatched(batch: bytes, name: bytes, delivery: int, *, own: bool) -> DispatchedRow:
    shard = keys.shard_number(name.decode())
    row = 0 if shard is not None else int(name)
    return DispatchedRow(batch.decode(), row, delivery, own, shard)


def _row_named_in(message: bytes) -> str:
    """Return "batch:row" or "batch:shard:number" of a message's task id (batch:row:delivery).

    '' for an unreadable message.
    """
    try:
        return str(orjson.loads(message)["headers"]["id"]).rpartition(":")[0]
    except (ValueError, LookupError, TypeError):
        return ""


class SchedulerMixin:
    """Called by every worker at its heartbeat, and by commands that make rows ready to run."""

    _connection: Connection
    _suspects: dict[str, int]
    """Rows whose message the last `requeue_lost` missed → ms of their dispatch."""

    async def dispatch(self, floor: int) -> list[DispatchedRow]:
        """Choose the rows to publish now: as many as the living workers have free slots, and `floor` more."""
        flat = await self._connection.scripts.dispatch(floor, self._connection.lifetime_ms)
        return [
            _dispatched(batch, name, delivery, own=bool(own))
            for batch, name, delivery, own in _rows_in(flat, 4)
        ]

    async def requeue_lost(self, older_than_s: float = 10.0) -> list[DispatchedRow]:
        """Return the rows to publish again because their message is lost.

        Such a row was dispatched so long ago, is not claimed, and in two calls running no message in its
        queue named it. The queues are read only when they hold fewer messages than rows are dispatched. A
        plain deadline instead put 420 duplicates behind 360 slow jobs.

        A row of a batch that has got workers of its own since, whose message is in the common queue, is
        returned at once.
        """
        own = await self._batches_with_own_workers()
        queues = [QUEUE, *(keys.part(batch, "queue") for batch in own)]
        *lengths, dispatched, (seconds, _) = await self._connection.pipeline(
            *(("LLEN", queue) for queue in queues), ("ZCARD", keys.DISPATCHED), ("TIME",)
        )
        if sum(lengths) >= dispatched and not (own and lengths[0]):
            self._suspects = {}
            return []
        before_ms = int(seconds) * 1000 - int(older_than_s * 1000)
        misplaced, missing = await self._find_missing(queues, own, before_ms)
        lost = [pair for pair in missing.items() if self._suspects.get(pair[0]) == pair[1]]
        self._suspects = missing
        names_and_times = [part for pair in (*misplaced.items(), *lost) for part in pair]
        if not names_and_times:
            return []
        flat = await self._connection.scripts.requeue(names_and_times)
        return [
            _dispatched(batch, name, delivery, own=batch.decode() in own)
            for batch, name, delivery in _rows_in(flat, 3)
        ]

    async def _batches_with_own_workers(self) -> set[str]:
        """Return the batches that have living workers of their own."""
        return {worker.batch for worker in await living_workers(self._connection) if worker.batch}

    async def _find_missing(
        self, queues: list[str], own: set[str], before_ms: int
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Return "batch:row" → ms of dispatch, of the rows that no message in their queue names.

        Args:
            queues: the common one, then those of `own`.
            own: batches with workers of their own.
            before_ms: rows dispatched later are not missing.

        Returns:
            Rows of `own` with a message in the common queue, and the others.
        """
        *messages, dispatched = await self._connection.pipeline(
            *(("LRANGE", queue, 0, -1) for queue in queues), ("ZRANGE", keys.DISPATCHED, 0, -1, "WITHSCORES")
        )
        named = {
            queue: {_row_named_in(message) for message in each}
            for queue, each in zip(queues, messages, strict=True)
        }
        misplaced, missing = dict[str, int](), dict[str, int]()
        for member, at in dispatched:
            name, at_ms = member.decode(errors="replace"), float(at)
            if not 0 <= at_ms < _LATEST_MS:  # not written by askmill
                continue
            batch = name.partition(":")[0]
            if name in named[keys.part(batch, "queue") if batch in own else QUEUE]:
                continue
            if batch in own and name in named[QUEUE]:
                misplaced[name] = int(at_ms)
            elif at_ms <= before_ms:
                missing[name] = int(at_ms)
        return misplaced, missing

    async def reap_dead_workers(self, worker_id: str) -> ReapResult:
        """Release the rows of workers whose heartbeat is older than a lifetime.

        A caller that has missed heartbeats itself finds no dead worker for the next lifetime.
        """
        dead, removed, total = set[str](), set[str](), 0
        while True:
            rows, workers, odd = await self._connection.scripts.reap_workers(
                worker_id, self._connection.lifetime_ms, _ROWS_PER_REAP, _TOMBSTONE_MS
            )
            dead.update(worker.decode(errors="replace") for worker in workers)
            removed.update(name.decode(errors="replace") for name in odd)
            total += rows
            if rows < _ROWS_PER_REAP:
                return ReapResult(tuple(sorted(dead)), total, tuple(sorted(removed)))

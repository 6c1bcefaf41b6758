"""Scheduling: which rows to publish now, which messages were lost, which workers are dead."""

from typing import Any

import orjson

from askmill.jobs.store import keys
from askmill.jobs.store.broker import QUEUE
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.records import DispatchedRow, ReapResult

_ROWS_PER_REAP = 1000
"""Rows per script: a few milliseconds, in which Redis does nothing else."""
_TOMBSTONE_MS = 86_400_000


def _dispatched_rows(flat: list[Any]) -> list[DispatchedRow]:
    triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [DispatchedRow(batch.decode(), row, delivery) for batch, row, delivery in triples]


def _row_named_in(message: bytes) -> str:
    """Return "batch:row" of a message's task id (batch:row:delivery); '' for an unreadable message."""
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
        return _dispatched_rows(await self._connection.scripts.dispatch(floor, self._connection.lifetime_ms))

    async def requeue_lost(self, older_than_s: float = 10.0) -> list[DispatchedRow]:
        """Return the rows to publish again because their message is lost.

        Such a row was dispatched so long ago, is not claimed, and in two calls running no message in the
        queue named it. The queue is read only when it holds fewer messages than rows are dispatched. A plain
        deadline instead put 420 duplicates behind 360 slow jobs.
        """
        queued, dispatched, (seconds, _) = await self._connection.pipeline(
            ("LLEN", QUEUE), ("ZCARD", keys.DISPATCHED), ("TIME",)
        )
        before_ms = int(seconds) * 1000 - int(older_than_s * 1000)
        missing = await self._find_missing(before_ms) if queued < dispatched else {}
        lost = [(name, at_ms) for name, at_ms in missing.items() if self._suspects.get(name) == at_ms]
        self._suspects = missing
        if not lost:
            return []
        return _dispatched_rows(
            await self._connection.scripts.requeue([part for pair in lost for part in pair])
        )

    async def _find_missing(self, before_ms: int) -> dict[str, int]:
        """Return "batch:row" → ms of dispatch, of the rows that no message in the queue names."""
        messages, dispatched = await self._connection.pipeline(
            ("LRANGE", QUEUE, 0, -1), ("ZRANGE", keys.DISPATCHED, 0, -1, "WITHSCORES")
        )
        queued = {_row_named_in(message) for message in messages}
        names = [(name.decode(errors="replace"), float(at_ms)) for name, at_ms in dispatched]
        old = {name: int(at_ms) for name, at_ms in names if 0 <= at_ms <= before_ms}
        return {name: at_ms for name, at_ms in old.items() if name not in queued}

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

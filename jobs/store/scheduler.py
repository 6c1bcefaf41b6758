"""What keeps rows moving: feed the broker, find lost messages by proof, sweep up after dead workers."""

from typing import Any

import orjson

from askmill.jobs.store import keys
from askmill.jobs.store.broker import QUEUE
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.records import DispatchedRow, ReapResult

_SWEPT_ROWS = 1000
"""Rows a script: a few milliseconds, in which Redis does nothing else."""
_TOMBSTONE_MS = 86_400_000


def _fed(flat: list[Any]) -> list[DispatchedRow]:
    triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [DispatchedRow(batch.decode(), row, attempt) for batch, row, attempt in triples]


def _named_in(queued: list[bytes]) -> set[str]:
    """The rows that messages of the broker name, by their task ids (batch:row:attempt)."""
    return {_task_id(raw).rpartition(":")[0] for raw in queued}


def _task_id(raw: bytes) -> str:
    """Of a message; '' for one that nobody can read, which names no row."""
    try:
        return str(orjson.loads(raw)["headers"]["id"])
    except (ValueError, LookupError, TypeError):
        return ""


class SchedulerMixin:
    """Done by every worker at its heartbeat, and by whoever changes what may be fed."""

    _at: Connection
    _suspects: dict[str, int]

    async def dispatch(self, floor: int) -> list[DispatchedRow]:
        """Choose what to publish now: as many rows as the living workers have free slots, and `floor`."""
        return _fed(await self._at.scripts.dispatch(floor))

    async def requeue_lost(self, older_than_s: float = 10.0) -> list[DispatchedRow]:
        """Rows to publish again: fed, unclaimed, and in two calls running named by no message of the broker.

        Only looks into the queue when it holds fewer messages than rows were fed (a plain deadline put 420
        duplicates behind 360 slow jobs).
        """
        queued, fed, now = await self._at.pipeline(("LLEN", QUEUE), ("ZCARD", keys.FED), ("TIME",))
        before_ms = int(now[0]) * 1000 - int(older_than_s * 1000)
        missing = await self._missing(before_ms) if queued < fed else {}
        proved = [(name, at) for name, at in missing.items() if self._suspects.get(name) == at]
        self._suspects = missing
        if not proved:
            return []
        return _fed(await self._at.scripts.requeue([part for pair in proved for part in pair]))

    async def _missing(self, before_ms: int) -> dict[str, int]:
        queued, fed = await self._at.pipeline(
            ("LRANGE", QUEUE, 0, -1), ("ZRANGE", keys.FED, 0, -1, "WITHSCORES")
        )
        present = _named_in(queued)
        fed_at = {name.decode(): int(at) for name, at in fed if int(at) <= before_ms}
        return {name: at for name, at in fed_at.items() if name not in present}

    async def reap_dead_workers(self, worker_id: str) -> ReapResult:
        """Give back what workers held that have missed their heartbeat for a whole lifetime.

        A sweeping worker that has missed heartbeats itself finds nothing until it was heard for a lifetime.
        """
        dead, total = set[str](), 0
        while True:
            rows, *workers = await self._at.scripts.reap_workers(
                worker_id, self._at.lifetime_ms, _SWEPT_ROWS, _TOMBSTONE_MS
            )
            dead.update(worker.decode() for worker in workers)
            total += rows
            if rows < _SWEPT_ROWS:
                return ReapResult(tuple(sorted(dead)), total)

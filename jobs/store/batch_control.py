"""Commands' side of the store: pause, resume, cancel, retry or purge a batch, change its limits."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson

from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import BYTE_OF_FINISHED, RETRIED_BY_DEFAULT, JobStatus, Limits
from askmill.jobs.store import keys
from askmill.jobs.store.codec import limits_json, limits_of
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.ingest import budget_nano, retention_ms
from askmill.jobs.store.queries import count_rows, raise_not_found
from askmill.jobs.store.views import Counts


class ControlMixin:
    """Changes of a whole batch. Each raises NotFound for an unknown batch."""

    _connection: Connection

    async def pause(self, batch: str, reason: str) -> bool:
        """Start no more runs; those in flight end. False when the batch was neither queued nor running."""
        state, changed = await self._connection.scripts.pause(batch, reason, after_fault=False)
        return bool(changed) if state else await raise_not_found(self._connection, batch)

    async def resume(self, batch: str) -> bool:
        """Resume a paused batch. False when it was not paused."""
        state, changed = await self._connection.scripts.resume(batch)
        return bool(changed) if state else await raise_not_found(self._connection, batch)

    async def cancel(self, batch: str) -> Counts:
        """End every row that has no run yet; workers cancel the runs of the others at the API."""
        if not await self._connection.scripts.cancel(batch):
            await raise_not_found(self._connection, batch)
        return await count_rows(self._connection, batch)

    async def retry(self, batch: str, statuses: Iterable[JobStatus] = RETRIED_BY_DEFAULT) -> int:
        """Queue rows of these statuses again, with the rest of their conversations; returns how many.

        Earlier results stand until the new ones. Rejected rows cannot be asked and are left out.
        """
        chosen = "".join(BYTE_OF_FINISHED[status] for status in set(statuses) - {JobStatus.REJECTED})
        rows = await self._connection.scripts.retry(batch, chosen) if chosen else 0
        return rows if rows >= 0 else await raise_not_found(self._connection, batch)

    async def update_limits(self, batch: str, limits: Limits) -> None:
        """Replace all limits. Workers read them at their next heartbeat."""
        values = limits_json(limits), budget_nano(limits)
        if not await self._connection.scripts.set_batch_limits(batch, *values, b""):
            await raise_not_found(self._connection, batch)

    async def change_limits(self, batch: str, changed: dict[str, Any]) -> None:
        """Change these limits only, also of a batch that is still loading.

        Compare-and-set: two commands that change different limits at the same moment both succeed.
        """
        while True:
            stored = await self._connection.execute("HGET", keys.batch(batch), "limits")
            if stored is None:
                await raise_not_found(self._connection, batch)
            limits = replace(limits_of(stored), **changed)
            values = limits_json(limits), budget_nano(limits)
            if await self._connection.scripts.set_batch_limits(batch, *values, stored) == 1:
                return

    async def update_retention(self, batch: str, days: float) -> None:
        """Let the batch's keys expire so long after its end; if it has ended, so long from now."""
        if not await self._connection.scripts.set_retention(batch, retention_ms(days)):
            await raise_not_found(self._connection, batch)

    async def set_expected(self, batch: str, expected: Expectation) -> None:
        """Replace the batch's expectation; its rows and their answers stay as they are."""
        if not await self._connection.scripts.set_expected(batch, orjson.dumps(expected)):
            await raise_not_found(self._connection, batch)

    async def purge(self, batch: str) -> None:
        """Delete every key of the batch; workers that hold its rows lose their claims."""
        if not await self._connection.scripts.purge(batch):
            await raise_not_found(self._connection, batch)

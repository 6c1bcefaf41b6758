"""A person's side of the store: pause, resume, cancel, retry, other limits, purge. Each is one script."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from askmill.jobs.model.models import BYTE_OF_FINISHED, RETRIED_BY_DEFAULT, JobStatus, Limits
from askmill.jobs.store import keys
from askmill.jobs.store.codec import limits_json, limits_of
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.ingest import budget_nano, retention_ms
from askmill.jobs.store.queries import QueryMixin, not_found
from askmill.jobs.store.records import Counts


class ControlMixin(QueryMixin):
    """Changes of a whole batch."""

    _at: Connection

    async def pause(self, batch: str, reason: str) -> bool:
        """Start no more runs; those in flight end. False when it was not going."""
        state, changed = await self._at.scripts.pause(batch, reason, fault=False)
        return bool(changed) if state else await not_found(self._at, batch)

    async def resume(self, batch: str) -> bool:
        """Go on with a paused batch. False when it was not paused."""
        state, changed = await self._at.scripts.resume(batch)
        return bool(changed) if state else await not_found(self._at, batch)

    async def cancel(self, batch: str) -> Counts:
        """End every row that nothing was begun for; workers end the others at the API."""
        if not await self._at.scripts.cancel(batch):
            await not_found(self._at, batch)
        return await self.counts(batch)

    async def retry(self, batch: str, statuses: Iterable[JobStatus] = RETRIED_BY_DEFAULT) -> int:
        """Ask again the rows that ended so, and the rest of their conversations; returns how many.

        Old results stand until the new ones. Rejected rows cannot be asked and are passed over.
        """
        chosen = "".join(BYTE_OF_FINISHED[status] for status in set(statuses) - {JobStatus.REJECTED})
        rows = await self._at.scripts.retry(batch, chosen) if chosen else 0
        return rows if rows >= 0 else await not_found(self._at, batch)

    async def update_limits(self, batch: str, limits: Limits) -> None:
        """Workers see them at their next heartbeat."""
        if not await self._at.scripts.set_batch_limits(batch, limits_json(limits), budget_nano(limits), b""):
            await not_found(self._at, batch)

    async def change_limits(self, batch: str, changed: dict[str, Any]) -> None:
        """Change these limits only, also those of a batch that is still loading.

        Two commands that change different limits at the same moment both succeed.
        """
        while True:
            stored = await self._at.execute("HGET", keys.batch(batch), "limits")
            if stored is None:
                await not_found(self._at, batch)
            limits = replace(limits_of(stored), **changed)
            found = await self._at.scripts.set_batch_limits(
                batch, limits_json(limits), budget_nano(limits), stored
            )
            if found == 1:
                return

    async def update_retention(self, batch: str, days: float) -> None:
        """So long after its end it goes; one that has ended, so long from now."""
        if not await self._at.scripts.set_retention(batch, retention_ms(days)):
            await not_found(self._at, batch)

    async def purge(self, batch: str) -> None:
        """Delete every key of the batch; workers that hold its rows drop them."""
        if not await self._at.scripts.purge(batch):
            await not_found(self._at, batch)

"""One list of the API's batches for all shards of a process: who asks meanwhile shares it.

shard 1 ─┐ due          shard 4 ─┐ just uploaded: needs a list that is asked for after that
shard 2 ─┼─▶ one list, every `interval_s` ◀───────────────┘
shard 3 ─┘

A list is as long as the askmill batch is old. What has ended does not change, so only the first list of a
process reads all pages; the others read back to the oldest batch that may have changed.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from askmill.worker.backends.batch_jobs import BatchJobs, BatchList
from askmill.worker.lifecycle.batch_types import ServerBatch

SLACK_S = 600.0
"""How late a new batch may be listed, and how far the clocks of a server may differ."""


@dataclass
class BatchLister:
    """Lists batches, one request at a time. `now_s`: the jobs' time."""

    jobs: BatchJobs
    now_s: Callable[[], float]
    interval_s: float = 60.0
    asked_at: float = float("-inf")
    """When the last list was asked for."""
    last: BatchList | None = None
    horizon_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    searched: set[str] = field(default_factory=set)
    """The askmill batches of which a shard has looked for unknown batches in the last list."""

    def due_in_s(self) -> float:
        """Seconds until the next list is due."""
        return max(0.0, self.asked_at + self.interval_s - self.now_s())

    async def list_after(self, at: float, age_s: float) -> tuple[float, BatchList]:
        """A list that was asked for after `at`, and when.

        Args:
            at: the jobs' time.
            age_s: how long ago the oldest batch may have been created.

        Raises:
            ApiError: the request failed.
        """
        async with self.lock:
            if self.last is None or self.asked_at <= at or age_s > self.horizon_s:
                earlier = self.last.batches if self.last is not None and age_s <= self.horizon_s else ()
                asked_at, horizon_s = self.now_s(), max(age_s, self.horizon_s)
                listed = await self.jobs.list_batches(horizon_s + SLACK_S, since=unchanged_before(earlier))
                batches = with_ended(listed.batches, earlier, horizon_s + SLACK_S)
                self.last = BatchList(batches, listed.server_time)
                self.asked_at, self.horizon_s = asked_at, horizon_s
                self.searched.clear()
            return self.asked_at, self.last

    def is_to_search(self, batch: str) -> bool:
        """Whether no followed shard of the askmill batch has looked for unknown batches in the last list."""
        is_first = batch not in self.searched
        self.searched.add(batch)
        return is_first


def unchanged_before(earlier: Iterable[ServerBatch]) -> float | None:
    """The time of creation, by the API's clock, before which nothing changes; None: unknown. Pure."""
    earlier = tuple(earlier)
    created = [batch.created_at for batch in earlier if batch.created_at is not None]
    if not created or len(created) < len(earlier):
        return None
    running = (batch.created_at for batch in earlier if not batch.has_ended or batch.files_missing)
    return min(max(created) - SLACK_S, *(at for at in running if at is not None), inf)


def with_ended(
    listed: tuple[ServerBatch, ...], earlier: Iterable[ServerBatch], horizon_s: float
) -> tuple[ServerBatch, ...]:
    """The listed batches, and of the earlier ones those that have ended and are older than all of them. Pure.

    An earlier batch that is missing between the listed ones is deleted. One that still runs and is not listed
    is asked for by its id.
    """
    ids = {batch.id for batch in listed}
    created = [batch.created_at for batch in listed if batch.created_at is not None]
    oldest, newest = min(created, default=inf), max(created, default=0.0)
    return (
        *listed,
        *(
            batch
            for batch in earlier
            if batch.id not in ids
            and batch.has_ended
            and newest - horizon_s <= (batch.created_at or 0.0) <= oldest
        ),
    )

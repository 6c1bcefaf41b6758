"""One list of the API's batches for all shards of a process: who asks meanwhile shares it.

shard 1 ─┐ due          shard 4 ─┐ just uploaded: needs a list that is asked for after that
shard 2 ─┼─▶ one list, every `interval_s` ◀───────────────┘
shard 3 ─┘
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from askmill.worker.backends.batch_jobs import BatchJobs, BatchList

SLACK_S = 600.0
"""Added to the age of the oldest batch, for servers whose clock of lists is behind."""


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
                asked_at, horizon_s = self.now_s(), max(age_s, self.horizon_s)
                self.last = await self.jobs.list_batches(horizon_s + SLACK_S)
                self.asked_at, self.horizon_s = asked_at, horizon_s
            return self.asked_at, self.last

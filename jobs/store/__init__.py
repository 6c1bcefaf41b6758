"""The only owner of job state: what must survive of a batch is in Redis and changes only through here.

    Shelf     a batch comes in           look, take, add_rows, seal_batch, drop, reserve, made
    Reading   anybody asks               batch, list_batches, counts, status, results, row, ledger, workers
    Steering  a person changes a batch   pause, resume, cancel, retry, update_limits, update_retention, purge
    Claims    a worker has a row         beat, leave, claim, save, give_back, finish, keep_file, trouble
    Upkeep    rows keep moving           feed, lost_messages, sweep
    Pacing    all workers together       set_limits, limits, book, throttle

Keys: jobs/store/keys.py. Scripts: jobs/lua. A row's bytes: jobs/model/models.py. Why so: docs/decisions/store.md.
"""

from types import TracebackType
from typing import Self

from askmill.jobs.store.batch_control import ControlMixin
from askmill.jobs.store.claims import ClaimMixin
from askmill.jobs.store.connection import Connection, connect
from askmill.jobs.store.ingest import IngestMixin
from askmill.jobs.store.rate_limits import RateLimitMixin
from askmill.jobs.store.scheduler import SchedulerMixin


class Store(IngestMixin, ClaimMixin, SchedulerMixin, ControlMixin, RateLimitMixin):
    """One for each process and event loop; `async with` closes it."""

    def __init__(self, at: Connection) -> None:
        self._at = at
        self._suspects = {}
        self._fences = {}

    @classmethod
    async def open(cls, url: str, *, lifetime_s: float = 12.0) -> Self:
        """Connect to `redis://`, `rediss://` or `unix://`.

        Args:
            url: see `ASKMILL_REDIS_URL`.
            lifetime_s: how long a worker's claims outlive its last heartbeat.

        Raises:
            RedisUnavailable: Redis does not answer, refuses the password or is full.
            UsageError: the address cannot be read.
            UsageError: a newer askmill has written there.
        """
        return cls(await connect(url, lifetime_s))

    async def close(self) -> None:
        await self._at.redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

"""What all jobs of one worker process share: the store, the API, the limits, the clock and the heartbeat."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar

import structlog

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.records import WorkerInfo
from askmill.worker.backends.base import Backend
from askmill.worker.runtime.crash_isolation import CrashIsolation
from askmill.worker.runtime.rate_limiter import SharedLimits
from askmill.worker.runtime.redis_clock import RedisClock

T = TypeVar("T")
log = structlog.get_logger()

BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts on while the machine sleeps, so that a heartbeat never looks younger than it is."""


OUTAGE = (Unavailable, OSError)
"""What Redis, or the way to it, gets over by itself (jobs/store/redis_errors.py); asking again may go well."""


def elapsed_clock_s() -> float:
    """Seconds of a clock that never stands still."""
    return time.clock_gettime(BOOTTIME)


async def retry_on_outage(
    call: Callable[[], Awaitable[T]], last_try_s: Callable[[], float] = lambda: inf
) -> T:
    """Do it, and again as long as Redis is away, full or loading. Every script may be sent twice."""
    tries = 0
    while True:
        try:
            return await call()
        except OUTAGE as fault:
            if elapsed_clock_s() > last_try_s():
                raise
            if tries == 0:
                log.warning("redis.waiting", reason=str(fault) or type(fault).__name__)
            tries += 1
            await asyncio.sleep(min(2.0, 0.05 * 2.0 ** min(tries, 8)) * (0.5 + random.random() / 2))  # noqa: S311 -- jitter


@dataclass
class WorkerContext:
    """One per worker process. `acknowledged_s` is when the last acknowledged heartbeat was sent."""

    store: Store
    backend: Backend
    limits: SharedLimits
    prices: Prices
    worker: WorkerInfo
    lifetime_s: float
    margin_s: float
    function_limit_s: float = 60.0
    file_limit_bytes: int = 10_000_000
    fetch_within_s: float = 120.0
    """How long a generated file is asked for again; its container lives 20 minutes."""
    create_failure_patience_s: float = 300.0
    """CONTRACT: creates that fail so long without one success pause their batch."""
    heartbeat_acknowledged_s: float = -inf
    last_try_s: float = inf
    """When, at the end of the process, Redis is no longer waited for (see `elapsed_clock_s`)."""
    clock: RedisClock = field(default_factory=RedisClock)
    """Every stored time is Redis'; jobs count on a time that its steps do not move."""
    crash_isolation: CrashIsolation = field(default_factory=CrashIsolation)
    dispatch_needed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when slots or rows have come free: feed."""

    def now_s(self) -> float:
        """The jobs' time: Unix seconds that never jump."""
        return elapsed_clock_s() + self.clock.ahead_s

    def due_ms(self, wait_s: float) -> int:
        """So long from now, by Redis' clock."""
        return int((elapsed_clock_s() + self.clock.redis_ahead_s + wait_s) * 1000)

    def lease_is_fresh(self) -> bool:
        """Whether our claims surely still stand: no create is written unless they do."""
        return elapsed_clock_s() - self.heartbeat_acknowledged_s < self.lifetime_s - self.margin_s

    async def retry_on_outage(self, call: Callable[[], Awaitable[T]]) -> T:
        """The same, until `last_try_s`."""
        return await retry_on_outage(call, lambda: self.last_try_s)

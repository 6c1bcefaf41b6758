"""What all jobs of one worker process share: the store, the API, the limits, the clock and the heartbeat."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf
from typing import ParamSpec, TypeVar

import structlog

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.views import WorkerInfo
from askmill.worker.backends.factory import Backends
from askmill.worker.runtime.crash_isolation import CrashIsolation
from askmill.worker.runtime.rate_limiter import SharedLimits
from askmill.worker.runtime.redis_clock import RedisClock

P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger()

BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""This clock runs while the machine sleeps, so a heartbeat never looks younger than it is."""

OUTAGE = (Unavailable, OSError)
"""Errors that pass without a change on our side (jobs/store/redis_errors.py): the call can be repeated."""


def elapsed_clock_s() -> float:
    """Seconds on a clock that never jumps and never stops."""
    return time.clock_gettime(BOOTTIME)


CREATE_FAILURE_PATIENCE_S = 300.0
"""How long creates may fail without one success before their batch pauses."""
CRASH_WAIT_S = 10.0
"""How long a row or a shard waits after an unexpected exception."""


@dataclass
class OutageRetry:
    """Repeats a call for as long as Redis is unreachable, full or loading. Every script may be sent twice."""

    give_up_at_s: float = inf
    """From when on, by `elapsed_clock_s`, an outage is raised instead: the process is ending."""

    async def __call__(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `call`. Raises what it raises, except an outage."""
        tries = 0
        while True:
            try:
                return await call(*args, **kwargs)
            except OUTAGE as outage:
                if elapsed_clock_s() > self.give_up_at_s:
                    raise
                if tries == 0:
                    log.warning("redis.unavailable", reason=str(outage) or type(outage).__name__)
                tries += 1
                backoff_s = min(2.0, 0.05 * 2.0 ** min(tries, 8))
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter


retry_on_outage = OutageRetry()
"""Never gives up."""


@dataclass
class WorkerContext:
    """One per worker process."""

    store: Store
    backends: Backends
    limits: SharedLimits
    prices: Prices
    worker: WorkerInfo
    lifetime_s: float
    """How long the claims of this worker outlive its last heartbeat."""
    margin_s: float
    """How long before that no create is sent any more."""
    function_limit_s: float = 60.0
    file_limit_bytes: int = 10_000_000
    fetch_within_s: float = 120.0
    """How long the download of a generated file is retried; its container lives 20 minutes."""
    create_failure_patience_s: float = CREATE_FAILURE_PATIENCE_S
    heartbeat_acknowledged_s: float = -inf
    """When the last acknowledged heartbeat was sent, by `elapsed_clock_s`."""
    retry_on_outage: OutageRetry = field(default_factory=OutageRetry)
    clock: RedisClock = field(default_factory=RedisClock)
    """Converts between the jobs' time, which never jumps, and Redis' time, which is stored."""
    crash_isolation: CrashIsolation = field(default_factory=CrashIsolation)
    dispatch_needed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when slots or rows have become free."""

    def now_s(self) -> float:
        """The jobs' time: Unix seconds that never jump."""
        return elapsed_clock_s() + self.clock.ahead_s

    def due_ms(self, wait_s: float) -> int:
        """The time after `wait_s`, in Unix milliseconds of Redis' clock."""
        return int((elapsed_clock_s() + self.clock.redis_ahead_s + wait_s) * 1000)

    def lease_is_fresh(self) -> bool:
        """Whether this worker's claims certainly still hold. No create is sent unless they do."""
        return elapsed_clock_s() - self.heartbeat_acknowledged_s < self.lifetime_s - self.margin_s

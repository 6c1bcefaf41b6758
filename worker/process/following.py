"""What rows and shards share in a worker process: a claim under one fence, and a place among its jobs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import structlog

from askmill.jobs.model.errors import NotFound
from askmill.jobs.store.claims import new_fence
from askmill.worker.runtime.context import CRASH_WAIT_S, OUTAGE, WorkerContext
from askmill.worker.runtime.interrupts import Interrupts

if TYPE_CHECKING:
    from askmill.worker.process.worker import WorkerProcess

log = structlog.get_logger()
LAST_RELEASE_S = 1.0
"""How long a process that ends waits for a Redis that has not answered its releases before."""
Claimed = TypeVar("Claimed")
ClaimScript = Callable[[str, int, str, str], Awaitable[Claimed]]
"""Takes batch, number of the row or shard, worker and fence."""


async def claim_once(
    context: WorkerContext, claim: ClaimScript[Claimed], abandon: ClaimScript[None], batch: str, number: int
) -> Claimed:
    """Claim under one fence, however often the call is repeated; abandon the claim when interrupted."""
    worker, fence, retry = context.worker.id, new_fence(), context.retry_on_outage
    try:
        return await retry(claim, batch, number, worker, fence)
    except (Exception, asyncio.CancelledError):
        await retry(abandon, batch, number, worker, fence)
        raise


@asynccontextmanager
async def followed(
    process: "WorkerProcess",
    context: WorkerContext,
    key: tuple[str, int | str],
    release: Callable[..., Awaitable[object]],
) -> AsyncIterator[Interrupts]:
    """Count a claimed row or shard among the process's jobs while the body follows it.

    Args:
        process: Has the jobs.
        context: Of the process.
        key: The batch, and the row or the shard's name.
        release: Releases the claim; takes `due_ms`, when it is due again by Redis' clock.
    """
    interrupts = Interrupts(shutting_down=process.shutting_down, task=asyncio.current_task())
    process.jobs[key] = interrupts
    process.idle.clear()
    try:
        yield interrupts
    except NotFound:
        log.info("batch.purged")
    except (Exception, asyncio.CancelledError) as error:
        is_shutdown = process.shutting_down and isinstance(error, (asyncio.CancelledError, *OUTAGE))
        if not is_shutdown:
            log.exception("job.crashed")
        try:
            # Nobody follows it any more, and no other worker releases what a living one has claimed.
            async with asyncio.timeout(LAST_RELEASE_S if process.shutting_down else None):
                await context.retry_on_outage(release, due_ms=context.due_ms(CRASH_WAIT_S))
        except (asyncio.CancelledError, *OUTAGE) as outage:
            if not process.shutting_down:
                raise
            # Other workers continue what a worker held that has ended.
            log.warning("job.not_released", reason=str(outage) or "Redis does not answer")
    finally:
        if process.jobs.get(key) is interrupts:
            del process.jobs[key]
        if not process.jobs:
            process.idle.set()
        context.dispatch_needed.set()

"""Looks at a batch until nothing more is to come: for `run`, `collect --wait` and `status --watch`."""

import asyncio
from collections.abc import AsyncIterator

from jobs.models import BatchState, JobStatus
from jobs.records import StatusView
from jobs.store import Store

FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 1.0


async def follow(store: Store, batch: str) -> AsyncIterator[StatusView]:
    """Views of the batch, the last one when it `is_over`. Short batches are looked at more often."""
    wait_s = FIRST_LOOK_S
    while True:
        view = await store.status(batch)
        yield view
        if is_over(view):
            return
        await asyncio.sleep(wait_s)
        wait_s = min(LONGEST_LOOK_S, wait_s * 1.1)


def is_over(view: StatusView) -> bool:
    """Done; or paused or cancelled, and what is in flight has ended or nobody is there to end it."""
    counts, state = view.counts, view.batch.state
    if state is BatchState.DONE:
        return True
    if state is BatchState.CANCELLED:
        return not counts.unfinished or not view.workers
    return state is BatchState.PAUSED and not (counts.by_status[JobStatus.RUNNING] and view.workers)


def exit_code(view: StatusView) -> int:
    """0 every row completed · 1 done or cancelled, some did not · 3 paused."""
    if view.batch.state is BatchState.PAUSED:
        return 3
    return 0 if view.counts.by_status[JobStatus.COMPLETED] == view.batch.rows else 1

"""Pause, resume, retry or cancel a batch: what the commands and the web page have in common.

Each function changes the batch and returns whether anything changed, with a sentence about the result.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from askmill.config.settings import Settings
from askmill.config.text import count_of
from askmill.jobs.display.pause_advice import PAUSED_BY_USER
from askmill.jobs.display.stall_text import stall_or_start, stall_reason
from askmill.jobs.display.status_text import finished_rows, summary_line
from askmill.jobs.model.api_target import NO_CONSENT, Consent
from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.submit.submit import dispatch_first_rows


class Changed(NamedTuple):
    """The result of a change: `changed` is False if the batch was in no state for it."""

    changed: bool
    message: str


async def pause(store: Store, batch: Batch) -> Changed:
    """Start no more runs; those in flight end."""
    if await store.pause(batch.id, PAUSED_BY_USER):
        advice = f"Run `askmill resume {batch.id}` to resume."
        return Changed(True, f"{batch.id} is paused; runs in flight finish. {advice}")
    if batch.state is BatchState.PAUSED:
        return Changed(False, f"{batch.id} is paused already.")
    return Changed(False, f"{batch.id} is {batch.state}, so it cannot be paused.")


async def resume(store: Store, batch: Batch, url: str, *, worker_starting: bool = False) -> Changed:
    """Resume a paused batch.

    Args:
        store: Redis.
        batch: the batch.
        url: Redis' address.
        worker_starting: the caller starts a worker for it.
    """
    if not await store.resume(batch.id):
        return Changed(False, f"{batch.id} is {batch.state}, not paused.")
    await dispatch_first_rows(store, url)
    view = await store.status(batch.id)
    rows, ended = count_of(batch.rows, "row"), finished_rows(view)
    if stall := stall_or_start(view, worker_starting=worker_starting):
        return Changed(True, f"{batch.id} is no longer paused ({ended:,} of {rows} ended). {stall}")
    workers = count_of(len(view.workers), "worker")
    return Changed(
        True,
        f"{batch.id} is resumed: {ended:,} of {rows} ended, {workers}. `askmill status {batch.id} --watch` "
        "follows it.",
    )


async def retry(
    store: Store,
    batch: Batch,
    url: str,
    statuses: Collection[JobStatus],
    attempts: int | None = None,
    *,
    worker_starting: bool = False,
) -> Changed:
    """Queue rows again.

    Args:
        store: Redis.
        batch: the batch.
        url: Redis' address.
        statuses: of the rows.
        attempts: how many more runs each may make; None: as many as the batch's rows.
        worker_starting: the caller starts a worker for it if any row is queued.
    """
    if attempts is not None:
        await store.update_limits(batch.id, replace(batch.limits, attempts=attempts))
    rows = await store.retry(batch.id, statuses)
    if rows:
        await dispatch_first_rows(store, url)
        result = f"{count_of(rows, 'row')} of {batch.id} will be retried."
    else:
        result = f"{batch.id} has no row with status {', '.join(sorted(statuses))}: nothing to retry."
    view = await store.status(batch.id)
    stall = stall_or_start(view, worker_starting=worker_starting and rows > 0)
    return Changed(bool(rows), f"{result} {stall}".rstrip())


async def cancel(store: Store, batch: Batch, settings: Settings, consent: Consent = NO_CONSENT) -> Changed:
    """End the queued rows; workers cancel the runs at the API, and this function does if none is alive.

    Raises:
        Unavailable: a run could not be cancelled.
        UsageError: the key may not be sent to the API.
    """
    await store.cancel(batch.id)
    view = await store.status(batch.id)
    if batch.state in {BatchState.DONE, BatchState.CANCELLED} and not view.counts.unfinished:
        return Changed(False, f"Nothing to cancel: {summary_line(view)}")
    if view.counts.unfinished and not view.workers:
        from askmill.jobs.submit.cleanup import end_runs  # noqa: PLC0415 -- loads the SDK

        await end_runs(store, batch, settings, consent)
    # Live workers find the runs that are left at their next heartbeat or sweep.
    stall = stall_reason(view)
    return Changed(True, summary_line(view) + (f". {stall}" if stall else ""))

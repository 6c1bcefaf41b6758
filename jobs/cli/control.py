"""`cancel`, `retry`, `pause`, `resume`, `purge`: a person changes a batch."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import click

from askmill.config.settings import load_settings
from askmill.config.text import count_of
from askmill.jobs.cli.env_file_consent import TRUST, consent_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.query import statuses_of
from askmill.jobs.display.status_text import PAUSED_BY_USER, stall_reason, summary_line
from askmill.jobs.local.open_store import redis_url, resolve_batch
from askmill.jobs.model.models import FINISHED, RETRIED_BY_DEFAULT, UNFINISHED, JobStatus
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.submit.submit import dispatch_first_rows

Change = Callable[[Store, Batch, str], Awaitable[str]]


def _changed(batch: str | None, change: Change) -> int:
    """Do it to the batch, and say what came of it."""
    settings = load_settings()

    async def work(url: str) -> str:
        async with await Store.open(url) as store:
            return await change(store, await store.batch(await resolve_batch(store, batch)), url)

    with redis_url(settings) as url:
        say(asyncio.run(work(url)))
    return 0


@click.command("pause")
@click.argument("batch", required=False)
def pause_command(batch: str | None) -> int:
    """Start no more runs; those in flight end.

    Without BATCH, the newest.
    """

    async def change(store: Store, found: Batch, _: str) -> str:
        if await store.pause(found.id, PAUSED_BY_USER):
            return f"{found.id} is paused; runs in flight end. `askmill resume {found.id}` goes on."
        return f"{found.id} is {found.state}: there is nothing to pause."

    return _changed(batch, change)


@click.command("resume")
@click.argument("batch", required=False)
def resume_command(batch: str | None) -> int:
    """Go on with a paused batch.

    Without BATCH, the newest.
    """

    async def change(store: Store, found: Batch, url: str) -> str:
        if not await store.resume(found.id):
            return f"{found.id} is {found.state}, not paused."
        await dispatch_first_rows(store, url)
        return f"{found.id} goes on. {stall_reason(await store.status(found.id))}".rstrip()

    return _changed(batch, change)


@click.command("retry")
@click.argument("batch", required=False)
@click.option("--status", metavar="S,…", help="Default: failed,expired,incomplete.")
@click.option("--attempts", type=click.IntRange(min=1), metavar="N", help="Most runs more for each (3).")
def retry_command(batch: str | None, status: str | None, attempts: int | None) -> int:
    """Ask again the rows that did not complete.

    Old results stand until the new ones. Without BATCH, the newest.
    """
    statuses = statuses_of(status) or frozenset(RETRIED_BY_DEFAULT)
    if refused := statuses & (UNFINISHED | {JobStatus.REJECTED}):
        known = ", ".join(sorted(FINISHED - {JobStatus.REJECTED}))
        raise click.BadParameter(f"{', '.join(sorted(refused))}: ask again {known}.", param_hint="--status")

    async def change(store: Store, found: Batch, url: str) -> str:
        if attempts is not None:
            await store.update_limits(found.id, replace(found.limits, attempts=attempts))
        rows = await store.retry(found.id, statuses)
        if not rows:
            none = f"No row of {found.id} is {' or '.join(sorted(statuses))}: there is nothing to ask again."
            return f"{none} {stall_reason(await store.status(found.id))}".rstrip()
        await dispatch_first_rows(store, url)
        told = f"{count_of(rows, 'row')} of {found.id} will be asked again."
        return f"{told} {stall_reason(await store.status(found.id))}".rstrip()

    return _changed(batch, change)


@click.command("cancel")
@click.argument("batch")
@TRUST
def cancel_command(batch: str, trust_env_file: bool) -> int:
    """End what is queued and running; what is finished stays.

    Returns at once. Running runs are cancelled at the API by the workers, or here when none is alive.
    """

    async def change(store: Store, found: Batch, _: str) -> str:
        await store.cancel(found.id)
        view = await store.status(found.id)
        if view.counts.unfinished and not view.workers:
            from askmill.jobs.submit.cleanup import end_runs  # noqa: PLC0415 -- loads the SDK

            await end_runs(store, found, load_settings(), consent_of(trust_env_file))
        # Workers that are alive find what is left to end at their next heartbeat or sweep.
        left = stall_reason(view)
        return summary_line(view) + (f". {left}" if left else "")

    return _changed(batch, change)


@click.command("purge")
@click.argument("batch")
@TRUST
def purge_command(batch: str, trust_env_file: bool) -> int:
    """Delete a batch here, and at the API what it made.

    Threads, conversations with their items, files and vector stores that no other batch uses.
    """

    async def change(store: Store, found: Batch, _: str) -> str:
        from askmill.jobs.submit.cleanup import purge_batch  # noqa: PLC0415 -- loads the SDK

        return await purge_batch(store, found, load_settings(), consent_of(trust_env_file))

    return _changed(batch, change)

"""`cancel`, `retry`, `pause`, `resume`, `purge`: change the state of a batch."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import click

from askmill.config.settings import load_settings
from askmill.config.text import count_of, one_line
from askmill.jobs.cli.env_file_consent import consent_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.display.status_text import finished_rows
from askmill.jobs.local.open_store import redis_url, resolve_batch
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import RETRIED_BY_DEFAULT
from askmill.jobs.options.groups import LIMITS, RUNNING, TRUST, option
from askmill.jobs.options.statuses import parse_retried
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.submit import control

Change = Callable[[Store, Batch, str], Awaitable[str]]
"""Changes a batch; gets the store, the batch and Redis' address, and returns a sentence about the result."""


def _apply(batch: str | None, change: Change, *, ask: str = "") -> int:
    """Apply the change to the batch and print its sentence.

    Without a batch it is the newest. With `ask`, what the change does to a batch, a terminal is asked first.
    """
    settings = load_settings()

    async def apply(url: str) -> str:
        async with await Store.open(url) as store:
            found = await store.batch(await resolve_batch(store, batch))
            if batch is None and ask and _is_terminal():
                await _confirm(store, found, ask)
            return await change(store, found, url)

    with redis_url(settings) as url:
        say(asyncio.run(apply(url)))
    return 0


async def _confirm(store: Store, batch: Batch, ask: str) -> None:
    """Ask about the newest batch. Raises UsageError if the answer is no."""
    view = await store.status(batch.id)
    names = f"{batch.id}, {one_line(batch.name, 40)}"
    ended = f"{finished_rows(view):,} of {count_of(batch.rows, 'row')} ended"
    if not click.confirm(f"{ask} the newest batch ({names}, {batch.state}, {ended})?", err=True):
        raise UsageError("Nothing was changed. Name the batch: `askmill list` shows them.")


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _require_batch(context: click.Context, parameter: click.Parameter, batch: str | None) -> str | None:
    """A script names the batch that it ends; on a terminal the newest is asked about."""
    if batch is None and not _is_terminal():
        raise click.MissingParameter(
            "Name the batch; `askmill list` shows them.", ctx=context, param=parameter
        )
    return batch


@click.command("pause")
@click.argument("batch", required=False)
def pause_command(batch: str | None) -> int:
    """Start no more runs; runs in flight finish.

    Without BATCH: the newest batch; on a terminal you are asked first.
    """

    async def pause(store: Store, found: Batch, _: str) -> str:
        return (await control.pause(store, found)).message

    return _apply(batch, pause, ask="Pause")


@click.command("resume")
@click.argument("batch", required=False)
def resume_command(batch: str | None) -> int:
    """Resume a paused batch.

    Without BATCH: the newest batch.
    """

    async def resume(store: Store, found: Batch, url: str) -> str:
        return (await control.resume(store, found, url)).message

    return _apply(batch, resume)


@click.command("retry")
@click.argument("batch", required=False)
@option(
    RUNNING,
    "--status",
    metavar="S,…",
    default_text=",".join(RETRIED_BY_DEFAULT),
    help="Statuses of the rows to retry.",
)
@option(
    LIMITS,
    "--attempts",
    type=click.IntRange(min=1),
    metavar="N",
    default_text="the batch's own",
    help="Maximum additional runs per row.",
)
def retry_command(batch: str | None, status: str | None, attempts: int | None) -> int:
    """Retry the rows that did not complete.

    A row keeps its old result until the new one arrives. Without BATCH: the newest batch.
    """
    statuses = parse_retried(status)

    async def retry(store: Store, found: Batch, url: str) -> str:
        return (await control.retry(store, found, url, statuses, attempts)).message

    return _apply(batch, retry)


@click.command("cancel")
@click.argument("batch", required=False, callback=_require_batch)
@TRUST
def cancel_command(batch: str | None, trust_env_file: bool) -> int:
    """Cancel the queued and running rows; finished rows stay.

    Returns at once. Workers cancel the running runs at the API; if no worker is alive, this command does.
    Without BATCH, a terminal is asked about the newest batch.
    """

    async def cancel(store: Store, found: Batch, _: str) -> str:
        return (await control.cancel(store, found, load_settings(), consent_of(trust_env_file))).message

    return _apply(batch, cancel, ask="Cancel")


@click.command("purge")
@click.argument("batch", required=False, callback=_require_batch)
@TRUST
def purge_command(batch: str | None, trust_env_file: bool) -> int:
    """Delete a batch from Redis, and what it created from the API.

    At the API these are its threads, conversations with their items, files and vector stores, except what
    another batch uses. Without BATCH, a terminal is asked about the newest batch.
    """

    async def purge(store: Store, found: Batch, _: str) -> str:
        from askmill.jobs.submit.cleanup import purge_batch  # noqa: PLC0415 -- loads the SDK

        return await purge_batch(store, found, load_settings(), consent_of(trust_env_file))

    return _apply(batch, purge, ask="Delete")

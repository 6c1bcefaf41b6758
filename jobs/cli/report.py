"""`report`: a finished or unfinished batch as a page to look at."""

import asyncio
from pathlib import Path

import click

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.display.html_report import page, tallied
from askmill.jobs.local.open_store import open_store, resolve_batch
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault


@click.command("report")
@click.argument("batch", required=False)
@click.option("-o", "--out", metavar="OUT", help="Default: BATCH.report.html here; - is stdout.")
def report_command(batch: str | None, out: str | None) -> int:
    """Write a page with charts: cost, statuses, run times, tokens, errors.

    One HTML file that fetches nothing, complete or partial, at any moment. Without BATCH, the newest.
    """
    return asyncio.run(_report(load_settings(), batch, out))


async def _report(settings: Settings, batch: str | None, out: str | None) -> int:
    async with open_store(settings) as store:
        view = await store.status(await resolve_batch(store, batch))
        text = page(view, await tallied(view, store.results(view.batch.id)))
    if out == "-":
        click.echo(text, nl=False)
        return 0
    written = out or f"{view.batch.id}.report.html"
    _write(written, text)
    say(f"{view.batch.id} → {written}")
    return 0


def _write(out: str, text: str) -> None:
    """Raises WriteFault where that cannot be written."""
    with oserror_to_write_fault(out), atomic_write(Path(out)) as file:
        file.write(text.encode())

"""`report`: a batch as an HTML page."""

import asyncio
from pathlib import Path

import click

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.help_groups import OUTPUT, option
from askmill.jobs.display.html_report import count_rows, report_page
from askmill.jobs.local.open_store import open_store, resolve_batch
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault


@click.command("report")
@click.argument("batch", required=False)
@option(
    OUTPUT,
    "-o",
    "--out",
    metavar="OUT",
    default_text="BATCH.report.html here",
    help="HTML file; - writes to stdout.",
)
def report_command(batch: str | None, out: str | None) -> int:
    """Write an HTML page with charts: cost, statuses, run times, tokens, errors.

    The page is one file that loads nothing else. It can be written at any time, also for a batch that is not
    done. Without BATCH: the newest batch.
    """
    return asyncio.run(_report(load_settings(), batch, out))


async def _report(settings: Settings, batch: str | None, out: str | None) -> int:
    async with open_store(settings) as store:
        view = await store.status(await resolve_batch(store, batch))
        html = report_page(view, await count_rows(view, store.results(view.batch.id)))
    if out == "-":
        click.echo(html, nl=False)
        return 0
    path = out or f"{view.batch.id}.report.html"
    with oserror_to_write_fault(path), atomic_write(Path(path)) as file:
        file.write(html.encode())
    say(f"{view.batch.id} → {path}")
    return 0

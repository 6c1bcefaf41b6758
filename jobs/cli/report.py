"""`report`: a batch as an HTML page."""

import asyncio
from typing import Any

import click

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.display.html_report import count_rows, report_page
from askmill.jobs.local.open_store import open_store, resolve_batch
from askmill.jobs.model.expected import Expectation
from askmill.jobs.options.groups import OUTPUT, add_options, option
from askmill.jobs.options.results import EXPECTED, expectation
from askmill.jobs.results.collect import additions_of
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault, plan_page


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
@add_options(EXPECTED)
def report_command(batch: str | None, out: str | None, **values: Any) -> int:
    """Write an HTML page with charts and answers: cost, statuses, times, accuracy.

    The answers have a filter and a search. The page is one file that loads nothing else. It can be written at
    any time, also for a batch that is not done. Without BATCH: the newest batch.
    """
    return asyncio.run(_report(load_settings(), batch, out, expectation(values)))


async def _report(
    settings: Settings, batch: str | None, out: str | None, expected: Expectation | None
) -> int:
    path = None if out in {None, "-"} else plan_page(str(out))
    async with open_store(settings) as store:
        view = await store.status(await resolve_batch(store, batch))
        judge = additions_of(view.batch, expected).judge
        html = report_page(view, await count_rows(view, store.results(view.batch.id), judge))
    if out == "-":
        click.echo(html, nl=False)
        return 0
    path = path or plan_page(f"{view.batch.id}.report.html")
    with oserror_to_write_fault(str(path)), atomic_write(path) as file:
        file.write(html.encode())
    say(f"{view.batch.id} → {path}")
    return 0

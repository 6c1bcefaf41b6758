"""`compare`: batches of the same questions side by side."""

import asyncio
import shutil
import sys
from typing import Any

import click

from askmill.config.settings import Settings, load_settings
from askmill.config.text import count_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.display.compare_view import comparison_lines, comparison_page
from askmill.jobs.local.open_store import open_store, resolve_batch
from askmill.jobs.options.groups import OUTPUT, GroupedCommand, add_options, option
from askmill.jobs.options.results import EXPECTED, expectation
from askmill.jobs.results.compare import compared_rows, open_comparison, write_comparison
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault, plan_page


@click.command("compare", cls=GroupedCommand)
@click.argument("batches", nargs=-1, metavar="BATCH BATCH…")
@option(
    OUTPUT,
    "-o",
    "--out",
    metavar="OUT",
    default_text="only the summary",
    help="File with a row per question: .csv, .tsv, .jsonl, .parquet or .xlsx, or .html for a page.",
)
@option(
    OUTPUT,
    "--name",
    "names",
    metavar="TEXT",
    multiple=True,
    default_text="its model",
    help="Name of a batch in the comparison, one for each in their order. Repeatable.",
)
@add_options(EXPECTED)
def compare_command(batches: tuple[str, ...], out: str | None, names: tuple[str, ...], **values: Any) -> int:
    """Compare batches of the same questions side by side.

    Each row has the answer, status, cost and time of each batch. The summary has rows completed, cost,
    tokens, time, accuracy and the number of rows that differ.
    """
    return asyncio.run(_compare(load_settings(), batches, (out, names), values))


async def _compare(
    settings: Settings,
    batches: tuple[str, ...],
    output: tuple[str | None, tuple[str, ...]],
    values: dict[str, Any],
) -> int:
    out, names = output
    async with open_store(settings) as store:
        ids = [await resolve_batch(store, batch) for batch in batches]
        comparison = await open_comparison(store, ids, names, expectation(values))
        written = None
        if out is None:
            async for _ in compared_rows(store, comparison):
                pass
        elif out.lower().endswith((".html", ".htm")):
            written = plan_page(out)
            html = await comparison_page(comparison, compared_rows(store, comparison))
            with oserror_to_write_fault(out), atomic_write(written) as file:
                file.write(html.encode())
        else:
            written = await write_comparison(comparison, compared_rows(store, comparison), out)
    click.echo("\n".join(comparison_lines(comparison, _terminal_width())), err=out == "-")
    if written is not None:
        say(f"{count_of(comparison.rows, 'row')} → {written}")
    return 0


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

"""`list`: the batches of this Redis as a table."""

import asyncio
import shutil
import sys
from collections.abc import Callable, Sequence

import click

from askmill.config.settings import Settings, load_settings
from askmill.config.text import count_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.display.batch_table import batch_table
from askmill.jobs.display.json_line import json_line
from askmill.jobs.local.open_store import open_store
from askmill.jobs.model.models import BatchState
from askmill.jobs.results.collect import with_accuracy
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import StatusView

JUDGED_ROWS = 20_000
"""Accuracy is measured from the rows themselves, so only for so many rows in all: half a second."""


@click.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in BatchState]),
    multiple=True,
    help="Only batches in this state. Repeatable.",
)
@click.option("--name", metavar="TEXT", default="", help="Only batches with TEXT in their name or file name.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N batches.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print what `status --json` prints, one object per line."
)
def list_command(states: tuple[str, ...], name: str, limit: int | None, as_json: bool) -> int:
    """List the batches in this Redis.

    The newest batch comes first. `failed` counts every row that ended without completing, also the cancelled
    ones. A narrow terminal gets fewer columns; the output to a pipe or a file has all of them.
    """

    def matches(batch: Batch) -> bool:
        has_name = name.lower() in f"{batch.name}\n{batch.file}".lower()
        return has_name and (not states or batch.state in states)

    return asyncio.run(_list(load_settings(), matches, limit, as_json))


async def _list(
    settings: Settings, matches: Callable[[Batch], bool], limit: int | None, as_json: bool
) -> int:
    async with open_store(settings) as store:
        stored = await store.list_batches()
        chosen = [batch for batch in stored if matches(batch)][:limit]
        views = await _with_accuracy(store, [await store.status(batch.id) for batch in chosen])
    if as_json:
        for view in views:
            click.echo(json_line(view.to_json()))
        return 0
    if not stored:
        say("There is no batch in this Redis yet. Create one with `askmill run FILE`.")
    elif not views:
        say(f"No batch matches; {count_of(len(stored), 'batch', 'batches')} {_are(len(stored))} stored.")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(batch_table(views, width))
    return 0


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


async def _with_accuracy(store: Store, views: Sequence[StatusView]) -> list[StatusView]:
    """Measure the accuracy of the newest batches with expected answers, as far as `JUDGED_ROWS` go."""
    measured, rows = list[StatusView](), 0
    for view in views:
        rows += view.batch.rows if view.batch.expected is not None else 0
        measured.append(await with_accuracy(store, view) if rows <= JUDGED_ROWS else view)
    return measured

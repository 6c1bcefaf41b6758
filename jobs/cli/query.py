"""`status`, `collect`, `show`, `list`: what is known, from any machine; nothing is changed."""

import asyncio
import os
import shutil
from collections.abc import Callable
from typing import Any

import click
import orjson

from askmill.config.settings import Settings, load_settings
from askmill.config.text import count_of, one_line
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.result_options import (
    ON_DONE,
    SHOW_ANSWERS,
    Given,
    result_options,
    tell_on_done,
    with_result_options,
)
from askmill.jobs.display.progress import Progress
from askmill.jobs.display.row_history import as_json, story
from askmill.jobs.display.status_text import stall_reason, status_lines, summary_line
from askmill.jobs.local.open_store import open_store, resolve_batch, resolve_row
from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.results import plan_results
from askmill.jobs.results.collect import collect, default_out
from askmill.jobs.run.watch import Answers, exit_code, watch
from askmill.jobs.store.records import Batch, StatusView

SHELL_WIDTH = (80, 24)


def _print_json(value: Any) -> None:
    click.echo(orjson.dumps(value))


@click.command("status")
@click.argument("batch", required=False)
@click.option("--watch", is_flag=True, help="Until it is done, cancelled or paused; exits as `run` does.")
@click.option("--json", "as_json_", is_flag=True, help="One object; with --watch one a line.")
@SHOW_ANSWERS
@ON_DONE
def status_command(batch: str | None, watch: bool, as_json_: bool, **given: Any) -> int:
    """How far a batch is.

    Without BATCH, the newest.
    """
    if given["on_done"] and not watch:
        raise click.UsageError("--on-done needs --watch: somebody has to wait for the end.")
    if given["show_answers"] and (as_json_ or not watch):
        raise click.UsageError("--show-answers needs --watch, without --json.")
    if watch:
        return asyncio.run(_watch(load_settings(), batch, as_json_, given))
    return asyncio.run(_status(load_settings(), batch, as_json_))


async def _status(settings: Settings, batch: str | None, in_json: bool) -> int:
    async with open_store(settings) as store:
        _print_status(await store.status(await resolve_batch(store, batch)), in_json)
    return 0


async def _watch(settings: Settings, batch: str | None, in_json: bool, given: Given) -> int:
    async with open_store(settings) as store:
        found = await resolve_batch(store, batch)
        answers = Answers(store, found, since_start=False) if given["show_answers"] else None
        with Progress() as progress:
            async for now in watch(store, found):
                view = now
                if in_json:
                    _print_json(view.to_json())
                else:
                    progress.show(view, await answers.lines() if answers else ())
        if not in_json:
            _print_status(view, in_json=False)
        tell_on_done(given["on_done"], view)
        return exit_code(view)


def _print_status(view: StatusView, in_json: bool) -> None:
    if in_json:
        _print_json(view.to_json())
        return
    width = shutil.get_terminal_size(SHELL_WIDTH).columns
    click.echo("\n".join(status_lines(view, width)))


@click.command("collect")
@click.argument("batch", required=False)
@click.option("-o", "--out", metavar="OUT", help="Default: STEM.answers.csv here; - is stdout.")
@click.option("--status", metavar="S,…", help="Only the rows that ended so: failed,expired,…")
@click.option("--wait", is_flag=True, help="First wait until it is done, cancelled or paused.")
@ON_DONE
@with_result_options
def collect_command(batch: str | None, out: str | None, status: str | None, wait: bool, **given: Any) -> int:
    """Write the results, complete or partial, at any moment.

    Every row once, in input order; rows under way are in it as queued or running. Without BATCH, the newest.
    """
    statuses = statuses_of(status)
    if given["on_done"] and not wait:
        raise click.UsageError("--on-done needs --wait: somebody has to wait for the end.")
    return asyncio.run(_collect(load_settings(), batch, (out, statuses, wait), given))


def statuses_of(text: str | None) -> frozenset[JobStatus] | None:
    """`failed,expired` as statuses. Raises click's usage error that lists them all."""
    if text is None:
        return None
    try:
        return frozenset(JobStatus(name.strip()) for name in text.split(","))
    except ValueError:
        known = ", ".join(JobStatus)
        raise click.BadParameter(f"{text!r}: the statuses are {known}.", param_hint="--status") from None


async def _collect(
    settings: Settings,
    batch: str | None,
    wanted: tuple[str | None, frozenset[JobStatus] | None, bool],
    given: dict[str, Any],
) -> int:
    out, statuses, wait = wanted
    async with open_store(settings) as store:
        found = await store.batch(await resolve_batch(store, batch))
        out = out or default_out(found.file, statuses)
        source = found.file if os.path.exists(found.file) else None  # noqa: PTH110, ASYNC240 -- one look
        plan = plan_results(out, found.spec, result_options(given), source)
        code = 0
        if wait:
            with Progress() as progress:
                async for view in watch(store, found.id):
                    progress.show(view)
            code = exit_code(view)
            say(summary_line(view))
            if stands := stall_reason(view):
                say(stands)
        written = await collect(store, found.id, plan, statuses)
    if wait:
        tell_on_done(given["on_done"], view)
    if written.path is not None:
        say(f"{count_of(written.rows, 'row')} → {written.path}")
    return code


@click.command("show")
@click.argument("batch_and_row", nargs=-1, required=True, metavar="[BATCH] ROW")
@click.option("--json", "in_json", is_flag=True, help="The row as `collect --format jsonl` writes it.")
def show_command(batch_and_row: tuple[str, ...], in_json: bool) -> int:
    """Tell the story of one row: question, answer, attempts, steps.

    ROW is a number, or the row's own id where the batch has an id column. Without BATCH, the newest.
    """
    if len(batch_and_row) > 2:
        raise click.UsageError("Name a batch and a row: askmill show b_7hq2m9 12")
    batch = batch_and_row[0] if len(batch_and_row) == 2 else None
    return asyncio.run(_show(load_settings(), batch, batch_and_row[-1], in_json))


async def _show(settings: Settings, batch: str | None, row: str, in_json: bool) -> int:
    async with open_store(settings) as store:
        found = await store.batch(await resolve_batch(store, batch))
        detail = await store.row(found.id, await resolve_row(store, found, row))
    if in_json:
        _print_json(as_json(found, detail))
    else:
        click.echo(story(found, detail))
    return 0


@click.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in BatchState]),
    multiple=True,
    help="Only those. Repeatable.",
)
@click.option("--name", metavar="TEXT", default="", help="Only those with TEXT in their name or file.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@click.option("--json", "in_json", is_flag=True, help="What `status --json` prints, one object a line.")
def list_command(states: tuple[str, ...], name: str, limit: int | None, in_json: bool) -> int:
    """The batches in this Redis.

    The newest first.
    """

    def wanted(batch: Batch) -> bool:
        named = name.lower() in f"{batch.name}\n{batch.file}".lower()
        return named and (not states or batch.state in states)

    return asyncio.run(_list(load_settings(), wanted, limit, in_json))


async def _list(settings: Settings, wanted: Callable[[Batch], bool], limit: int | None, in_json: bool) -> int:
    async with open_store(settings) as store:
        stored = await store.list_batches()
        chosen = [batch for batch in stored if wanted(batch)][:limit]
        views = [await store.status(batch.id) for batch in chosen]
    if in_json:
        for view in views:
            _print_json(view.to_json())
        return 0
    if not stored:
        say("There is no batch in this Redis yet; `askmill run FILE` makes one.")
    elif not views:
        say(f"No batch is such a one; {len(stored):,} are stored.")
    for view in views:
        click.echo(_row_of_list(view))
    return 0


def _row_of_list(view: StatusView) -> str:
    batch, counts = view.batch, view.counts.by_status
    done = f"{counts[JobStatus.COMPLETED]:,}/{batch.rows:,}"
    submitted = str(view.to_json()["submitted_at"])[:16].replace("T", " ")
    return f"{batch.id}  {batch.state:<9}  {done:>15} completed  {submitted}  {one_line(batch.name, 60)}"

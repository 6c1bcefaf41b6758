"""`status`, `collect`, `show`, `list`: read a batch from any machine, without changing it."""

import asyncio
import shutil
from importlib.metadata import version
from typing import Any

import click

from askmill.config.settings import Settings, load_settings
from askmill.config.text import count_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.output_options import (
    ON_DONE,
    OUT,
    QUIET,
    SHOW_ANSWERS,
    display_of,
    notes_of,
    notify_on_done,
)
from askmill.jobs.display.json_line import json_line
from askmill.jobs.display.row_history import row_json, row_text
from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.display.status_text import missing_line, status_lines, summary_line
from askmill.jobs.display.worker_versions import other_versions_line
from askmill.jobs.local.open_store import open_store, resolve_batch, resolve_row
from askmill.jobs.model.models import JobStatus
from askmill.jobs.options.groups import add_options
from askmill.jobs.options.results import EXPECTED, RESULTS, OptionValues, result_options
from askmill.jobs.options.statuses import parse_statuses
from askmill.jobs.results.collect import collect, plan_collect, with_accuracy
from askmill.jobs.run.watch import NewAnswers, exit_code, is_over, watch
from askmill.jobs.store.views import StatusView

DEFAULT_TERMINAL_SIZE = (80, 24)


def _print_json(value: Any) -> None:
    click.echo(json_line(value))


@click.command("status")
@click.argument("batch", required=False)
@click.option(
    "--watch",
    is_flag=True,
    help="Watch until the batch is done, cancelled or paused; the exit code is that of `run`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch one per refresh.")
@SHOW_ANSWERS
@ON_DONE
@QUIET
def status_command(batch: str | None, watch: bool, as_json: bool, **values: Any) -> int:
    """Show the progress of a batch.

    Without BATCH: the newest batch.
    """
    if values["on_done"] and not watch:
        raise click.UsageError("--on-done requires --watch, which waits for the batch to finish.")
    if values["show_answers"] and (as_json or not watch):
        raise click.UsageError("--show-answers requires --watch, and cannot be combined with --json.")
    if values["quiet"] and not watch:
        raise click.UsageError("--quiet requires --watch, which shows progress.")
    if watch:
        return asyncio.run(_watch(load_settings(), batch, as_json, values))
    return asyncio.run(_status(load_settings(), batch, as_json))


async def _status(settings: Settings, batch: str | None, as_json: bool) -> int:
    async with open_store(settings) as store:
        _print_status(
            await with_accuracy(store, await store.status(await resolve_batch(store, batch))), as_json
        )
    return 0


async def _watch(settings: Settings, batch: str | None, as_json: bool, values: OptionValues) -> int:
    async with open_store(settings) as store:
        batch_id = await resolve_batch(store, batch)
        answers = NewAnswers(store, batch_id, since_start=False) if values["show_answers"] else None
        with display_of(values) as progress:
            async for current in watch(store, batch_id):
                view = current
                if as_json and is_over(view):
                    view = await with_accuracy(store, view)
                if as_json:
                    _print_json(view.to_json())
                else:
                    progress.show(view, await answers.lines() if answers else ())
        if not (as_json or values["quiet"]):
            _print_status(await with_accuracy(store, view), as_json=False)
        notify_on_done(values["on_done"], view)
        return exit_code(view)


def _print_status(view: StatusView, as_json: bool) -> None:
    if as_json:
        _print_json(view.to_json())
        return
    width = shutil.get_terminal_size(DEFAULT_TERMINAL_SIZE).columns
    lines = status_lines(view, width)
    if (
        view.workers
        and view.counts.unfinished
        and (other := other_versions_line(view.workers, version("askmill")))
    ):
        lines.append(other)
    click.echo("\n".join(lines))


@click.command("collect")
@click.argument("batch", required=False)
@OUT
@click.option("--status", metavar="S,…", help="Only rows with these statuses, such as failed,expired.")
@click.option("--wait", is_flag=True, help="Wait first until the batch is done, cancelled or paused.")
@ON_DONE
@QUIET
@add_options((*RESULTS, *EXPECTED))
def collect_command(batch: str | None, out: str | None, status: str | None, wait: bool, **values: Any) -> int:
    """Write the results, complete or partial, at any time.

    Every row is written once, in input order; unfinished rows have the status queued or running. Without
    BATCH: the newest batch.
    """
    statuses = parse_statuses(status)
    if values["on_done"] and not wait:
        raise click.UsageError("--on-done requires --wait, which waits for the batch to finish.")
    return asyncio.run(_collect(load_settings(), batch, (out, statuses, wait), values))


async def _collect(
    settings: Settings,
    batch: str | None,
    selection: tuple[str | None, frozenset[JobStatus] | None, bool],
    values: OptionValues,
) -> int:
    out, statuses, wait = selection
    note = notes_of(values)
    async with open_store(settings) as store:
        found = await store.batch(await resolve_batch(store, batch))
        plan = await plan_collect(store, found, out, result_options(values), statuses)
        code = 0
        if wait:
            with display_of(values) as progress:
                async for view in watch(store, found.id):
                    progress.show(view)
            code = exit_code(view)
            note(summary_line(view))
            if stall := stall_reason(view):
                say(stall)
        written = await collect(store, found.id, plan, statuses)
        missing = missing_line(await store.status(found.id)) if statuses is None else ""
    if wait:
        notify_on_done(values["on_done"], view)
    if written.path is not None:
        note(f"{count_of(written.rows, 'row')} → {written.path}")
    if missing:
        note(missing)
    judge = plan.columns.additions.judge
    if judge is not None and (statuses is None or judge.accuracy.judged):
        note(judge.accuracy.text())
    return code


@click.command("show")
@click.argument("batch_and_row", nargs=-1, metavar="[BATCH] ROW")
@click.option("--json", "as_json", is_flag=True, help="Print the row as `collect --format jsonl` writes it.")
def show_command(batch_and_row: tuple[str, ...], as_json: bool) -> int:
    """Show one row's question, attempts, steps and answer.

    ROW is a number, or the row's own id if the batch has an id column. Without BATCH: the newest batch.
    """
    if not 1 <= len(batch_and_row) <= 2:
        raise click.UsageError("Name a row, or a batch and a row: askmill show 12, askmill show b_7hq2m9 12")
    batch = batch_and_row[0] if len(batch_and_row) == 2 else None
    return asyncio.run(_show(load_settings(), batch, batch_and_row[-1], as_json))


async def _show(settings: Settings, batch: str | None, row: str, as_json: bool) -> int:
    async with open_store(settings) as store:
        found = await store.batch(await resolve_batch(store, batch))
        detail = await store.row(found.id, await resolve_row(store, found, row))
    if as_json:
        _print_json(row_json(found, detail))
    else:
        click.echo(row_text(found, detail))
    return 0

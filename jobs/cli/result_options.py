"""The options of `run` and `collect` on how results are written; apart, for `status` loads no intake."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from askmill.jobs.cli.exit_codes import say
from askmill.jobs.results import Format, ResultOptions
from askmill.jobs.run.notify import notify
from askmill.jobs.store.records import StatusView

Command = TypeVar("Command", bound=Callable[..., Any])
Given = Mapping[str, Any]
"""What click parsed, by name; None and () mean not given."""

RESULTS = (
    click.option(
        "--format", "form", type=click.Choice([form.value for form in Format]), help="Default: by OUT."
    ),
    click.option("--columns", metavar="A,B", help="Choose and order the columns."),
    click.option("--spreadsheet-safe", is_flag=True, help="Prefix cells that a spreadsheet would run."),
)

ON_DONE = click.option(
    "--on-done", metavar="COMMAND|URL", help="When the batch has ended: run it, or POST its status there."
)

SHOW_ANSWERS = click.option("--show-answers", is_flag=True, help="The last finished answers scroll by.")


def tell_on_done(target: str | None, view: StatusView) -> None:
    """Does what `--on-done` asks; a fault is told and changes no exit code."""
    if target is not None and (fault := notify(target, view)) is not None:
        say(fault)


def with_result_options(command: Command) -> Command:
    """How results are written."""
    for option in reversed(RESULTS):
        command = option(command)
    return command


def result_options(given: Given) -> ResultOptions:
    """What `RESULTS` filled."""
    columns = tuple(name.strip() for name in (given["columns"] or "").split(",") if name.strip())
    form = Format(given["form"]) if given["form"] else None
    return ResultOptions(form, columns, given["spreadsheet_safe"])

"""Options on results and on waiting. Apart from options.py, because `status` does not load the intake."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.help_groups import OUTPUT, RUNNING, option
from askmill.jobs.display.progress import Progress, Silent
from askmill.jobs.model.expected import Expectation
from askmill.jobs.results import Format, ResultOptions
from askmill.jobs.results.expected import compare_of
from askmill.jobs.run.notify import notify
from askmill.jobs.store.views import StatusView

OptionValues = Mapping[str, Any]
"""What click parsed, by parameter name; None and () mean that the option is absent."""

OUT = option(
    OUTPUT,
    "-o",
    "--out",
    metavar="OUT",
    default_text="STEM.answers.csv here",
    help="Result file; - writes to stdout.",
)
RESULTS = (
    option(
        OUTPUT,
        "--format",
        "form",
        type=click.Choice([form.value for form in Format]),
        default_text="by OUT's extension",
        help="Format of the results.",
    ),
    option(OUTPUT, "--columns", metavar="A,B", help="Columns to write, in this order."),
    option(
        OUTPUT,
        "--spreadsheet-safe",
        is_flag=True,
        help="Prefix cells that a spreadsheet would run as a formula.",
    ),
    option(OUTPUT, "--bom", is_flag=True, help="Begin CSV with a byte order mark, for Excel."),
)
EXPECTED = (
    option(
        OUTPUT,
        "--expected",
        metavar="COLUMN",
        help="Column with the expected answers: the results get a column correct, summaries the accuracy.",
    ),
    option(
        OUTPUT,
        "--match",
        metavar="HOW",
        default_text="exact",
        help="How answers are compared: exact, number, contains, regex, json or MODULE.py:FUNCTION.",
    ),
)
ON_DONE = option(
    RUNNING,
    "--on-done",
    metavar="COMMAND|URL",
    help="Command to run, or address to POST the status to, when the batch is done, cancelled or paused.",
)
QUIET = option(
    RUNNING,
    "-q",
    "--quiet",
    is_flag=True,
    help="Show no progress and no notes, only errors and what needs attention.",
)
SHOW_ANSWERS = option(
    RUNNING, "--show-answers", is_flag=True, help="Show up to five new answers per refresh while waiting."
)


def display_of(values: OptionValues, **panel: bool) -> Progress | Silent:
    """The panel on stderr; nothing with `--quiet`."""
    return Silent() if values["quiet"] else Progress(**panel)


def notes_of(values: OptionValues) -> Callable[[str], None]:
    """What prints notes on stderr; with `--quiet` they are dropped."""
    return _drop if values["quiet"] else say


def _drop(_: str) -> None:
    pass


def notify_on_done(target: str | None, view: StatusView) -> None:
    """Do what `--on-done` asks. A failure is printed and changes no exit code."""
    if target is not None and (fault := notify(target, view)) is not None:
        say(fault)


def result_options(values: OptionValues) -> ResultOptions:
    """The values of `RESULTS` as the results room takes them."""
    columns = tuple(name.strip() for name in (values["columns"] or "").split(",") if name.strip())
    form = Format(values["form"]) if values["form"] else None
    return ResultOptions(
        form, columns, values["spreadsheet_safe"], values.get("bom", False), expectation(values)
    )


def expectation(values: OptionValues) -> Expectation | None:
    """The values of `EXPECTED`, with the function that `--match` names imported. Raises UsageError."""
    column, match = values.get("expected"), values.get("match")
    if column is None:
        if match is not None:
            raise click.UsageError("--match says how to compare with --expected COLUMN; name the column.")
        return None
    expected = Expectation(column) if match is None else Expectation(column, match)
    compare_of(expected)
    return expected

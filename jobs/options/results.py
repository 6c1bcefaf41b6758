"""Options on results, and what they become. Apart from batch.py: `status` does not load the intake."""

from collections.abc import Mapping
from typing import Any

import click

from askmill.jobs.model.expected import Expectation
from askmill.jobs.options.groups import OUTPUT, option
from askmill.jobs.results import Format, ResultOptions
from askmill.jobs.results.expected import compare_of

OptionValues = Mapping[str, Any]
"""What click parsed, by parameter name; None and () mean that the option is absent."""

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

"""The command line's options for reading an input file."""

from dataclasses import dataclass
from typing import Literal

Quoting = Literal["csv", "none", "backslash"]


@dataclass(frozen=True)
class IntakeOptions:
    r"""The input options of `run`, `submit` and `estimate`; None means not set or detected.

    `quoting` says what a quote is: `csv` quotes a cell and is doubled within, `none` is text like any other,
    `backslash` is as csv, and \\" within a cell is a quote. `sheet` is the name of a workbook's sheet.
    `limit` is the number of rows to read, rejected rows included.
    """

    question_column: str | None = None
    template: str | None = None
    id_column: str | None = None
    conversation_column: str | None = None
    overrides: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None
    quoting: Quoting | None = None
    sheet: str | None = None
    limit: int | None = None
    skip_bad_rows: bool = False
    min_completion_tokens: int = 256
    """The API's least `max_completion_tokens`, for rows that override it."""
    confined: bool = False
    """Rows may name files only in the input's own folder, by their plain names: the input is an upload."""

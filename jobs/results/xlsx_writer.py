"""Writes rows as an Excel workbook of one sheet, in flat memory: rows go to a temporary file at once."""

import math
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any, BinaryIO

import xlsxwriter
from xlsxwriter.exceptions import FileCreateError

from askmill.jobs.model.errors import UsageError, WriteFault
from askmill.jobs.model.models import as_text
from askmill.jobs.results.columns import ColumnKind, Columns
from askmill.jobs.results.writers import json_text

MAX_ROWS = 1_048_575
"""Rows of a sheet below the header (Microsoft, Excel specifications and limits)."""
MAX_COLUMNS = 16_384
MAX_CHARACTERS = 32_767
"""Of a cell, in UTF-16 code units."""
EXACT_INTEGER = 10**15
"""Excel's numbers have 15 digits; longer ones are text."""
MIN_WIDTH, MAX_WIDTH = 10, 60
MEASURED_ROWS = 100
"""The width of a column follows its header and its first rows."""


def check_size(out: str, rows: int, columns: int) -> None:
    """Raise UsageError for more rows or columns than a sheet holds."""
    if rows > MAX_ROWS:
        raise UsageError(
            f"{out}: an Excel sheet holds {MAX_ROWS:,} rows below its header, and there are {rows:,}; choose "
            ".csv or .parquet, or fewer rows with --limit"
        )
    if columns > MAX_COLUMNS:
        raise UsageError(
            f"{out}: an Excel sheet holds {MAX_COLUMNS:,} columns, and there are {columns:,}; choose fewer "
            "with --columns"
        )


class XlsxWriter:
    """A sheet with typed cells, a header that stays in view, and a filter. Text is never a formula."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._columns = columns
        folder = tempfile.mkdtemp(prefix="askmill-xlsx-")
        self._remove_folder = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._book = xlsxwriter.Workbook(stream, {"constant_memory": True, "tmpdir": folder})
        self._sheet = self._book.add_worksheet("answers")
        kinds = [columns.kinds[place] for place in columns.places]
        self._json = [place for place, kind in enumerate(kinds) if kind is ColumnKind.JSON]
        self._next_row = 1
        self._widths = [len(name) + 3 for name in columns.header]
        bold = self._book.add_format({"bold": True})
        for place, name in enumerate(columns.header):
            self._sheet.write_string(0, place, cell_text(name), bold)
        self._sheet.freeze_panes(1, 0)

    def add(self, rows: Sequence[list[Any]]) -> None:
        if self._next_row + len(rows) > MAX_ROWS + 1:
            raise WriteFault(f"an Excel sheet holds {MAX_ROWS:,} rows; choose .csv or .parquet")
        for complete in rows:
            row = [*self._columns.pick(complete)]
            for place in self._json:
                row[place] = json_text(row[place])
            for place, value in enumerate(row):
                self._write(place, value)
            self._next_row += 1

    def close(self) -> None:
        for place, width in enumerate(self._widths):
            self._sheet.set_column(place, place, min(max(width, MIN_WIDTH), MAX_WIDTH))
        self._sheet.autofilter(0, 0, max(1, self._next_row - 1), len(self._columns.places) - 1)
        try:
            self._book.close()
        except FileCreateError as error:
            raise error.args[0] from None  # the OSError in it: a full disk, or a reader that went away
        self._remove_folder()

    def _write(self, place: int, value: Any) -> None:
        if isinstance(value, bool):
            self._sheet.write_boolean(self._next_row, place, value)
        elif _is_exact_number(value):
            self._sheet.write_number(self._next_row, place, value)
        elif value is not None and (text := cell_text(as_text(value))):
            self._sheet.write_string(self._next_row, place, text)
            if self._next_row <= MEASURED_ROWS:
                self._widths[place] = max(self._widths[place], len(text))


def _is_exact_number(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < EXACT_INTEGER
    return isinstance(value, float) and math.isfinite(value)


def cell_text(text: str) -> str:
    """Return text as a cell can hold it: cut with a mark at Excel's limit, lone surrogates as escapes."""
    if len(text) > MAX_CHARACTERS // 2 and _units(text) > MAX_CHARACTERS:
        mark = f"… [cut: {len(text):,} characters in all]"
        cut = text[: MAX_CHARACTERS - len(mark)]
        while _units(cut) > MAX_CHARACTERS - len(mark):
            cut = cut[: len(cut) - max(1, (_units(cut) - MAX_CHARACTERS + len(mark)) // 2)]
        text = cut + mark
    return text.encode("utf-8", "backslashreplace").decode()


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

"""Writers of rows as CSV and JSON lines, and of their steps as JSON lines."""

import codecs
import csv
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, Protocol

import orjson

from askmill.jobs.model.models import as_text
from askmill.jobs.model.result_fields import runs_of
from askmill.jobs.results.columns import ColumnKind, Columns, Entry, json_value

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 -- full width
"""First characters that make a spreadsheet take text for a formula (OWASP, CSV Injection)."""
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)*|\.\d+)([eE][+-]?\d+)?%?", re.ASCII)
"""A number is none, whatever its sign."""
_SHORT_NUMBER = 11


class TableWriter(Protocol):
    """Writes complete rows, a value for each of `Columns.names`; `close` writes what is left.

    The stream stays open.
    """

    def add(self, rows: Sequence[list[Any]]) -> None: ...
    def close(self) -> None: ...


class RowWriter(Protocol):
    """Writes a batch's rows as `TableWriter` does."""

    def add(self, entries: Sequence[Entry]) -> None: ...
    def close(self) -> None: ...


class ResultWriter:
    """Writes a batch's rows through the writer of a format."""

    def __init__(self, columns: Columns, table: TableWriter) -> None:
        self._row, self._table = columns.row, table

    def add(self, entries: Sequence[Entry]) -> None:
        self._table.add(list(map(self._row, entries)))

    def close(self) -> None:
        self._table.close()


class LineWriter:
    """A writer that keeps nothing back: the streams of results have a large buffer."""

    def close(self) -> None:
        """Do nothing."""


class CsvWriter(LineWriter):
    """CSV in UTF-8 with commas and CRLF, quoted where needed (RFC 4180); with a tab it is TSV.

    Args:
        stream: where to write.
        columns: of the rows.
        delimiter: between cells.
        bom: begin with a byte order mark, by which Excel knows UTF-8.
        spreadsheet_safe: put an apostrophe before cells that a spreadsheet would run as a formula.
    """

    def __init__(
        self,
        stream: BinaryIO,
        columns: Columns,
        *,
        delimiter: str = ",",
        bom: bool = False,
        spreadsheet_safe: bool = False,
    ) -> None:
        if bom:
            stream.write(codecs.BOM_UTF8)
        # A lone surrogate, which .jsonl can hold, has no UTF-8: it is written as its escape.
        text = codecs.getwriter("utf-8")(stream, "backslashreplace")
        self._csv, self._columns, self._safe = (
            csv.writer(text, delimiter=delimiter),
            columns,
            spreadsheet_safe,
        )
        self._formats = [
            (place, CELL_TEXTS[kind]) for place, kind in enumerate(columns.kinds) if kind in CELL_TEXTS
        ]
        self._csv.writerow(self._guarded(columns.header))

    def add(self, rows: Sequence[list[Any]]) -> None:
        pick, texts = self._columns.pick, self._texts
        if self._safe:
            self._csv.writerows([self._guarded(pick(texts(row))) for row in rows])
        else:
            self._csv.writerows([pick(texts(row)) for row in rows])

    def _texts(self, row: list[Any]) -> list[Any]:
        for place in range(self._columns.width):
            if row[place].__class__ is not str:
                row[place] = as_text(row[place])
        for place, text_of in self._formats:
            row[place] = text_of(row[place])
        return row

    def _guarded(self, row: list[Any]) -> list[Any]:
        return [without_formula(value) for value in row] if self._safe else row


def _decimal(value: float | None) -> str | None:
    """Return plain decimals: a spreadsheet takes 1e-05 for text."""
    if value is None:
        return None
    text = repr(value)
    if len(text) > _SHORT_NUMBER or "e" in text:
        text = f"{value:.9f}".rstrip("0")
    return text.removesuffix(".0").removesuffix(".")


def _exact_decimal(value: float | None) -> str | None:
    """Return plain decimals with every digit."""
    if value is None:
        return None
    text = repr(value)
    return (format(Decimal(text), "f") if "e" in text else text).removesuffix(".0")


def json_text(value: Any) -> str | None:
    """Return a list or an object as JSON; None stays None."""
    if value is None or value == ():  # most rows have no citations and no files
        return None if value is None else "[]"
    return value.decode() if isinstance(value, bytes) else orjson.dumps(value).decode()


def _boolean(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


CELL_TEXTS: dict[ColumnKind, Callable[[Any], str | None]] = {
    ColumnKind.AMOUNT: _decimal,
    ColumnKind.NUMBER: _exact_decimal,
    ColumnKind.JSON: json_text,
    ColumnKind.BOOLEAN: _boolean,
}
"""How text shows values that `csv` would write otherwise."""


def without_formula(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run as a formula; numbers stay as they are."""
    if not isinstance(value, str) or not value.startswith(_FORMULA_STARTS) or _PLAIN_NUMBER.fullmatch(value):
        return value
    return f"'{value}"


class JsonlWriter(LineWriter):
    """One object a row: `row`, `input`, the result's fields, `steps`; flat where columns were chosen."""

    def __init__(self, stream: BinaryIO, columns: Columns, *, flat: bool | None = None) -> None:
        self._write, self._columns = stream.write, columns
        self._header = columns.header
        flat = columns.chosen is not None if flat is None else flat
        self._build = self._flat if flat else columns.nested

    def add(self, rows: Sequence[list[Any]]) -> None:
        for row in rows:
            self._write(json_line(self._build(row)))

    def _flat(self, row: list[Any]) -> dict[str, Any]:
        return dict(zip(self._header, map(json_value, self._columns.pick(row)), strict=True))


class StepsWriter(LineWriter):
    """The sidecar of a CSV: the steps and the runs of each row on one line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._write = stream.write

    def add(self, entries: Sequence[Entry]) -> None:
        self._write(
            b"".join(
                b'{"row":%d,"steps":%b,"runs":%b}\n'
                % (entry.row, entry.steps, orjson.dumps(runs_of(entry.result)))
                for entry in entries
            )
        )


def json_line(value: dict[str, Any]) -> bytes:
    """Return one line of .jsonl."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)

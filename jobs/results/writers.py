"""Writers of rows as CSV and JSON lines, and of their steps as JSON lines."""

import codecs
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, Protocol

import msgspec
import orjson

from askmill.jobs.model.models import as_text
from askmill.jobs.model.result_fields import Run, runs_of
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
        self._write, self._pick, self._safe = stream.write, columns.pick, spreadsheet_safe
        self._line = CsvLines(delimiter).line
        kinds = [columns.kinds[place] for place in columns.places]
        self._texts_of = [_CELL_TEXTS[kind] for kind in kinds]
        self._json = [place for place, kind in enumerate(kinds) if kind is ColumnKind.JSON]
        if bom:
            stream.write(codecs.BOM_UTF8)
        self._write_lines([self._text_line(list(columns.header))])

    def add(self, rows: Sequence[list[Any]]) -> None:
        self._write_lines([self._text_line(self._texts(self._pick(row))) for row in rows])

    def _texts(self, row: list[Any]) -> list[str]:
        for place in self._json:  # before the others: a text in such a column is written as JSON too
            row[place] = json_text(row[place])
        return [
            value if value.__class__ is str else "" if value is None else text_of(value)
            for value, text_of in zip(row, self._texts_of, strict=True)
        ]

    def _text_line(self, texts: list[str]) -> str:
        return self._line([without_formula(text) for text in texts] if self._safe else texts)

    def _write_lines(self, lines: list[str]) -> None:
        # A lone surrogate, which .jsonl can hold, has no UTF-8: it is written as its escape.
        self._write("".join(lines).encode("utf-8", "backslashreplace"))


class CsvLines:
    """Rows of text as lines of CSV, equal to those of Python's `csv.writer`, in a fifth of its time.

    Python's writer examines every character by itself, which took a third of the time of `collect`.
    """

    def __init__(self, delimiter: str) -> None:
        self._delimiter, self._join = delimiter, delimiter.join
        self._needs_quotes = re.compile(f'[{delimiter}"\r\n]').search

    def line(self, texts: list[str]) -> str:
        """Return one line. A single empty cell is quoted: an empty line would be no record."""
        line, delimiter = self._join(texts), self._delimiter
        if '"' in line or "\n" in line or "\r" in line:
            line = self._join([self._quoted(text) for text in texts])
        elif line.count(delimiter) >= len(texts):
            line = self._join([f'"{text}"' if delimiter in text else text for text in texts])
        return f"{line}\r\n" if line else '""\r\n'

    def _quoted(self, text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if self._needs_quotes(text) else text


def _decimal(value: float) -> str:
    """Return plain decimals: a spreadsheet takes 1e-05 for text."""
    text = repr(value)
    if len(text) > _SHORT_NUMBER or "e" in text:
        text = f"{value:.9f}".rstrip("0")
    return text.removesuffix(".0").removesuffix(".")


def _exact_decimal(value: float) -> str:
    """Return plain decimals with every digit."""
    text = repr(value)
    return (format(Decimal(text), "f") if "e" in text else text).removesuffix(".0")


def json_text(value: Any) -> str | None:
    """Return a list or an object as JSON; None stays None."""
    if value is None or value in ((), []):  # most rows have no citations and no files
        return None if value is None else "[]"
    return value.decode() if isinstance(value, bytes) else orjson.dumps(value).decode()


def _boolean(value: bool) -> str:
    return str(value).lower()


_CELL_TEXTS: dict[ColumnKind, Callable[[Any], str]] = {
    ColumnKind.INPUT: as_text,
    ColumnKind.TEXT: str,
    ColumnKind.INTEGER: str,
    ColumnKind.AMOUNT: _decimal,
    ColumnKind.NUMBER: _exact_decimal,
    ColumnKind.JSON: str,
    ColumnKind.BOOLEAN: _boolean,
}
"""How CSV shows values that are neither text nor None."""


def without_formula(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula; numbers stay as they are."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _PLAIN_NUMBER.fullmatch(text) else text


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


class _StepsLine(msgspec.Struct):
    """The steps and the runs of one row."""

    row: int
    steps: msgspec.Raw
    runs: list[Run]


class StepsWriter(LineWriter):
    """The sidecar of a CSV: the steps and the runs of each row on one line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._write, self._lines = stream.write, msgspec.json.Encoder().encode_lines

    def add(self, entries: Sequence[Entry]) -> None:
        self._write(
            self._lines(
                [_StepsLine(row, msgspec.Raw(steps), runs_of(result)) for row, _, _, result, steps in entries]
            )
        )


def json_line(value: dict[str, Any]) -> bytes:
    """Return one line of .jsonl."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)

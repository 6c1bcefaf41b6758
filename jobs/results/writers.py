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
        self._write, self._places, self._safe = stream.write, columns.places, spreadsheet_safe
        self._lines = CsvLines(delimiter).lines
        self._texts_of = [_TEXTS[columns.kinds[place]] for place in self._places]
        if bom:
            stream.write(codecs.BOM_UTF8)
        self._write_columns([[name] for name in columns.header])

    def add(self, rows: Sequence[list[Any]]) -> None:
        table = list(zip(*rows, strict=True))
        chosen = zip(self._places, self._texts_of, strict=True)
        self._write_columns([texts_of(table[place]) for place, texts_of in chosen])

    def _write_columns(self, columns: list[list[str]]) -> None:
        if self._safe:
            columns = [list(map(without_formula, texts)) for texts in columns]
        # A lone surrogate, which .jsonl can hold, has no UTF-8: it is written as its escape.
        self._write(self._lines(columns).encode("utf-8", "backslashreplace"))


class CsvLines:
    """Columns of text as lines of CSV, equal to those of Python's `csv.writer`, in a fifth of its time.

    Python's writer examines every character by itself, which took a third of the time of `collect`.
    """

    def __init__(self, delimiter: str) -> None:
        self._delimiter, self._join = delimiter, delimiter.join
        self._needs_quotes = re.compile(f'[{delimiter}"\r\n]').search

    def lines(self, columns: Sequence[Sequence[str]]) -> str:
        """Return a line for each row."""
        rows, width = list(zip(*columns, strict=True)), len(columns)
        text, count = "\r\n".join(map(self._join, rows)) + "\r\n", len(rows)
        plain = (
            '"' not in text
            and text.count("\n") == count == text.count("\r")
            and text.count(self._delimiter) == count * (width - 1)
        )
        return text if plain and width > 1 else "".join(map(self._line, rows))

    def _line(self, texts: Sequence[str]) -> str:
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


def _texts(text_of: Callable[[Any], str]) -> Callable[[Sequence[Any]], list[str]]:
    """Return a function that makes texts of a column's values; None is an empty cell."""
    return lambda values: [
        value if value.__class__ is str else "" if value is None else text_of(value) for value in values
    ]


def _json_texts(values: Sequence[Any]) -> list[str]:
    return [json_text(value) or "" for value in values]  # a text is written as JSON too


_TEXTS: dict[ColumnKind, Callable[[Sequence[Any]], list[str]]] = {
    ColumnKind.INPUT: _texts(as_text),
    ColumnKind.TEXT: _texts(str),
    ColumnKind.INTEGER: _texts(str),
    ColumnKind.AMOUNT: _texts(_decimal),
    ColumnKind.NUMBER: _texts(_exact_decimal),
    ColumnKind.JSON: _json_texts,
    ColumnKind.BOOLEAN: _texts(lambda value: str(value).lower()),
}
"""How CSV shows the values of a column."""


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

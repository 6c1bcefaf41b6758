"""Rows as CSV or JSON lines, and their steps as JSON lines: chunk by chunk, as bytes."""

import csv
import io
from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

import orjson

from jobs.models import as_text
from jobs.results.columns import FIELDS, STEPS, Columns, Entry

RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet take text for a formula (OWASP, CSV Injection)."""


class RowWriter(Protocol):
    """Writes chunks of rows; `close` writes what is left, and leaves the stream open."""

    def write(self, entries: Sequence[Entry]) -> None: ...
    def close(self) -> None: ...


class CsvWriter:
    """UTF-8 without BOM, comma, CRLF; quoted where needed (RFC 4180)."""

    def __init__(self, stream: BinaryIO, columns: Columns, *, spreadsheet_safe: bool) -> None:
        self._stream, self._columns, self._safe = stream, columns, spreadsheet_safe
        self._write_rows([columns.header])

    def write(self, entries: Sequence[Entry]) -> None:
        self._write_rows([self._columns.pick(self._row(entry)) for entry in entries])

    def close(self) -> None:
        """Nothing is held back."""

    def _row(self, entry: Entry) -> list[Any]:
        cells = [cell if cell.__class__ is str else as_text(cell) for cell in self._columns.cells(entry)]
        values = entry.fields()
        values[-4:] = _number(values[-4]), _number(values[-3]), _json(values[-2]), _json(values[-1])
        return cells + ([_harmless(value) for value in values] if self._safe else values)

    def _write_rows(self, rows: list[list[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        self._stream.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _number(value: float | None) -> str | None:
    """Plain decimals: a spreadsheet takes 1e-05 for text."""
    if value is None:
        return None
    text = f"{value:.9f}"
    return text.rstrip("0").rstrip(".")


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode() if values else "[]"


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(RUN_BY_SPREADSHEETS) else value


class JsonlWriter:
    """One object a row: `row`, `input`, the result's fields, `steps`; flat where columns were chosen."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._stream, self._columns = stream, columns
        self._inputs = columns.names[: columns.width]
        self._chosen = columns.header

    def write(self, entries: Sequence[Entry]) -> None:
        build = self._whole if self._columns.chosen is None else self._flat
        self._stream.write(b"".join([json_line(build(entry)) for entry in entries]))

    def close(self) -> None:
        """Nothing is held back."""

    def _whole(self, entry: Entry) -> dict[str, Any]:
        fields = dict(zip(FIELDS, entry.fields(), strict=True))
        given = dict(zip(self._inputs, self._columns.cells(entry), strict=True))
        return {"row": entry.row, "input": given, **fields, STEPS: entry.steps()}

    def _flat(self, entry: Entry) -> dict[str, Any]:
        whole = [*self._columns.cells(entry), *entry.fields(), entry.steps()]
        return dict(zip(self._chosen, self._columns.pick(whole), strict=True))


class StepsWriter:
    """The sidecar of a CSV: each row's steps, one line a row."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, entries: Sequence[Entry]) -> None:
        self._stream.write(
            b"".join([json_line({"row": entry.row, STEPS: entry.steps()}) for entry in entries])
        )

    def close(self) -> None:
        """Nothing is held back."""


def json_line(value: dict[str, Any]) -> bytes:
    """One line of .jsonl."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)

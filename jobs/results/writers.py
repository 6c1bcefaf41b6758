"""Writers of rows as CSV and JSON lines, and of their steps as JSON lines."""

import codecs
import csv
from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

import orjson

from askmill.jobs.model.models import as_text
from askmill.jobs.model.result_fields import FIELDS, runs_of
from askmill.jobs.results.columns import STEPS, Columns, Entry

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet take text for a formula (OWASP, CSV Injection)."""
_SHORT_NUMBER = 11


class RowWriter(Protocol):
    """Writes rows to a stream; `close` writes what is left, and leaves the stream open."""

    def add(self, entries: Sequence[Entry]) -> None: ...
    def close(self) -> None: ...


class LineWriter:
    """A writer that keeps nothing back: the streams of results have a large buffer."""

    def close(self) -> None:
        """Do nothing."""


class CsvWriter(LineWriter):
    """CSV in UTF-8 without BOM, with commas and CRLF, quoted where needed (RFC 4180)."""

    def __init__(self, stream: BinaryIO, columns: Columns, *, spreadsheet_safe: bool) -> None:
        # A lone surrogate, which .jsonl can hold, has no UTF-8: it is written as its escape.
        text = codecs.getwriter("utf-8")(stream, "backslashreplace")
        self._csv, self._columns, self._safe = csv.writer(text), columns, spreadsheet_safe
        self._csv.writerow(columns.header)

    def add(self, entries: Sequence[Entry]) -> None:
        self._csv.writerows([self._columns.pick(self._cells(entry)) for entry in entries])

    def _cells(self, entry: Entry) -> list[Any]:
        row, status, *values, cost_usd, duration_s, citations, files = entry.fields()
        lists = _json(citations), _json(files)
        values = [row, status, *values, _decimal(cost_usd), _decimal(duration_s), *lists]
        if self._safe:
            values = [_without_formula(value) for value in values]
        return [*map(as_text, self._columns.cells(entry.cells)), *values]


def _decimal(value: float | None) -> str | None:
    """Return plain decimals: a spreadsheet takes 1e-05 for text."""
    if value is None:
        return None
    text = repr(value)
    if len(text) > _SHORT_NUMBER or "e" in text:
        text = f"{value:.9f}".rstrip("0")
    return text.removesuffix(".0").removesuffix(".")


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode() if values else "[]"


def _without_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


class JsonlWriter(LineWriter):
    """One object a row: `row`, `input`, the result's fields, `steps`; flat where columns were chosen."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._write, self._columns = stream.write, columns
        self._input_names = columns.names[: columns.width]
        self._header = columns.header
        self._build = self._nested if columns.chosen is None else self._flat

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._write(json_line(self._build(entry)))

    def _nested(self, entry: Entry) -> dict[str, Any]:
        fields = dict(zip(FIELDS, entry.fields(), strict=True))
        cells = dict(zip(self._input_names, self._columns.cells(entry.cells), strict=True))
        return {"row": entry.row, "input": cells, **fields, STEPS: orjson.Fragment(entry.steps)}

    def _flat(self, entry: Entry) -> dict[str, Any]:
        values = [*self._columns.cells(entry.cells), *entry.fields(), orjson.Fragment(entry.steps)]
        return dict(zip(self._header, self._columns.pick(values), strict=True))


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

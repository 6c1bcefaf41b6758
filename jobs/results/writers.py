"""Rows as CSV or JSON lines, and their steps as JSON lines: chunk by chunk, as bytes."""

from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

import orjson

from askmill.jobs.model.models import as_text
from askmill.jobs.model.result_fields import FIELDS, csv_record, result_cells
from askmill.jobs.results.columns import STEPS, Columns, Entry

_LONE_EMPTY = '""'


class RowWriter(Protocol):
    """Takes some rows after the other; `close` writes what is left, and leaves the stream open."""

    def add(self, entries: Sequence[Entry]) -> None: ...
    def close(self) -> None: ...


class LineWriter:
    """Leaves nothing to `close`: streams of results have a large buffer."""

    def close(self) -> None:
        """Nothing is left."""


class CsvWriter(LineWriter):
    """UTF-8 without BOM, comma, CRLF; quoted where needed (RFC 4180).

    Python's own writer looks at each character in turn, which takes four times as long for answers of a
    kilobyte. Its reader is what the tests hold this against.
    """

    def __init__(self, stream: BinaryIO, columns: Columns, *, spreadsheet_safe: bool) -> None:
        self._write, self._columns, self._safe = stream.write, columns, spreadsheet_safe
        self._copies = columns.chosen is None and not spreadsheet_safe
        self._write(csv_line(columns.header))

    def add(self, entries: Sequence[Entry]) -> None:
        line = self._copied if self._copies else self._chosen
        self._write(b"".join([line(entry) for entry in entries]))

    def _copied(self, entry: Entry) -> bytes:
        row, status, cells, _, _, csv_end = entry
        try:
            given = csv_record(self._columns.cells(cells))
        except TypeError:  # typed cells of .jsonl and .parquet
            given = csv_record(self._given(cells))
        return b"%b,%b\r\n" % (f"{given},{row},{status}".encode("utf-8", "backslashreplace"), csv_end)

    def _chosen(self, entry: Entry) -> bytes:
        return csv_line(self._columns.pick(self._texts(entry)))

    def _texts(self, entry: Entry) -> list[str]:
        row, status, *values = entry.fields()
        return [
            *self._given(entry.cells),
            str(row),
            status,
            *result_cells(values, spreadsheet_safe=self._safe),
        ]

    def _given(self, cells: list[Any]) -> list[str]:
        return [as_text(cell) for cell in self._columns.cells(cells)]


def csv_line(cells: list[str]) -> bytes:
    """One record. A lone empty cell is quoted: a blank line would be no record."""
    return f"{csv_record(cells) or _LONE_EMPTY}\r\n".encode("utf-8", "backslashreplace")


class JsonlWriter(LineWriter):
    """One object a row: `row`, `input`, the result's fields, `steps`; flat where columns were chosen."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._write, self._columns = stream.write, columns
        self._inputs = columns.names[: columns.width]
        self._chosen = columns.header
        self._build = self._whole if columns.chosen is None else self._flat

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._write(json_line(self._build(entry)))

    def _whole(self, entry: Entry) -> dict[str, Any]:
        fields = dict(zip(FIELDS, entry.fields(), strict=True))
        given = dict(zip(self._inputs, self._columns.cells(entry.cells), strict=True))
        return {"row": entry.row, "input": given, **fields, STEPS: orjson.Fragment(entry.steps)}

    def _flat(self, entry: Entry) -> dict[str, Any]:
        whole = [*self._columns.cells(entry.cells), *entry.fields(), orjson.Fragment(entry.steps)]
        return dict(zip(self._chosen, self._columns.pick(whole), strict=True))


class StepsWriter(LineWriter):
    """The sidecar of a CSV: each row's steps, one line a row."""

    def __init__(self, stream: BinaryIO) -> None:
        self._write = stream.write

    def add(self, entries: Sequence[Entry]) -> None:
        lines = [b'{"row":%d,"steps":%b}\n' % (row, steps) for row, _, _, _, steps, _ in entries]
        self._write(b"".join(lines))


def json_line(value: dict[str, Any]) -> bytes:
    """One line of .jsonl."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)

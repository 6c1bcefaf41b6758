"""Rows as CSV or JSON lines, and their steps as JSON lines: chunk by chunk, as bytes."""

from typing import Any, BinaryIO, Protocol

import orjson

from jobs.cells import FIELDS, record, texts
from jobs.models import as_text
from jobs.results.columns import STEPS, Columns, Entry

_LONE_EMPTY = '""'


class RowWriter(Protocol):
    """Takes rows one by one; `close` writes what is left, and leaves the stream open."""

    def add(self, entry: Entry) -> None: ...
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

    def add(self, entry: Entry) -> None:
        row, status, cells, _, _, csv_end = entry
        if not self._copies:
            self._write(csv_line(self._columns.pick(self._texts(entry))))
            return
        try:
            given = record([*self._columns.cells(cells), str(row), status])
        except TypeError:  # typed cells of .jsonl and .parquet
            given = record([*self._given(cells), str(row), status])
        self._write(b"%b,%b\r\n" % (given.encode("utf-8", "backslashreplace"), csv_end))

    def _texts(self, entry: Entry) -> list[str]:
        row, status, *values = entry.fields()
        return [*self._given(entry.cells), str(row), status, *texts(values, spreadsheet_safe=self._safe)]

    def _given(self, cells: list[Any]) -> list[str]:
        return [as_text(cell) for cell in self._columns.cells(cells)]


def csv_line(cells: list[str]) -> bytes:
    """One record. A lone empty cell is quoted: a blank line would be no record."""
    return f"{record(cells) or _LONE_EMPTY}\r\n".encode("utf-8", "backslashreplace")


class JsonlWriter(LineWriter):
    """One object a row: `row`, `input`, the result's fields, `steps`; flat where columns were chosen."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._write, self._columns = stream.write, columns
        self._inputs = columns.names[: columns.width]
        self._chosen = columns.header
        self._build = self._whole if columns.chosen is None else self._flat

    def add(self, entry: Entry) -> None:
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

    def add(self, entry: Entry) -> None:
        self._write(b"".join((b'{"row":', b"%d" % entry.row, b',"steps":', entry.steps, b"}\n")))


def json_line(value: dict[str, Any]) -> bytes:
    """One line of .jsonl."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)

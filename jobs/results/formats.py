"""Rows as CSV or JSON lines, and their steps as JSON lines: chunk by chunk, as bytes."""

from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

import orjson

from jobs.models import as_text
from jobs.results.columns import FIELDS, STEPS, Columns, Entry

RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet take text for a formula (OWASP, CSV Injection)."""


LINES_HELD = 256
SHORT_NUMBER = 11
_LONE_EMPTY = '""'


class RowWriter(Protocol):
    """Takes rows one by one; `close` writes what is left, and leaves the stream open."""

    def add(self, entry: Entry) -> None: ...
    def close(self) -> None: ...


class Lines:
    """Lines on their way into a stream, some hundred at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._held = stream, list[bytes]()

    def add(self, line: bytes) -> None:
        self._held.append(line)
        if len(self._held) >= LINES_HELD:
            self.flush()

    def flush(self) -> None:
        self._stream.write(b"".join(self._held))
        self._held.clear()


class CsvWriter:
    """UTF-8 without BOM, comma, CRLF; quoted where needed (RFC 4180).

    Python's own writer looks at each character in turn, which takes four times as long for answers of a
    kilobyte. Its reader is what the tests hold this against.
    """

    def __init__(self, stream: BinaryIO, columns: Columns, *, spreadsheet_safe: bool) -> None:
        self._lines, self._columns, self._safe = Lines(stream), columns, spreadsheet_safe
        self._lines.add(csv_line(columns.header))

    def add(self, entry: Entry) -> None:
        self._lines.add(csv_line(self._columns.pick(self._texts(entry))))

    def close(self) -> None:
        self._lines.flush()

    def _texts(self, entry: Entry) -> list[str]:
        cells = [cell if cell.__class__ is str else as_text(cell) for cell in self._columns.cells(entry)]
        values = entry.fields()
        values[-4:] = _number(values[-4]), _number(values[-3]), _json(values[-2]), _json(values[-1])
        if self._safe:
            values = [_harmless(value) for value in values]
        return cells + [
            "" if value is None else value if value.__class__ is str else str(value) for value in values
        ]


def csv_line(texts: list[str]) -> bytes:
    """One record. A lone empty cell is quoted: a blank line would be no record."""
    line = ",".join(texts)
    # Most rows need no quotes: one look at all cells, not one at each.
    if line.count(",") >= len(texts) or '"' in line or "\n" in line or "\r" in line:
        line = ",".join(
            '"' + text.replace('"', '""') + '"'
            if "," in text or '"' in text or "\n" in text or "\r" in text
            else text
            for text in texts
        )
    return f"{line or _LONE_EMPTY}\r\n".encode("utf-8", "backslashreplace")


def _number(value: float | None) -> str | None:
    """Plain decimals: a spreadsheet takes 1e-05 for text."""
    if value is None:
        return None
    text = repr(value)
    if len(text) > SHORT_NUMBER or "e" in text:
        text = f"{value:.9f}".rstrip("0")
    return text.removesuffix(".0").removesuffix(".")


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode() if values else "[]"


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(RUN_BY_SPREADSHEETS) else value


class JsonlWriter:
    """One object a row: `row`, `input`, the result's fields, `steps`; flat where columns were chosen."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._lines, self._columns = Lines(stream), columns
        self._inputs = columns.names[: columns.width]
        self._chosen = columns.header
        self._build = self._whole if columns.chosen is None else self._flat

    def add(self, entry: Entry) -> None:
        self._lines.add(json_line(self._build(entry)))

    def close(self) -> None:
        self._lines.flush()

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
        self._lines = Lines(stream)

    def add(self, entry: Entry) -> None:
        self._lines.add(json_line({"row": entry.row, STEPS: entry.steps()}))

    def close(self) -> None:
        self._lines.flush()


def json_line(value: dict[str, Any]) -> bytes:
    """One line of .jsonl."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)

"""The protocol of the file readers (CSV, text, JSON, Parquet, workbook): a header and chunks of rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from askmill.jobs.model.errors import Fault

CHUNK_ROWS = 256
"""Rows in a chunk: 256 questions of the maximum length stay within 64 MB."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows and what is needed to compute their positions.

    A position is a physical line (CSV, text, JSON lines) or a row number; both count from 1.

    - `first_line`: the line of `records[0]`, or the number of the first row.
    - `records`: a CSV's records, blank lines included; lines are counted from the line feeds in them.
    - `lines`: the line of each row, where the reader knows it.
    - `unreadable`: by row index, why a row could not be parsed.
    """

    rows: list[list[Any]]
    first_line: int
    records: list[list[str]] | None = None
    lines: list[int] | None = None
    unreadable: dict[int, str] = field(default_factory=dict)

    def positions(self) -> list[int]:
        """The position of each row."""
        if self.lines is not None:
            return self.lines
        if self.records is None:
            return list(range(self.first_line, self.first_line + len(self.rows)))
        line, lines = self.first_line, []
        for record in self.records:
            if record:
                lines.append(line)
            line += line_count(record)
        return lines[: len(self.rows)]

    def head(self, count: int) -> "Chunk":
        """The first `count` rows."""
        unreadable = {index: reason for index, reason in self.unreadable.items() if index < count}
        lines = None if self.lines is None else self.lines[:count]
        return Chunk(self.rows[:count], self.first_line, self.records, lines, unreadable)


class BlankLines:
    """Counts the blank lines of a file that stand above a row.

    Those below the last row do not count: editors and spreadsheets end files with them.
    """

    def __init__(self, header_line: int | None) -> None:
        self.count = 0
        self._last_line, self._below = header_line or 0, 0

    def add(self, chunk: Chunk) -> None:
        """Count those of the next chunk, whose records or lines show them."""
        if chunk.records is not None:
            self._add_records(chunk.records, len(chunk.rows))
        elif chunk.lines:
            self.count += chunk.lines[-1] - self._last_line - len(chunk.rows)
            self._last_line = chunk.lines[-1]

    def _add_records(self, records: list[list[str]], rows: int) -> None:
        if rows and len(records) == rows and not self._below:
            return
        for record in records:
            if not record:
                self._below += 1
            elif rows:
                rows -= 1
                self.count, self._below = self.count + self._below, 0


def line_count(record: list[str]) -> int:
    """How many physical lines a CSV record takes."""
    return 1 + sum(cell.count("\n") for cell in record)


def width_fault(cells: int, columns: int, delimiter: str | None) -> str:
    """Why a row with another number of cells than the header is rejected."""
    cell_count = "1 cell" if cells == 1 else f"{cells} cells"
    column_count = "1 column" if columns == 1 else f"{columns} columns"
    advice = (
        "quote cells that contain the delimiter or a quote"
        if cells > columns
        else "quote cells that contain a line break"
    )
    return f"{cell_count}, but the header has {column_count} (delimiter {delimiter!r}); {advice}"


class TableReader(Protocol):
    """A header and one iteration over the rows.

    A Fault among the chunks concerns the file's structure: `--skip-bad-rows` does not skip it.
    """

    @property
    def columns(self) -> list[str]: ...
    @property
    def header_line(self) -> int | None: ...
    @property
    def has_line_numbers(self) -> bool:
        """Whether positions are physical lines; False: row numbers."""

    @property
    def delimiter(self) -> str | None:
        """The delimiter of a CSV; None for formats with typed cells."""

    @property
    def must_check_text(self) -> bool:
        """Whether the bytes read so far contain NUL or undecodable bytes: then each cell is checked."""

    def chunks(self) -> Iterator[Chunk | Fault]: ...

"""Rows of a CSV file, by Python's own strict reader, with the physical line where each begins."""

import csv
import re
from collections.abc import Iterator
from itertools import islice

from askmill.jobs.intake.base import ROWS_A_CHUNK, Chunk
from askmill.jobs.intake.source import Source, Tally
from askmill.jobs.model.errors import Fault, InputFaults

CELL_CHARACTERS = 10_000_000
"""Bounds what a quote that nobody closes can swallow."""


class CsvTable:
    """A CSV being read. Raises InputFaults when there is no header that could be read."""

    by_line = True

    def __init__(self, source: Source, tally: Tally, delimiter: str) -> None:
        csv.field_size_limit(CELL_CHARACTERS)
        self._source, self._tally, self.separator = source, tally, delimiter
        self._reader = csv.reader(source.text(tally), delimiter=delimiter, strict=True)
        self.columns, self.header_line = self._header()

    def _header(self) -> tuple[list[str], int]:
        while True:
            line = self._reader.line_num + 1
            try:
                row = next(self._reader)
            except StopIteration:
                raise InputFaults(self._source.name, [Fault(None, NO_HEADER)]) from None
            except csv.Error as error:
                raise InputFaults(self._source.name, [self._fault(line, error)]) from error
            if row and not (len(row) == 1 and not row[0].strip("\ufeff \t\r")):
                row[0] = row[0].removeprefix("\ufeff")
                return row, line

    @property
    def unsure(self) -> bool:
        return not self._source.is_utf8 or self._tally.has_nul or self._tally.has_marks

    def chunks(self) -> Iterator[Chunk | Fault]:
        while True:
            first, raw = self._reader.line_num + 1, list[list[str]]()
            try:
                raw.extend(islice(self._reader, ROWS_A_CHUNK))
            except csv.Error as error:
                # extend keeps the rows before the error; the broken one begins behind them.
                yield (chunk := self._chunk(raw, first))
                line = _line_after(chunk)
                yield self._fault(line, error)
                if self._reader.line_num > line:
                    return  # where the next row begins is anybody's guess
                continue
            if not raw:
                return
            yield self._chunk(raw, first)

    def _chunk(self, raw: list[list[str]], first: int) -> Chunk:
        if len(self.columns) > 1 and any(len(row) == 1 for row in raw):
            raw = [[] if len(row) == 1 and row[0].isspace() and "\n" not in row[0] else row for row in raw]
        return Chunk(raw if all(raw) else [row for row in raw if row], first, raw)

    def _fault(self, line: int, error: csv.Error) -> Fault:
        if "new-line character" in str(error):
            return Fault(
                line, "a carriage return without a line feed; save the file with CRLF or LF line ends"
            )
        opened = self._open_quote(line, self._reader.line_num)
        if opened is None:
            return Fault(line, f"a cell of more than {CELL_CHARACTERS:,} characters")
        if "unexpected end" in str(error) or "field limit" in str(error):
            return Fault(
                opened, "a quote is opened here and never closed; close it, or double it if it is text"
            )
        return Fault(
            opened,
            f"the quote opened here closes on line {self._reader.line_num} before text instead of a "
            f"{_named(self.separator)}; double the quotes that are text",
        )

    def _open_quote(self, start: int, end: int) -> int | None:
        """The line of the last quote opened in lines `start` to `end`."""
        with Tally(self._source.open()) as tally:
            return open_quote_line(islice(self._source.text(tally), start - 1, end), self.separator, start)


def open_quote_line(lines: Iterator[str], delimiter: str, start: int) -> int | None:
    """The line of the quote that is open at the first fault or the end of `lines`, counted from `start`."""
    cell_end = re.compile(f'"(?:{re.escape(delimiter)}|\r*\n?$)')
    cell = re.compile(f'(?:^|{re.escape(delimiter)})"')
    opened: int | None = None
    closed = True
    for number, text in enumerate(lines, start):
        at = 0
        while True:
            if closed:
                found = cell.search(text, at)
                if found is None:
                    break
                opened, closed, at = number, False, found.end()
            quote = _closing_quote(text, at)
            if quote is None:
                break
            end = cell_end.match(text, quote)
            if end is None:
                return opened
            closed, at = True, quote + 1
    return opened


def _closing_quote(text: str, at: int) -> int | None:
    """Where the quoted cell ends: a quote that is not doubled."""
    while (at := text.find('"', at)) >= 0:
        if not text.startswith('""', at):
            return at
        at += 2
    return None


def _line_after(chunk: Chunk) -> int:
    """The line behind the chunk's last entry."""
    raw = chunk.raw or []
    return chunk.first_line + sum(1 + sum(cell.count("\n") for cell in row) for row in raw)


def _named(delimiter: str) -> str:
    return {"\t": "tab", ",": "comma", ";": "semicolon"}.get(delimiter, repr(delimiter))


NO_HEADER = "the file is empty: no header, no rows; its first line must name the columns, such as `question`"

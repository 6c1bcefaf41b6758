"""Reads a CSV file with Python's strict csv.reader and tracks the physical line where each row starts."""

import csv
import re
from collections.abc import Iterator
from itertools import islice

from askmill.jobs.intake.base import CHUNK_ROWS, Chunk, line_count
from askmill.jobs.intake.source import HashingReader, InputSource
from askmill.jobs.model.errors import Fault, InputFaults

MAX_CELL_CHARACTERS = 10_000_000
"""Limits how much text an unclosed quote can take in."""
NO_HEADER = "no header: the file is empty; write the column names on its first line, such as `question`"


class CsvReader:
    """Reader of a CSV file. Raises InputFaults if there is no readable header."""

    has_line_numbers = True

    def __init__(self, source: InputSource, hashing_reader: HashingReader, delimiter: str) -> None:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        self._source, self._bytes, self.delimiter = source, hashing_reader, delimiter
        self._rows = csv.reader(source.text(hashing_reader), delimiter=delimiter, strict=True)
        self.columns, self.header_line = self._read_header()

    def _read_header(self) -> tuple[list[str], int]:
        while True:
            line = self._rows.line_num + 1
            try:
                row = next(self._rows)
            except StopIteration:
                raise InputFaults(self._source.name, [Fault(None, NO_HEADER)]) from None
            except csv.Error as error:
                raise InputFaults(self._source.name, [self._fault(line, error)]) from error
            if row and not (len(row) == 1 and not row[0].strip("\ufeff \t\r")):
                row[0] = row[0].removeprefix("\ufeff")
                return row, line

    @property
    def must_check_text(self) -> bool:
        return not self._source.is_utf8 or self._bytes.has_nul or self._bytes.has_decode_errors

    def chunks(self) -> Iterator[Chunk | Fault]:
        while True:
            first_line, records = self._rows.line_num + 1, list[list[str]]()
            try:
                records.extend(islice(self._rows, CHUNK_ROWS))
            except csv.Error as error:
                # extend keeps the rows before the error; the faulty row starts after them.
                yield (chunk := self._chunk(records, first_line))
                line = first_line + sum(map(line_count, chunk.records or []))
                yield self._fault(line, error)
                if self._rows.line_num > line:
                    return  # where the next row starts is unknown
                continue
            if not records:
                return
            yield self._chunk(records, first_line)

    def _chunk(self, records: list[list[str]], first_line: int) -> Chunk:
        if len(self.columns) > 1 and any(len(row) == 1 for row in records):
            records = [
                [] if len(row) == 1 and row[0].isspace() and "\n" not in row[0] else row for row in records
            ]
        return Chunk(records if all(records) else [row for row in records if row], first_line, records)

    def _fault(self, line: int, error: csv.Error) -> Fault:
        if "new-line character" in str(error):
            return Fault(
                line, "a carriage return without a line feed; save the file with LF or CRLF line endings"
            )
        open_line = self._open_quote(line, self._rows.line_num)
        if open_line is None:
            return Fault(line, f"a cell has more than {MAX_CELL_CHARACTERS:,} characters; shorten it")
        if "unexpected end" in str(error) or "field limit" in str(error):
            return Fault(
                open_line, "a quote that opens here is never closed; close it, or double it if it is text"
            )
        names = {"\t": "tab", ",": "comma", ";": "semicolon"}
        delimiter = names.get(self.delimiter, repr(self.delimiter))
        return Fault(
            open_line,
            f"the quote that opens here closes on line {self._rows.line_num}, but text follows it instead of "
            f"a {delimiter}; double the quotes that are text",
        )

    def _open_quote(self, start: int, end: int) -> int | None:
        """The line of the last quote that opens between the lines `start` and `end`."""
        with HashingReader(self._source.open()) as reader:
            return open_quote_line(islice(self._source.text(reader), start - 1, end), self.delimiter, start)


def open_quote_line(lines: Iterator[str], delimiter: str, start: int) -> int | None:
    """The line of the quote that is open at the first syntax error or at the end of `lines`.

    Lines count from `start`. None if no quote is open.
    """
    cell_end = re.compile(f'"(?:{re.escape(delimiter)}|\r*\n?$)')
    cell = re.compile(f'(?:^|{re.escape(delimiter)})"')
    open_line: int | None = None
    closed = True
    for number, text in enumerate(lines, start):
        at = 0
        while True:
            if closed:
                match = cell.search(text, at)
                if match is None:
                    break
                open_line, closed, at = number, False, match.end()
            quote = _closing_quote(text, at)
            if quote is None:
                break
            end = cell_end.match(text, quote)
            if end is None:
                return open_line
            closed, at = True, quote + 1
    return open_line


def _closing_quote(text: str, at: int) -> int | None:
    """The index of the first quote from `at` on that is not doubled; None if there is none."""
    while (at := text.find('"', at)) >= 0:
        if not text.startswith('""', at):
            return at
        at += 2
    return None

"""Reads a CSV file with Python's strict csv.reader and tracks the physical line where each row starts."""

import csv
import re
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter

from askmill.jobs.intake.base import CHUNK_ROWS, Chunk, line_count
from askmill.jobs.intake.csv_dialect import CsvDialect, trim_quoted_cells
from askmill.jobs.intake.source import HashingReader, InputSource
from askmill.jobs.model.errors import Fault, InputFaults

MAX_CELL_CHARACTERS = 10_000_000
"""Limits how much text an unclosed quote can take in."""
NO_HEADER = "no header: the file is empty; write the column names on its first line, such as `question`"
FIRST_CELL = itemgetter(0)


class CsvReader:
    """Reader of a CSV file. Raises InputFaults if there is no readable header."""

    has_line_numbers = True

    def __init__(self, source: InputSource, hashing_reader: HashingReader, dialect: CsvDialect) -> None:
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        self._source, self._bytes, self._dialect = source, hashing_reader, dialect
        self.delimiter = dialect.delimiter
        # In a TSV, quotes are often text; then they merge rows.
        self._suspects_spanning = dialect.delimiter == "\t" and dialect.quoting is None
        self._text = source.text(hashing_reader)  # kept: closing it would close the reader
        if dialect.sep_line:
            self._text.readline()
        self._lines_above = int(dialect.sep_line)
        self._rows = dialect.rows(self._text)
        self.columns, self.header_line = self._read_header()

    @property
    def _line(self) -> int:
        """The line that was read last."""
        line: int = self._rows.line_num
        return line + self._lines_above

    def _read_header(self) -> tuple[list[str], int]:
        while True:
            line = self._line + 1
            try:
                row = next(self._rows)
            except StopIteration:
                raise InputFaults(self._source.name, [Fault(None, NO_HEADER)]) from None
            except csv.Error as error:
                raise InputFaults(self._source.name, [self._fault(line, error)]) from error
            if any(cell.strip("\ufeff \t\r") for cell in row):
                row[0] = row[0].removeprefix("\ufeff")
                return [name.strip(" \t") for name in row] if self._dialect.trims_quoted else row, line

    @property
    def must_check_text(self) -> bool:
        return not self._source.is_utf8 or self._bytes.has_nul or self._bytes.has_decode_errors

    def chunks(self) -> Iterator[Chunk | Fault]:
        while True:
            first_line, records = self._line + 1, list[list[str]]()
            try:
                records.extend(islice(self._rows, CHUNK_ROWS))
            except csv.Error as error:
                # extend keeps the rows before the error; the faulty row starts after them.
                yield (chunk := self._chunk(records, first_line))
                line = first_line + sum(map(line_count, chunk.records or []))
                yield self._fault(line, error)
                if self._line > line:
                    return  # where the next row starts is unknown
                continue
            if not records:
                return
            chunk = self._chunk(records, first_line)
            yield chunk
            if self._suspects_spanning:
                yield from self._spanning_faults(chunk)

    def _chunk(self, records: list[list[str]], first_line: int) -> Chunk:
        rows = records if all(records) else [row for row in records if row]
        if len(self.columns) > 1 and not all(map(str.strip, map(FIRST_CELL, rows))):
            # Rows of nothing but delimiters are blank lines; spreadsheets write them below the last row.
            records = [[] if _is_blank(row) else row for row in records]
            rows = [row for row in records if row]
        return Chunk(rows, first_line, records)

    def _spanning_faults(self, chunk: Chunk) -> Iterator[Fault]:
        """A fault for each record whose lines, without quotes, are rows of the full width."""
        line, tabs = chunk.first_line, len(self.columns) - 1
        for record in chunk.records or []:
            lines = line_count(record)
            if lines > 1 and all(text.count("\t") == tabs for text in "\t".join(record).split("\n")):
                yield Fault(
                    line,
                    f"the lines {line} to {line + lines - 1} are one row by their quotes, but without "
                    f"quotes they are {lines} rows; pass --quoting none if quotes are text in this file, or "
                    "--quoting csv if they are one row",
                )
            line += lines

    def _fault(self, line: int, error: csv.Error) -> Fault:
        if "new-line character" in str(error):
            return Fault(
                line, "a carriage return without a line feed; save the file with LF or CRLF line endings"
            )
        open_line = self._open_quote(line, self._line)
        if open_line is None:
            return Fault(line, f"a cell has more than {MAX_CELL_CHARACTERS:,} characters; shorten it")
        if "unexpected end" in str(error) or "field limit" in str(error):
            return Fault(
                open_line,
                "a quote that opens here is never closed; close it, or double it if it is text (or pass "
                "--quoting none if all quotes in this file are text)",
            )
        return Fault(
            open_line,
            f"the quote that opens here closes on line {self._line}, but text follows it instead of "
            f"a {self._dialect.name}; {self._quote_advice(line)}",
        )

    def _quote_advice(self, line: int) -> str:
        """What to do about text behind a closing quote."""
        with HashingReader(self._source) as reader:
            text = "".join(islice(self._source.text(reader), line - 1, self._line))
        if '\\"' in text and self._dialect.quoting != "backslash":
            return 'pass --quoting backslash, since the file writes quotes in cells as \\"'
        return "double the quotes that are text, or pass --quoting none if all quotes in this file are text"

    def _open_quote(self, start: int, end: int) -> int | None:
        """The line of the last quote that opens between the lines `start` and `end`."""
        with HashingReader(self._source) as reader:
            lines: Iterator[str] = islice(self._source.text(reader), start - 1, end)
            if self._dialect.quoting == "backslash":
                lines = (re.sub(r"\\.", "xx", line) for line in lines)
            if self._dialect.trims_quoted:
                lines = trim_quoted_cells(lines, self.delimiter)
            return open_quote_line(lines, self.delimiter, start)


def _is_blank(record: list[str]) -> bool:
    """Whether a record is a blank line: only blank cells, on one line."""
    text = "".join(record)
    return not text.strip() and "\n" not in text and record != [""]


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

"""Reads a .txt file: a question per line, below a usual column name or without a header."""

import re
from collections.abc import Iterator
from itertools import chain, islice

from askmill.jobs.intake.base import CHUNK_ROWS, Chunk
from askmill.jobs.intake.header import QUESTION_COLUMNS, is_usual_name
from askmill.jobs.intake.source import HashingReader, InputSource
from askmill.jobs.model.errors import Fault, InputFaults

COLUMN = QUESTION_COLUMNS[0]
NAME = re.compile(r"\s*\w[\w .-]{0,40}\s*")


class TxtReader:
    """Reader of lines; blank ones are passed over. Raises InputFaults if the file is a CSV or is empty."""

    has_line_numbers = True
    delimiter = None

    def __init__(self, source: InputSource, hashing_reader: HashingReader) -> None:
        self._source, self._bytes = source, hashing_reader
        self._text = source.text(hashing_reader)  # kept: closing it would close the reader
        numbered = enumerate(self._text, 1)
        self._lines: Iterator[tuple[int, str]] = (
            (number, text.rstrip("\r\n").removeprefix("\ufeff"))
            for number, text in numbered
            if text.strip("\ufeff \t\r\n")
        )
        first = next(self._lines, None)
        if first is None:
            raise InputFaults(source.name, [Fault(None, "the file is empty; write a question per line")])
        self.columns, self.header_line = [COLUMN], None
        if is_usual_name(first[1]):
            self.columns, self.header_line = [first[1].strip()], first[0]
            return
        _refuse_csv_header(source.name, *first)
        self._lines = chain([first], self._lines)

    @property
    def must_check_text(self) -> bool:
        return not self._source.is_utf8 or self._bytes.has_nul or self._bytes.has_decode_errors

    def chunks(self) -> Iterator[Chunk]:
        while lines := list(islice(self._lines, CHUNK_ROWS)):
            yield Chunk([[text] for _, text in lines], 0, lines=[number for number, _ in lines])


def _refuse_csv_header(name: str, line: int, text: str) -> None:
    """Raise InputFaults if the first line is a CSV's header: it would be asked."""
    for delimiter in ",;\t|":
        cells = text.split(delimiter)
        if len(cells) > 1 and all(map(NAME.fullmatch, cells)) and any(map(is_usual_name, cells)):
            reason = (
                f"the first line, {text[:60]!r}, is the header of a table, but a .txt file is a question "
                "per line; name the file .csv, or pass --delimiter"
            )
            raise InputFaults(name, [Fault(line, reason)])

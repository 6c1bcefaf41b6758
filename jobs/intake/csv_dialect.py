"""How a CSV's lines become cells: delimiter, quoting, blanks around quoted cells; on Python's csv.reader."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from askmill.jobs.intake.options import Quoting

BACKSLASH = re.compile(r'\\["\\]?')


@dataclass(frozen=True)
class CsvDialect:
    """The dialect of a CSV.

    - `quoting`: the option, see IntakeOptions; None reads as `csv`.
    - `sep_line`: whether the first line is Excel's `sep=;`.
    - `trims_quoted`: whether blanks around quoted cells are dropped.
    """

    delimiter: str
    quoting: Quoting | None = None
    sep_line: bool = False
    trims_quoted: bool = False

    @property
    def name(self) -> str:
        """The delimiter in words."""
        return {"\t": "tab", ",": "comma", ";": "semicolon"}.get(self.delimiter, repr(self.delimiter))

    def rows(self, lines: Iterable[str]) -> Any:
        """A strict csv.reader over the lines, those below the `sep=` line."""
        if self.quoting == "none":
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        if self.trims_quoted:
            lines = trim_quoted_cells(lines, self.delimiter)
        if self.quoting == "backslash":
            lines = _double_other_backslashes(lines)
            return csv.reader(lines, delimiter=self.delimiter, escapechar="\\", strict=True)
        return csv.reader(lines, delimiter=self.delimiter, strict=True)


def _double_other_backslashes(lines: Iterable[str]) -> Iterator[str]:
    r"""Keep every backslash but those of `\"` and `\\`: csv.reader would drop the others, as in `\frac`."""
    for line in lines:
        yield BACKSLASH.sub(_keep_backslash, line) if "\\" in line else line


def _keep_backslash(match: re.Match[str]) -> str:
    return match[0] if len(match[0]) == 2 else "\\\\"


def trim_quoted_cells(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """The lines without the blanks between a quoted cell and the delimiters beside it.

    What is malformed stays as it is, for csv.reader to refuse.
    """
    trimmer = _Trimmer(delimiter)
    for line in lines:
        yield trimmer.trimmed(line) if '"' in line else line


class _Trimmer:
    """Follows the quotes from line to line."""

    def __init__(self, delimiter: str) -> None:
        blank = " *" if delimiter == "\t" else "[ \t]*"
        text = r'[^"]*+(?:""[^"]*+)*+'
        end = rf'"){blank}(?={re.escape(delimiter)}|\r*\n?\Z)'
        self._delimiter, self._in_quotes = delimiter, False
        self._whole = re.compile(rf'{blank}("{text}{end}')
        self._opening = re.compile(rf'{blank}("{text}\Z)')
        self._closing = re.compile(rf"({text}{end}")
        self._inner = re.compile(rf"{text}\Z")

    def trimmed(self, line: str) -> str:
        """The next line that has a quote."""
        parts, at = list[str](), 0
        if self._in_quotes:
            closing = self._closing.match(line)
            if closing is None:
                self._in_quotes = self._inner.match(line) is not None
                return line
            parts, at, self._in_quotes = [closing[1]], closing.end(), False
            if not line.startswith(self._delimiter, at):
                return closing[1] + line[at:]
            parts, at = [closing[1], self._delimiter], at + 1
        return "".join([*parts, *self._cells(line, at)])

    def _cells(self, line: str, at: int) -> Iterator[str]:
        """The pieces of the line from the start of a cell on."""
        while True:
            whole = self._whole.match(line, at)
            if whole is None and (opening := self._opening.match(line, at)) is not None:
                self._in_quotes = True
                yield opening[1]
                return
            end = line.find(self._delimiter, at) if whole is None else whole.end()
            if whole is not None:
                yield whole[1]
            elif end >= 0:
                yield line[at:end]
            if end < 0 or not line.startswith(self._delimiter, end):
                yield line[at:] if end < 0 else line[end:]
                return
            yield self._delimiter
            at = end + 1

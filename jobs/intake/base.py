"""What every format becomes: a header and chunks of rows that know their lines."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from askmill.jobs.model.errors import Fault

ROWS_A_CHUNK = 256
"""Small enough that 256 questions of the greatest length stay within 64 MB."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows. `broken` has, by index, why a row could not be read at all.

    `first_line` is the line of the first entry of `raw`; `raw` has the rows with their blank lines, where
    lines are counted from line feeds, else `lines` has them. Where neither is given, places are row numbers.
    """

    rows: list[list[Any]]
    first_line: int
    raw: list[list[str]] | None = None
    lines: list[int] | None = None
    broken: dict[int, str] = field(default_factory=dict)

    def places(self) -> list[int]:
        """The physical line where each row starts, from 1."""
        if self.lines is not None:
            return self.lines
        if self.raw is None:
            return list(range(self.first_line, self.first_line + len(self.rows)))
        line, lines = self.first_line, []
        for row in self.raw:
            if row:
                lines.append(line)
            line += 1 + sum(cell.count("\n") for cell in row)
        return lines[: len(self.rows)]

    def upto(self, count: int) -> "Chunk":
        """The first `count` rows."""
        broken = {at: reason for at, reason in self.broken.items() if at < count}
        return Chunk(self.rows[:count], self.first_line, self.raw, self.lines, broken)


class Table(Protocol):
    """A header and, once, its rows. A Fault among the chunks is one that --skip-bad-rows cannot skip."""

    @property
    def columns(self) -> list[str]: ...
    @property
    def header_line(self) -> int | None: ...
    @property
    def by_line(self) -> bool:
        """Whether places are lines of a text, not row numbers."""

    @property
    def separator(self) -> str | None:
        """The delimiter of a CSV; None where cells have types."""

    @property
    def unsure(self) -> bool:
        """Whether bytes were met so far that make a look at each text necessary."""

    def chunks(self) -> Iterator[Chunk | Fault]: ...

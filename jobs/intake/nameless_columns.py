"""Columns without a name: those that are empty everywhere vanish, the others are called `column_N`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from operator import itemgetter
from typing import Any

from askmill.jobs.intake.base import Chunk, TableReader, width_fault
from askmill.jobs.model.errors import Fault
from askmill.jobs.model.models import as_text


@dataclass(frozen=True)
class KeptColumns:
    """Which columns of a table are kept, by index, and their names. `width` counts all."""

    names: tuple[str, ...]
    indexes: tuple[int, ...]
    width: int


def kept_columns(table: TableReader, limit: int | None) -> KeptColumns | None:
    """Read the first `limit` rows to find which nameless columns hold something; None if all have a name."""
    columns = table.columns
    empty = {index for index, name in enumerate(columns) if not name.strip()}
    nameless = set(empty)
    rows_left = limit
    for item in table.chunks() if empty else ():
        if isinstance(item, Fault):
            continue
        for row in item.rows[:rows_left]:
            empty -= {index for index in empty if index < len(row) and as_text(row[index]).strip()}
        rows_left = None if rows_left is None else rows_left - len(item.rows)
        if not empty or (rows_left is not None and rows_left <= 0):
            break
    if not nameless:
        return None
    indexes = tuple(index for index in range(len(columns)) if index not in empty)
    names = tuple(_made_name(index, columns) if index in nameless else columns[index] for index in indexes)
    return KeptColumns(names, indexes, len(columns))


def _made_name(index: int, columns: list[str]) -> str:
    """`column_N`, with underscores behind it until it is free."""
    names = (f"column_{index + 1}{'_' * number}" for number in count())
    return next(name for name in names if name not in columns)


class NamedTable:
    """A table without its empty nameless columns. A row of another width is unreadable.

    A row may lack the columns that have vanished at the end of the header.
    """

    def __init__(self, table: TableReader, kept: KeptColumns) -> None:
        self._table, self._kept = table, kept
        self.columns = list(kept.names)
        self.header_line, self.delimiter = table.header_line, table.delimiter
        self.has_line_numbers = table.has_line_numbers
        last = kept.indexes[-1] + 1 if kept.indexes else 0
        self._widths = range(last, kept.width + 1)
        picked = itemgetter(*kept.indexes, 0) if kept.indexes else None
        self._pick = picked

    @property
    def must_check_text(self) -> bool:
        return self._table.must_check_text

    def chunks(self) -> Iterator[Chunk | Fault]:
        for item in self._table.chunks():
            yield item if isinstance(item, Fault) else self._projected(item)

    def _projected(self, chunk: Chunk) -> Chunk:
        rows, unreadable = list[list[Any]](), dict(chunk.unreadable)
        for index, row in enumerate(chunk.rows):
            if len(row) in self._widths and self._pick is not None:
                rows.append(list(self._pick(row)[:-1]))
                continue
            rows.append(row)
            unreadable.setdefault(index, width_fault(len(row), self._kept.width, self.delimiter))
        return replace(chunk, rows=rows, unreadable=unreadable)

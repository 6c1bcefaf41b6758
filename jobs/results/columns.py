"""The columns of the results: every input column, then the result columns, without name collisions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NamedTuple

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import InputSpec
from askmill.jobs.model.result_fields import FIELDS, result_values
from askmill.jobs.store.codec import unpack_fields
from askmill.jobs.store.records import RowView

PREFIX = "askmill_"
STEPS = "steps"
"""An additional column in formats without a separate steps file."""


class Entry(NamedTuple):
    """A row to write. `result`: its fields as plain data, none without a result; `steps`: JSON."""

    row: int
    status: str
    cells: list[Any]
    result: Mapping[str, Any] = MappingProxyType({})
    steps: bytes = b"[]"

    def fields(self) -> list[Any]:
        """Return the values of FIELDS; None where unknown, lists as lists."""
        return [self.row, self.status, *result_values(self.result)]


def entry_of(view: RowView) -> Entry:
    """Unpack a row's result, once for all writers."""
    row, cells, status, packed = view
    return Entry(row, status, cells, *(unpack_fields(packed) if packed is not None else ()))


@dataclass(frozen=True)
class Columns:
    """All columns of a row, and the indexes of those to write, in the requested order.

    `names` are the input's columns, the result columns and, in some formats, `steps`. `width` is the number
    of input columns.
    """

    names: tuple[str, ...]
    width: int
    chosen: tuple[int, ...] | None

    @property
    def header(self) -> list[str]:
        """The names to write."""
        return [self.names[place] for place in self.places]

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(range(len(self.names))) if self.chosen is None else self.chosen

    def pick(self, row: list[Any]) -> list[Any]:
        """The requested values of a complete row."""
        return row if self.chosen is None else [row[place] for place in self.chosen]

    def cells(self, row: list[Any]) -> list[Any]:
        """The input's cells, padded or cut to the header's width."""
        if len(row) == self.width:
            return row
        return [*row[: self.width], *[None] * (self.width - len(row))]


def select_columns(spec: InputSpec, chosen: Iterable[str], *, with_steps: bool) -> Columns:
    """The columns of a batch's results. Raises UsageError if `chosen` has unknown or repeated names."""
    result_names = (*FIELDS, STEPS) if with_steps else FIELDS
    names = (*spec.columns, *(_unique_name(name, set(spec.columns)) for name in result_names))
    requested = list(chosen)
    for index, name in enumerate(requested):
        if name not in names:
            raise UsageError(_unknown_column_message(name, names))
        if name in requested[:index]:
            raise UsageError(f"--columns names {name!r} twice; name each column once")
    places = tuple(names.index(name) for name in requested) or None
    return Columns(names, len(spec.columns), places)


def _unique_name(name: str, used_names: set[str]) -> str:
    while name in used_names:
        name = PREFIX + name
    return name


def _unknown_column_message(name: str, names: tuple[str, ...]) -> str:
    matches = get_close_matches(name, names, n=1)
    hint = f"; did you mean {matches[0]!r}?" if matches else ""
    return f"--columns: there is no column {name!r}; the results have {', '.join(names)}{hint}"

"""The columns of the results: every input column, then ours, named so that none hides another."""

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
"""One column more, in formats that hold everything in one file."""


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
    """All columns that a row can show, and the places of those to write, in the order asked for.

    `names` are the input's, then ours, then, where the format has it, `steps`; `width` counts the input's.
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
        """Of a whole row, what was asked for."""
        return row if self.chosen is None else [row[place] for place in self.chosen]

    def cells(self, given: list[Any]) -> list[Any]:
        """The input's cells, filled or cut to the header's width."""
        if len(given) == self.width:
            return given
        return [*given[: self.width], *[None] * (self.width - len(given))]


def columns_of(spec: InputSpec, chosen: Iterable[str], *, with_steps: bool) -> Columns:
    """The columns of a batch's results. Raises UsageError for `chosen` names that there are not."""
    ours = (*FIELDS, STEPS) if with_steps else FIELDS
    names = (*spec.columns, *(_free(name, set(spec.columns)) for name in ours))
    picked = list(chosen)
    for at, name in enumerate(picked):
        if name not in names:
            raise UsageError(_unknown(name, names))
        if name in picked[:at]:
            raise UsageError(f"--columns names {name!r} twice; name each column once")
    places = tuple(names.index(name) for name in picked) or None
    return Columns(names, len(spec.columns), places)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = PREFIX + name
    return name


def _unknown(name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"--columns: there is no column {name!r}; the results have {', '.join(names)}{hint}"

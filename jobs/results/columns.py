"""The columns of the results: every input column, then the result columns, without name collisions.

    id, question, row, status, answer, answer.NAME …, correct, error, attempts, … files [, steps]
    └ input ───┘  └ result ──────────────────────────────────────────────────────┘

`answer.NAME` are the fields of the response schema, `correct` is there with an expected answer.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import orjson

from askmill.config.text import did_you_mean
from askmill.jobs.model.answer_fields import AnswerFields, Kind
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.expected import Accuracy
from askmill.jobs.model.models import InputSpec
from askmill.jobs.model.result_fields import FIELDS, NO_RESULT, HasFields, StoredResult, result_values
from askmill.jobs.store.codec import unpack_fields
from askmill.jobs.store.views import RowView

PREFIX = "askmill_"
STEPS = "steps"
"""An additional column in formats without a separate steps file."""
CORRECT = "correct"
_BEFORE_ADDED = FIELDS.index("answer") + 1
"""The answer's fields and `correct` stand behind `answer`."""


class ColumnKind(StrEnum):
    """What a column holds: an input's cells of any JSON type, or a result's values of one type."""

    INPUT = "input"
    TEXT = Kind.TEXT.value
    INTEGER = Kind.INTEGER.value
    NUMBER = Kind.NUMBER.value
    AMOUNT = "amount"
    """A number that text shows with nine decimals at most: dollars, seconds."""
    BOOLEAN = Kind.BOOLEAN.value
    JSON = Kind.JSON.value
    """A list or an object; bytes are JSON already."""


_KINDS = {
    **dict.fromkeys(("row", "attempts", "prompt_tokens", "completion_tokens"), ColumnKind.INTEGER),
    **dict.fromkeys(("cost_usd", "duration_s"), ColumnKind.AMOUNT),
    **dict.fromkeys(("citations", "files", STEPS), ColumnKind.JSON),
    CORRECT: ColumnKind.BOOLEAN,
}


class Entry(NamedTuple):
    """A row to write; `steps` is JSON."""

    row: int
    status: str
    cells: list[Any]
    result: StoredResult = NO_RESULT
    steps: bytes = b"[]"

    def fields(self) -> list[Any]:
        """Return the values of FIELDS; None where unknown, lists as lists."""
        return [self.row, self.status, *result_values(self.result)]


def entry_of(view: RowView) -> Entry:
    """Unpack a row's result, once for all writers."""
    row, cells, status, packed = view
    result, steps = (NO_RESULT, b"[]") if packed is None else unpack_fields(packed)
    # For a million rows, Entry's constructor takes half a second.
    return tuple.__new__(Entry, (row, status, cells, result, steps))


class Judge(Protocol):
    """Says whether a row's answer is the expected one, and counts."""

    def __call__(self, cells: list[Any], status: str, result: HasFields, /) -> bool | None:
        """True, False, or None for a row that is not judged."""

    @property
    def accuracy(self) -> Accuracy:
        """Of the rows judged so far."""


@dataclass(frozen=True)
class Additions:
    """What adds columns: the fields of a response schema, and the judge of expected answers."""

    fields: AnswerFields | None = None
    judge: Judge | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        names = tuple(f"answer.{name}" for name in self.fields.names) if self.fields else ()
        return (*names, CORRECT) if self.judge else names

    @property
    def kinds(self) -> tuple[ColumnKind, ...]:
        kinds = tuple(ColumnKind(kind.value) for kind in self.fields.kinds) if self.fields else ()
        return (*kinds, ColumnKind.BOOLEAN) if self.judge else kinds

    def values(self, entry: Entry) -> list[Any]:
        """The values of `names` in one row."""
        values = self.fields.values_of(entry.result) if self.fields else []
        if self.judge:
            values.append(self.judge(entry.cells, entry.status, entry.result))
        return values


@dataclass(frozen=True)
class Columns:
    """All columns of a row with their kinds, and the indexes of those to write, in the requested order.

    `names` are the input's columns, the result columns and, in some formats, `steps`. `width` is the number
    of input columns. `arrow_schema` has the input's types, of a file that declares them.
    """

    names: tuple[str, ...]
    kinds: tuple[ColumnKind, ...]
    width: int
    chosen: tuple[int, ...] | None = None
    additions: Additions = Additions()
    with_steps: bool = False
    arrow_schema: str = ""

    @property
    def header(self) -> list[str]:
        """The names to write."""
        return [self.names[place] for place in self.places]

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(range(len(self.names))) if self.chosen is None else self.chosen

    @cached_property
    def result_names(self) -> tuple[str, ...]:
        """The names of the result columns without prefixes: in an object they collide with nothing."""
        return _result_names(self.additions, with_steps=self.with_steps)

    def pick(self, row: list[Any]) -> list[Any]:
        """The requested values of a complete row."""
        return row if self.chosen is None else [row[place] for place in self.chosen]

    def cells(self, row: list[Any]) -> list[Any]:
        """The input's cells, padded or cut to the header's width."""
        if len(row) == self.width:
            return row
        return [*row[: self.width], *[None] * (self.width - len(row))]

    def row(self, entry: Entry) -> list[Any]:
        """Return a complete row: a value for each of `names`, typed as `kinds` says; None where unknown."""
        number, status, cells, result, steps = entry
        if len(cells) != self.width:
            cells = self.cells(cells)
        values = [*cells, number, status, *result_values(result)]
        if self.additions.names:
            at = self.width + _BEFORE_ADDED
            values[at:at] = self.additions.values(entry)
        if self.with_steps:
            values.append(steps)
        return values

    def nested(self, row: list[Any]) -> dict[str, Any]:
        """Return a complete row as a line of .jsonl: `row`, `input`, the result's values, `steps`."""
        width = self.width
        fields = dict(zip(self.result_names, row[width:], strict=True))
        if self.with_steps:
            fields[STEPS] = json_value(row[-1])
        return {"row": row[width], "input": dict(zip(self.names[:width], row, strict=False)), **fields}


def json_value(value: Any) -> Any:
    """Return a value as orjson writes it: bytes are JSON already."""
    return orjson.Fragment(value) if isinstance(value, bytes) else value


def select_columns(
    spec: InputSpec, chosen: Iterable[str] = (), additions: Additions = Additions(), *, with_steps: bool
) -> Columns:
    """The columns of a batch's results. Raises UsageError if `chosen` has unknown or repeated names."""
    used = set(spec.columns)
    result_names = _result_names(additions, with_steps=with_steps)
    names = (*spec.columns, *(unique_name(name, used) for name in result_names))
    plain = [_KINDS.get(name, ColumnKind.TEXT) for name in (*FIELDS, STEPS)[: len(FIELDS) + with_steps]]
    plain[_BEFORE_ADDED:_BEFORE_ADDED] = additions.kinds
    requested = list(chosen)
    for index, name in enumerate(requested):
        if name not in names:
            raise UsageError(_unknown_column_message(name, names))
        if name in requested[:index]:
            raise UsageError(f"--columns names {name!r} twice; name each column once")
    return Columns(
        names,
        (*[ColumnKind.INPUT] * len(spec.columns), *plain),
        len(spec.columns),
        tuple(names.index(name) for name in requested) or None,
        additions,
        with_steps,
        spec.arrow_schema,
    )


def _result_names(additions: Additions, *, with_steps: bool) -> tuple[str, ...]:
    names = (*FIELDS[:_BEFORE_ADDED], *additions.names, *FIELDS[_BEFORE_ADDED:])
    return (*names, STEPS) if with_steps else names


def unique_name(name: str, used_names: Collection[str]) -> str:
    """Return the name of a column, with our prefix until no other column has it."""
    while name in used_names:
        name = PREFIX + name
    return name


def _unknown_column_message(name: str, names: tuple[str, ...]) -> str:
    hint = did_you_mean(name, names)
    return f"--columns: there is no column {name!r}; the results have {', '.join(names)}{hint}"

"""The columns of the results: every input column, then ours, named so that none hides another."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from jobs.errors import UsageError
from jobs.models import InputSpec
from jobs.records import RowView

PREFIX = "askmill_"
FIELDS = (
    "row",
    "status",
    "answer",
    "error",
    "attempts",
    "thread_id",
    "run_id",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "duration_s",
    "citations",
    "files",
)
STEPS = "steps"
"""One column more, in formats that hold everything in one file."""


class Entry(NamedTuple):
    """A row to write. `result` is plain data with the names of `Result`; what is not known is absent."""

    row: int
    status: str
    cells: list[Any]
    result: dict[str, Any]

    def fields(self) -> list[Any]:
        """What FIELDS show of it; None where it is not known, lists as lists."""
        known = self.result.get
        usage = known("usage") or {}
        attempts = known("attempts_made")
        if attempts is None and self.result:
            attempts = len(known("attempts", ()))
        return [
            self.row,
            self.status,
            known("answer"),
            known("error"),
            attempts,
            known("thread_id"),
            known("run_id"),
            known("model"),
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
            known("cost_usd"),
            known("duration_s"),
            known("citations", ()),
            known("files", ()),
        ]

    def steps(self) -> list[dict[str, Any]]:
        """The steps of all its attempts. Times are Unix seconds, as both APIs give them."""
        return [_step(step) for step in self.result.get("steps", ())]


def entry_of(view: RowView) -> Entry:
    """Unpacks a row's result, once."""
    return Entry(view.row, view.status.value, view.cells, view.stored or {})


def _step(step: dict[str, Any]) -> dict[str, Any]:
    known = step.get
    usage = known("usage") or {}
    return {
        "run_id": known("run_id"),
        "attempt": known("attempt"),
        "type": known("type"),
        "status": known("status"),
        "started_at": known("started_at"),
        "finished_at": known("finished_at"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "details": known("details") or {},
    }


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

    def cells(self, entry: Entry) -> list[Any]:
        """The input's cells, filled or cut to the header's width."""
        if len(entry.cells) == self.width:
            return entry.cells
        return [*entry.cells[: self.width], *[None] * (self.width - len(entry.cells))]


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

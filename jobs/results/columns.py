"""The columns of the results: every input column, then ours, named so that none hides another."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from jobs.errors import UsageError
from jobs.models import InputSpec, RowView, Step

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


def field_values(view: RowView) -> list[Any]:
    """What FIELDS show of a row; None where it is not known, lists as lists."""
    result = view.result
    if result is None:
        return [view.row, view.status.value, *[None] * 10, [], []]
    usage = result.usage
    return [
        view.row,
        view.status.value,
        result.answer,
        result.error,
        result.attempt_count,
        result.thread_id,
        result.run_id,
        result.model,
        usage.prompt_tokens,
        usage.completion_tokens,
        result.cost_usd,
        result.duration_s,
        result.citations,
        result.files,
    ]


def step_values(view: RowView) -> list[dict[str, Any]]:
    """The row's steps, of all its attempts. Times are Unix seconds, as both APIs give them."""
    return [] if view.result is None else [_step(step) for step in view.result.steps]


def _step(step: Step) -> dict[str, Any]:
    return {
        "run_id": step.run_id,
        "attempt": step.attempt,
        "type": step.type,
        "status": step.status,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "prompt_tokens": step.usage.prompt_tokens,
        "completion_tokens": step.usage.completion_tokens,
        "details": step.details,
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

    def cells(self, view: RowView) -> list[Any]:
        """The input's cells, filled or cut to the header's width."""
        if len(view.cells) == self.width:
            return view.cells
        return [*view.cells[: self.width], *[None] * (self.width - len(view.cells))]


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

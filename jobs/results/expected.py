"""Judges the answers of a batch's rows by a column of expected answers, and counts them."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from askmill.config.text import did_you_mean
from askmill.jobs.functions.registry import load_function
from askmill.jobs.model.answer_fields import AnswerFields
from askmill.jobs.model.errors import ProfileError, UsageError
from askmill.jobs.model.expected import Accuracy, Expectation, Match, is_correct
from askmill.jobs.model.models import InputSpec, JobStatus, as_text
from askmill.jobs.model.result_fields import HasFields
from askmill.jobs.results.columns import Judge, entry_of
from askmill.jobs.store.views import RowView

Compare = Callable[[str, str], bool | None]
"""From the expected text and the answer."""


@dataclass
class RowJudge:
    """Judges rows, and counts. Only completed rows with an expected answer are judged.

    With a response schema the field of the column's name is compared, or its only field; else the answer.
    """

    column: int
    compare: Compare
    fields: AnswerFields | None = None
    field: int | None = None
    judged: int = 0
    correct: int = 0

    def __call__(self, cells: list[Any], status: str, result: HasFields) -> bool | None:
        """Whether a row's answer is the expected one; None for a row that is not judged."""
        expected = as_text(cells[self.column]) if self.column < len(cells) else ""
        if status != JobStatus.COMPLETED or not expected.strip():
            return None
        verdict = self.compare(expected, self.answer(result))
        if verdict is not None:
            self.judged += 1
            self.correct += bool(verdict)
        return None if verdict is None else bool(verdict)

    def answer(self, result: HasFields) -> str:
        """What is compared of a row's answer."""
        if self.fields is None or self.field is None:
            return result.get("answer") or ""
        return as_text(self.fields.values_of(result)[self.field])

    @property
    def accuracy(self) -> Accuracy:
        return Accuracy(self.judged, self.correct)


def judge_of(
    expectation: Expectation | None, spec: InputSpec, fields: AnswerFields | None, *, stored: bool
) -> RowJudge | None:
    """The judge of an expectation; None without one.

    A `stored` expectation with a function has none either: whoever can write into the Redis must not choose
    what this process runs. Raises UsageError for an unknown column or function.
    """
    if expectation is None or (stored and expectation.function is not None):
        return None
    check_column(expectation, spec)
    names = fields.names if fields else ()
    name = expectation.column if expectation.column in names else names[0] if len(names) == 1 else None
    field = None if name is None else names.index(name)
    return RowJudge(spec.columns.index(expectation.column), compare_of(expectation), fields, field)


def check_column(expectation: Expectation, spec: InputSpec) -> None:
    """Raise UsageError if the input has no such column."""
    if expectation.column in spec.columns:
        return
    hint = did_you_mean(expectation.column, spec.columns)
    raise UsageError(
        f"--expected: there is no column {expectation.column!r}; the input has "
        f"{', '.join(spec.columns)}{hint}"
    )


def compare_of(expectation: Expectation) -> Compare:
    """The function that compares two texts. Raises UsageError for an unknown `--match`."""
    if expectation.function is not None:
        return _own_function(*expectation.function)
    try:
        match = Match(expectation.match)
    except ValueError:
        hint = did_you_mean(expectation.match, Match)
        raise UsageError(
            f"--match: there is no {expectation.match!r}{hint or ';'} choose {', '.join(Match)} or a "
            "function of yours, MODULE.py:FUNCTION"
        ) from None
    return lambda expected, answer: is_correct(match, expected, answer)


@lru_cache(8)
def _own_function(module: str, name: str) -> Compare:
    try:
        call = load_function(module, name)
    except ProfileError as error:
        raise UsageError(f"--match: {str(error).removeprefix('functions: ')}") from None

    def compare(expected: str, answer: str) -> bool | None:
        try:
            verdict = call(expected, answer)
        except Exception as error:
            raise UsageError(
                f"--match {module}:{name} failed with {type(error).__name__}: {error} for the expected "
                f"answer {expected!r:.100}. Correct it, then run `askmill collect` with the same options"
            ) from error
        return None if verdict is None else bool(verdict)

    return compare


async def measure(judge: Judge, chunks: AsyncIterator[Iterable[RowView]]) -> Accuracy:
    """Judge all rows of a stream."""
    async for chunk in chunks:
        for view in chunk:
            if view.status is JobStatus.COMPLETED:
                entry = entry_of(view)
                judge(entry.cells, entry.status, entry.result)
    return judge.accuracy

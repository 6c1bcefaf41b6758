"""Batches of the same questions side by side: a row for each question, and a summary for each batch.

The batches are read together as streams, row by row; row N of each is the same line of the same file.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.expected import Accuracy, Expectation
from askmill.jobs.model.models import JobStatus, as_text
from askmill.jobs.results.collect import additions_of
from askmill.jobs.results.columns import ColumnKind, Columns, Entry, Judge, entry_of, unique_name
from askmill.jobs.results.destination import Format, oserror_to_write_fault, plan_output
from askmill.jobs.results.export import Contents, Plan, checked_plan, open_output, table_writer
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import Counts, RowView

MAX_CLASSES = 12
"""A confusion matrix is shown for at most so many expected answers."""
OTHER = "(other)"


@dataclass
class Side:
    """One of the batches, and what its rows add up to."""

    name: str
    batch: Batch
    counts: Counts
    judge: Judge | None = None
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by expected and given answer."""
    classes: set[str] = field(default_factory=set)

    @property
    def accuracy(self) -> Accuracy | None:
        return None if self.judge is None else self.judge.accuracy

    def matrix(self) -> list[list[str]] | None:
        """The confusion matrix with its header, the expected answers down; None for too many classes."""
        if not self.confusion or len(self.classes) > MAX_CLASSES:
            return None
        names = sorted(self.classes)
        counts = Counter[tuple[str, str]]()
        for (wanted, answer), rows in self.confusion.items():
            counts[wanted, answer if answer in self.classes else OTHER] += rows
        header = [*names, OTHER] if any(answer == OTHER for _, answer in counts) else names
        return [
            ["expected", *header],
            *([want, *(f"{counts[want, at]:,}" for at in header)] for want in names),
        ]


@dataclass
class Comparison:
    """Batches side by side. `rows` and `differing` count the rows that have been read."""

    sides: list[Side]
    columns: Columns
    expected: Expectation | None
    rows: int = 0
    differing: int = 0

    def row(self, views: Sequence[RowView]) -> list[Any]:
        """Return the values of `columns` for one question. Raises UsageError for other questions."""
        entries = [entry_of(view) for view in views]
        cells = self.columns.cells(entries[0].cells)
        self._check_questions(entries)
        answers = [entry.result.answer for entry in entries]
        by_side: list[list[Any]] = [answers, *self._verdicts(entries)]
        by_side.append([entry.status for entry in entries])
        by_side.append([entry.result.cost_usd for entry in entries])
        by_side.append([entry.result.duration_s for entry in entries])
        differs = (
            len({self._compared_text(side, entry) for side, entry in zip(self.sides, entries, strict=True)})
            > 1
        )
        self.rows += 1
        self.differing += differs
        return [*cells, entries[0].row, *(value for values in by_side for value in values), differs]

    def _check_questions(self, entries: Sequence[Entry]) -> None:
        first, spec = self.sides[0], self.sides[0].batch.spec
        for side, entry in zip(self.sides[1:], entries[1:], strict=True):
            other = side.batch.spec
            for name in spec.columns:
                if name in other.columns and spec.cell(name, entries[0].cells) != other.cell(
                    name, entry.cells
                ):
                    raise UsageError(
                        f"{first.batch.id} and {side.batch.id} were not made from the same file: row "
                        f"{entry.row} differs in the column {name!r}. Compare batches of the same questions"
                    )

    def _verdicts(self, entries: Sequence[Entry]) -> list[list[bool | None]]:
        if self.expected is None:
            return []
        verdicts = []
        for side, entry in zip(self.sides, entries, strict=True):
            verdict = side.judge(entry.cells, entry.status, entry.result) if side.judge else None
            if verdict is not None and len(side.classes) <= MAX_CLASSES:
                wanted = side.batch.spec.cell(self.expected.column, entry.cells).strip()[:40]
                side.classes.add(wanted)
                side.confusion[wanted, wanted if verdict else self._compared_text(side, entry)[:40]] += 1
            verdicts.append(verdict)
        return [verdicts]

    @staticmethod
    def _compared_text(side: Side, entry: Entry) -> str:
        """What of an answer is compared; the status of a row without one."""
        if entry.status != JobStatus.COMPLETED:
            return "(not completed)"
        answer_of = getattr(side.judge, "answer", None)
        return as_text(answer_of(entry.result) if answer_of else entry.result.answer).strip()


async def open_comparison(
    store: Store, batches: Sequence[str], names: Sequence[str] = (), expected: Expectation | None = None
) -> Comparison:
    """Prepare the comparison of two batches or more.

    Args:
        store: where they are.
        batches: their ids.
        names: what to call them; none: their models, with the tier where tiers differ, or their ids where
            these are equal.
        expected: instead of the expectation that one of them was submitted with.

    Raises:
        NotFound: an unknown batch.
        UsageError: fewer than two batches, other names than batches, or an unknown column.
    """
    if len(batches) < 2 or len(set(batches)) < len(batches):
        raise UsageError(
            "compare needs two batches or more, each once: askmill compare BATCH BATCH. "
            "`askmill list` shows them."
        )
    if names and (len(names) != len(batches) or len(set(names)) < len(names)):
        raise UsageError(
            f"--name: give each of the {len(batches)} batches one name of its own, in their order"
        )
    found = [await store.batch(batch) for batch in batches]
    own = next((batch.expected for batch in found if batch.expected and not batch.expected.function), None)
    sides = [
        Side(name, batch, await store.counts(batch.id), additions_of(batch, expected or own).judge)
        for name, batch in zip(names or _names(found), found, strict=True)
    ]
    return Comparison(sides, _columns(sides, judged=bool(expected or own)), expected or own)


def _names(batches: Sequence[Batch]) -> list[str]:
    models = [batch.effective_profile.model or batch.profile.assistant_id or batch.id for batch in batches]
    tiers = [batch.profile.tier_name for batch in batches]
    if len(set(tiers)) > 1:
        models = [f"{model} {tier}" for model, tier in zip(models, tiers, strict=True)]
    if len(set(models)) == len(models):
        return models
    labels = [batch.name for batch in batches]
    return labels if len(set(labels)) == len(labels) else [batch.id for batch in batches]


def _columns(sides: Sequence[Side], *, judged: bool) -> Columns:
    spec = sides[0].batch.spec
    fields = [("answer", ColumnKind.TEXT), *([("correct", ColumnKind.BOOLEAN)] if judged else [])]
    fields += [
        ("status", ColumnKind.TEXT),
        ("cost_usd", ColumnKind.AMOUNT),
        ("duration_s", ColumnKind.AMOUNT),
    ]
    added = [("row", ColumnKind.INTEGER)]
    added += [(f"{side.name}.{name}", kind) for name, kind in fields for side in sides]
    added += [("differs", ColumnKind.BOOLEAN)]
    names = list(spec.columns)
    for name, _ in added:
        names.append(unique_name(name, names))
    kinds = [*[ColumnKind.INPUT] * len(spec.columns), *(kind for _, kind in added)]
    return Columns(tuple(names), tuple(kinds), len(spec.columns), arrow_schema=spec.arrow_schema)


async def compared_rows(store: Store, comparison: Comparison) -> AsyncIterator[list[list[Any]]]:
    """Yield the rows of all batches side by side, a thousand at a time, as far as the shortest goes."""
    streams = [store.result_chunks(side.batch.id) for side in comparison.sides]
    while True:
        chunks = [await anext(stream, None) for stream in streams]
        present = [chunk for chunk in chunks if chunk is not None]
        if len(present) < len(streams):
            return
        yield [comparison.row(views) for views in zip(*present, strict=False)]


async def write_comparison(
    comparison: Comparison, chunks: AsyncIterator[list[list[Any]]], out: str
) -> Path | None:
    """Write the rows to a file in the format of its name; returns its path, None for stdout.

    Raises UsageError where it cannot be written, WriteFault while it is.
    """
    output = plan_output(out)
    rows = min(side.batch.rows for side in comparison.sides)
    plan = checked_plan(Plan(out, output, comparison.columns), Contents(rows))
    with oserror_to_write_fault(out), ExitStack() as stack:
        writer = table_writer(plan, open_output(output, stack), flat=True)
        async for chunk in chunks:
            writer.add(chunk)
        writer.close()
    return output.path


def to_parquet(comparison: Comparison, rows: Sequence[list[Any]], stream: BinaryIO) -> None:
    """Write these rows as Parquet."""
    plan = Plan("-", plan_output("-", Format.PARQUET), comparison.columns)
    writer = table_writer(plan, stream, flat=True)
    writer.add(rows)
    writer.close()

"""Which rows cannot be asked, and why; whole chunks are cleared at once, only suspicious ones row by row."""

from pathlib import Path
from typing import Any

from askmill.jobs.intake.base import Chunk, Table
from askmill.jobs.intake.encoding_faults import unsound
from askmill.jobs.intake.overrides import KNOWN, Overrides, ValueFault
from askmill.jobs.intake.render import LONGEST_TEXT, questions_of
from askmill.jobs.model.models import InputSpec, as_text


class RowValidator:
    """Judges the rows of one pass."""

    def __init__(self, spec: InputSpec, table: Table, folder: Path, model_fault: ValueFault | None) -> None:
        self._spec, self._width, self._table = spec, len(spec.columns), table
        self._questions = questions_of(spec, typed=table.separator is None)
        self.overrides = Overrides(folder, model_fault)
        self._checked = [
            (name, spec.columns.index(name))
            for name in spec.overrides
            if name in KNOWN and name in spec.columns
        ]

    def reasons(self, chunk: Chunk) -> dict[int, str]:
        """By index, why rows of the chunk cannot be asked."""
        if self._clear(chunk):
            return {}
        bad = ((at, chunk.broken.get(at) or self._reason(row)) for at, row in enumerate(chunk.rows))
        return {at: reason for at, reason in bad if reason is not None}

    def _clear(self, chunk: Chunk) -> bool:
        if chunk.broken or self._checked or self._table.unsure or self._questions is None:
            return False
        if set(map(len, chunk.rows)) != {self._width}:
            return not chunk.rows
        questions = self._questions(chunk.rows)
        return all(map(str.strip, questions)) and max(map(len, questions)) <= LONGEST_TEXT

    def _reason(self, row: list[Any]) -> str | None:
        if reason := self._unsound(row) or self._ragged(row):
            return reason
        faults = [self._question_fault(row), *self._override_faults(row)]
        return "; ".join(fault.removesuffix(".") for fault in faults if fault is not None) or None

    def _unsound(self, row: list[Any]) -> str | None:
        return unsound("\n".join(cell for cell in row if isinstance(cell, str)))

    def _ragged(self, row: list[Any]) -> str | None:
        if len(row) == self._width:
            return None
        cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
        advice = (
            "a cell that holds the delimiter or a quote must be quoted"
            if len(row) > self._width
            else ("a line break inside a cell needs quotes around the cell")
        )
        header = "1 column" if self._width == 1 else f"{self._width} columns"
        return f"{cells} under a header of {header} (delimiter {self._table.separator!r}); {advice}"

    def _question_fault(self, row: list[Any]) -> str | None:
        if self._questions is None:
            return None
        [question] = self._questions([row])
        if not question.strip():
            return f"the question is empty ({self._origin()}); fill it in, or take the row out"
        if len(question) > LONGEST_TEXT:
            return f"the question has {len(question):,} characters; the API takes {LONGEST_TEXT:,}"
        return None

    def _origin(self) -> str:
        name = self._spec.question_column
        return "all columns of the template are blank" if name is None else f"column {name!r}"

    def _override_faults(self, row: list[Any]) -> list[str | None]:
        return [self.overrides.fault(name, as_text(row[place])) for name, place in self._checked]

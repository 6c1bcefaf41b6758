"""Validates rows: a fast check of the whole chunk first, row by row only where that fails."""

from typing import Any

from askmill.jobs.intake.base import Chunk, TableReader
from askmill.jobs.intake.overrides import OVERRIDE_COLUMNS, Overrides
from askmill.jobs.intake.render import MAX_TEXT_CHARACTERS, question_renderer
from askmill.jobs.intake.source import encoding_fault
from askmill.jobs.model.models import InputSpec, as_text


class RowValidator:
    """Validates the rows of one pass."""

    def __init__(self, spec: InputSpec, table: TableReader, overrides: Overrides) -> None:
        self._spec, self._width, self._table = spec, len(spec.columns), table
        self._render = question_renderer(spec, typed=table.delimiter is None)
        self.overrides = overrides
        self._override_columns = [
            (name, spec.columns.index(name))
            for name in spec.overrides
            if name in OVERRIDE_COLUMNS and name in spec.columns
        ]

    def reasons(self, chunk: Chunk) -> dict[int, str]:
        """By row index, why rows of the chunk are rejected."""
        if self._all_valid(chunk):
            return {}
        reasons = (
            (index, chunk.unreadable.get(index) or self._reason(row)) for index, row in enumerate(chunk.rows)
        )
        return {index: reason for index, reason in reasons if reason is not None}

    def _all_valid(self, chunk: Chunk) -> bool:
        """Whether the whole chunk is valid, as far as a cheap check can tell."""
        if chunk.unreadable or self._override_columns or self._table.must_check_text or self._render is None:
            return False
        if set(map(len, chunk.rows)) != {self._width}:
            return not chunk.rows
        questions = self._render(chunk.rows)
        return all(map(str.strip, questions)) and max(map(len, questions)) <= MAX_TEXT_CHARACTERS

    def _reason(self, row: list[Any]) -> str | None:
        text = "\n".join(cell for cell in row if isinstance(cell, str))
        if reason := encoding_fault(text) or self._width_fault(row):
            return reason
        faults = [
            self._question_fault(row),
            *(self.overrides.fault(name, as_text(row[index])) for name, index in self._override_columns),
        ]
        return "; ".join(fault.removesuffix(".") for fault in faults if fault is not None) or None

    def _width_fault(self, row: list[Any]) -> str | None:
        if len(row) == self._width:
            return None
        cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
        columns = "1 column" if self._width == 1 else f"{self._width} columns"
        advice = (
            "quote cells that contain the delimiter or a quote"
            if len(row) > self._width
            else "quote cells that contain a line break"
        )
        return f"{cells}, but the header has {columns} (delimiter {self._table.delimiter!r}); {advice}"

    def _question_fault(self, row: list[Any]) -> str | None:
        if self._render is None:
            return None
        [question] = self._render([row])
        if not question.strip():
            column = self._spec.question_column
            origin = "all columns of the template are blank" if column is None else f"column {column!r}"
            return f"the question is empty ({origin}); fill it in or delete the row"
        if len(question) > MAX_TEXT_CHARACTERS:
            return (
                f"the question has {len(question):,} characters, but the API accepts at most "
                f"{MAX_TEXT_CHARACTERS:,}; shorten it"
            )
        return None

"""Validates rows: a fast check of the whole chunk first, row by row only where that fails."""

from collections.abc import Callable
from typing import Any

from askmill.jobs.intake.base import Chunk, TableReader, width_fault
from askmill.jobs.intake.encodings import encoding_fault
from askmill.jobs.intake.overrides import OVERRIDE_COLUMNS, Overrides
from askmill.jobs.intake.render import MAX_TEXT_CHARACTERS, question_renderer
from askmill.jobs.model.models import InputSpec, as_text


class RowValidator:
    """Validates the rows of one pass.

    `encoding_proposal` gives what an undecodable row's reason adds; `question_was_named` is whether an option
    names the question column.
    """

    def __init__(
        self,
        spec: InputSpec,
        table: TableReader,
        overrides: Overrides,
        *,
        question_was_named: bool = False,
        encoding_proposal: Callable[[], str] = str,
    ) -> None:
        self._spec, self._width, self._table = spec, len(spec.columns), table
        self._encoding_proposal = encoding_proposal
        # A list or an object in a column that nobody named is not meant to be asked.
        typed_question = table.delimiter is None and spec.question_column in spec.columns
        chosen_by_name = spec.question_column is not None and not question_was_named
        self._nested_index = (
            spec.columns.index(spec.question_column or "") if typed_question and chosen_by_name else None
        )
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
        if self._nested_index is not None and any(map(self._is_nested, chunk.rows)):
            return False
        questions = self._render(chunk.rows)
        return all(map(str.strip, questions)) and max(map(len, questions)) <= MAX_TEXT_CHARACTERS

    def _reason(self, row: list[Any]) -> str | None:
        text = "\n".join(cell for cell in row if isinstance(cell, str))
        if reason := encoding_fault(text):
            return f"{reason}. {self._encoding_proposal()}".removesuffix(". ")
        if reason := self._width_fault(row):
            return reason
        faults = [
            self._question_fault(row),
            *(self.overrides.fault(name, as_text(row[index])) for name, index in self._override_columns),
        ]
        return "; ".join(fault.removesuffix(".") for fault in faults if fault is not None) or None

    def _width_fault(self, row: list[Any]) -> str | None:
        if len(row) == self._width:
            return None
        return width_fault(len(row), self._width, self._table.delimiter)

    def _is_nested(self, row: list[Any]) -> bool:
        return self._nested_index is not None and isinstance(row[self._nested_index], list | dict)

    def _question_fault(self, row: list[Any]) -> str | None:
        if self._render is None:
            return None
        if self._is_nested(row):
            column = self._spec.question_column
            return (
                f"the question (column {column!r}) is a list or an object, such as chat messages, not a "
                f"text; name a column of texts with --question-column, or pass --question-column {column} to "
                "ask the JSON"
            )
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

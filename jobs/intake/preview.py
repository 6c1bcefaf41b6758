"""What was read of an input: its format and its first rows, also where the whole input has faults."""

from dataclasses import dataclass
from typing import Any

from askmill.jobs.intake.content import InputFormat
from askmill.jobs.intake.encodings import replace_undecodable
from askmill.jobs.intake.reader import PassFactory, ValidatedChunk
from askmill.jobs.model.errors import InputFaults
from askmill.jobs.model.models import InputSpec, as_text

PREVIEW_ROWS = 3


@dataclass(frozen=True)
class Preview:
    """The detected format and the first rows.

    `encoding` and `delimiter` are None for formats without them. `sheets` has all sheets of a workbook, the
    one that is read first. `columns` and `rows` may have faults; `questions` are those of the rows as asked,
    None where a row has a fault.
    """

    file: str
    format: InputFormat
    compression: str | None
    encoding: str | None
    delimiter: str | None
    quoting: str | None
    sheets: tuple[str, ...]
    spec: InputSpec
    columns: tuple[str, ...]
    rows: tuple[list[Any], ...]
    questions: tuple[str | None, ...]

    def values(self, column: int) -> list[str]:
        """The first values of a column, as text."""
        return [as_text(row[column]) for row in self.rows if column < len(row)]

    @property
    def has_question(self) -> bool:
        """Whether it is known what is asked."""
        spec = self.spec
        return spec.template is not None or spec.question_column in spec.columns


def preview_of(passes: PassFactory) -> Preview:
    """Read the first rows. Raises InputFaults if there is no readable header."""
    source, layout = passes.source, passes.layout
    rows, questions = list[list[Any]](), list[str | None]()
    with passes.open_pass() as input_pass:
        spec = input_pass.header.spec
        try:
            first = next((item for item in input_pass.chunks() if isinstance(item, ValidatedChunk)), None)
        except InputFaults:  # the check of the whole input reports them
            first = None
        if first is not None:
            shown = first.chunk.rows[:PREVIEW_ROWS]
            questions = [
                None if index in first.reasons else spec.question(row) for index, row in enumerate(shown)
            ]
            rows = [list(map(_decoded, row)) for row in shown]
    binary = source.format in {InputFormat.WORKBOOK, InputFormat.PARQUET}
    sheet = layout.sheet
    names = () if sheet is None else (sheet.name, *(name for name in sheet.all_names if name != sheet.name))
    return Preview(
        file=source.name,
        format=InputFormat.CSV if layout.dialect is not None else source.format,
        compression=source.compression,
        encoding=None if binary else source.encoding.removesuffix("-sig"),
        delimiter=None if layout.dialect is None else layout.dialect.delimiter,
        quoting=None if layout.dialect is None else layout.dialect.quoting or "csv",
        sheets=names,
        spec=spec,
        columns=tuple(map(replace_undecodable, spec.columns)),
        rows=tuple(rows),
        questions=tuple(questions),
    )


def _decoded(cell: Any) -> Any:
    return replace_undecodable(cell) if isinstance(cell, str) else cell

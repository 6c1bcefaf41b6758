"""One pass over an input: chunks of validated rows, up to the limit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from askmill.jobs.intake.base import BlankLines, Chunk, TableReader
from askmill.jobs.intake.content import InputFormat
from askmill.jobs.intake.csv_dialect import CsvDialect
from askmill.jobs.intake.csv_reader import CsvReader
from askmill.jobs.intake.duplicate_ids import ExactPass
from askmill.jobs.intake.header import read_header
from askmill.jobs.intake.json_reader import JsonReader, key_union
from askmill.jobs.intake.nameless_columns import KeptColumns, NamedTable, kept_columns
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import Overrides, ValueCheck
from askmill.jobs.intake.row_validator import RowValidator
from askmill.jobs.intake.sniff import sniff
from askmill.jobs.intake.source import HashingReader, InputSource
from askmill.jobs.intake.txt_reader import TxtReader
from askmill.jobs.model.errors import Fault, UsageError
from askmill.jobs.model.models import as_text

if TYPE_CHECKING:
    from askmill.jobs.intake.workbook_reader import Sheet


class ValidatedChunk(NamedTuple):
    """A chunk and, by row index, why rows of it are rejected."""

    chunk: Chunk
    reasons: dict[int, str]


@dataclass(frozen=True)
class Layout:
    """How an input becomes a table, found before its first pass.

    `dialect` is that of a CSV, `keys` are the columns of JSON, `sheet` is that of a workbook, `kept` is set
    where columns have no name.
    """

    dialect: CsvDialect | None = None
    keys: tuple[str, ...] = ()
    sheet: "Sheet | None" = None
    kept: KeptColumns | None = None


@dataclass(frozen=True)
class PassFactory:
    """What all passes over an input share."""

    source: InputSource
    options: IntakeOptions
    layout: Layout
    check_model: ValueCheck | None = None

    def open_pass(self) -> "InputPass":
        """Start a pass at the beginning of the input. Raises InputFaults if there is no readable header."""
        return InputPass(self)


def find_layout(source: InputSource, options: IntakeOptions) -> Layout:
    """Look through the input as far as its columns need it. Raises InputFaults and UsageError."""
    if options.sheet is not None and source.format is not InputFormat.WORKBOOK:
        raise UsageError(f"--sheet is for workbooks (.xlsx, .ods); {source.name} is none")
    if source.format in {InputFormat.JSON, InputFormat.JSONL}:
        return Layout(keys=key_union(source, options.limit))
    is_csv = source.format is InputFormat.CSV or (
        source.format is InputFormat.TXT and options.delimiter is not None
    )
    layout = Layout(
        dialect=sniff(source, options) if is_csv else None,
        sheet=_load_sheet(source, options.sheet) if source.format is InputFormat.WORKBOOK else None,
    )
    with HashingReader(source) as hashing_reader:
        table = open_table(source, layout, hashing_reader)
        return replace(layout, kept=kept_columns(table, options.limit))


def _load_sheet(source: InputSource, name: str | None) -> "Sheet":
    from askmill.jobs.intake.workbook_reader import load_sheet  # noqa: PLC0415 -- only for workbooks

    return load_sheet(source, name)


class InputPass:
    """A pass in progress: the open table, its header, its validator, the hash of the bytes read."""

    def __init__(self, factory: PassFactory) -> None:
        self._limit, self._source, self._has_proposed = factory.options.limit, factory.source, False
        self._bytes = HashingReader(factory.source)
        try:
            self.table = open_table(factory.source, factory.layout, self._bytes)
            self.blank_lines = BlankLines(self.table.header_line)
            self.header = read_header(self.table.columns, factory.options, self._encoding_proposal)
            least, folder = factory.options.min_completion_tokens, factory.source.folder
            overrides = Overrides(folder, factory.check_model, least, confined=factory.options.confined)
            self.validator = RowValidator(
                self.header.spec,
                self.table,
                overrides,
                question_was_named=factory.options.question_column is not None,
                encoding_proposal=self._encoding_proposal,
            )
        except BaseException:
            self._bytes.close()
            raise
        spec = self.header.spec
        self._id_index = spec.columns.index(spec.id_column) if spec.id_column in spec.columns else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    def _encoding_proposal(self) -> str:
        """The encodings that the file may have, only once a pass: they concern the file, not a row."""
        first, self._has_proposed = not self._has_proposed, True
        return self._source.encoding_proposal if first else ""

    def chunks(self) -> Iterator[ValidatedChunk | Fault]:
        """All chunks up to the limit, and the faults that `--skip-bad-rows` does not skip."""
        rows_left = self._limit
        for item in self.table.chunks():
            if isinstance(item, Fault):
                yield item
                continue
            chunk = item if rows_left is None or len(item.rows) <= rows_left else item.head(rows_left)
            self.blank_lines.add(chunk)
            if chunk.rows:
                yield ValidatedChunk(chunk, self.validator.reasons(chunk))
            if rows_left is not None:
                rows_left -= len(chunk.rows)
                if rows_left <= 0:
                    return

    def ids(self, validated: ValidatedChunk) -> list[str]:
        """The input's own ids of the rows that are not rejected; some may be blank."""
        if self._id_index is None:
            return []
        if validated.reasons:
            return [own_id for _, own_id in self._indexed_ids(validated)]
        return [as_text(row[self._id_index]) for row in validated.chunk.rows]

    def _indexed_ids(self, validated: ValidatedChunk) -> list[tuple[int, str]]:
        if self._id_index is None:
            return []
        ids = [
            (index, as_text(row[self._id_index]))
            for index, row in enumerate(validated.chunk.rows)
            if index not in validated.reasons
        ]
        return [(index, own_id) for index, own_id in ids if own_id]

    def duplicate_ids(self, validated: ValidatedChunk, exact_pass: ExactPass) -> dict[int, str]:
        """By row index, the reason for each row whose id occurs on an earlier row."""
        positions = validated.chunk.positions()
        reasons: dict[int, str] = {}
        for index, own_id in self._indexed_ids(validated):
            first = exact_pass.first_position(own_id, positions[index])
            if first != positions[index]:
                unit = "line" if self.table.has_line_numbers else "row"
                reasons[index] = (
                    f"the id {own_id[:80]!r} already occurs on {unit} {first}; give each row its own id"
                )
        return reasons

    def faults(self, chunk: Chunk, reasons: dict[int, str]) -> dict[int, Fault]:
        """The reasons as faults with the positions of their rows."""
        if not reasons:
            return {}
        positions = chunk.positions()
        if self.table.has_line_numbers:
            return {index: Fault(positions[index], reason) for index, reason in reasons.items()}
        return {index: Fault(None, f"row {positions[index]}: {reason}") for index, reason in reasons.items()}

    def sha256(self) -> str:
        """The hash of the whole content, also of what lies beyond the limit."""
        return self._bytes.sha256()


def open_table(source: InputSource, layout: Layout, hashing_reader: HashingReader) -> TableReader:
    """The reader of the input's format. Raises InputFaults if there is no readable header."""
    table = _open_format(source, layout, hashing_reader)
    return table if layout.kept is None else NamedTable(table, layout.kept)


def _open_format(source: InputSource, layout: Layout, hashing_reader: HashingReader) -> TableReader:
    if layout.dialect is not None:
        return CsvReader(source, hashing_reader, layout.dialect)
    if layout.sheet is not None:
        from askmill.jobs.intake.workbook_reader import WorkbookReader  # noqa: PLC0415 -- only for workbooks

        return WorkbookReader(source.name, layout.sheet)
    if source.format is InputFormat.PARQUET:
        from askmill.jobs.intake.parquet_reader import ParquetReader  # noqa: PLC0415 -- pyarrow takes a quarter second

        return ParquetReader(source)
    if source.format is InputFormat.TXT:
        return TxtReader(source, hashing_reader)
    return JsonReader(source, hashing_reader, layout.keys)

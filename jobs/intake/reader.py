"""One pass over an input: chunks of validated rows, up to the limit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from askmill.jobs.intake.base import Chunk, TableReader
from askmill.jobs.intake.csv_reader import CsvReader
from askmill.jobs.intake.duplicate_ids import ExactPass
from askmill.jobs.intake.header import read_header
from askmill.jobs.intake.jsonl_reader import JsonlReader
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import Overrides, ValueCheck
from askmill.jobs.intake.row_validator import RowValidator
from askmill.jobs.intake.source import HashingReader, InputFormat, InputSource
from askmill.jobs.model.errors import Fault
from askmill.jobs.model.models import as_text


class ValidatedChunk(NamedTuple):
    """A chunk and, by row index, why rows of it are rejected."""

    chunk: Chunk
    reasons: dict[int, str]


@dataclass(frozen=True)
class PassFactory:
    """What all passes over an input share. `delimiter` is None unless the input is a CSV."""

    source: InputSource
    options: IntakeOptions
    delimiter: str | None
    check_model: ValueCheck | None = None

    def open_pass(self) -> "InputPass":
        """Start a pass at the beginning of the input. Raises InputFaults if there is no readable header."""
        return InputPass(self)


class InputPass:
    """A pass in progress: the open table, its header, its validator, the hash of the bytes read."""

    def __init__(self, factory: PassFactory) -> None:
        self._limit = factory.options.limit
        self._bytes = HashingReader(factory.source.open())
        try:
            self.table = _open_table(factory, self._bytes)
            self.header = read_header(self.table.columns, factory.options)
            least, folder = factory.options.min_completion_tokens, factory.source.folder
            overrides = Overrides(folder, factory.check_model, least, confined=factory.options.confined)
            self.validator = RowValidator(self.header.spec, self.table, overrides)
        except BaseException:
            self._bytes.close()
            raise
        spec = self.header.spec
        self._id_index = spec.columns.index(spec.id_column) if spec.id_column in spec.columns else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    def chunks(self) -> Iterator[ValidatedChunk | Fault]:
        """All chunks up to the limit, and the faults that `--skip-bad-rows` does not skip."""
        rows_left = self._limit
        for item in self.table.chunks():
            if isinstance(item, Fault):
                yield item
                continue
            chunk = item if rows_left is None or len(item.rows) <= rows_left else item.head(rows_left)
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


def _open_table(factory: PassFactory, hashing_reader: HashingReader) -> TableReader:
    if factory.delimiter is not None:
        return CsvReader(factory.source, hashing_reader, factory.delimiter)
    if factory.source.format is InputFormat.JSONL:
        return JsonlReader(factory.source, hashing_reader)
    from askmill.jobs.intake.parquet_reader import ParquetReader  # noqa: PLC0415 -- pyarrow takes a quarter second

    return ParquetReader(factory.source)

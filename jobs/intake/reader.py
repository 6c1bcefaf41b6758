"""One pass over an input: its rows as they are judged, up to the limit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from askmill.jobs.intake.base import Chunk, Table
from askmill.jobs.intake.csv_reader import CsvTable
from askmill.jobs.intake.duplicate_ids import ExactPass
from askmill.jobs.intake.header import read_header
from askmill.jobs.intake.jsonl_reader import JsonlTable
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import ValueFault
from askmill.jobs.intake.row_validator import RowValidator
from askmill.jobs.intake.sniff import chosen, detected
from askmill.jobs.intake.source import Kind, Source, Tally
from askmill.jobs.model.errors import Fault
from askmill.jobs.model.models import as_text


class Judged(NamedTuple):
    """A chunk with, by index, why rows of it cannot be asked."""

    chunk: Chunk
    reasons: dict[int, str]


@dataclass(frozen=True)
class PassFactory:
    """An input as every pass reads it; `delimiter` is set for a CSV."""

    source: Source
    options: IntakeOptions
    delimiter: str | None
    model_fault: ValueFault | None = None

    def reader(self) -> "Reader":
        """A new pass, from the start."""
        return Reader(self)


def passes_over(source: Source, options: IntakeOptions, model_fault: ValueFault | None = None) -> PassFactory:
    """Settles what all passes share. Raises UsageError."""
    if source.kind is not Kind.CSV:
        return PassFactory(source, options, None, model_fault)
    asked = options.delimiter
    return PassFactory(source, options, detected(source) if asked is None else chosen(asked), model_fault)


class Reader:
    """A pass under way: the table, its judge, and what they yield. Raises InputFaults without a header."""

    def __init__(self, passes: PassFactory) -> None:
        self._limit = passes.options.limit
        self._tally = Tally(passes.source.open())
        try:
            self.table = _table(passes, self._tally)
            self.header = read_header(self.table.columns, passes.options)
            self.judge = RowValidator(self.header.spec, self.table, passes.source.folder, passes.model_fault)
        except BaseException:
            self._tally.close()
            raise
        spec = self.header.spec
        self._id_place = spec.columns.index(spec.id_column) if spec.id_column in spec.columns else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tally.close()

    def judged(self) -> Iterator[Judged | Fault]:
        """All rows with their reasons, and the faults that no option can skip."""
        left = self._limit
        for item in self.table.chunks():
            if isinstance(item, Fault):
                yield item
                continue
            chunk = item if left is None or len(item.rows) <= left else item.upto(left)
            if chunk.rows:
                yield Judged(chunk, self.judge.reasons(chunk))
            if left is not None:
                left -= len(chunk.rows)
                if left <= 0:
                    return

    def id_texts(self, judged: Judged) -> list[str]:
        """The own ids of the rows that will be asked, blank ones too."""
        at = self._id_place
        if at is None:
            return []
        if judged.reasons:
            return [own_id for _, own_id in self._ids(judged)]
        return [as_text(row[at]) for row in judged.chunk.rows]

    def _ids(self, judged: Judged) -> list[tuple[int, str]]:
        at = self._id_place
        if at is None:
            return []
        found = [
            (index, as_text(row[at]))
            for index, row in enumerate(judged.chunk.rows)
            if index not in judged.reasons
        ]
        return [(index, own_id) for index, own_id in found if own_id]

    def repeated(self, judged: Judged, seen: ExactPass) -> dict[int, str]:
        """By index, which ids stand on an earlier row."""
        places = judged.chunk.places()
        firsts = ((at, own_id, seen.first_place(own_id, places[at])) for at, own_id in self._ids(judged))
        return {
            at: f"the id {own_id[:80]!r} stands already on {self._where(first)}; ids must differ"
            for at, own_id, first in firsts
            if first != places[at]
        }

    def faults(self, chunk: Chunk, reasons: dict[int, str]) -> dict[int, Fault]:
        """The reasons with the places of their rows."""
        if not reasons:
            return {}
        places = chunk.places()
        return {at: self._fault(places[at], reason) for at, reason in reasons.items()}

    def sha256(self) -> str:
        """Of the whole content, whatever the limit."""
        return self._tally.sha256()

    def _where(self, place: int) -> str:
        return f"line {place}" if self.table.by_line else f"row {place}"

    def _fault(self, place: int, reason: str) -> Fault:
        return Fault(place, reason) if self.table.by_line else Fault(None, f"row {place}: {reason}")


def _table(passes: PassFactory, tally: Tally) -> Table:
    if passes.delimiter is not None:
        return CsvTable(passes.source, tally, passes.delimiter)
    if passes.source.kind is Kind.JSONL:
        return JsonlTable(passes.source, tally)
    from askmill.jobs.intake.parquet_reader import ParquetTable  # noqa: PLC0415 -- pyarrow takes a quarter second

    return ParquetTable(passes.source)

"""The first pass, which refuses a bad file with all its faults, and the second, which hands out its rows.

check(path) ── first pass: header, every row, ids into a Bloom filter, hash ──▶ faults? InputFaults
     │                └─ only if ids are suspect: a look at those alone
     ▼
Intake.rows_iter() ── second pass: the same judgement, row by row ──▶ NewRow, NewRow, …
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from jobs.errors import Fault, InputFaults, UsageError
from jobs.intake.csv_table import CsvTable
from jobs.intake.delimiter import chosen, detected
from jobs.intake.header import Header, read_header
from jobs.intake.ids import FirstLook, SecondLook
from jobs.intake.judge import LONE_SURROGATE, Judge
from jobs.intake.options import IntakeOptions
from jobs.intake.source import Kind, Source, Tally
from jobs.intake.table import Chunk, Table
from jobs.models import InputSpec, as_text
from jobs.records import NewRow


def check(path: str, options: IntakeOptions | None = None) -> "Intake":
    """Read the whole input once and judge it; `-` is stdin.

    Raises InputFaults with all faults of the file, UsageError for a file or an option that cannot be used.
    Under `skip_bad_rows` faults of single rows become rows with a reason, unless no row is left.
    """
    options = options or IntakeOptions()
    source = Source(path, options.encoding)
    try:
        return _FirstPass(source, options).intake()
    except BaseException:
        source.close()
        raise


class Faults:
    """The first faults of a file and the number of all."""

    def __init__(self, name: str) -> None:
        self.name, self.first, self.total = name, list[Fault](), 0

    def add(self, fault: Fault) -> None:
        self.total += 1
        self.first.append(fault)
        if len(self.first) > 20 * InputFaults.SHOWN:
            self._cut()

    def _cut(self) -> None:
        # Duplicates are known last, so the first by line are only known at the end.
        self.first = sorted(self.first, key=lambda fault: fault.line or 0)[: InputFaults.SHOWN]

    def error(self) -> InputFaults:
        self._cut()
        return InputFaults(self.name, self.first, self.total)


class Judged(NamedTuple):
    """A chunk with, by index, why rows of it cannot be asked."""

    chunk: Chunk
    reasons: dict[int, str]


class Reader:
    """One pass over a source: the table, its judge, and what they yield up to the limit."""

    def __init__(self, source: Source, options: IntakeOptions, delimiter: str | None) -> None:
        self._limit = options.limit
        self._tally = Tally(source.open())
        try:
            self.table = _table(source, self._tally, delimiter)
            self.header: Header = read_header(self.table.columns, options)
            self.judge = Judge(self.header.spec, self.table, source.folder, self._unsure(source))
        except BaseException:
            self._tally.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tally.close()

    def _unsure(self, source: Source) -> Any:
        if not source.is_utf8 or source.kind is not Kind.CSV:
            return lambda: True
        return lambda: self._tally.has_nul or self._tally.has_marks

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

    def sha256(self) -> str:
        """Of the whole content, whatever the limit."""
        return self._tally.sha256()


def _table(source: Source, tally: Tally, delimiter: str | None) -> Table:
    return CsvTable(source, tally, delimiter or ",")


class _FirstPass:
    """Judges everything before anything is stored."""

    def __init__(self, source: Source, options: IntakeOptions) -> None:
        self._source, self._options = source, options
        self._delimiter = _delimiter(source, options)
        self._hard, self._soft = Faults(source.name), Faults(source.name)
        self._rows = 0

    def intake(self) -> "Intake":
        """What the second pass needs. Raises InputFaults."""
        ids = FirstLook()
        with Reader(self._source, self._options, self._delimiter) as reader:
            spec = reader.header.spec
            for reason in reader.header.name_faults:
                self._hard.add(Fault(reader.table.header_line, reason))
            for reason in reader.header.faults:
                self._hard.add(Fault(None, reason))
            for item in reader.judged():
                self._take(item, spec, reader.table, ids)
            sha256 = reader.sha256()
            overrides, by_line = reader.judge.overrides, reader.table.by_line
        seen = self._duplicates(ids.suspects, spec, by_line) if ids.suspects else None
        self._refuse()
        return Intake(
            source=self._source,
            options=self._options,
            delimiter=self._delimiter,
            spec=spec,
            rows=self._rows,
            rejected=self._soft.total,
            content_sha256=sha256,
            images=overrides.images,
            files=overrides.files,
            seen=seen,
        )

    def _take(self, item: Judged | Fault, spec: InputSpec, table: Table, ids: FirstLook) -> None:
        if isinstance(item, Fault):
            self._hard.add(item)
            return
        chunk, reasons = item
        self._rows += len(chunk.rows)
        if reasons:
            places = chunk.places()
            for at, reason in reasons.items():
                self._soft.add(_fault(places[at], reason, table.by_line))
        place = _place_of(spec, spec.id_column)
        if place is not None:
            ids.note([as_text(row[place]) for at, row in enumerate(chunk.rows) if at not in reasons])

    def _duplicates(self, suspects: set[str], spec: InputSpec, by_line: bool) -> SecondLook:
        seen = SecondLook(suspects)
        place_of_id = _place_of(spec, spec.id_column)
        with Reader(self._source, self._options, self._delimiter) as reader:
            for item in reader.judged():
                if isinstance(item, Fault):
                    continue
                chunk, reasons = item
                for at, place in enumerate(chunk.places()):
                    if at in reasons or place_of_id is None:
                        continue
                    reason = _duplicate(seen, as_text(chunk.rows[at][place_of_id]), place, by_line)
                    if reason is not None:
                        self._soft.add(_fault(place, reason, by_line))
        return seen

    def _refuse(self) -> None:
        if not self._rows and not self._hard.total:
            self._hard.add(Fault(None, "there are no rows under the header; add a row for each question"))
        asked = self._rows - self._soft.total
        if self._hard.total or (self._soft.total and (not self._options.skip_bad_rows or not asked)):
            for fault in self._soft.first:
                self._hard.add(fault)
            self._hard.total += self._soft.total - len(self._soft.first)
            raise self._hard.error()


class Intake:
    """A file that may be submitted: `rows` of it, `rejected` of them never to be asked.

    `content_sha256` names its bytes. `images` and `files` lead from a path as a row has it to the file
    found. Close it, or use it as a context: stdin's temporary copy goes with it.
    """

    def __init__(  # noqa: PLR0913 -- built in one place, by names
        self,
        *,
        source: Source,
        options: IntakeOptions,
        delimiter: str | None,
        spec: InputSpec,
        rows: int,
        rejected: int,
        content_sha256: str,
        images: dict[str, Path],
        files: dict[str, Path],
        seen: SecondLook | None,
    ) -> None:
        self.spec, self.rows, self.rejected = spec, rows, rejected
        self.content_sha256, self.images, self.files = content_sha256, images, files
        self.name = source.name
        self._source, self._options, self._delimiter, self._seen = source, options, delimiter, seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._source.close()

    def rows_iter(self) -> Iterator[NewRow]:
        """Every row in file order. Raises UsageError if the file is no longer what was checked."""
        with Reader(self._source, self._options, self._delimiter) as reader:
            for item in reader.judged():
                if not isinstance(item, Fault):
                    yield from self._new_rows(item, reader.table.by_line)
            if reader.sha256() != self.content_sha256:
                raise UsageError(f"{self.name} has changed while it was read; submit it again")

    def _new_rows(self, judged: Judged, by_line: bool) -> Iterator[NewRow]:
        rows, reasons = judged.chunk.rows, judged.reasons
        if self._seen is not None:
            reasons = {**self._repeated(judged, by_line, self._seen), **reasons}
        thread = _place_of(self.spec, self.spec.conversation_column)
        if not reasons and thread is None:
            yield from map(NewRow, rows)
            return
        places = judged.chunk.places() if reasons else []
        for at, row in enumerate(rows):
            if at in reasons:
                yield self._rejected(row, str(_fault(places[at], reasons[at], by_line)))
            else:
                yield NewRow(row, None, None if thread is None else as_text(row[thread]) or None)

    def _repeated(self, judged: Judged, by_line: bool, seen: SecondLook) -> dict[int, str]:
        place_of_id = _place_of(self.spec, self.spec.id_column)
        found = (
            (at, _duplicate(seen, as_text(judged.chunk.rows[at][place_of_id or 0]), place, by_line))
            for at, place in enumerate(judged.chunk.places())
            if at not in judged.reasons
        )
        return {at: reason for at, reason in found if reason is not None}

    def _rejected(self, row: list[Any], reason: str) -> NewRow:
        width = len(self.spec.columns)
        cells = [
            LONE_SURROGATE.sub("\ufffd", cell) if isinstance(cell, str) else cell for cell in row[:width]
        ]
        return NewRow(cells + [""] * (width - len(cells)), reason)


def _delimiter(source: Source, options: IntakeOptions) -> str | None:
    if source.kind is not Kind.CSV:
        return None
    return detected(source) if options.delimiter is None else chosen(options.delimiter)


def _duplicate(seen: SecondLook, own_id: str, place: int, by_line: bool) -> str | None:
    first = seen.first_place(own_id, place) if own_id else place
    if first == place:
        return None
    where = f"line {first}" if by_line else f"row {first}"
    return f"the id {own_id[:80]!r} stands already on {where}; ids must differ"


def _fault(place: int, reason: str, by_line: bool) -> Fault:
    return Fault(place, reason) if by_line else Fault(None, f"row {place}: {reason}")


def _place_of(spec: InputSpec, column: str | None) -> int | None:
    return spec.columns.index(column) if column in spec.columns else None

"""The first pass, which refuses a bad file with all its faults, and the second, which hands out its rows.

check(path) ── first pass: header, every row, ids into a Bloom filter, hash ──▶ faults? InputFaults
     │                └─ only if ids are suspect: a look at those alone
     ▼
Intake.rows_iter() ── second pass: the same judgement, row by row ──▶ NewRow, NewRow, …
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from askmill.jobs.intake.duplicate_ids import BloomPass, ExactPass
from askmill.jobs.intake.encoding_faults import cleaned
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import ValueFault
from askmill.jobs.intake.reader import Judged, PassFactory, Reader, passes_over
from askmill.jobs.intake.source import Source
from askmill.jobs.model.errors import Fault, InputFaults, UsageError
from askmill.jobs.model.models import InputSpec, as_text
from askmill.jobs.store.records import NewRow


def check(path: str, options: IntakeOptions | None = None, model_fault: ValueFault | None = None) -> "Intake":
    """Read the whole input once and judge it; `-` is stdin. `model_fault` judges a model that a row names.

    Raises InputFaults with all faults of the file, UsageError for a file or an option that cannot be used.
    Under `skip_bad_rows` faults of single rows become rows with a reason, unless no row is left.
    """
    options = options or IntakeOptions()
    source = Source(path, options.encoding)
    try:
        return _FirstPass(passes_over(source, options, model_fault)).intake()
    except UnicodeError as fault:
        source.close()
        raise UsageError(f"{source.name} cannot be read as {source.encoding}; name its --encoding") from fault
    except BaseException:
        source.close()
        raise


class Faults:
    """The first faults of a file by line, and the number of all."""

    def __init__(self, name: str) -> None:
        self.name, self.first, self.total = name, list[Fault](), 0

    def add(self, fault: Fault) -> None:
        self.total += 1
        self.first.append(fault)
        # Duplicates come last, so which are the first by line is known only at the end.
        if len(self.first) > 10 * InputFaults.SHOWN:
            self._cut()

    def take_in(self, other: "Faults") -> None:
        self.first += other.first
        self.total += other.total

    def error(self) -> InputFaults:
        self._cut()
        return InputFaults(self.name, self.first, self.total)

    def _cut(self) -> None:
        self.first = sorted(self.first, key=lambda fault: fault.line or 0)[: InputFaults.SHOWN]


class _FirstPass:
    """Judges everything before anything is stored."""

    def __init__(self, passes: PassFactory) -> None:
        self._passes = passes
        name = passes.source.name
        self._of_file, self._of_rows = Faults(name), Faults(name)
        self._ids, self._rows = BloomPass(), 0

    def intake(self) -> "Intake":
        """What the second pass needs. Raises InputFaults."""
        with self._passes.reader() as reader:
            self._take_header(reader)
            for item in reader.judged():
                self._take(reader, item)
            sha256 = reader.sha256()
            spec, overrides = reader.header.spec, reader.judge.overrides
        seen = self._second_look() if self._ids.suspects else None
        self._refuse()
        return Intake(
            name=self._passes.source.name,
            spec=spec,
            rows=self._rows,
            rejected=self._of_rows.total,
            content_sha256=sha256,
            images=overrides.images,
            files=overrides.files,
            passes=self._passes,
            seen=seen,
        )

    def _take_header(self, reader: Reader) -> None:
        for reason in reader.header.name_faults:
            self._of_file.add(Fault(reader.table.header_line, reason))
        for reason in reader.header.faults:
            self._of_file.add(Fault(None, reason))

    def _take(self, reader: Reader, item: Judged | Fault) -> None:
        if isinstance(item, Fault):
            self._of_file.add(item)
            return
        self._rows += len(item.chunk.rows)
        self._ids.note(reader.id_texts(item))
        for fault in reader.faults(item.chunk, item.reasons).values():
            self._of_rows.add(fault)

    def _second_look(self) -> ExactPass:
        seen = ExactPass(self._ids.suspects)
        with self._passes.reader() as reader:
            for item in reader.judged():
                if isinstance(item, Judged):
                    for fault in reader.faults(item.chunk, reader.repeated(item, seen)).values():
                        self._of_rows.add(fault)
        return seen

    def _refuse(self) -> None:
        if not self._rows and not self._of_file.total:
            self._of_file.add(Fault(None, "there are no rows under the header; add a row for each question"))
        skip = self._passes.options.skip_bad_rows and self._of_rows.total < self._rows
        if self._passes.options.skip_bad_rows and self._rows and not skip:
            self._of_file.add(Fault(None, "every row is bad, so --skip-bad-rows leaves none to ask"))
        if self._of_file.total or (self._of_rows.total and not skip):
            self._of_file.take_in(self._of_rows)
            raise self._of_file.error()


@dataclass(frozen=True)
class Intake:
    """A file that may be submitted: `rows` of it, `rejected` of them never to be asked.

    `content_sha256` names its bytes. `images` and `files` lead from a path as a row has it to the file
    found. Close it, or use it as a context: stdin's temporary copy goes with it.
    """

    name: str
    spec: InputSpec
    rows: int
    rejected: int
    content_sha256: str
    images: dict[str, Path]
    files: dict[str, Path]
    passes: PassFactory
    seen: ExactPass | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary copy of stdin, if there is one."""
        self.passes.source.close()

    @property
    def read_as(self) -> tuple[str | None, str]:
        """The delimiter and the encoding, said or detected."""
        return self.passes.delimiter, self.passes.source.encoding.removesuffix("-sig")

    def rows_iter(self) -> Iterator[NewRow]:
        """Every row in file order. Raises UsageError if the file is no longer what was checked."""
        with self.passes.reader() as reader:
            for item in reader.judged():
                if isinstance(item, Judged):
                    yield from self._new_rows(reader, item)
            if reader.sha256() != self.content_sha256:
                raise UsageError(f"{self.name} has changed while it was read; submit it again")

    def _new_rows(self, reader: Reader, judged: Judged) -> Iterator[NewRow]:
        reasons = judged.reasons
        if self.seen is not None:
            reasons = {**reasons, **reader.repeated(judged, self.seen)}
        thread = self.spec.conversation_column
        if not reasons and thread is None:
            yield from map(NewRow, judged.chunk.rows)
            return
        place = None if thread is None else self.spec.columns.index(thread)
        faults = reader.faults(judged.chunk, reasons)
        for at, row in enumerate(judged.chunk.rows):
            if at in faults:
                yield self._rejected(row, str(faults[at]))
            else:
                named = "" if place is None else as_text(row[place])
                yield NewRow(row, None, named if named.strip() else None)

    def _rejected(self, row: list[Any], reason: str) -> NewRow:
        width = len(self.spec.columns)
        cells = [cleaned(cell) if isinstance(cell, str) else cell for cell in row[:width]]
        return NewRow(cells + [""] * (width - len(cells)), reason)

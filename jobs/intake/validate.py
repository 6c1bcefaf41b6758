"""Validates an input file in a first pass and iterates over its rows in a second.

check(path) ── first pass: header, every row, ids into a Bloom filter, hash ──▶ InputFaults, if any
     │                └─ only if ids may be duplicates: one more pass that compares these ids
     ▼
Intake.rows_iter() ── second pass: the same validation, row by row ──▶ NewRow, NewRow, …
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from askmill.jobs.intake.duplicate_ids import BloomPass, ExactPass
from askmill.jobs.intake.encodings import replace_undecodable
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.overrides import ValueCheck
from askmill.jobs.intake.reader import InputPass, PassFactory, ValidatedChunk, find_layout
from askmill.jobs.intake.source import InputSource
from askmill.jobs.model.errors import Fault, InputFaults, UsageError
from askmill.jobs.model.models import InputSpec, as_text
from askmill.jobs.store.records import NewRow


def check(
    path: str,
    options: IntakeOptions | None = None,
    check_model: ValueCheck | None = None,
    on_open: Callable[[PassFactory], None] | None = None,
) -> "Intake":
    """Read and validate the whole input once.

    With `skip_bad_rows`, rows with faults become rejected rows with a reason, unless no row is left.

    Args:
        path: the input file; `-` is stdin.
        options: the input options; None for the defaults.
        check_model: says why a model named by a row (`--override model`) is not allowed; None to allow all.
        on_open: called before the rows are validated, for a preview of an input that may have faults.

    Raises:
        InputFaults: all faults of the file.
        UsageError: the file cannot be read, or an option is invalid.
    """
    options = options or IntakeOptions()
    source = InputSource(path, options.encoding)
    try:
        layout = find_layout(source, options)
        passes = PassFactory(source, options, layout, check_model)
        if on_open is not None:
            on_open(passes)
        return _ValidationPass(passes).run()
    except UnicodeError as error:
        source.close()
        raise UsageError(
            f"{source.name} is not text in {source.encoding}; name its encoding with --encoding"
        ) from error
    except BaseException:
        source.close()
        raise


class FaultList:
    """The first faults of a file by line, and the number of all."""

    def __init__(self) -> None:
        self.first, self.total = list[Fault](), 0

    def add(self, fault: Fault) -> None:
        """Count the fault, and keep it while it may be among the first."""
        self.total += 1
        self.first.append(fault)
        # Duplicate ids are found last, so the first faults by line are only known at the end.
        if len(self.first) > 10 * InputFaults.SHOWN:
            self.first = self.sorted()[: InputFaults.SHOWN]

    def sorted(self) -> list[Fault]:
        """The faults by line; those of the whole file first."""
        return sorted(self.first, key=lambda fault: fault.line or 0)


class _ValidationPass:
    """Validates everything before anything is stored."""

    def __init__(self, passes: PassFactory) -> None:
        self._passes = passes
        self._file_faults, self._row_faults = FaultList(), FaultList()
        self._ids, self._rows = BloomPass(), 0

    def run(self) -> "Intake":
        """Validate the input. Raises InputFaults."""
        with self._passes.open_pass() as input_pass:
            header = input_pass.header
            for reason in header.name_faults:
                self._file_faults.add(Fault(input_pass.table.header_line, reason))
            for reason in header.faults:
                self._file_faults.add(Fault(None, reason))
            for item in input_pass.chunks():
                self._add(input_pass, item)
            sha256 = input_pass.sha256()
            overrides = input_pass.validator.overrides
            arrow_schema = getattr(input_pass.table, "arrow_schema", "")  # only Parquet declares types
        exact_pass = self._find_duplicate_ids() if self._ids.candidates else None
        self._raise_faults()
        return Intake(
            name=self._passes.source.name,
            spec=replace(header.spec, arrow_schema=arrow_schema),
            rows=self._rows,
            rejected=self._row_faults.total,
            blank_lines=input_pass.blank_lines.count,
            content_sha256=sha256,
            images=overrides.images,
            files=overrides.files,
            passes=self._passes,
            exact_pass=exact_pass,
        )

    def _add(self, input_pass: InputPass, item: ValidatedChunk | Fault) -> None:
        if isinstance(item, Fault):
            self._file_faults.add(item)
            return
        self._rows += len(item.chunk.rows)
        self._ids.add(input_pass.ids(item))
        for fault in input_pass.faults(item.chunk, item.reasons).values():
            self._row_faults.add(fault)

    def _find_duplicate_ids(self) -> ExactPass:
        exact_pass = ExactPass(self._ids.candidates)
        with self._passes.open_pass() as input_pass:
            for item in input_pass.chunks():
                if isinstance(item, ValidatedChunk):
                    reasons = input_pass.duplicate_ids(item, exact_pass)
                    for fault in input_pass.faults(item.chunk, reasons).values():
                        self._row_faults.add(fault)
        return exact_pass

    def _raise_faults(self) -> None:
        if not self._rows and not self._file_faults.total:
            self._file_faults.add(Fault(None, "there are no rows below the header; add a row per question"))
        skip_bad_rows = self._passes.options.skip_bad_rows
        if skip_bad_rows and self._rows and self._row_faults.total >= self._rows:
            skip_bad_rows = False
            reason = "every row has a fault, so --skip-bad-rows leaves no row; correct the rows"
            self._file_faults.add(Fault(None, reason))
        if self._file_faults.total or (self._row_faults.total and not skip_bad_rows):
            faults = FaultList()
            faults.first = self._file_faults.first + self._row_faults.first
            total = self._file_faults.total + self._row_faults.total
            raise InputFaults(self._passes.source.name, faults.sorted(), total)


@dataclass(frozen=True)
class Intake:
    """A validated input, ready to submit. Close it, or use it as a context manager.

    `rows` counts all rows, `rejected` those that will never be asked; `blank_lines` above a row are none.
    `content_sha256` is the hash of the file's bytes. `images` and `files` map each path that a row names to
    the local file.
    """

    name: str
    spec: InputSpec
    rows: int
    rejected: int
    blank_lines: int
    content_sha256: str
    images: dict[str, Path]
    files: dict[str, Path]
    passes: PassFactory
    exact_pass: ExactPass | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary copy of stdin, if there is one."""
        self.passes.source.close()

    @property
    def dialect(self) -> tuple[str | None, str]:
        """The delimiter (None unless CSV) and the encoding that are in use, set or detected."""
        dialect = self.passes.layout.dialect
        return (
            None if dialect is None else dialect.delimiter,
            self.passes.source.encoding.removesuffix("-sig"),
        )

    @property
    def chosen_reading(self) -> list[str]:
        """Further options that decide what is read: quoting other than `csv`, and the sheet."""
        options = self.passes.options
        quoting = [] if options.quoting in {None, "csv"} else [f"quoting={options.quoting}"]
        return quoting + ([] if options.sheet is None else [f"sheet={options.sheet}"])

    def rows_iter(self) -> Iterator[NewRow]:
        """Every row in file order. Raises UsageError if the file has changed since it was validated."""
        with self.passes.open_pass() as input_pass:
            for item in input_pass.chunks():
                if isinstance(item, ValidatedChunk):
                    yield from self._new_rows(input_pass, item)
            if input_pass.sha256() != self.content_sha256:
                raise UsageError(f"{self.name} has changed while it was read; submit it again")

    def _new_rows(self, input_pass: InputPass, validated: ValidatedChunk) -> Iterator[NewRow]:
        reasons = validated.reasons
        if self.exact_pass is not None:
            reasons = {**reasons, **input_pass.duplicate_ids(validated, self.exact_pass)}
        column = self.spec.conversation_column
        if not reasons and column is None:
            yield from map(NewRow, validated.chunk.rows)
            return
        column_index = None if column is None else self.spec.columns.index(column)
        faults = input_pass.faults(validated.chunk, reasons)
        for index, row in enumerate(validated.chunk.rows):
            if index in faults:
                yield self._rejected_row(row, str(faults[index]))
            else:
                conversation = "" if column_index is None else as_text(row[column_index])
                yield NewRow(row, None, conversation if conversation.strip() else None)

    def _rejected_row(self, row: list[Any], reason: str) -> NewRow:
        width = len(self.spec.columns)
        cells = [replace_undecodable(cell) if isinstance(cell, str) else cell for cell in row[:width]]
        return NewRow(cells + [""] * (width - len(cells)), reason)

"""Writes a batch's results: rows come in as a stream, files appear whole."""

import io
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import InputSpec
from askmill.jobs.results.columns import Additions, Columns, Entry, entry_of, select_columns
from askmill.jobs.results.destination import (
    SHEETS,
    Format,
    Output,
    atomic_write,
    compressed,
    oserror_to_write_fault,
    plan_output,
    refuse_full_disk,
)
from askmill.jobs.results.generated_files import FetchBlob, save_files
from askmill.jobs.results.writers import (
    CsvWriter,
    JsonlWriter,
    ResultWriter,
    RowWriter,
    StepsWriter,
    TableWriter,
)
from askmill.jobs.store.views import RowView

AT_ONCE = 64
"""Rows handed to a writer: a call for each takes a third of the time, a thousand large ones much memory."""


@dataclass(frozen=True)
class ResultOptions:
    """What `run` and `collect` say about the results; `format` None leaves it to OUT's extension."""

    format: Format | None = None
    columns: tuple[str, ...] = ()
    spreadsheet_safe: bool = False
    bom: bool = False
    expected: Expectation | None = None


@dataclass(frozen=True)
class Written:
    """What was written: `path` None is stdout; `steps` is the sidecar of a sheet."""

    path: Path | None
    rows: int
    steps: Path | None = None


@dataclass(frozen=True)
class Contents:
    """What will be written: the number of rows, the size of their input, and the added columns."""

    rows: int = 0
    input_bytes: int = 0
    additions: Additions = field(default_factory=Additions)


@dataclass(frozen=True)
class Plan:
    """Results that can be written: made before anything is paid for, so that no fault is found late."""

    out: str
    output: Output
    columns: Columns
    spreadsheet_safe: bool = False
    bom: bool = False


def plan_results(
    out: str,
    spec: InputSpec,
    options: ResultOptions,
    source: str | None = None,
    contents: Contents = Contents(),
) -> Plan:
    """Check `out` and the options against the columns. `source` is the input file, never overwritten.

    Raises:
        UsageError: also where a sheet or the disk cannot hold the rows.
    """
    output = plan_output(out, options.format, source)
    columns = select_columns(
        spec, options.columns, contents.additions, with_steps=output.format not in SHEETS
    )
    return checked_plan(Plan(out, output, columns, options.spreadsheet_safe, options.bom), contents)


def checked_plan(plan: Plan, contents: Contents) -> Plan:
    """Return the plan. Raises UsageError for an option that its format does not have, or too many rows."""
    text_sheet = plan.output.format in {Format.CSV, Format.TSV}
    for flag, used in (("--spreadsheet-safe", plan.spreadsheet_safe), ("--bom", plan.bom)):
        if used and not text_sheet:
            raise UsageError(f"{flag} is for CSV, and {plan.out} is {plan.output.format}; leave it out")
    if plan.output.format is Format.XLSX:
        from askmill.jobs.results.xlsx_writer import check_size  # noqa: PLC0415 -- loads XlsxWriter

        check_size(plan.out, contents.rows, len(plan.columns.places))
    refuse_full_disk(plan.output, plan.out, contents.rows, contents.input_bytes)
    return plan


async def write_results(
    chunks: AsyncIterator[Iterable[RowView]], plan: Plan, fetch_blob: FetchBlob | None = None
) -> Written:
    """Writes every row in the order given; whatever ends it early, the old files stay as they were.

    Raises WriteFault when the file system refuses (a full disk).
    """
    count = 0
    with oserror_to_write_fault(plan.out), ExitStack() as stack:
        writers = _writers(plan, stack)
        folder = plan.output.files if fetch_blob else None
        async for chunk in chunks:
            for entries in _entries(chunk):
                if fetch_blob and folder:
                    for place, entry in enumerate(entries):
                        if entry.result.files:
                            entries[place] = await save_files(entry, folder, fetch_blob)
                for writer in writers:
                    writer.add(entries)
                count += len(entries)
        for writer in writers:
            writer.close()
    return Written(plan.output.path, count, plan.output.steps)


async def stream_results(chunks: AsyncIterator[Iterable[RowView]], plan: Plan) -> AsyncIterator[bytes]:
    """Yield the bytes of the results in the plan's format, without steps file and generated files."""
    stream = _PendingBytes()
    writer = _writer(plan, stream)
    async for chunk in chunks:
        for entries in _entries(chunk):
            writer.add(entries)
        yield stream.take()
    writer.close()
    yield stream.take()


def write_rows(views: Iterable[RowView], plan: Plan, stream: BinaryIO) -> None:
    """Write these rows to a stream in the plan's format, without steps file and generated files."""
    writer = _writer(plan, stream)
    for entries in _entries(views):
        writer.add(entries)
    writer.close()


def _entries(views: Iterable[RowView]) -> Iterator[list[Entry]]:
    """The rows unpacked, a few at a time."""
    left = iter(views)
    while entries := [entry_of(view) for view in islice(left, AT_ONCE)]:
        yield entries


class _PendingBytes(io.RawIOBase, BinaryIO):
    """A stream that keeps what was written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts, self._written = list[bytes](), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _writers(plan: Plan, stack: ExitStack) -> list[RowWriter]:
    stream = open_output(plan.output, stack)
    if plan.output.steps is None:
        return [_writer(plan, stream)]
    return [_writer(plan, stream), StepsWriter(stack.enter_context(atomic_write(plan.output.steps)))]


def open_output(output: Output, stack: ExitStack) -> BinaryIO:
    """The stream of the results, compressed where OUT's name says so."""
    stream = stack.enter_context(atomic_write(output.path))
    return stack.enter_context(compressed(stream, output.compression))


def _writer(plan: Plan, stream: BinaryIO) -> RowWriter:
    return ResultWriter(plan.columns, table_writer(plan, stream))


def table_writer(plan: Plan, stream: BinaryIO, *, flat: bool | None = None) -> TableWriter:
    """The writer of the plan's format. `flat`: for .jsonl, whether all columns stand side by side."""
    match plan.output.format:
        case Format.CSV | Format.TSV:
            return CsvWriter(
                stream,
                plan.columns,
                delimiter="\t" if plan.output.format is Format.TSV else ",",
                bom=plan.bom,
                spreadsheet_safe=plan.spreadsheet_safe,
            )
        case Format.JSONL:
            return JsonlWriter(stream, plan.columns, flat=flat)
        case Format.PARQUET:
            from askmill.jobs.results.parquet_writer import ParquetWriter  # noqa: PLC0415 -- 100 ms to load

            return ParquetWriter(stream, plan.columns)
        case Format.XLSX:
            from askmill.jobs.results.xlsx_writer import XlsxWriter  # noqa: PLC0415 -- as above

            return XlsxWriter(stream, plan.columns)

"""Writes a batch's results: rows come in as a stream, files appear whole."""

import io
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import InputSpec
from askmill.jobs.results.columns import Columns, entry_of, select_columns
from askmill.jobs.results.destination import Format, Output, atomic_write, oserror_to_write_fault, plan_output
from askmill.jobs.results.generated_files import FetchBlob, save_files
from askmill.jobs.results.writers import CsvWriter, JsonlWriter, RowWriter, StepsWriter
from askmill.jobs.store.records import RowView

AT_ONCE = 16
"""Rows handed to a writer: a call for each takes a sixth of the time, a thousand large ones much memory."""


@dataclass(frozen=True)
class ResultOptions:
    """What `run` and `collect` say about the results; `format` None leaves it to OUT's extension."""

    format: Format | None = None
    columns: tuple[str, ...] = ()
    spreadsheet_safe: bool = False


@dataclass(frozen=True)
class Written:
    """What was written: `path` None is stdout; `steps` is the sidecar of a CSV."""

    path: Path | None
    rows: int
    steps: Path | None = None


@dataclass(frozen=True)
class Plan:
    """Results that can be written: made before anything is paid for, so that no fault is found late."""

    out: str
    output: Output
    columns: Columns
    spreadsheet_safe: bool


def plan_results(out: str, spec: InputSpec, options: ResultOptions, source: str | None = None) -> Plan:
    """Checks `out` and the options against the columns. `source` is the input file, never overwritten.

    Raises UsageError.
    """
    output = plan_output(out, options.format, source)
    if options.spreadsheet_safe and output.format is not Format.CSV:
        raise UsageError(f"--spreadsheet-safe is for CSV, and {out} is {output.format}; leave it out")
    columns = select_columns(spec, options.columns, with_steps=output.format is not Format.CSV)
    return Plan(out, output, columns, options.spreadsheet_safe)


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
            views = iter(chunk)
            while entries := [entry_of(view) for view in islice(views, AT_ONCE)]:
                if fetch_blob and folder:
                    entries = [
                        await save_files(entry, folder, fetch_blob) if entry.result.get("files") else entry
                        for entry in entries
                    ]
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
        views = iter(chunk)
        while entries := [entry_of(view) for view in islice(views, AT_ONCE)]:
            writer.add(entries)
        yield stream.take()
    writer.close()
    yield stream.take()


def write_rows(views: Iterable[RowView], plan: Plan, stream: BinaryIO) -> None:
    """Write these rows to a stream in the plan's format, without steps file and generated files."""
    writer, left = _writer(plan, stream), iter(views)
    while entries := [entry_of(view) for view in islice(left, AT_ONCE)]:
        writer.add(entries)
    writer.close()


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
    stream = stack.enter_context(atomic_write(plan.output.path))
    if plan.output.steps is None:
        return [_writer(plan, stream)]
    return [_writer(plan, stream), StepsWriter(stack.enter_context(atomic_write(plan.output.steps)))]


def _writer(plan: Plan, stream: BinaryIO) -> RowWriter:
    if plan.output.format is Format.CSV:
        return CsvWriter(stream, plan.columns, spreadsheet_safe=plan.spreadsheet_safe)
    if plan.output.format is Format.JSONL:
        return JsonlWriter(stream, plan.columns)
    from askmill.jobs.results.parquet_writer import ParquetWriter  # noqa: PLC0415 -- pyarrow takes a quarter second

    return ParquetWriter(stream, plan.columns)

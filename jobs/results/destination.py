"""Plans the output files of `-o`, checks that they can be written, writes each completely or not at all."""

import errno
import gzip
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from askmill.jobs.model.errors import UsageError, WriteFault

STDOUT = "-"
BUFFER_BYTES = 262_144
"""Of the write buffer: writers write line by line."""
ROW_BYTES = 250
"""What a row's results take on disk at least, beside its input: ids, numbers, a short answer, its steps."""


class Format(StrEnum):
    """The format of a results file."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    XLSX = "xlsx"


TEXT_FORMATS = frozenset({Format.CSV, Format.TSV, Format.JSONL})
"""The formats that may be compressed."""
SHEETS = frozenset({Format.CSV, Format.TSV, Format.XLSX})
"""The formats whose steps stand in a file of their own."""


class Compression(StrEnum):
    """How a text format is compressed, by the last suffix of OUT."""

    GZIP = "gz"
    ZSTD = "zst"


@dataclass(frozen=True)
class Output:
    """The files of one `-o`. `path` None is stdout; only a regular file has `steps` and `files`."""

    path: Path | None
    format: Format
    steps: Path | None = None
    files: Path | None = None
    compression: Compression | None = None

    def written(self) -> tuple[Path, ...]:
        """The files that will be replaced."""
        return tuple(path for path in (self.path, self.steps) if path is not None)


def plan_output(out: str, format_option: Format | None = None, source: str | None = None) -> Output:
    """Plan the files of `out`. Raises UsageError if one cannot be written or is the input file `source`."""
    if out == STDOUT:
        return Output(None, format_option or Format.CSV)
    try:
        path = Path(os.path.realpath(out))  # a link stays a link; its target is replaced
        _refuse_name(out, path)
        stem, result_format, compression = _format(path, format_option)
        _refuse_unwritable(out, path)
        if path.exists() and not path.is_file():
            return Output(path, result_format)
        steps = stem.with_name(f"{stem.name}.steps.jsonl") if result_format in SHEETS else None
        plan = Output(path, result_format, steps, stem.with_name(f"{stem.name}.files"), compression)
        for target in plan.written():
            _refuse_input(out, target, source)
            _refuse_name(out, target)
        _refuse_name(out, stem.with_name(f"{stem.name}.profile.json"))
    except ValueError as fault:  # a NUL byte
        raise UsageError(f"{out!r} is no file name ({fault}); choose another -o") from None
    _try_folder(out, path)
    return plan


def plan_page(out: str) -> Path:
    """Return the path of an HTML page. Raises UsageError if it cannot be written."""
    path = Path(os.path.realpath(out))
    _refuse_name(out, path)
    _refuse_unwritable(out, path)
    _try_folder(out, path)
    return path


def _format(path: Path, format_option: Format | None) -> tuple[Path, Format, Compression | None]:
    """The path without the suffixes of format and compression, and what they say."""
    stem, compression = path, None
    with suppress(ValueError):
        compression = Compression(path.suffix.lower().removeprefix("."))
        stem = path.with_suffix("")
    suffix = stem.suffix.lower().removeprefix(".")
    by_suffix = {result_format.value: result_format for result_format in Format}
    if suffix in by_suffix:
        stem = stem.with_suffix("")
    elif suffix and format_option is None and (path.is_file() or not path.exists()):
        suffixes = ", ".join(f".{name}" for name in by_suffix)
        raise UsageError(
            f"{path.name}: results can be written as {suffixes}, and text with .gz or .zst behind; "
            "change the name or pass --format"
        )
    result_format = format_option or by_suffix.get(suffix, Format.CSV)
    if compression is not None and result_format not in TEXT_FORMATS:
        raise UsageError(f"{path.name}: {result_format} is compressed already; leave out .{compression}")
    return stem, result_format, compression


def _refuse_unwritable(out: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{out} is a folder; name a file in it, such as -o {Path(out) / 'answers.csv'}")
    if not path.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {path.parent}; create it, or choose another -o")
    if not os.access(path.parent if not path.exists() else path, os.W_OK):
        raise UsageError(f"{out} cannot be written (permission denied); choose another -o")


def _refuse_input(out: str, target: Path, source: str | None) -> None:
    if source is not None and target.exists() and os.path.exists(source) and target.samefile(source):  # noqa: PTH110
        raise UsageError(f"{out}: the results would overwrite the input {source}; choose another -o")


def _refuse_name(out: str, path: Path) -> None:
    """File systems count bytes, and OUT's companions have longer names than OUT."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as fault:
        if fault.errno == errno.ENAMETOOLONG:
            raise UsageError(
                f"{out}: the name {path.name:.40}… has {len(os.fsencode(path.name)):,} bytes, more than the "
                "file system takes; choose a shorter -o"
            ) from None
        raise UsageError(f"{out} cannot be written ({fault.strerror}); choose another -o") from None


def _try_folder(out: str, path: Path) -> None:
    """Create and delete a file, as `atomic_write` does: permissions say nothing about quotas, for example."""
    part_file = _part_file(path)
    try:
        os.close(os.open(part_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        part_file.unlink()
    except OSError as fault:
        raise UsageError(
            f"{out}: no file can be created in {path.parent} ({fault.strerror or fault}); choose another -o"
        ) from None


def refuse_full_disk(output: Output, out: str, rows: int, input_bytes: int) -> None:
    """Raise UsageError where the results cannot fit on the disk, at the least that they may take."""
    needed = (input_bytes + rows * ROW_BYTES) // (10 if output.compression else 1)
    if output.path is None or not output.path.parent.is_dir() or output.format is Format.PARQUET:
        return
    free = shutil.disk_usage(output.path.parent).free
    if free < needed:
        raise UsageError(
            f"{out}: the results of {rows:,} rows take {needed / 1e6:,.0f} MB or more, and "
            f"{free / 1e6:,.0f} MB are free in {output.path.parent}; make room or choose another -o"
        )


def _part_file(path: Path) -> Path:
    """A new name in the same folder, also for a name near the limit of bytes."""
    beginning = os.fsencode(path.name)[:80].decode(errors="ignore")
    return path.with_name(f".{beginning}.{secrets.token_hex(6)}.part")


@contextmanager
def atomic_write(path: Path | None) -> Iterator[BinaryIO]:
    """Write a file that replaces `path` only if the block succeeds; until then the old file stays.

    The data is written to a file in the same folder, synced to disk and renamed. `path` None is stdout. A
    device or a pipe is written directly.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():
        with path.open("wb", BUFFER_BYTES) as stream:
            yield stream
        return
    part_file = _part_file(path)
    try:
        with os.fdopen(
            os.open(part_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb", BUFFER_BYTES
        ) as stream:
            if path.exists():
                part_file.chmod(stat.S_IMODE(path.stat().st_mode))  # the same readers as before
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part_file.replace(path)
        _fsync_folder(path.parent)
    finally:
        part_file.unlink(missing_ok=True)


@contextmanager
def compressed(stream: BinaryIO, compression: Compression | None) -> Iterator[BinaryIO]:
    """Write compressed to `stream`, which stays open. The same results give the same bytes."""
    match compression:
        case None:
            yield stream
        case Compression.GZIP:
            with gzip.GzipFile("", "wb", 6, stream, mtime=0) as file:
                yield cast("BinaryIO", file)
        case Compression.ZSTD:
            with zstandard.ZstdCompressor().stream_writer(stream, closefd=False) as writer:
                yield cast("BinaryIO", writer)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def oserror_to_write_fault(out: str) -> Iterator[None]:
    """Convert an OSError of the file system to WriteFault. Errors of pipes and networks pass unchanged."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise  # a pipe or a network, not this file
    except OSError as fault:
        raise WriteFault(
            f"{out} could not be written: {fault.strerror or fault}. The results are still in Redis: "
            "make room or choose another -o, then run `askmill collect`"
        ) from fault

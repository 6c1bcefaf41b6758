"""Plans the output files of `-o` and writes each atomically: complete, or not at all."""

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from askmill.jobs.model.errors import UsageError, WriteFault

STDOUT = "-"
BUFFER_BYTES = 262_144
"""Of the write buffer: writers write line by line."""


class Format(StrEnum):
    """The format of a results file."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Output:
    """The files of one `-o`. `path` None is stdout; only a regular file has `steps` and `files`."""

    path: Path | None
    format: Format
    steps: Path | None = None
    files: Path | None = None

    def written(self) -> tuple[Path, ...]:
        """The files that will be replaced."""
        return tuple(path for path in (self.path, self.steps) if path is not None)


def plan_output(out: str, format_option: Format | None = None, source: str | None = None) -> Output:
    """Plan the files of `out`. Raises UsageError if one cannot be written or is the input file `source`."""
    if out == STDOUT:
        return Output(None, format_option or Format.CSV)
    path = Path(os.path.realpath(out))  # a link stays a link; its target is replaced
    result_format = format_option or _format(path)
    _refuse_unwritable(out, path)
    if path.exists() and not path.is_file():
        return Output(path, result_format)
    stem = path.with_suffix("") if path.suffix.lower() in {f".{suffix}" for suffix in Format} else path
    steps = stem.with_name(f"{stem.name}.steps.jsonl") if result_format is Format.CSV else None
    plan = Output(path, result_format, steps, stem.with_name(f"{stem.name}.files"))
    for target in plan.written():
        if source is not None and target.exists() and os.path.exists(source) and target.samefile(source):  # noqa: PTH110
            raise UsageError(f"{out}: the results would overwrite the input {source}; choose another -o")
    return plan


def _format(path: Path) -> Format:
    suffix = path.suffix.lower()
    format_by_suffix = {f".{result_format}": result_format for result_format in Format}
    if suffix and suffix not in format_by_suffix and (path.is_file() or not path.exists()):
        suffixes = ", ".join(format_by_suffix)
        raise UsageError(
            f"{path.name}: results can be written as {suffixes}; change the name or pass --format"
        )
    return format_by_suffix.get(suffix, Format.CSV)


def _refuse_unwritable(out: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{out} is a folder; name a file in it, such as -o {Path(out) / 'answers.csv'}")
    if not path.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {path.parent}; create it, or choose another -o")
    if not os.access(path.parent if not path.exists() else path, os.W_OK):
        raise UsageError(f"{out} cannot be written (permission denied); choose another -o")


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
    part_file = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.part")
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

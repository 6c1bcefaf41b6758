"""Where results go: which format, which files beside, and each written whole or not at all."""

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
BUFFER = 262_144
"""Bytes on their way into a file: writers bring them line by line."""


class Format(StrEnum):
    """How results are written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Output:
    """The files of one `-o`: `path` None is stdout, and a stream has nothing beside it."""

    path: Path | None
    format: Format
    steps: Path | None = None
    files: Path | None = None

    def written(self) -> tuple[Path, ...]:
        """Every file that will be replaced."""
        return tuple(path for path in (self.path, self.steps) if path is not None)


def output_of(out: str, asked: Format | None = None, source: str | None = None) -> Output:
    """Plans what `out` means. Raises UsageError for what cannot be written, and for the input file itself."""
    if out == STDOUT:
        return Output(None, asked or Format.CSV)
    path = Path(os.path.realpath(out))  # a link stays a link to what it names
    form = asked or _format(path)
    _refuse_unwritable(out, path)
    if path.exists() and not path.is_file():
        return Output(path, form)
    stem = path.with_suffix("") if path.suffix.lower() in {f".{known}" for known in Format} else path
    steps = stem.with_name(f"{stem.name}.steps.jsonl") if form is Format.CSV else None
    plan = Output(path, form, steps, stem.with_name(f"{stem.name}.files"))
    for target in plan.written():
        if source is not None and target.exists() and os.path.exists(source) and target.samefile(source):  # noqa: PTH110
            raise UsageError(f"{out}: the results would overwrite the input {source}; choose another -o")
    return plan


def _format(path: Path) -> Format:
    suffix = path.suffix.lower()
    forms = {f".{form}": form for form in Format}
    if suffix and suffix not in forms and (path.is_file() or not path.exists()):
        known = ", ".join(forms)
        raise UsageError(f"{path.name}: results are written as {known}; change the name or give --format")
    return forms.get(suffix, Format.CSV)


def _refuse_unwritable(out: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{out} is a folder; name a file in it, such as -o {Path(out) / 'answers.csv'}")
    if not path.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {path.parent}; make it first, or choose another -o")
    if not os.access(path.parent if not path.exists() else path, os.W_OK):
        raise UsageError(f"{out} may not be written by you (permission denied); choose another -o")


@contextmanager
def atomic_write(path: Path | None) -> Iterator[BinaryIO]:
    """A file that appears only when the block ends well; until then, and after a fault, the old one stays.

    It is written beside its place, flushed to disk and renamed. None is stdout; a device or a pipe is
    written as it is.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():
        with path.open("wb", BUFFER) as stream:
            yield stream
        return
    beside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.part")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb", BUFFER) as stream:
            if path.exists():
                beside.chmod(stat.S_IMODE(path.stat().st_mode))  # who could read the old one, no more
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
        _flush_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def oserror_to_write_fault(out: str) -> Iterator[None]:
    """Turns what the file system refuses into a sentence; a closed pipe stays what it is."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise  # of a pipe or a network: not about this file
    except OSError as fault:
        raise WriteFault(
            f"{out} could not be written: {fault.strerror or fault}. Nothing is lost, the results are in "
            "Redis: make room or choose another -o, and `askmill collect` writes them"
        ) from fault

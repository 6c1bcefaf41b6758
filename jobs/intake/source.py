"""Where an input's bytes come from: a file, or stdin kept in one; opened afresh, and hashed, on each pass."""

import codecs
import hashlib
import io
import shutil
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from askmill.jobs.model.errors import UsageError

STDIN = "-"
BLOCK_BYTES = 1 << 20
EXPORT_ADVICE = "export the sheet as CSV (in Excel: Save As, 'CSV UTF-8') and give that file"
REFUSED_SUFFIXES = {
    ".xlsx": EXPORT_ADVICE,
    ".xlsm": EXPORT_ADVICE,
    ".xls": EXPORT_ADVICE,
    ".ods": EXPORT_ADVICE,
    ".json": "write one object a line and name the file .jsonl",
}
REFUSED_MAGIC = {
    b"PK\x03\x04": ("a zip archive or an Excel workbook", EXPORT_ADVICE),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", EXPORT_ADVICE),
    b"\x1f\x8b": ("compressed with gzip", "unpack it first, or pipe it: gunzip -c FILE.gz | askmill run -"),
    b"\xff\xfe\x00\x00": ("UTF-32", "give --encoding utf-32"),
    b"\x00\x00\xfe\xff": ("UTF-32", "give --encoding utf-32"),
}
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Kind(StrEnum):
    """How rows are written in the file."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Marks:
    """How many undecodable sequences were met, so that text of sound bytes is never searched for them."""

    made = 0

    @classmethod
    def mark(cls, error: UnicodeError) -> tuple[str, int]:
        """Stand a lone surrogate, U+DC00 plus the byte, for each undecodable byte."""
        if not isinstance(error, UnicodeDecodeError):
            raise error
        cls.made += 1
        return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("askmill_mark", Marks.mark)


class Tally(io.RawIOBase):
    """The bytes of one pass: hashes what goes by and notices NUL bytes."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._sha = raw, hashlib.sha256()
        self.has_nul = False
        self._marks_before = Marks.made

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._raw.read(len(buffer))
        self._sha.update(block)
        self.has_nul = self.has_nul or b"\0" in block
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._raw.close()
        super().close()

    @property
    def has_marks(self) -> bool:
        """Whether bytes of this pass could not be decoded."""
        return Marks.made > self._marks_before

    def sha256(self) -> str:
        """The hash of the whole content: reads on to its end."""
        while block := self._raw.read(BLOCK_BYTES):
            self._sha.update(block)
        return self._sha.hexdigest()


class Source:
    """An input that can be read from the start as often as needed.

    `name` is what messages call it, `path` where its bytes lie, `folder` where its relative paths begin.
    Raises UsageError for what cannot be read, and for formats that are refused with advice.
    """

    def __init__(self, path: str, encoding: str | None = None) -> None:
        self.name = "stdin" if path == STDIN else path
        self.path = path
        self._spool: IO[bytes] | None = None
        self.folder = Path.cwd() if path == STDIN else Path(path).absolute().parent
        suffix = Path(path).suffix.lower()
        if suffix in REFUSED_SUFFIXES:
            raise UsageError(f"{path}: {suffix} files are not read; {REFUSED_SUFFIXES[suffix]}")
        try:
            self._spool = _spooled(path)
            self.path = path if self._spool is None else self._spool.name
            with self.open() as raw:
                self._head = raw.read(4096)
        except OSError as fault:
            raise UsageError(f"{self.name}: {_why(fault)}") from fault
        self.tabbed = suffix == ".tsv"
        self.kind = _kind(suffix, self._head)
        self.encoding = self._encoding(encoding)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary copy of stdin, if there is one."""
        if self._spool is not None:
            self._spool.close()

    def open(self) -> BinaryIO:
        """The bytes from the start."""
        return Path(self.path).open("rb", buffering=0)

    def text(self, tally: Tally) -> io.TextIOWrapper:
        """The text of a pass, by lines that end in a line feed alone, so that they count as editors count."""
        buffered = io.BufferedReader(tally, BLOCK_BYTES)
        return io.TextIOWrapper(buffered, self.encoding, errors="askmill_mark", newline="\n")

    @property
    def is_utf8(self) -> bool:
        return self.encoding.startswith("utf-8")

    def _encoding(self, asked: str | None) -> str:
        if asked is not None:
            return _known_encoding(asked)
        for magic, (what, advice) in REFUSED_MAGIC.items():
            if self._head.startswith(magic):
                self.close()
                raise UsageError(f"{self.name} is {what}; {advice}")
        return next((name for bom, name in BOMS.items() if self._head.startswith(bom)), "utf-8")


def _spooled(path: str) -> IO[bytes] | None:
    """A seekable copy of what can be read only once: stdin or a pipe."""
    if path == STDIN:
        return _copy(sys.stdin.buffer)
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(21, "is a folder; give a file in it")
    if not place.exists() or place.is_file():
        return None
    with place.open("rb") as pipe:
        return _copy(pipe)


def _copy(stream: BinaryIO) -> IO[bytes]:
    spool = tempfile.NamedTemporaryFile(prefix="askmill-")  # noqa: SIM115 -- lives as long as its Source
    shutil.copyfileobj(stream, spool, BLOCK_BYTES)
    spool.flush()
    return spool


def _why(fault: OSError) -> str:
    if isinstance(fault, FileNotFoundError):
        return "no such file; is the path right, seen from the folder you are in?"
    if isinstance(fault, PermissionError):
        return "may not be read by you (permission denied)"
    return f"cannot be read: {fault.strerror or fault}"


def _kind(suffix: str, head: bytes) -> Kind:
    if head.startswith(b"PAR1"):
        return Kind.PARQUET
    if suffix in {".jsonl", ".ndjson"}:
        return Kind.JSONL
    if suffix not in {".csv", ".tsv"} and head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b'{"'):
        return Kind.JSONL
    return Kind.CSV


def _known_encoding(asked: str) -> str:
    try:
        name = codecs.lookup(asked).name
        io.TextIOWrapper(io.BytesIO(), name).close()
    except (LookupError, ValueError, TypeError) as fault:
        raise UsageError(
            f"--encoding {asked!r} is not known; such as utf-8, cp1252, latin-1, utf-16-le"
        ) from fault
    return "utf-8-sig" if name == "utf-8" else name

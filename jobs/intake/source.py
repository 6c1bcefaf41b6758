"""The bytes and text of an input: a file, or a temporary copy of stdin; each pass opens and hashes it anew.

Undecodable bytes become lone surrogates (U+DC00 plus the byte), which `encoding_fault` finds in the text.
"""

import codecs
import hashlib
import io
import re
import shutil
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from askmill.jobs.model.errors import UsageError

STDIN = "-"
BLOCK_BYTES = 1 << 20
EXPORT_ADVICE = "export the sheet as CSV (in Excel: Save As, 'CSV UTF-8') and pass that file"
REFUSED_SUFFIXES = {
    ".xlsx": EXPORT_ADVICE,
    ".xlsm": EXPORT_ADVICE,
    ".xls": EXPORT_ADVICE,
    ".ods": EXPORT_ADVICE,
    ".json": "write one object per line and name the file .jsonl",
}
REFUSED_MAGIC = {
    b"PK\x03\x04": ("a zip archive or an Excel workbook", EXPORT_ADVICE),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", EXPORT_ADVICE),
    b"\x1f\x8b": ("compressed with gzip", "unpack it first, or pipe it: gunzip -c FILE.gz | askmill run -"),
    b"\xff\xfe\x00\x00": ("UTF-32", "pass --encoding utf-32"),
    b"\x00\x00\xfe\xff": ("UTF-32", "pass --encoding utf-32"),
}
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""An undecodable byte, or a character that no UTF-8 file can hold."""
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class InputFormat(StrEnum):
    """The format of an input file."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class DecodeErrors:
    """The codec error handler, and how often it ran: text without decode errors need not be searched."""

    count = 0

    @classmethod
    def replace(cls, error: UnicodeError) -> tuple[str, int]:
        """Replace each undecodable byte by the lone surrogate U+DC00 plus the byte."""
        if not isinstance(error, UnicodeDecodeError):
            raise error
        cls.count += 1
        return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("askmill_surrogate", DecodeErrors.replace)


class HashingReader(io.RawIOBase):
    """The byte stream of one pass: hashes the bytes and detects NUL bytes."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._sha256 = raw, hashlib.sha256()
        self.has_nul = False
        self._decode_errors_before = DecodeErrors.count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._raw.read(len(buffer))
        self._sha256.update(block)
        self.has_nul = self.has_nul or b"\0" in block
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._raw.close()
        super().close()

    @property
    def has_decode_errors(self) -> bool:
        """Whether this pass has met undecodable bytes."""
        return DecodeErrors.count > self._decode_errors_before

    def sha256(self) -> str:
        """The hash of the whole content. Reads the rest first."""
        while block := self._raw.read(BLOCK_BYTES):
            self._sha256.update(block)
        return self._sha256.hexdigest()


class InputSource:
    """An input that can be read from the start any number of times.

    `name` is its name in messages, `path` the file with its bytes, `folder` the base of relative paths in it.
    Raises UsageError if the file cannot be read or has a format that is not supported.
    """

    def __init__(self, path: str, encoding: str | None = None) -> None:
        self.name = "stdin" if path == STDIN else path
        self.path = path
        self._spool: IO[bytes] | None = None
        self.folder = Path.cwd() if path == STDIN else Path(path).absolute().parent
        suffix = Path(path).suffix.lower()
        if suffix in REFUSED_SUFFIXES:
            raise UsageError(f"{path}: {suffix} files are not supported; {REFUSED_SUFFIXES[suffix]}")
        try:
            self._spool = _spool_if_unseekable(path)
            self.path = path if self._spool is None else self._spool.name
            with self.open() as raw:
                self._head = raw.read(4096)
        except OSError as error:
            raise UsageError(f"{self.name}: {_oserror_reason(error)}") from error
        self.is_tsv = suffix == ".tsv"
        self.format = _detect_format(suffix, self._head)
        self.encoding = self._detect_encoding() if encoding is None else _codec_name(encoding)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary copy of stdin, if there is one."""
        if self._spool is not None:
            self._spool.close()

    def open(self) -> BinaryIO:
        """A new byte stream from the start."""
        return Path(self.path).open("rb", buffering=0)

    def text(self, hashing_reader: HashingReader) -> io.TextIOWrapper:
        """The text of a pass. Only a line feed ends a line, so that line numbers are those of an editor."""
        buffered = io.BufferedReader(hashing_reader, BLOCK_BYTES)
        return io.TextIOWrapper(buffered, self.encoding, errors="askmill_surrogate", newline="\n")

    @property
    def is_utf8(self) -> bool:
        return self.encoding.startswith("utf-8")

    def _detect_encoding(self) -> str:
        for magic, (what, advice) in REFUSED_MAGIC.items():
            if self._head.startswith(magic):
                self.close()
                raise UsageError(f"{self.name} is {what}; {advice}")
        return next((name for bom, name in BOMS.items() if self._head.startswith(bom)), "utf-8")


def _spool_if_unseekable(path: str) -> IO[bytes] | None:
    """A temporary copy of stdin or a pipe, which can be read only once; None for a file."""
    if path == STDIN:
        return _copy_to_temporary_file(sys.stdin.buffer)
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(21, "is a folder; pass a file in it")
    if not file.exists() or file.is_file():
        return None
    with file.open("rb") as pipe:
        return _copy_to_temporary_file(pipe)


def _copy_to_temporary_file(stream: BinaryIO) -> IO[bytes]:
    spool = tempfile.NamedTemporaryFile(prefix="askmill-")  # noqa: SIM115 -- lives as long as its InputSource
    shutil.copyfileobj(stream, spool, BLOCK_BYTES)
    spool.flush()
    return spool


def _oserror_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; check the path and the folder you are in"
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied); change the file's permissions"
    return f"cannot be read: {error.strerror or error}"


def _detect_format(suffix: str, head: bytes) -> InputFormat:
    if head.startswith(b"PAR1"):
        return InputFormat.PARQUET
    if suffix in {".jsonl", ".ndjson"}:
        return InputFormat.JSONL
    if suffix not in {".csv", ".tsv"} and head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b'{"'):
        return InputFormat.JSONL
    return InputFormat.CSV


def _codec_name(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        io.TextIOWrapper(io.BytesIO(), name).close()
    except (LookupError, ValueError, TypeError) as error:
        raise UsageError(
            f"--encoding {encoding!r} is not a text encoding; use one such as utf-8, cp1252 or utf-16-le"
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def encoding_fault(text: str) -> str | None:
    """Why the text cannot be sent: NUL or undecodable bytes; None if it can."""
    if "\0" in text:
        return "a NUL byte; delete it, or name the file's encoding with --encoding (such as utf-16-le)"
    surrogate = LONE_SURROGATE.search(text)
    if surrogate is None:
        return None
    return (
        f"bytes that cannot be decoded (0x{ord(surrogate[0]) & 0xFF:02X}); save the file as UTF-8, "
        "or name its encoding with --encoding (such as cp1252)"
    )


def replace_undecodable(text: str) -> str:
    """The text with U+FFFD in place of undecodable bytes."""
    return LONE_SURROGATE.sub("\ufffd", text)

"""The bytes and text of an input: a file, or a temporary copy of stdin; each pass opens and hashes it."""

import codecs
import hashlib
import io
import shutil
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from askmill.config.text import did_you_mean
from askmill.jobs.intake.compression import ERRORS, SUFFIXES, Compression, compression_of, decompressed
from askmill.jobs.intake.content import (
    ZIP_MAGIC,
    InputFormat,
    Refused,
    refuse_binary,
    refuse_zip,
    suffixes,
    text_format,
)
from askmill.jobs.intake.encodings import SAMPLE_BYTES, DecodeErrors, codec_name, encoding_of, proposal
from askmill.jobs.model.errors import UsageError

STDIN = "-"
BLOCK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 26
"""A longer line is refused, so that a file without line ends does not fill the memory."""
UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class _HashTap:
    """The bytes of a file as they are stored, hashed while they are read."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._sha256 = raw, hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        block = self._raw.read(size)
        self._sha256.update(block)
        return block

    def sha256(self) -> str:
        """The hash of the whole file. Reads the rest first."""
        while self.read(BLOCK_BYTES):
            pass
        return self._sha256.hexdigest()

    def close(self) -> None:
        self._raw.close()


class HashingReader(io.RawIOBase):
    """The byte stream of one pass, decompressed: hashes the file and detects NUL bytes.

    Raises UsageError if compressed data is damaged, or if a line is longer than MAX_LINE_BYTES.
    """

    def __init__(self, source: "InputSource") -> None:
        self._name, self._compression = source.name, source.compression
        self._tap = _HashTap(source.open())
        self._content = self._tap if self._compression is None else decompressed(self._tap, self._compression)
        self._line_bytes, self._has_lines = 0, source.has_lines
        self.has_nul = False
        self._decode_errors_before = DecodeErrors.count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._read(len(buffer))
        self.has_nul = self.has_nul or b"\0" in block
        if self._has_lines:
            self._check_line_length(block)
        buffer[: len(block)] = block
        return len(block)

    def _read(self, size: int) -> bytes:
        if self._compression is None:
            return self._content.read(size)
        try:
            return self._content.read(size)
        except ERRORS as error:
            raise UsageError(
                f"{self._name} is damaged: its {self._compression} data cannot be read to the end ({error}); "
                "download or compress it again"
            ) from error

    def _check_line_length(self, block: bytes) -> None:
        last_end = block.rfind(b"\n")
        self._line_bytes = self._line_bytes + len(block) if last_end < 0 else len(block) - last_end
        if self._line_bytes > MAX_LINE_BYTES:
            raise UsageError(
                f"{self._name} has a line of more than {MAX_LINE_BYTES >> 20} MB; write one row per line"
            )

    def close(self) -> None:
        self._tap.close()
        super().close()

    @property
    def has_decode_errors(self) -> bool:
        """Whether this pass has met undecodable bytes."""
        return DecodeErrors.count > self._decode_errors_before

    def sha256(self) -> str:
        """The hash of the whole file. Reads the rest first."""
        return self._tap.sha256()


class InputSource:
    """An input that can be read from the start any number of times.

    `name` is its name in messages, `path` the file with its bytes, `folder` the base of relative paths in it.
    `suffix` is the extension without that of a compression. Raises UsageError if the file cannot be read or
    its content has a format that is not supported.
    """

    def __init__(self, path: str, encoding: str | None = None) -> None:
        self.name = "stdin" if path == STDIN else path
        self.path = path
        self.folder = Path.cwd() if path == STDIN else Path(path).absolute().parent
        self.suffix = "" if path == STDIN else suffixes(path, SUFFIXES)
        self.compression: Compression | None = None
        self.has_lines = False
        self._spool: IO[bytes] | None = None
        try:
            self._spool = _spool_if_unseekable(path)
            self.path = path if self._spool is None else self._spool.name
            self.encoding, self.format = self._detect(encoding)
        except Refused as refused:
            self.close()
            raise UsageError(f"{self.name} is {refused}") from refused
        except OSError as error:
            self.close()
            raise UsageError(f"{self.name}: {_oserror_reason(error, self.name)}") from error
        except UnicodeError as error:
            self.close()
            raise UsageError(f"{self.name} is not text in {encoding}; name its --encoding") from error
        except BaseException:
            self.close()
            raise
        self.has_lines = self.format in {InputFormat.CSV, InputFormat.TXT, InputFormat.JSONL}

    def _detect(self, option: str | None) -> tuple[str, InputFormat]:
        """The encoding and the format, by the first bytes. Raises Refused, OSError, UsageError."""
        with self.open() as raw:
            head = raw.read(HEAD_BYTES)
        if not head and self.name == "stdin":
            raise UsageError(
                "stdin is empty or closed; pipe the questions into the command, or pass a file in place of -"
            )
        self.compression = compression_of(head)
        if self.compression is not None:
            with HashingReader(self) as reader:
                head = io.BufferedReader(reader, BLOCK_BYTES).read(HEAD_BYTES)
        refuse_binary(head)
        if head.startswith((ZIP_MAGIC, b"PAR1")):
            return "utf-8", self._binary_format(head)
        if self.suffix == ".parquet":
            raise Refused(
                "no Parquet file, in spite of its name; write it again, or name it for what it holds"
            )
        if option is None and head.startswith(UTF32):
            raise Refused("UTF-32; pass --encoding utf-32")
        encoding = encoding_of(head) if option is None else codec_name(option)
        return encoding, text_format(self.suffix, head.decode(encoding, errors="replace"))

    def _binary_format(self, head: bytes) -> InputFormat:
        if self.compression is not None:
            raise Refused(f"a workbook, Parquet file or archive inside {self.compression}; unpack it first")
        if head.startswith(b"PAR1"):
            return InputFormat.PARQUET
        with self.open() as raw:
            refuse_zip(raw)
        return InputFormat.WORKBOOK

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary copy of stdin, if there is one."""
        if self._spool is not None:
            self._spool.close()

    def open(self) -> BinaryIO:
        """A new stream of the stored bytes from the start."""
        return Path(self.path).open("rb", buffering=0)

    def text(self, hashing_reader: HashingReader) -> io.TextIOWrapper:
        """The text of a pass. Only a line feed ends a line, so that line numbers are those of an editor."""
        buffered = io.BufferedReader(hashing_reader, BLOCK_BYTES)
        return io.TextIOWrapper(buffered, self.encoding, errors="askmill_surrogate", newline="\n")

    def head(self, characters: int) -> str:
        """The first characters, without a BOM."""
        with HashingReader(self) as reader:
            return self.text(reader).read(characters).removeprefix("\ufeff")

    @property
    def is_tsv(self) -> bool:
        return self.suffix == ".tsv"

    @property
    def is_utf8(self) -> bool:
        return self.encoding.startswith("utf-8")

    @cached_property
    def encoding_proposal(self) -> str:
        """Encodings that the file may have, with samples; '' if none fits. Reads the file's odd lines."""
        sample = b""
        with HashingReader(self) as reader:
            for line in io.BufferedReader(reader, BLOCK_BYTES):
                if not _is_utf8(line):
                    sample += line
                if len(sample) > SAMPLE_BYTES:
                    break
        return proposal(sample)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in line


def _spool_if_unseekable(path: str) -> IO[bytes] | None:
    """A temporary copy of stdin or a pipe, which can be read only once; None for a file."""
    if path == STDIN:
        return _copy_to_temporary_file(sys.stdin.buffer)
    file = Path(path)
    if file.is_dir():
        raise IsADirectoryError(21, _folder_reason(file))
    if not file.exists() or file.is_file():
        return None
    with file.open("rb") as pipe:
        return _copy_to_temporary_file(pipe)


def _folder_reason(folder: Path) -> str:
    """What to do instead, with a file of the folder as the example."""
    example = next((file.name for file in sorted(folder.iterdir()) if file.is_file()), None)
    hint = "" if example is None else f", such as {folder / example}"
    return f"it is a folder; pass one file in it{hint}, and run the command once for each file"


def _copy_to_temporary_file(stream: BinaryIO) -> IO[bytes]:
    spool = tempfile.NamedTemporaryFile(prefix="askmill-")  # noqa: SIM115 -- lives as long as its InputSource
    shutil.copyfileobj(stream, spool, BLOCK_BYTES)
    spool.flush()
    return spool


def _similar_file(path: Path) -> str:
    """The file of the same folder that the name was probably meant to be."""
    try:
        names = [file.name for file in path.parent.iterdir()]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


def _oserror_reason(error: OSError, name: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file" + (_similar_file(Path(name)) or "; check the path and the folder you are in")
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied); change the file's permissions"
    return f"cannot be read: {error.strerror or error}"

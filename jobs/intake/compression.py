"""Compressed inputs, found by their first bytes and read as a stream in constant memory."""

import bz2
import gzip
import lzma
import zlib
from enum import StrEnum
from typing import IO, Protocol, cast

import zstandard


class Compression(StrEnum):
    """How the bytes of an input are compressed."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"


SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst"})
MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"BZh": Compression.BZIP2,
    b"\xfd7zXZ\x00": Compression.XZ,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
}
BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
"""What follows `BZh` and a digit in bzip2 data, with and without content; a text may begin with BZh."""
ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""What the libraries raise for damaged or truncated data."""
ZSTD_PIECE_BYTES = 2048
"""Compressed bytes decoded at once: 2 KB decode to at most 64 MB."""


class ByteStream(Protocol):
    """Anything with `read`."""

    def read(self, size: int = -1, /) -> bytes: ...


def compression_of(head: bytes) -> Compression | None:
    """The compression of data that begins with `head`; None if it is not compressed."""
    for magic, compression in MAGIC.items():
        if head.startswith(magic) and (compression is not Compression.BZIP2 or head[4:10] in BZIP2_BLOCKS):
            return compression
    return None


def decompressed(raw: ByteStream, compression: Compression) -> ByteStream:
    """A stream of the decompressed bytes of `raw`. Its `read` raises one of ERRORS."""
    file = cast(IO[bytes], raw)  # of a file, the libraries only read
    match compression:
        case Compression.GZIP:
            return gzip.GzipFile(fileobj=file, mode="rb")
        case Compression.BZIP2:
            return bz2.BZ2File(file)
        case Compression.XZ:
            return lzma.LZMAFile(file)
        case Compression.ZSTD:
            return _ZstdStream(raw)


class _ZstdStream:
    """Decodes frame after frame; unlike zstandard's own reader it reports data that is cut off."""

    def __init__(self, raw: ByteStream) -> None:
        self._raw, self._decoder, self._decoded = raw, zstandard.ZstdDecompressor().decompressobj(), b""
        self._at, self._in_frame = 0, False

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, at least one before the end."""
        while self._at >= len(self._decoded):
            piece = self._decoder.unused_data if self._decoder.eof else b""
            if self._decoder.eof:
                self._decoder, self._in_frame = zstandard.ZstdDecompressor().decompressobj(), False
            piece = piece or self._raw.read(ZSTD_PIECE_BYTES)
            if not piece:
                if self._in_frame:
                    raise EOFError("the data is cut off")
                return b""
            self._in_frame = True
            self._decoded, self._at = self._decoder.decompress(piece), 0
        block = self._decoded[self._at :] if size < 0 else self._decoded[self._at : self._at + size]
        self._at += len(block)
        return block

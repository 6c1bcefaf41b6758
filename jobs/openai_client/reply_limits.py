"""Bounds on the replies of an API: a broken or hostile server costs a row, never the worker's memory.

Bytes are counted after decompression, piece by piece, so that a small gzip bomb is never unpacked as a whole.
Only gzip and deflate are asked for; other encodings are refused. docs/reference/limits.md lists the bounds.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import httpx2

MAX_REPLY_BYTES = 16 * 2**20
"""Bytes of one reply, after decompression."""
MAX_JSON_VALUES = 1_000_000
"""Commas and opening brackets of one reply: each value takes up to a hundred bytes in memory."""
MAX_LIST_OBJECTS = 20_000
"""Objects of one list, over all its pages."""
MAX_LIST_BYTES = 4 * MAX_REPLY_BYTES
"""Bytes of one list, over all its pages."""
MAX_STREAM_BYTES = 16 * MAX_REPLY_BYTES
"""Bytes of one streamed reply, after decompression. What is kept of it has the bound MAX_REPLY_BYTES: each
token comes in 200 bytes or more, of which a few are kept."""
LARGE_REPLY_BYTES = 2**20
LARGE_REPLIES_AT_ONCE = 2
"""Larger replies are read and parsed so many at a time: 200 rows may meet the same server."""
ACCEPT_ENCODING = "gzip, deflate"
"""What `Decompressor` reads."""
PIECE_BYTES = 2**16


class ReplyTooLarge(Exception):
    """A reply is past a bound, which the message names."""


class UnknownEncoding(Exception):
    """A reply has a content encoding that was not asked for."""


def check_size(size: int, limit: int | None = MAX_REPLY_BYTES, name: str = "MAX_REPLY_BYTES") -> None:
    """Raise ReplyTooLarge if `size` is over the limit; None is no limit."""
    if limit is not None and size > limit:
        raise ReplyTooLarge(f"the reply has more than {limit:,} bytes ({name})")


def check_values(body: bytes) -> None:
    """Raise ReplyTooLarge if the JSON text may hold too many values."""
    if len(body) > MAX_JSON_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise ReplyTooLarge(f"the reply has more than {MAX_JSON_VALUES:,} values (MAX_JSON_VALUES)")


class Decompressor:
    """Decompresses gzip or deflate in pieces of at most PIECE_BYTES. Raises UnknownEncoding."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise UnknownEncoding(f"content-encoding {encoding[:50]!r}, which was not asked for")
        self._head = b""
        self._inner: Any = None

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """The content of the next chunk. Raises zlib.error."""
        if self._encoding in {"", "identity"}:
            yield chunk
            return
        if self._inner is None:
            self._head += chunk
            if len(self._head) < 2:
                return
            chunk, self._inner = self._head, self._new_decompressor()
        while chunk:
            if piece := self._inner.decompress(chunk, PIECE_BYTES):
                yield piece
            chunk = self._inner.unconsumed_tail
            if self._inner.eof:
                # Several gzip members may follow one another.
                chunk, self._inner = self._inner.unused_data, self._new_decompressor()

    def _new_decompressor(self) -> Any:
        """Some servers send deflate without the zlib header, whose two bytes are a multiple of 31."""
        if self._encoding != "deflate":
            return zlib.decompressobj(31)
        headed = self._head[0] & 15 == 8 and int.from_bytes(self._head[:2]) % 31 == 0
        return zlib.decompressobj(15 if headed else -15)


class LargeReplies:
    """Lets few large replies at a time be read; the others wait, and their servers with them."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LARGE_REPLIES_AT_ONCE)

    async def bounded(
        self,
        chunks: AsyncIterator[bytes],
        encoding: str,
        limit: int | None = MAX_REPLY_BYTES,
        kept_bytes: Callable[[], int] | None = None,
    ) -> AsyncGenerator[bytes]:
        """The content of a body in pieces. Close the iterator when the content is no longer needed.

        Args:
            chunks: The body as it arrives.
            encoding: Its content encoding.
            limit: Bytes of the body, and of its content, that are read; None is no limit.
            kept_bytes: How much the reader keeps of a stream, by default all. Only this takes memory, so
                it decides whether the reply is a large one and has a bound of its own.

        Raises:
            ReplyTooLarge: The content is larger than a bound; no more of it is read.
            UnknownEncoding: Its encoding was not asked for.
        """
        decompressor, size, received, waited = Decompressor(encoding), 0, 0, False
        name = "MAX_REPLY_BYTES" if kept_bytes is None else "MAX_STREAM_BYTES"
        try:
            async for chunk in chunks:
                received += len(chunk)
                check_size(received, limit, name)
                for piece in decompressor.pieces(chunk):
                    size += len(piece)
                    check_size(size, limit, name)
                    kept = size
                    if kept_bytes is not None:
                        check_size(kept := kept_bytes())
                    if kept > LARGE_REPLY_BYTES and not waited:
                        await self._free.acquire()
                        waited = True
                    yield piece
        finally:
            if waited:
                self._free.release()

    async def bound_response(self, response: httpx2.Response) -> None:
        """Event hook of an httpx client: bound the body that is read next.

        Streams of events have no end; who reads one bounds it.
        """
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if is_stream and response.status_code < 400:
            return
        stream, encoding = response.stream, response.headers.pop("content-encoding", "")
        if isinstance(stream, httpx2.AsyncByteStream):
            response.stream = BoundedStream(stream, self.bounded(aiter(stream), encoding))


class BoundedStream(httpx2.AsyncByteStream):
    """The body of a response, within the bounds."""

    def __init__(self, stream: httpx2.AsyncByteStream, pieces: AsyncGenerator[bytes]) -> None:
        self._stream, self._pieces = stream, pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        """Close the connection, which may hold more."""
        await self._pieces.aclose()
        await self._stream.aclose()

"""A server in front of a test's Redis, in a thread of its own: it speaks TLS, or cuts the wire at a chosen reply."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import trustme

from askmill.jobs.local.ports import HOST, free_port

PIECE = 1 << 16


class Relay:
    """Passes everything on, both ways, between `url` and the Redis: `with Relay(redis_url) as relay: ...`.

    `cut_at(b"…", seconds)` swallows the first piece that has these bytes, and is down for so long.
    `hold_after(size)` passes nothing on any more once so many bytes have come, until `let_go()`.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        self._behind, self._context, self.port = urlsplit(url).port or 6379, context, free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self.was_cut = threading.Event()
        self._bytes, self._seconds, self._until_s = b"", 0.0, 0.0
        self._left: float = float("inf")
        self.holds, self._open = threading.Event(), asyncio.Event()
        self._open.set()
        self._loop, self._end = asyncio.new_event_loop(), asyncio.Event()
        self._ready = threading.Event()
        self._serving = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    def cut_at(self, reply: bytes, seconds: float) -> None:
        """Once."""
        self._bytes, self._seconds = reply, seconds

    def hold_after(self, size: int) -> None:
        """Bytes of both directions. `holds` is set from then on."""
        self._left = size

    def let_go(self) -> None:
        """What was held arrives now."""
        self._left = float("inf")
        self._loop.call_soon_threadsafe(self._open.set)

    def __enter__(self) -> Self:
        self._serving.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._serving.join()
        self._loop.close()

    @property
    def _down(self) -> bool:
        return time.monotonic() < self._until_s

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, HOST, self.port, ssl=self._context)
        self._ready.set()
        await self._end.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        try:
            answers, asks = await asyncio.open_connection(HOST, self._behind)
        except ConnectionError:
            writer.close()
            return
        try:
            await asyncio.gather(self._pass(reader, asks), self._pass(answers, writer))
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            asks.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while piece := await reader.read(PIECE):
                if self._bytes and self._bytes in piece:
                    self._bytes, self._until_s = b"", time.monotonic() + self._seconds
                    self.was_cut.set()
                if self._down:
                    break
                self._left -= len(piece)
                if self._left < 0:
                    self._open.clear()
                    self.holds.set()
                await self._open.wait()
                writer.write(piece)
                await writer.drain()
        writer.close()


@contextmanager
def encrypted(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The address `rediss://localhost:…` of the same Redis, and the file of the authority that vouches for it."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    with Relay(url, context) as relay:
        yield f"rediss://localhost:{relay.port}/0", trusted

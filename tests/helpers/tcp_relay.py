"""A TCP relay in front of a server, in its own thread: it adds TLS, cuts connections, holds bytes back, or changes
the server."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import trustme

from askmill.jobs.local.ports import HOST, free_port

CHUNK_BYTES = 1 << 16
Direction = Literal["requests", "replies"]


class ThreadedServer:
    """An asyncio TCP server on loopback in its own thread: `with ThreadedServer() as server: server.port`.

    Subclasses implement `handle`. Open connections are cancelled at the end.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self._context = context
        # asyncio keeps only weak references to a task that reads from a client connection.
        self._handlers: set[asyncio.Task[None] | None] = set()
        self._loop, self._end, self._ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        raise NotImplementedError

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, HOST, self.port, ssl=self._context)
        self._ready.set()
        await self._end.wait()
        server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._handlers.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.handle(reader, writer)
        writer.close()
        self._handlers.discard(task)


class TcpRelay(ThreadedServer):
    """Relays both directions to the server at `url`: `with TcpRelay(redis_url) as relay: relay.url`."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        super().__init__(context)
        self.url = f"redis://{HOST}:{self.port}/0"
        self.was_cut, self.is_holding = threading.Event(), threading.Event()
        self._upstream_port = urlsplit(url).port or 6379
        self._cut_bytes, self._cut_s, self._down_until = b"", 0.0, 0.0
        self._cut_next_reply, self.replies_cut = False, 0
        self._bytes_left: float = float("inf")
        self._released = asyncio.Event()
        self._released.set()
        self._open: dict[Direction, asyncio.Event] = {"requests": asyncio.Event(), "replies": asyncio.Event()}
        for gate in self._open.values():
            gate.set()
        self._transports = set[asyncio.WriteTransport]()

    def cut_at(self, reply: bytes, seconds: float) -> None:
        """Drop the first chunk that contains `reply`, and all connections for the next `seconds`."""
        self._cut_bytes, self._cut_s = reply, seconds

    def cut_next_reply(self) -> None:
        """Drop the server's next reply and its connection."""
        self._cut_next_reply = True

    def hold_after(self, size: int) -> None:
        """Hold everything back after `size` bytes of both directions, until `release`."""
        self._bytes_left = size

    def release(self) -> None:
        """Pass on what was held back."""
        self._bytes_left = float("inf")
        self._loop.call_soon_threadsafe(self._released.set)

    def switch_to(self, url: str, *, cut: bool) -> None:
        """Connect new connections to the server at `url`; `cut`: close the old ones, else they stay where they are."""
        self._upstream_port = urlsplit(url).port or 6379
        if cut:
            self._loop.call_soon_threadsafe(self._cut_all)

    def block(self, direction: Direction) -> None:
        """Pass on nothing of one direction until `unblock`, as in a partition of the network."""
        self._loop.call_soon_threadsafe(self._open[direction].clear)

    def unblock(self, direction: Direction, *, deliver: bool) -> None:
        """End a partition: what was held is delivered now, or its connections are closed and it is lost."""
        if not deliver:
            self._loop.call_soon_threadsafe(self._cut_all)
        self._loop.call_soon_threadsafe(self._open[direction].set)

    def _cut_all(self) -> None:
        for transport in self._transports:
            transport.abort()

    @property
    def _is_down(self) -> bool:
        return time.monotonic() < self._down_until

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_down:
            writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._upstream_port)
        transports = {writer.transport, upstream_writer.transport}
        self._transports |= transports
        try:
            await asyncio.gather(
                self._copy(reader, upstream_writer, self._open["requests"]),
                self._copy(upstream_reader, writer, self._open["replies"]),
            )
        finally:
            self._transports -= transports
            for transport in transports:
                transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self._cut_bytes and self._cut_bytes in chunk:
                    self._cut_bytes, self._down_until = b"", time.monotonic() + self._cut_s
                    self.was_cut.set()
                if self._cut_next_reply and gate is self._open["replies"]:
                    self._cut_next_reply, self.replies_cut = False, self.replies_cut + 1
                    break
                if self._is_down:
                    break
                self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    self._released.clear()
                    self.is_holding.set()
                await self._released.wait()
                await gate.wait()
                if writer.transport.is_closing():
                    break
                writer.write(chunk)
                await writer.drain()
        writer.close()


@contextmanager
def over_tls(url: str, folder: Path, *names: str) -> Iterator[tuple[str, Path]]:
    """Put a TLS relay in front of a server.

    Args:
        url: The server, `http://` or `redis://`.
        folder: Where to write the certificate authority.
        names: Host names of the certificate, by default `localhost`.

    Yields:
        The `https://` or `rediss://` URL under the first name, and the authority's PEM file.
    """
    names = names or ("localhost",)
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    authority_file = folder / "authority.pem"
    authority.cert_pem.write_to_path(authority_file)
    parts = urlsplit(url)
    with TcpRelay(url, context) as relay:
        yield f"{parts.scheme}s://{names[0]}:{relay.port}{parts.path}", authority_file


class PlainOrTls:
    """One port for both: a connection that begins with a TLS handshake goes to one server, any other to another.

    So Sentinels that speak plain text watch a master that clients reach by TLS, at one address.
    """

    def __init__(self, plain_port: int, tls_port: int) -> None:
        self._ports = plain_port, tls_port
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._relay, args=[connection], daemon=True).start()

    def _relay(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            is_tls = connection.recv(1, socket.MSG_PEEK) == b"\x16"
            with socket.create_connection((HOST, self._ports[is_tls])) as upstream:
                back = threading.Thread(target=self._copy, args=[upstream, connection], daemon=True)
                back.start()
                self._copy(connection, upstream)
                back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)

"""An HTTP proxy on loopback that records all it can read, and a TLS front for a server behind it.

CONNECT          the head is recorded, the tunnel's bytes are only passed on
GET http://…     the head is recorded and forwarded to the origin, without the proxy's own headers

To it every host is this machine, so what it was asked for as `api.test` cannot be reached past it.
"""

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import trustme

from askmill.jobs.local.ports import HOST, free_port
from tests.helpers.tcp_relay import Relay

PIECE = 1 << 16
HOP_BY_HOP = ("proxy-authorization:", "proxy-connection:", "connection:")
REFUSED = b"HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class RecordingProxy:
    """`with RecordingProxy() as proxy:`, in a thread of its own.

    Args:
        credentials: `user:password` that every request must bring; 407 without them.
        refuses: the status that CONNECT is always answered with.
    """

    def __init__(self, credentials: str | None = None, refuses: int | None = None) -> None:
        self.port, self.heads = free_port(), list[str]()
        self.url = f"http://{HOST}:{self.port}"
        self._wanted = None if credentials is None else basic(credentials)
        self._refuses = refuses
        self._loop, self._end = asyncio.new_event_loop(), asyncio.Event()
        self._ready = threading.Event()
        self._serving = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    @property
    def asked(self) -> list[str]:
        """The request lines, without the version: `CONNECT host:443`, `POST http://host/v1/threads`."""
        return [head.partition("\r\n")[0].rpartition(" ")[0] for head in self.heads]

    def headers(self, name: str) -> set[str]:
        """The values of a header in all that was recorded."""
        lines = [line for head in self.heads for line in head.split("\r\n")[1:]]
        return {
            value.strip() for key, _, value in (line.partition(":") for line in lines) if key.lower() == name
        }

    def __enter__(self) -> Self:
        self._serving.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._serving.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, HOST, self.port)
        self._ready.set()
        await self._end.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head.removesuffix("\r\n\r\n"))
            method, target, _ = head.split(" ", 2)
            if (status := self._refusal(method, head)) is not None:
                writer.write(REFUSED % (status, b"Refused"))
                await writer.drain()
            elif method == "CONNECT":
                await self._tunnel(target, reader, writer)
            else:
                await self._forward(head, target, reader, writer)
        writer.close()

    def _refusal(self, method: str, head: str) -> int | None:
        brought = [
            line.partition(":")[2].strip()
            for line in head.split("\r\n")
            if line.lower().startswith(HOP_BY_HOP[0])
        ]
        if self._wanted is not None and brought != [self._wanted]:
            return 407
        return self._refuses if method == "CONNECT" else None

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, asks = await asyncio.open_connection(HOST, int(target.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pass(reader, asks), _pass(answers, writer))
        finally:
            asks.transport.abort()

    async def _forward(
        self, head: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One request a connection."""
        url = urlsplit(target)
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        where = url._replace(scheme="", netloc="").geturl()
        kept = [line for line in lines if not line.lower().startswith(HOP_BY_HOP)]
        length = next((int(line[15:]) for line in kept if line.lower().startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        answers, asks = await asyncio.open_connection(HOST, url.port or 80)
        try:
            line = first.replace(target, where, 1)
            asks.write("\r\n".join([line, *kept, "Connection: close", "", ""]).encode("latin-1") + body)
            await _pass(answers, writer)
        finally:
            asks.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        writer.close()


def basic(credentials: str) -> str:
    """What Proxy-Authorization must be for `user:password`."""
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


@contextmanager
def over_tls(url: str, folder: Path, *names: str) -> Iterator[tuple[str, Path]]:
    """`https://NAME:…`, under the first of the names, of the server at `url`, and the file of the authority that vouches for it."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    with Relay(url, context) as relay:
        yield f"https://{names[0]}:{relay.port}{urlsplit(url).path}", trusted

"""An HTTP server that records every request: as a proxy, in front of an API, or in place of one."""

import asyncio
import base64
import json
from contextlib import suppress
from urllib.parse import urlsplit

from askmill.jobs.local.ports import HOST
from tests.helpers.tcp_relay import CHUNK_BYTES, ThreadedServer

HEAD_END = b"\r\n\r\n"
HOP_BY_HOP = ("proxy-authorization:", "proxy-connection:", "connection:")
INVALID_KEY = {"error": {"message": "This key is not for here.", "code": "invalid_api_key"}}


class RecordingServer(ThreadedServer):
    """A recording server on loopback: `with RecordingServer() as server: server.request_lines`.

    As a proxy, it passes a CONNECT tunnel's bytes on unread, and forwards `GET http://…` without the proxy's
    own headers. To it every host is this machine, so a host such as `api.test` can be reached only through it.

    Args:
        credentials: `user:password` that every request must have; 407 without them.
        refuse_connect: Status of every reply to CONNECT.
        upstream: Base URL of an API. Every request goes there, with a key in place of its own.
        refuse_all: Whether every reply is a 401 `invalid_api_key`, which pauses a batch at once.
    """

    def __init__(
        self,
        credentials: str | None = None,
        refuse_connect: int | None = None,
        *,
        upstream: str | None = None,
        refuse_all: bool = False,
    ) -> None:
        super().__init__()
        self.heads: list[str] = []
        """Request lines with headers, as received."""
        self.url = f"http://{HOST}:{self.port}"
        self.base_url = self.url + (urlsplit(upstream).path if upstream else "/v1")
        self._authorization = None if credentials is None else basic_auth(credentials)
        self._refuse_connect, self._upstream, self._refuse_all = refuse_connect, upstream, refuse_all

    @property
    def request_lines(self) -> list[str]:
        """The request lines without the version: `CONNECT host:443`, `POST http://host/v1/threads`."""
        return [head.partition("\r\n")[0].rpartition(" ")[0] for head in self.heads]

    def headers(self, name: str) -> set[str]:
        """The values of a header in all requests; `name` is in lower case."""
        return {value for head in self.heads for value in _header_values(head, name)}

    def received(self, text: str) -> bool:
        """Whether the text is in any request line or header."""
        return any(text in head for head in self.heads)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, or one tunnel."""
        head = (await reader.readuntil(HEAD_END)).decode("latin-1").removesuffix("\r\n\r\n")
        self.heads.append(head)
        method, target, _ = head.split("\r\n")[0].split(" ")
        if self._authorization and _header_values(head, "proxy-authorization") != [self._authorization]:
            await _reply(writer, 407)
        elif method == "CONNECT" and self._refuse_connect:
            await _reply(writer, self._refuse_connect)
        elif method == "CONNECT":
            await self._tunnel(target, reader, writer)
        else:
            length = int(next(iter(_header_values(head, "content-length")), 0))
            body = await reader.readexactly(length)
            if self._refuse_all:
                await _reply(writer, 401, json.dumps(INVALID_KEY).encode())
            else:
                await self._forward(head, body, writer)

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, int(target.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, upstream_writer), _copy(upstream_reader, writer))
        finally:
            upstream_writer.transport.abort()

    async def _forward(self, head: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        request_line, *headers = head.split("\r\n")
        target = request_line.split(" ")[1]
        port = urlsplit(self._upstream or target).port
        headers = [line for line in headers if not line.lower().startswith(HOP_BY_HOP)]
        if self._upstream:
            headers = [line for line in headers if not line.lower().startswith("authorization:")]
            headers.append("Authorization: Bearer any")
        path = urlsplit(target)._replace(scheme="", netloc="").geturl()
        lines = [request_line.replace(target, path, 1), *headers, "Connection: close", "", ""]
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, port or 80)
        try:
            upstream_writer.write("\r\n".join(lines).encode("latin-1") + body)
            await _copy(upstream_reader, writer)
        finally:
            upstream_writer.transport.abort()


def basic_auth(credentials: str) -> str:
    """The Proxy-Authorization of `user:password`."""
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


def _header_values(head: str, name: str) -> list[str]:
    lines = [line.partition(":") for line in head.split("\r\n")[1:]]
    return [value.strip() for key, _, value in lines if key.lower() == name]


async def _reply(writer: asyncio.StreamWriter, status: int, body: bytes = b"") -> None:
    head = f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.close()

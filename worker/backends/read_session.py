"""GET requests with aiohttp, without the SDK: JSON replies and files.

Most of a row's requests poll its run, and a typed read costs several times the CPU of the request itself
(`docs/apis.md` has the measurement). Address, credentials, headers, query and time limit are those of the
SDK's client, the proxy is the one that `config.proxies` selects, and no redirect is followed. Credentials are
set per request, because aiohttp sends the defaults of a session to the proxy too.
"""

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import httpx2
from openai import AsyncOpenAI
from yarl import URL

from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.tls import tls_context, uses_tls
from askmill.jobs.openai_client.client import connection_limit, sdk_headers
from askmill.jobs.openai_client.reply_limits import ACCEPT_ENCODING, MAX_REPLY_BYTES, LargeReplies
from askmill.worker.backends.errors import error_from_reply, redirect_or_proxy_error
from askmill.worker.lifecycle.api_types import ApiError

KEEP_ALIVE_S = 60.0
"""Longer than for creates: aiohttp itself repeats a GET that met a connection just closed."""
NOT_COPIED = frozenset({"content-type", "accept-encoding"})
"""Headers of the SDK that describe its own requests."""

Query = Sequence[tuple[str, str]]


def read_timeout_s(client: AsyncOpenAI) -> float | None:
    """How long the SDK's client waits for the next byte; None for ever."""
    timeout = client.timeout
    return timeout.read if isinstance(timeout, httpx2.Timeout) else timeout


class ReadSession:
    """The GET requests of one `HttpClient`. Its connections open with the first request; close it."""

    def __init__(self, client: AsyncOpenAI, extra_headers: Mapping[str, str], replies: LargeReplies) -> None:
        self._client, self._extra_headers, self._large_replies = client, extra_headers, replies
        self._base_url = str(client.base_url).rstrip("/")
        self._query = urlencode([(name, str(value)) for name, value in client.default_query.items()])
        self._proxy = proxy_for(self._base_url, proxy_environment())
        self._session: aiohttp.ClientSession | None = None
        self._headers = dict[str, str]()

    async def get(self, path: str, query: Query) -> tuple[int, Mapping[str, str], bytes]:
        """GET and return status, headers and body, whatever the status. Raises ApiError for a redirect."""
        timeout = aiohttp.ClientTimeout(total=read_timeout_s(self._client))
        async with self._response(path, query, timeout) as response, self._content(response) as pieces:
            return response.status, response.headers, b"".join([piece async for piece in pieces])

    async def download(self, path: str, limit_bytes: int | None) -> bytes:
        """GET a file's bytes. Raises ApiError, `too_large` without reading past `limit_bytes`."""
        async with self.file(path) as (pieces, length):
            content = bytearray()
            async for piece in pieces:
                content += piece
                if limit_bytes is not None and max(len(content), length or 0) > limit_bytes:
                    size = f"{length:,}" if length else f"over {limit_bytes:,}"
                    raise ApiError(
                        200, code="too_large", message=f"{size} bytes, of which {limit_bytes:,} fit"
                    )
            return bytes(content)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def file(self, path: str) -> AsyncIterator[tuple[AsyncIterator[bytes], int | None]]:
        """The pieces of a file of any size, and its length if the server names it. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=read_timeout_s(self._client))
        async with self._response(path, (), timeout) as response:
            if response.status >= 400:
                async with self._content(response) as pieces:
                    body = b"".join([piece async for piece in pieces])
                raise error_from_reply(response.status, response.headers, body, self._client.api_key)
            async with self._content(response, None) as pieces:
                yield pieces, response.content_length

    @asynccontextmanager
    async def _content(
        self, response: aiohttp.ClientResponse, limit: int | None = MAX_REPLY_BYTES
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The decompressed body in pieces. A large one keeps its turn until the block ends."""
        encoding = response.headers.get("content-encoding", "")
        pieces = self._large_replies.bounded(response.content.iter_any(), encoding, limit)
        try:
            yield pieces
        finally:
            await pieces.aclose()

    @asynccontextmanager
    async def _response(
        self, path: str, query: Query, client_timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET with this request's own credentials. Raises ApiError for a redirect and a proxy's refusal."""
        session, url, proxy = self._open_session(), URL(self.url(path, query), encoded=True), self._proxy
        async with session.get(
            url,
            headers=self._headers,
            timeout=client_timeout,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=proxy.headers if proxy is not None and self._over_tls else None,
            allow_redirects=False,
        ) as response:
            location = response.headers.get("location")
            error = redirect_or_proxy_error(response.status, str(url), location, self._client)
            if error is not None:
                raise error
            yield response

    def url(self, path: str, query: Query = ()) -> str:
        """The address of a path with the query of the SDK's client and this one."""
        full_query = "&".join(part for part in (self._query, urlencode(query)) if part)
        url = f"{self._base_url}/{path}"
        return f"{url}?{full_query}" if full_query else url

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Without a tunnel the proxy reads the request's headers, and its own are among them.
            for_proxy = {} if self._proxy is None or self._over_tls else self._proxy.headers
            headers = {**sdk_headers(self._client), **self._extra_headers, **for_proxy}
            copied = {name: value for name, value in headers.items() if name not in NOT_COPIED}
            self._headers = {**copied, "Accept-Encoding": ACCEPT_ENCODING}
            tls = uses_tls(self._base_url, self._proxy)
            context: ssl.SSLContext | bool = tls_context() if tls else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=connection_limit(), keepalive_timeout=KEEP_ALIVE_S, ssl=context
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    @property
    def _over_tls(self) -> bool:
        """Whether the API is reached over TLS: then a proxy sees nothing of a request but its CONNECT."""
        return self._base_url.startswith("https")

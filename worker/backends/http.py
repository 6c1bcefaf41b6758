"""HTTP requests to the API with the SDK's address, credentials, headers and query. JSON stays plain objects.

post, delete   the SDK's own `client.post`, without its models: AsyncOpenAI itself sends what costs money
               (docs/decisions/sdk.md)
get            aiohttp, without the SDK: most of a row's requests poll its run, and a typed read costs several
               times the CPU of the request itself (`docs/apis.md` has the measurement)

Both use the proxy that `config.proxies` selects, and follow no redirect. Credentials are set per request,
because aiohttp sends the defaults of a session to the proxy too.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import quote, urlencode

import aiohttp
import httpx2
from openai import AsyncOpenAI, AsyncStream
from openai._types import RequestOptions
from yarl import URL

from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.tls import tls_context, uses_tls
from askmill.jobs.openai_client.client import connection_limit, has_key
from askmill.jobs.openai_client.reply_limits import (
    ACCEPT_ENCODING,
    MAX_LIST_BYTES,
    MAX_LIST_OBJECTS,
    MAX_REPLY_BYTES,
    MAX_STREAM_BYTES,
    LargeReplies,
)
from askmill.worker.backends.coerce import Json, identifier, json_objects
from askmill.worker.backends.errors import (
    STREAM_ERRORS,
    error_from_exception,
    error_from_reply,
    named_errors,
    redirect_or_proxy_error,
    translate_errors,
)
from askmill.worker.backends.reply import Reply, parse_reply
from askmill.worker.lifecycle.api_types import TOO_LARGE, ApiError

CREATE_CONNECT_S = 4.0
"""How long a create may take to connect after its last check: less than `worker.process.worker.MARGIN_S`."""
KEEP_ALIVE_S = 60.0
"""Longer than for creates: aiohttp itself repeats a GET that met a connection just closed."""
PAGE_SIZE = 100
"""The maximum of every list (OpenAPI: `limit`)."""
TOTAL_TIMEOUTS = 2
"""A reply that comes byte by byte is given up after so many times the limit between two bytes."""
LIST_TOO_LONG = (
    f"the list has more than {MAX_LIST_OBJECTS:,} objects or {MAX_LIST_BYTES:,} bytes "
    "(MAX_LIST_OBJECTS, MAX_LIST_BYTES)"
)
NOT_COPIED = frozenset({"content-type", "accept-encoding"})
"""Headers of the SDK that describe its own requests."""

Query = Sequence[tuple[str, str]]


async def _no_hook() -> None:
    """The hook outside a job."""


before_request: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("before_request", default=_no_hook)
"""Awaited before each request of the current task; its exception ends the request.
One client serves all jobs, and one call of a backend may be several requests (pages, file names, deletions).
So each job sets this variable in its own task, to count its requests and wait for the rate limit.
"""


_before_send: ContextVar[Callable[[], bool] | None] = ContextVar("before_send", default=None)


class NotSent(Exception):
    """The last check before a create failed; nothing was sent."""


@contextmanager
def checked_before_send(may_send: Callable[[], bool]) -> Iterator[None]:
    """Within the block, a POST is sent only if `may_send` is true once it holds a connection's slot.

    A check before the wait for a slot would be old by the time of the write: the wait may take a minute.
    The POST raises NotSent where the check fails.
    """
    token = _before_send.set(may_send)
    try:
        yield
    finally:
        _before_send.reset(token)


def url_path(*parts: str) -> str:
    """A path below the API's address. Parts are quoted: ids of compatible servers may hold any character."""
    return "/".join(quote(part, safe="") for part in parts)


def _id_of_last(objects: list[Any]) -> str | None:
    return identifier(objects[-1].get("id")) if objects and isinstance(objects[-1], dict) else None


class HttpClient:
    """All requests of one backend, each after `before_request`. It owns the SDK's client: close it."""

    def __init__(self, client: AsyncOpenAI, headers: Mapping[str, str] | None = None) -> None:
        self.client = client
        self._extra_headers = dict(headers or {})
        self._base_url = str(client.base_url).rstrip("/")
        self._query = urlencode([(name, str(value)) for name, value in client.default_query.items()])
        self._proxy = proxy_for(self._base_url, proxy_environment())
        # As many as the SDK's pool has connections: who holds one waits for no other request.
        self._slots = asyncio.Semaphore(connection_limit())
        self._session: aiohttp.ClientSession | None = None
        self._large_replies = LargeReplies()
        self._read_headers = dict[str, str]()

    async def post(self, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Reply:
        """POST one object, exactly once. Raises ApiError, and NotSent within `checked_before_send`."""
        await before_request.get()()
        options: RequestOptions = {"headers": {**self._extra_headers, **(headers or {})}}
        may_send = _before_send.get()
        async with self._slots:
            if may_send is not None:
                if not may_send():
                    raise NotSent
                options["timeout"] = httpx2.Timeout(
                    self._timeout_s(), connect=CREATE_CONNECT_S, pool=CREATE_CONNECT_S
                )
            with named_errors(f"POST /{path}"):
                call = self.client.post(f"/{path}", cast_to=httpx2.Response, body=body, options=options)
                return await self._reply_of(call)

    @asynccontextmanager
    async def post_stream(
        self, path: str, body: Json, headers: Mapping[str, str], kept_bytes: Callable[[], int]
    ) -> AsyncIterator[tuple[httpx2.Response, AsyncIterator[bytes]]]:
        """POST once, and yield the reply with its decompressed body in pieces; leaving early closes it.

        The caller sets the time limits; `kept_bytes` is what it keeps of the pieces that it has read. Raises
        ApiError, and NotSent within `checked_before_send`.
        """
        await before_request.get()()
        may_send = _before_send.get()
        async with self._slots:
            if may_send is not None and not may_send():
                raise NotSent
            options: RequestOptions = {
                "headers": {**self._extra_headers, **headers},
                "timeout": httpx2.Timeout(None, connect=CREATE_CONNECT_S, pool=CREATE_CONNECT_S),
            }
            with named_errors(f"POST /{path}"):
                call = self.client.post(
                    f"/{path}",
                    cast_to=httpx2.Response,
                    body=body,
                    options=options,
                    stream=True,
                    stream_cls=AsyncStream[Any],
                )
                reply = await translate_errors(call, self.client.api_key, self.client)
                response = cast("httpx2.Response", reply)  # as `cast_to` says
                pieces = self._pieces_of(response, kept_bytes)
                try:
                    yield response, pieces
                finally:
                    await pieces.aclose()
                    await response.aclose()

    async def _pieces_of(self, response: httpx2.Response, kept: Callable[[], int]) -> AsyncGenerator[bytes]:
        """The pieces of a streamed reply of the SDK. Raises ApiError."""
        encoding = response.headers.get("content-encoding", "")
        pieces = self._large_replies.bounded(response.aiter_raw(), encoding, MAX_STREAM_BYTES, kept)
        try:
            while True:
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except STREAM_ERRORS as error:
                    raise error_from_exception(error, self.client.api_key) from None
                yield piece
        finally:
            await pieces.aclose()

    async def delete(self, path: str) -> Reply:
        """DELETE one object. Raises ApiError."""
        await before_request.get()()
        options: RequestOptions = {"headers": self._extra_headers}
        async with self._slots:
            with named_errors(f"DELETE /{path}"):
                call = self.client.delete(f"/{path}", cast_to=httpx2.Response, options=options)
                return await self._reply_of(call)

    async def get(self, path: str, query: Query = ()) -> Reply:
        """GET one object. Raises ApiError."""
        await before_request.get()()
        with named_errors(f"GET /{path}"):
            return await translate_errors(self._get(path, query), self.client.api_key, self.client)

    async def list_all(self, path: str, query: Query = (), after: str | None = None) -> list[Json]:
        """GET all objects of a list, page by page, starting after `after`.

        The cursor is the last object's id, in the Assistants' lists as in a conversation's items. A server
        without cursors says `has_more` false or nothing; reading ends when a server repeats a cursor.

        Raises:
            ApiError: A request failed; `reply_too_large` for a list past MAX_LIST_OBJECTS or MAX_LIST_BYTES.
        """
        entries: list[Json] = []
        cursors, size = {after}, 0
        while True:
            cursor = [("after", after)] if after else []
            page = await self.get(path, [*query, ("limit", str(PAGE_SIZE)), *cursor])
            objects = page.data.get("data")
            objects = objects if isinstance(objects, list) else []
            after = identifier(page.data.get("last_id")) or _id_of_last(objects)
            if not objects or (after is not None and after in cursors):
                return entries
            size += page.size
            entries += json_objects(objects)
            if len(entries) > MAX_LIST_OBJECTS or size > MAX_LIST_BYTES:
                raise ApiError(200, code=TOO_LARGE, message=LIST_TOO_LONG)
            if not page.data.get("has_more") or not after:
                return entries
            cursors.add(after)

    async def download(self, path: str, limit_bytes: int | None) -> bytes:
        """GET a file's bytes. Raises ApiError, `too_large` without reading past `limit_bytes`."""
        await before_request.get()()
        return await translate_errors(self._download(path, limit_bytes), self.client.api_key, self.client)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self.client.close()

    async def _reply_of(self, call: Awaitable[httpx2.Response]) -> Reply:
        """The reply to a request of the SDK, whose own time limit counts from byte to byte."""
        timeout_s = self._timeout_s()

        async def within_total_time() -> httpx2.Response:
            async with asyncio.timeout(None if timeout_s is None else TOTAL_TIMEOUTS * timeout_s):
                return await call

        response = await translate_errors(within_total_time(), self.client.api_key, self.client)
        return parse_reply(response.status_code, response.headers, response.content, self.client.api_key)

    async def _get(self, path: str, query: Query) -> Reply:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s())
        async with self._response(path, query, timeout) as response, self._content(response) as pieces:
            body = b"".join([piece async for piece in pieces])
            return parse_reply(response.status, response.headers, body, self.client.api_key)

    async def _download(self, path: str, limit_bytes: int | None) -> bytes:
        async with self._file(path) as (pieces, length):
            content = bytearray()
            async for piece in pieces:
                content += piece
                if limit_bytes is not None and max(len(content), length or 0) > limit_bytes:
                    size = f"{length:,}" if length else f"over {limit_bytes:,}"
                    raise ApiError(
                        200, code="too_large", message=f"{size} bytes, of which {limit_bytes:,} fit"
                    )
            return bytes(content)

    @asynccontextmanager
    async def _file(self, path: str) -> AsyncIterator[tuple[AsyncIterator[bytes], int | None]]:
        """The pieces of a file of any size, and its length if the server names it. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=self._timeout_s())
        async with self._response(path, (), timeout) as response:
            if response.status >= 400:
                async with self._content(response) as pieces:
                    body = b"".join([piece async for piece in pieces])
                raise error_from_reply(response.status, response.headers, body, self.client.api_key)
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
        session, url, proxy = self._open_session(), self._url(path, query), self._proxy
        async with session.get(
            url,
            headers=self._read_headers,
            timeout=client_timeout,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=proxy.headers if proxy is not None and self._over_tls else None,
            allow_redirects=False,
        ) as response:
            location = response.headers.get("location")
            error = redirect_or_proxy_error(response.status, str(url), location, self.client)
            if error is not None:
                raise error
            yield response

    def _url(self, path: str, query: Query) -> URL:
        full_query = "&".join(part for part in (self._query, urlencode(query)) if part)
        url = f"{self._base_url}/{path}"
        return URL(f"{url}?{full_query}" if full_query else url, encoded=True)

    def _timeout_s(self) -> float | None:
        timeout = self.client.timeout
        return timeout.read if isinstance(timeout, httpx2.Timeout) else timeout

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._read_headers = self._copied_headers()
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

    def _copied_headers(self) -> dict[str, str]:
        """The SDK's headers and, without a tunnel, the proxy's. The SDK's omitted headers are not text."""
        for_proxy = {} if self._proxy is None or self._over_tls else self._proxy.headers
        sdk_headers = {**self.client.default_headers, **self.client.auth_headers}
        encodings = {"Accept-Encoding": ACCEPT_ENCODING}
        headers = {**sdk_headers, **self._extra_headers, **for_proxy}
        left_out = NOT_COPIED if has_key(self.client) else NOT_COPIED | {"authorization"}
        copied = {
            name: value
            for name, value in headers.items()
            if isinstance(value, str) and name.lower() not in left_out
        }
        return {**copied, **encodings}

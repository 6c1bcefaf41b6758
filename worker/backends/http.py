"""HTTP requests to the API with the SDK's address, credentials, headers and query. JSON stays plain objects.

post, delete   the SDK's own `client.post`, without its models: AsyncOpenAI itself sends what costs money
               (docs/decisions/sdk.md)
post_stream    the HTTP client of AsyncOpenAI, with the SDK's headers and errors (sdk_post.py)
get            aiohttp, without the SDK (read_session.py)

All use the proxy that `config.proxies` selects, and follow no redirect.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
from openai import AsyncOpenAI
from openai._types import RequestOptions

from askmill.jobs.openai_client.client import connection_limit
from askmill.jobs.openai_client.reply_limits import (
    MAX_LIST_BYTES,
    MAX_LIST_OBJECTS,
    MAX_STREAM_BYTES,
    LargeReplies,
)
from askmill.worker.backends.base import NotSent
from askmill.worker.backends.coerce import Json, identifier, json_objects
from askmill.worker.backends.errors import (
    STREAM_ERRORS,
    error_from_exception,
    named_errors,
    translated_errors,
)
from askmill.worker.backends.hooks import before_request
from askmill.worker.backends.read_session import Query, ReadSession, read_timeout_s
from askmill.worker.backends.reply import Reply, parse_reply
from askmill.worker.backends.sdk_post import SdkPost
from askmill.worker.lifecycle.api_types import TOO_LARGE, ApiError

CREATE_CONNECT_S = 4.0
"""How long a create may take to connect after its last check: less than `worker.process.worker.MARGIN_S`."""
STREAM_TIMEOUT = httpx2.Timeout(None, connect=CREATE_CONNECT_S, pool=CREATE_CONNECT_S)
"""Of a request whose caller sets the other limits."""
PAGE_SIZE = 100
"""The maximum of every list (OpenAPI: `limit`)."""
TOTAL_TIMEOUTS = 2
"""A reply that comes byte by byte is given up after so many times the limit between two bytes."""
LIST_TOO_LONG = (
    f"the list has more than {MAX_LIST_OBJECTS:,} objects or {MAX_LIST_BYTES:,} bytes "
    "(MAX_LIST_OBJECTS, MAX_LIST_BYTES)"
)


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
        # As many as the SDK's pool has connections: who holds one waits for no other request.
        self._slots = asyncio.Semaphore(connection_limit())
        self._large_replies = LargeReplies()
        self._reads = ReadSession(client, self._extra_headers, self._large_replies)
        self._posts = dict[str, SdkPost]()
        """By path; made at the first request."""

    async def post(
        self,
        path: str,
        body: Json,
        headers: Mapping[str, str] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Reply:
        """POST one object, exactly once. Raises ApiError, and NotSent where `may_send` returns False."""
        await before_request.get()()
        options: RequestOptions = {"headers": {**self._extra_headers, **(headers or {})}}
        async with self._slots:
            if may_send is not None:
                if not may_send():
                    raise NotSent
                options["timeout"] = httpx2.Timeout(
                    read_timeout_s(self.client), connect=CREATE_CONNECT_S, pool=CREATE_CONNECT_S
                )
            with translated_errors(f"POST /{path}", self.client):
                call = self.client.post(f"/{path}", cast_to=httpx2.Response, body=body, options=options)
                return await self._reply_of(call)

    @asynccontextmanager
    async def post_stream(
        self,
        path: str,
        body: Json,
        headers: Mapping[str, str],
        kept_bytes: Callable[[], int],
        may_send: Callable[[], bool] | None = None,
    ) -> AsyncIterator[tuple[httpx2.Response, AsyncIterator[bytes]]]:
        """POST once, and yield the reply with its decompressed body in pieces; leaving early closes it.

        The caller sets the time limits; `kept_bytes` is what it keeps of the pieces that it has read. Raises
        ApiError, and NotSent where `may_send` returns False.
        """
        await before_request.get()()
        async with self._slots:
            if may_send is not None and not may_send():
                raise NotSent
            with named_errors(f"POST /{path}"):
                if (post := self._posts.get(path)) is None:
                    post = SdkPost(self.client, self._reads.url(path), self._extra_headers, STREAM_TIMEOUT)
                    self._posts[path] = post
                with translated_errors(f"POST /{path}", self.client):
                    response = await post(body, headers)
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
            with translated_errors(f"DELETE /{path}", self.client):
                call = self.client.delete(f"/{path}", cast_to=httpx2.Response, options=options)
                return await self._reply_of(call)

    async def get(self, path: str, query: Query = ()) -> Reply:
        """GET one object. Raises ApiError."""
        await before_request.get()()
        with translated_errors(f"GET /{path}", self.client):
            return parse_reply(*await self._reads.get(path, query), self.client.api_key)

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
        with translated_errors(f"GET /{path}", self.client):
            return await self._reads.download(path, limit_bytes)

    async def close(self) -> None:
        await self._reads.close()
        await self.client.close()

    async def _reply_of(self, call: Awaitable[httpx2.Response]) -> Reply:
        """The reply to a request of the SDK, whose own time limit counts from byte to byte."""
        timeout_s = read_timeout_s(self.client)
        async with asyncio.timeout(None if timeout_s is None else TOTAL_TIMEOUTS * timeout_s):
            response = await call
        return parse_reply(response.status_code, response.headers, response.content, self.client.api_key)

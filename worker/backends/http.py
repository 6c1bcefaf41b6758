"""Requests to the API with the SDK's address, credentials, headers and query, and JSON as plain objects.

post, delete     the SDK's own `client.post`, without its models: what is paid for is asked by AsyncOpenAI
                 itself (docs/decisions/sdk.md)
get, everything  aiohttp, without the SDK: most of a job's requests are looks at its run, and a typed read
                 costs the CPU several times what the wire does (`docs/apis.md` has the measurement)

Both take the way that `config.proxies` says and follow no redirect. The credentials are each request's own:
aiohttp sends the defaults of a session to the proxy too.
"""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import httpx2
import orjson
from openai import AsyncOpenAI
from openai._types import RequestOptions
from yarl import URL

from askmill.config.proxies import environment, proxy_for
from askmill.jobs.openai_client.client import connection_limit, sends_key
from askmill.worker.backends.coerce import number_of
from askmill.worker.backends.errors import bad_reply, fault_of_reply, fault_within, fault_without_answer, told
from askmill.worker.lifecycle.api_types import ApiError

KEEP_ALIVE_S = 60.0
"""Longer than for creates: aiohttp repeats a GET by itself when it met a connection that was just closed."""
PAGE = 100
"""The most that any list gives at once (OpenAPI: `limit`)."""
LONGEST_HINT_MS = 86_400_000.0
"""A day: nobody means more."""

Query = Sequence[tuple[str, str]]


async def _no_hook() -> None:
    """The hook outside a job."""


before_request: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("before_request", default=_no_hook)
"""Awaited before each request of the current task; its exception ends the request.

One client serves all jobs, and one call of a backend may be several requests (pages, file names, deletions).
So each job sets this variable in its own task, to count its requests and wait for the rate limit.
"""


@dataclass(frozen=True)
class Reply:
    """A JSON object of the API, and the headers it came with."""

    data: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def poll_after_s(self) -> float | None:
        """The server's hint when to look again; the SDK reads only the first one, we read each."""
        hint_ms = number_of(self.headers.get("openai-poll-after-ms"), LONGEST_HINT_MS)
        return None if hint_ms is None else hint_ms / 1000


def reply_of(status: int, headers: Mapping[str, str], body: bytes, secret: str = "") -> Reply:
    """A reply's JSON object. Raises ApiError: an error, also under status 200; `bad_reply` for no object."""
    if status >= 400:
        raise fault_of_reply(status, headers, body, secret)
    try:
        data = _loads(body)
    except (ValueError, RecursionError):
        raise bad_reply(status, f"not JSON: {body[:200].decode('utf-8', 'replace')}", secret) from None
    if not isinstance(data, dict):
        raise bad_reply(status, f"not a JSON object: {type(data).__name__}")
    if (fault := fault_within(data, headers, secret)) is not None:
        raise fault
    return Reply(data, headers)


def _loads(body: bytes) -> Any:
    """JSON; half a surrogate pair, which is no character but which servers send, becomes U+FFFD.

    Such a half comes of an answer cut within an emoji. Nothing behind this line could store or write it.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = json.dumps(json.loads(body.decode("utf-8", "replace")), ensure_ascii=False)
        return orjson.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def path(*parts: str) -> str:
    """A path below the API's address; ids are quoted, since compatible servers make them as they like."""
    return "/".join(quote(part, safe="") for part in parts)


class HttpClient:
    """All requests of one backend, each after `before_request`.

    It owns the client and a pool of connections for reading; close it.
    """

    def __init__(self, client: AsyncOpenAI, headers: Mapping[str, str] | None = None) -> None:
        self.client = client
        self._extra = dict(headers or {})
        self._base = str(client.base_url).rstrip("/")
        self._query = urlencode([(name, str(value)) for name, value in client.default_query.items()])
        self._proxy = proxy_for(self._base, environment())
        self._session: aiohttp.ClientSession | None = None
        self._headers = dict[str, str]()

    async def post(self, where: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Reply:
        """POST one object, exactly once. Raises ApiError."""
        await before_request.get()()
        options: RequestOptions = {"headers": {**self._extra, **(headers or {})}}
        call = self.client.post(f"/{where}", cast_to=httpx2.Response, body=body, options=options)
        return self._reply(await told(call, self.client.api_key, self.client))

    async def delete(self, where: str) -> Reply:
        """DELETE one object. Raises ApiError."""
        await before_request.get()()
        call = self.client.delete(f"/{where}", cast_to=httpx2.Response, options={"headers": self._extra})
        return self._reply(await told(call, self.client.api_key, self.client))

    async def get(self, where: str, query: Query = ()) -> Reply:
        """GET one object. Raises ApiError."""
        await before_request.get()()
        return await told(self._get(where, query), self.client.api_key, self.client)

    async def pages(
        self, where: str, query: Query = (), after: str | None = None
    ) -> AsyncIterator[list[Any]]:
        """The pages of a list, 100 objects each, from behind `after`.

        The cursor is the last object's id, for the Assistants' lists as for a conversation's items. A server
        that knows no cursors says `has_more` false or nothing; one that repeats itself is left.
        """
        while True:
            cursor = [("after", after)] if after else []
            page = (await self.get(where, [*query, ("limit", str(PAGE)), *cursor])).data
            objects = page.get("data") or []
            last = page.get("last_id") or (objects[-1].get("id") if objects else None)
            if not objects or (after and last == after):
                return
            yield objects
            if not page.get("has_more") or not last:
                return
            after = last

    async def list_all(self, where: str, query: Query = (), after: str | None = None) -> list[dict[str, Any]]:
        """All objects of a list."""
        found: list[dict[str, Any]] = []
        async for page in self.pages(where, query, after):
            found += [entry for entry in page if isinstance(entry, dict)]
        return found

    async def download(self, where: str, limit_bytes: int | None) -> bytes:
        """GET a file's bytes. Raises ApiError, `too_large` without reading on past `limit_bytes`."""
        await before_request.get()()
        return await told(self._content(where, limit_bytes), self.client.api_key, self.client)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self.client.close()

    def _reply(self, raw: httpx2.Response) -> Reply:
        return reply_of(raw.status_code, raw.headers, raw.content, self.client.api_key)

    async def _get(self, where: str, query: Query) -> Reply:
        async with self._asked(where, query, aiohttp.ClientTimeout(total=self._timeout_s())) as answer:
            body = await answer.read()
            return reply_of(answer.status, answer.headers, body, self.client.api_key)

    async def _content(self, where: str, limit_bytes: int | None) -> bytes:
        patience = aiohttp.ClientTimeout(total=None, sock_read=self._timeout_s())
        async with self._asked(where, (), patience) as answer:
            if answer.status >= 400:
                raise fault_of_reply(answer.status, answer.headers, await answer.read(), self.client.api_key)
            found = bytearray()
            async for piece in answer.content.iter_any():
                found += piece
                if limit_bytes is not None and max(len(found), answer.content_length or 0) > limit_bytes:
                    size = f"{answer.content_length:,}" if answer.content_length else f"over {limit_bytes:,}"
                    raise ApiError(
                        200, code="too_large", message=f"{size} bytes, of which {limit_bytes:,} fit"
                    )
            return bytes(found)

    @asynccontextmanager
    async def _asked(
        self, where: str, query: Query, patience: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET, with the credentials of this request. Raises ApiError for a redirect and a proxy's refusal."""
        session, url, proxy = self._open(), self._url(where, query), self._proxy
        async with session.get(
            url,
            headers=self._headers,
            timeout=patience,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=proxy.headers if proxy is not None and self._in_tunnel else None,
            allow_redirects=False,
        ) as answer:
            location = answer.headers.get("location")
            fault = fault_without_answer(answer.status, str(url), location, self.client)
            if fault is not None:
                raise fault
            yield answer

    def _url(self, where: str, query: Query) -> URL:
        said = "&".join(part for part in (self._query, urlencode(query)) if part)
        return URL(f"{self._base}/{where}?{said}" if said else f"{self._base}/{where}", encoded=True)

    def _timeout_s(self) -> float | None:
        timeout = self.client.timeout
        return timeout.read if isinstance(timeout, httpx2.Timeout) else timeout

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._headers = self._own_headers()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=connection_limit(), keepalive_timeout=KEEP_ALIVE_S, ssl=self._tls()
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    @property
    def _in_tunnel(self) -> bool:
        """Whether a proxy would see nothing of a request but its CONNECT."""
        return self._base.startswith("https")

    def _tls(self) -> ssl.SSLContext | bool:
        over_tls = self._in_tunnel or (self._proxy is not None and self._proxy.url.startswith("https"))
        return httpx2.create_ssl_context() if over_tls else True

    def _own_headers(self) -> dict[str, str]:
        """The SDK's own headers, read once inside the loop; those that the SDK leaves out are not text."""
        to_proxy = {} if self._proxy is None or self._in_tunnel else self._proxy.headers
        all_headers = {**self.client.default_headers, **self.client.auth_headers, **self._extra, **to_proxy}
        unfit = {"content-type", "accept-encoding"}
        if not sends_key(self.client):
            unfit.add("authorization")
        return {
            name: value
            for name, value in all_headers.items()
            if isinstance(value, str) and name.lower() not in unfit
        }

"""An API server with canned replies, for tests of what real servers send."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

import orjson
from aiohttp import web

from askmill.jobs.local.ports import HOST
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.base import Backend, RunRequest
from askmill.worker.backends.factory import BACKENDS

KEY = "local-key"
PROFILE = Profile(model="local-7b")


@dataclass
class StubServer:
    """Replies to `METHOD /path` (below /v1) with the routes' JSON and records the requests.

    A route is a JSON value, a pair of status and JSON, a response of aiohttp, or a function of the request
    that returns one of these. Any other path gets a 404.
    """

    routes: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    """`METHOD /path` and the JSON body, in order."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers of the last request."""
    queries: list[dict[str, str]] = field(default_factory=list)

    async def reply(self, request: web.Request) -> web.StreamResponse:
        """Record a request and reply to it."""
        name = f"{request.method} {request.path.removeprefix('/v1')}"
        body = await request.read()
        is_json = body and request.content_type == "application/json"
        self.requests.append((name, orjson.loads(body) if is_json else None))
        self.queries.append(dict(request.query))
        self.headers = request.headers.copy()
        reply = self.routes.get(name)
        if reply is None:
            return web.Response(status=404, text="no such route")
        if callable(reply):
            reply = reply(request)
        if isawaitable(reply):
            reply = await reply
        if isinstance(reply, web.StreamResponse):
            return reply
        status, data = reply if isinstance(reply, tuple) else (200, reply)
        return web.json_response(data, status=status)

    @property
    def request_names(self) -> list[str]:
        """`METHOD /path` of every request, in order."""
        return [name for name, _ in self.requests]

    def body_of(self, name: str) -> Any:
        """The JSON body of the last request with this name."""
        return next(body for other, body in reversed(self.requests) if other == name)


@asynccontextmanager
async def serving(server: StubServer) -> AsyncIterator[str]:
    """Run the server. Yields its base URL."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.reply)
    runner = web.AppRunner(app, shutdown_timeout=0.1)  # a reply that is never read to its end
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield f"http://{HOST}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def stub_server(routes: dict[str, Any]) -> AsyncIterator[tuple[StubServer, str]]:
    """A server with these routes, and its base URL."""
    server = StubServer(routes)
    async with serving(server) as url:
        yield server, url


@asynccontextmanager
async def redirecting(
    location: Callable[[web.Request], str],
    status: int = 302,
    methods: tuple[str, ...] = ("GET", "POST", "DELETE"),
) -> AsyncIterator[tuple[StubServer, str]]:
    """A server that redirects requests with `methods` and answers others with an object, and its base URL."""

    class RedirectingServer(StubServer):
        async def reply(self, request: web.Request) -> web.Response:
            self.requests.append((f"{request.method} {request.path}", None))
            if request.method in methods:
                return web.Response(status=status, headers={"Location": location(request)}, text="moved")
            return web.json_response(
                {"id": "thread_7", "status": "completed", "data": [], "content": "stolen"}
            )

    server = RedirectingServer()
    async with serving(server) as url:
        yield server, url


@asynccontextmanager
async def backend_at(url: str, api: Api = "assistants") -> AsyncIterator[Backend]:
    """A backend of the server at `url`."""
    backend = BACKENDS[api](make_client(KEY, url))
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def stub_backend(
    routes: dict[str, Any], api: Api = "assistants", query: str = ""
) -> AsyncIterator[tuple[Backend, StubServer]]:
    """A backend of a server with these routes, and the server."""
    async with stub_server(routes) as (server, url), backend_at(url + query, api) as backend:
        yield backend, server


def run_request(**changes: Any) -> RunRequest:
    """The first attempt of row 1, with `changes`."""
    fields = {
        "batch": "b_1",
        "row": 1,
        "attempt": 1,
        "question": "Why?",
        "profile": PROFILE,
        "assistant_id": "1",
    }
    return RunRequest(**{**fields, **changes})

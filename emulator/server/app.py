"""The ASGI application: read a request, find its route, inject faults, execute it, send the reply."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from email.utils import formatdate
from pathlib import Path
from typing import Any

from askmill.emulator.protocol.chat_errors import not_served
from askmill.emulator.protocol.clock import Clock
from askmill.emulator.protocol.error_shapes import refusal_reply
from askmill.emulator.protocol.errors import account_error, no_beta_header, no_key, no_url, not_allowed
from askmill.emulator.protocol.routing import (
    ApiError,
    ConnectionLostError,
    Reply,
    Request,
    Result,
    Route,
    Routes,
    Stream,
    json_bytes,
)
from askmill.emulator.server.fault_injection import Fault, Faults
from askmill.emulator.server.registry import Registry
from askmill.emulator.simulation.answer import Tutor
from askmill.emulator.simulation.scenario import Scenario, ScenarioError, read_scenario

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BETA = b"assistants=v2"
# Where a server of chat completions alone has its paths.
CHAT_PATHS = frozenset({"chat", "models"})
BATCH_PATHS = frozenset({"files", "batches"})


class App:
    """One emulator. `/v1` is the API, with faults; `/emulator` is for tests, without."""

    def __init__(self, scenario: Scenario, seed: int, folder: Path | None, tutor: Tutor) -> None:
        self._seed = seed
        self._tutor = tutor
        self._clock = Clock(scenario.clock.offset_s)
        self._registry = Registry(folder, seed, tutor, self._clock)
        self._routes = Routes(self._registry.routes())
        self._test_routes = Routes(
            [
                Route("GET", "/emulator/stats", lambda request: self._registry.stats(request.now)),
                Route("GET", "/emulator/batches", self._registry.batches.ledger),
                Route("PUT", "/emulator/scenario", self._change_scenario),
            ]
        )
        self.set_scenario(scenario)

    def set_scenario(self, scenario: Scenario) -> None:
        """Use this scenario from now on. Runs that have started keep their plan."""
        self._scenario = scenario
        self._registry.set_scenario(scenario, self._clock.now())
        self._faults = Faults(scenario.http, self._seed)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        scope["emulator.started"] = time.perf_counter()
        request = Request(scope["method"], scope["path"], scope["query_string"])
        request.headers = scope["headers"]
        message = await receive()
        request.body = message["body"]
        if message.get("more_body"):
            request.body = await _read_body(request.body, receive)
        if request.path.startswith("/v1/"):
            request.path = request.path[3:]
            await self._serve_with_faults(request, scope, receive, send)
        else:
            await self._answer(await self._execute(self._test_routes, request), scope, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Start the tutor with the server, and stop it with the server."""
        await receive()
        await self._tutor.start()
        self._registry.resume_unfinished(self._clock.now())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._tutor.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve_with_faults(
        self, request: Request, scope: Message, receive: Receive, send: Send
    ) -> None:
        fault = self._faults.draw(request.method, request.path)
        if fault.refusal is not None:
            self._count(request)
            await self._answer(self._refused(fault.refusal), scope, send)
        elif fault.drop:
            await self._drop(request, fault, scope, receive)
        elif self._is_abortable(request):
            await _until_disconnect(self._serve(request, fault, scope, send), receive)
        else:
            await self._serve(request, fault, scope, send)

    async def _serve(self, request: Request, fault: Fault, scope: Message, send: Send) -> None:
        result = await self._execute(self._routes, request)
        if fault.slow_s:
            await asyncio.sleep(fault.slow_s)
        await self._answer(result, scope, send)

    def _is_abortable(self, request: Request) -> bool:
        found = self._routes.find(request.method, request.path)
        return found is not None and found[0].abortable and self._scenario.chat.on_disconnect == "abort"

    async def _drop(self, request: Request, fault: Fault, scope: Message, receive: Receive) -> None:
        """Close the connection without a reply; execute the request before that, later or never."""
        late = fault.drop == "after" and fault.late_s > 0
        if fault.drop == "before":
            self._count(request)
        elif not late:
            work = self._execute_whole(request)
            await (_until_disconnect(work, receive) if self._is_abortable(request) else work)
        scope["extensions"]["emulator.transport"].abort()
        # uvicorn notices the closed connection in the next turn of the loop and then expects no reply.
        await asyncio.sleep(0)
        if late:
            await asyncio.sleep(fault.late_s)
            await self._execute_whole(request)

    async def _execute_whole(self, request: Request) -> None:
        """Execute a request whose reply nobody reads, to its end."""
        result = await self._execute(self._routes, request)
        if isinstance(result, Stream) and result.lazy:
            with contextlib.suppress(ApiError, ConnectionLostError):
                async for _ in result.events:
                    pass

    async def _execute(self, routes: Routes, request: Request) -> Reply | Stream:
        request.now = self._clock.now()
        try:
            result = self._handle(routes, request)
            if not isinstance(result, dict | Reply | Stream):
                result = await result
        except ApiError as refusal:
            shape = "openai" if routes is self._test_routes else self._scenario.chat.error_shape
            return refusal_reply(refusal, shape)
        finally:
            self._registry.store.commit()
        return Reply(json_bytes(result)) if isinstance(result, dict) else result

    def _handle(self, routes: Routes, request: Request) -> Result | Awaitable[Result]:
        found = routes.find(request.method, request.path)
        if routes is self._test_routes:
            if found is None:
                raise no_url(request.method, request.path)
            return found[0].handler(request)
        self._registry.store.add_to_counter(f"requests {found[0].name if found else 'unknown'}")
        self._check_access(request, found[0] if found else None)
        if found is None:
            path = f"/v1{request.path}"
            raise (
                not_allowed(request.method, path)
                if routes.has_path(request.path)
                else no_url(request.method, path)
            )
        request.ids = found[1]
        return found[0].handler(request)

    def _check_access(self, request: Request, route: Route | None) -> None:
        """Check the API key, the account and the beta header as the API does."""
        key, beta = b"", b""
        for name, value in request.headers:
            if name == b"authorization":
                key = value.removeprefix(b"Bearer").strip()
            elif name == b"openai-beta":
                beta = value
        if not key and self._scenario.chat.needs_key:
            raise no_key()
        if self._scenario.chat.only and not self._serves(request.path.split("/")[1]):
            raise not_served()
        if refusal := account_error(self._scenario.account.error, request.method, f"/v1{request.path}"):
            raise refusal
        if route is not None and route.beta and BETA not in beta:
            raise no_beta_header()

    def _serves(self, root: str) -> bool:
        """Whether a server of chat completions alone has this path: with batches, if they are set."""
        return root in CHAT_PATHS or (root in BATCH_PATHS and bool(self._scenario.batches.endpoints))

    def _count(self, request: Request) -> None:
        """Count a request that is not executed."""
        found = self._routes.find(request.method, request.path)
        self._registry.store.add_to_counter(f"requests {found[0].name if found else 'unknown'}")
        self._registry.store.commit()

    def _change_scenario(self, request: Request) -> Result:
        try:
            self.set_scenario(read_scenario(request.body.decode()))
        except (ScenarioError, UnicodeDecodeError) as error:
            raise ApiError(400, f"scenario: {error}") from None
        return {"ok": True}

    def _refused(self, refusal: ApiError) -> Reply:
        return refusal_reply(refusal, self._scenario.chat.error_shape)

    async def _answer(self, result: Reply | Stream, scope: Message, send: Send) -> None:
        if isinstance(result, Stream):
            async with contextlib.aclosing(result.events) as events:
                await self._send_pieces(result, events, scope, send)
            return
        length = str(len(result.body)).encode()
        headers = [
            (b"content-type", result.content_type),
            (b"content-length", length),
            *self._common_headers(scope["emulator.started"]),
            *result.headers,
        ]
        await send({"type": "http.response.start", "status": result.status, "headers": headers})
        await send({"type": "http.response.body", "body": result.body})

    async def _send_pieces(
        self, stream: Stream, events: AsyncGenerator[bytes, None], scope: Message, send: Send
    ) -> None:
        """Send an answer piece by piece; its head with the first piece, so that it may be a refusal."""
        try:
            piece = await anext(events)
        except ApiError as refusal:
            await self._answer(self._refused(refusal), scope, send)
            return
        head = [(b"content-type", stream.content_type), (b"cache-control", b"no-cache")]
        headers = [*head, *self._common_headers(scope["emulator.started"])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while True:
                self._registry.store.commit()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await anext(events)
        except StopAsyncIteration:
            self._registry.store.commit()
            await send({"type": "http.response.body", "body": b""})
        except ConnectionLostError:
            scope["extensions"]["emulator.transport"].abort()
            await asyncio.sleep(0)

    def _common_headers(self, started: float) -> list[tuple[bytes, bytes]]:
        took_ms = str(int((time.perf_counter() - started) * 1000)).encode()
        return [
            (b"date", formatdate(self._clock.now(), usegmt=True).encode()),
            (b"x-request-id", b"req_" + secrets.token_hex(16).encode()),
            (b"openai-processing-ms", took_ms),
            (b"openai-version", b"2020-10-01"),
        ]


async def _until_disconnect(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do the work; give it up when the client disconnects before its end."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
    if not working.cancelled():
        working.result()


async def _read_body(body: bytes, receive: Receive) -> bytes:
    received = bytearray(body)
    more = True
    while more:
        message = await receive()
        received += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(received)

"""The ASGI application: read a request, find its route, inject faults, execute it, send the reply."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from askmill.emulator.protocol.clock import Clock
from askmill.emulator.protocol.errors import account_error, no_beta_header, no_key, no_url, not_allowed
from askmill.emulator.protocol.routing import (
    ApiError,
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
_SSE = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))


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
                Route("PUT", "/emulator/scenario", self._change_scenario),
            ]
        )
        self.set_scenario(scenario)

    def set_scenario(self, scenario: Scenario) -> None:
        """Use this scenario from now on. Runs that have started keep their plan."""
        self._scenario = scenario
        self._registry.engine.scenario = scenario
        self._faults = Faults(scenario.http, self._seed)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        started = time.perf_counter()
        request = Request(scope["method"], scope["path"], scope["query_string"])
        request.headers = scope["headers"]
        message = await receive()
        request.body = message["body"]
        if message.get("more_body"):
            request.body = await _read_body(request.body, receive)
        if request.path.startswith("/v1/"):
            request.path = request.path[3:]
            await self._serve_with_faults(request, scope, send, started)
        else:
            await self._answer(send, await self._execute(self._test_routes, request), started)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Start the tutor with the server, and stop it with the server."""
        await receive()
        await self._tutor.start()
        self._registry.resume_unfinished(self._clock.now())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._tutor.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve_with_faults(self, request: Request, scope: Message, send: Send, started: float) -> None:
        fault = self._faults.draw(request.method, request.path)
        if fault.refusal is not None:
            self._count(request)
            await self._answer(send, _refused(fault.refusal), started)
        elif fault.drop:
            await self._drop(request, fault, scope)
        else:
            result = await self._execute(self._routes, request)
            if fault.slow_s:
                await asyncio.sleep(fault.slow_s)
            await self._answer(send, result, started)

    async def _drop(self, request: Request, fault: Fault, scope: Message) -> None:
        """Close the connection without a reply; execute the request before that, later or never."""
        late = fault.drop == "after" and fault.late_s > 0
        if fault.drop == "before":
            self._count(request)
        elif not late:
            await self._execute(self._routes, request)
        scope["extensions"]["emulator.transport"].abort()
        # uvicorn notices the closed connection in the next turn of the loop and then expects no reply.
        await asyncio.sleep(0)
        if late:
            await asyncio.sleep(fault.late_s)
            await self._execute(self._routes, request)

    async def _execute(self, routes: Routes, request: Request) -> Reply | Stream:
        request.now = self._clock.now()
        try:
            result = self._handle(routes, request)
            if not isinstance(result, dict | Reply | Stream):
                result = await result
        except ApiError as refusal:
            return _refused(refusal)
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
        if not key:
            raise no_key()
        if refusal := account_error(self._scenario.account.error, request.method, f"/v1{request.path}"):
            raise refusal
        if route is not None and route.beta and BETA not in beta:
            raise no_beta_header()

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

    async def _answer(self, send: Send, result: Reply | Stream, started: float) -> None:
        took_ms = str(int((time.perf_counter() - started) * 1000)).encode()
        common = [
            (b"x-request-id", b"req_" + secrets.token_hex(16).encode()),
            (b"openai-processing-ms", took_ms),
            (b"openai-version", b"2020-10-01"),
        ]
        if isinstance(result, Stream):
            await send({"type": "http.response.start", "status": 200, "headers": [*_SSE, *common]})
            async for event in result.events:
                self._registry.store.commit()
                await send({"type": "http.response.body", "body": event, "more_body": True})
            self._registry.store.commit()
            await send({"type": "http.response.body", "body": b""})
            return
        length = str(len(result.body)).encode()
        headers = [
            (b"content-type", result.content_type),
            (b"content-length", length),
            *common,
            *result.headers,
        ]
        await send({"type": "http.response.start", "status": result.status, "headers": headers})
        await send({"type": "http.response.body", "body": result.body})


async def _read_body(body: bytes, receive: Receive) -> bytes:
    whole = bytearray(body)
    more = True
    while more:
        message = await receive()
        whole += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(whole)


def _refused(refusal: ApiError) -> Reply:
    if refusal.page:
        return Reply(refusal.page.encode(), refusal.status, refusal.headers, b"text/html")
    return Reply(json_bytes(refusal.body), refusal.status, refusal.headers)

"""The ASGI application: read a request, find its route, let a fault strike, carry it out, answer."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from askmill.emulator.protocol.clock import Clock
from askmill.emulator.protocol.errors import account_refusal, no_beta_header, no_key, no_url, not_allowed
from askmill.emulator.protocol.routing import (
    Call,
    RefusalError,
    Reply,
    Result,
    Route,
    Routes,
    Stream,
    json_bytes,
)
from askmill.emulator.server.fault_injection import Fault, Faults
from askmill.emulator.server.registry import World
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
        self._world = World(folder, seed, tutor, self._clock)
        self._routes = Routes(self._world.routes())
        self._own = Routes(
            [
                Route("GET", "/emulator/stats", lambda call: self._world.stats(call.now)),
                Route("PUT", "/emulator/scenario", self._change_scenario),
            ]
        )
        self.play(scenario)

    def play(self, scenario: Scenario) -> None:
        """Follow this scenario from now on; runs that have begun keep their plan."""
        self._scenario = scenario
        self._world.engine.scenario = scenario
        self._faults = Faults(scenario.http, self._seed)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        started = time.perf_counter()
        call = Call(scope["method"], scope["path"], scope["query_string"])
        call.headers = scope["headers"]
        message = await receive()
        call.body = message["body"]
        if message.get("more_body"):
            call.body = await _rest(call.body, receive)
        if call.path.startswith("/v1/"):
            call.path = call.path[3:]
            await self._meet_fault(call, scope, send, started)
        else:
            await self._answer(send, await self._carry_out(self._own, call), started)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server starts and stops; the tutor with it."""
        await receive()
        await self._tutor.start()
        self._world.take_up(self._clock.now())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._tutor.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _meet_fault(self, call: Call, scope: Message, send: Send, started: float) -> None:
        fault = self._faults.draw(call.method, call.path)
        if fault.refusal is not None:
            self._count(call)
            await self._answer(send, _refused(fault.refusal), started)
        elif fault.drop:
            await self._drop(call, fault, scope)
        else:
            result = await self._carry_out(self._routes, call)
            if fault.slow_s:
                await asyncio.sleep(fault.slow_s)
            await self._answer(send, result, started)

    async def _drop(self, call: Call, fault: Fault, scope: Message) -> None:
        """Close the connection without a byte of reply, and carry the request out before, later or never."""
        late = fault.drop == "after" and fault.late_s > 0
        if fault.drop == "before":
            self._count(call)
        elif not late:
            await self._carry_out(self._routes, call)
        scope["extensions"]["emulator.transport"].abort()
        # uvicorn learns of the closing in the loop's next turn and then expects no answer.
        await asyncio.sleep(0)
        if late:
            await asyncio.sleep(fault.late_s)
            await self._carry_out(self._routes, call)

    async def _carry_out(self, routes: Routes, call: Call) -> Reply | Stream:
        call.now = self._clock.now()
        try:
            result = self._handle(routes, call)
            if not isinstance(result, dict | Reply | Stream):
                result = await result
        except RefusalError as refusal:
            return _refused(refusal)
        finally:
            self._world.store.commit()
        return Reply(json_bytes(result)) if isinstance(result, dict) else result

    def _handle(self, routes: Routes, call: Call) -> Result | Awaitable[Result]:
        found = routes.find(call.method, call.path)
        if routes is self._own:
            if found is None:
                raise no_url(call.method, call.path)
            return found[0].handler(call)
        self._world.store.incr_counters(f"requests {found[0].name if found else 'unknown'}")
        self._admit(call, found[0] if found else None)
        if found is None:
            path = f"/v1{call.path}"
            raise not_allowed(call.method, path) if routes.knows(call.path) else no_url(call.method, path)
        call.ids = found[1]
        return found[0].handler(call)

    def _admit(self, call: Call, route: Route | None) -> None:
        """Key, account and beta header, as the API checks them."""
        key, beta = b"", b""
        for name, value in call.headers:
            if name == b"authorization":
                key = value.removeprefix(b"Bearer").strip()
            elif name == b"openai-beta":
                beta = value
        if not key:
            raise no_key()
        if refusal := account_refusal(self._scenario.account.error, call.method, f"/v1{call.path}"):
            raise refusal
        if route is not None and route.beta and BETA not in beta:
            raise no_beta_header()

    def _count(self, call: Call) -> None:
        """Count a request that is not carried out."""
        found = self._routes.find(call.method, call.path)
        self._world.store.incr_counters(f"requests {found[0].name if found else 'unknown'}")
        self._world.store.commit()

    def _change_scenario(self, call: Call) -> Result:
        try:
            self.play(read_scenario(call.body.decode()))
        except (ScenarioError, UnicodeDecodeError) as error:
            raise RefusalError(400, f"scenario: {error}") from None
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
                self._world.store.commit()
                await send({"type": "http.response.body", "body": event, "more_body": True})
            self._world.store.commit()
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


async def _rest(body: bytes, receive: Receive) -> bytes:
    whole = bytearray(body)
    more = True
    while more:
        message = await receive()
        whole += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(whole)


def _refused(refusal: RefusalError) -> Reply:
    return Reply(json_bytes(refusal.body), refusal.status, refusal.headers)

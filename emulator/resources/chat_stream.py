"""A chat completion as server-sent events: paced, cut and filled with signs of life as the scenario says.

role · reasoning · content · tool calls · finish_reason · usage (choices empty, when asked for) · [DONE]
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator

from askmill.emulator.protocol.routing import ConnectionLostError, Json, json_bytes
from askmill.emulator.resources.chat_object import Generated, deltas_of, envelope, usage_of
from askmill.emulator.resources.chat_request import ChatRequest
from askmill.emulator.simulation.chat_manners import ChatManners

DONE = b"data: [DONE]\n\n"
# Shorter waits are not worth a timer.
LEAST_WAIT_S = 0.002

Pieces = AsyncGenerator[bytes, None]


def event(data: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json_bytes(data) + b"\n\n"


def keep_alive_sign(manners: ChatManners, *, stream: bool) -> bytes:
    """What is sent while nothing else is; empty: nothing. JSON takes blank lines only."""
    if manners.keep_alive == "blank_lines":
        return b"\n"
    return b": keep-alive\n\n" if manners.keep_alive == "comments" and stream else b""


async def signs_until(done: "asyncio.Future[None]", sign: bytes, every_s: float) -> Pieces:
    """Wait until `done`, and yield the sign meanwhile."""
    while not done.done():
        await asyncio.wait({done}, timeout=every_s if sign else None)
        if sign and not done.done():
            yield sign


async def signs_for(seconds: float, sign: bytes, every_s: float) -> Pieces:
    """Wait this long, and yield the sign meanwhile."""
    if seconds < LEAST_WAIT_S:
        return
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, over.set_result, None)
    try:
        async for piece in signs_until(over, sign, every_s):
            yield piece
    finally:
        timer.cancel()


class Chunks:
    """The chunks of one call. `sent`: share of the answer that has been sent."""

    def __init__(self, call_id: str, created: int, request: ChatRequest, manners: ChatManners) -> None:
        self._request = request
        self._manners = manners
        self._common = envelope(call_id, created, request, "chat.completion.chunk")
        asked = request.include_usage or manners.usage == "always"
        self._sends_usage = asked and manners.usage != "never"
        self.sent = 0.0

    async def content(self, done: Generated, seconds: float, cut: str, cut_at: float) -> Pieces:
        """What comes before the finish_reason, evenly over the time; `cut` ends it at a share of it."""
        deltas = list(deltas_of(done, self._manners))
        last = max(1, round(len(deltas) * cut_at))
        sign, every_s = keep_alive_sign(self._manners, stream=True), self._manners.keep_alive_s
        start = asyncio.get_running_loop().time()
        for i, delta in enumerate(deltas):
            due = start + seconds * i / len(deltas) - asyncio.get_running_loop().time()
            async for piece in signs_for(due, sign, every_s):
                yield piece
            self.sent = (i + 1) / len(deltas)
            yield self._chunk(delta, None)
            if cut and i + 1 == last:
                break
        if cut in {"json", "abort"}:
            yield self._chunk({"content": ""}, None)[: len(self._common["id"])]
        if cut == "abort":
            raise ConnectionLostError

    def end(self, done: Generated) -> Iterator[bytes]:
        """The finish_reason, the usage when it is asked for, and [DONE]."""
        yield self._chunk({}, done.finish_reason)
        if self._sends_usage:
            usage = {"usage": usage_of(self._request, done, self._manners)}
            yield event(self._common | {"choices": []} | usage)
        yield DONE

    def role(self) -> bytes:
        """The first chunk by itself."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def _chunk(self, delta: Json, finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage: Json = {"usage": None} if self._sends_usage else {}
        return event(self._common | {"choices": [choice]} | usage)

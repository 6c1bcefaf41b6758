"""A minimal server of chat completions: `python -m benchmarks.peers.chat RUN_S [CHUNKS]` prints its URL.

A call is held open for RUN_S seconds. It is answered by one object, or where it asks for a stream by CHUNKS
chunks, evenly in that time. Each call costs the server a tenth of what a client spends on it: the answers
are bytes that are made once. `GET /models` returns `counts` too: calls that arrived, those answered to their
end, and the different questions in them ("What is N * 34?").
"""

import asyncio
import json
import re
import sys
from typing import Any, ClassVar

ANSWER = "12 * 34 is 408."
MODEL = "mock"
END_OF_HEAD = b"\r\n\r\n"
QUESTION = re.compile(rb"What is (\d+) \* 34")
BURSTS = 50
"""So many times a stream is written to, as a server that batches its tokens does."""


def completion(model: str) -> dict[str, Any]:
    """A reply like OpenAI's, with every field that clients check."""
    usage = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
    return {**envelope, "choices": [choice], "usage": usage}


def _reply(body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(delta: dict[str, str] | None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps({**envelope, "choices": choices, **more}).encode() + b"\n\n"


def _stream(chunks: int) -> list[bytes]:
    """The pieces of a streamed reply, each a write of its own."""
    texts = [_chunk({"content": "word "}) for _ in range(chunks)]
    end = _chunk({}, "stop") + _chunk(None, usage=completion(MODEL)["usage"]) + b"data: [DONE]\n\n"
    size = -(-chunks // BURSTS)
    bursts = [b"".join(texts[at : at + size]) for at in range(0, chunks, size)]
    bursts[0] = _chunk({"role": "assistant", "content": ""}) + bursts[0]
    bursts[-1] += end
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    framed = [f"{len(burst):x}\r\n".encode() + burst + b"\r\n" for burst in bursts]
    framed[0], framed[-1] = head + framed[0], framed[-1] + b"0\r\n\r\n"
    return framed


class Server(asyncio.Protocol):
    """One connection, with one call at a time."""

    calls = answered = 0
    questions: ClassVar = set[bytes]()

    def __init__(self, run_s: float, whole: bytes, pieces: list[bytes]) -> None:
        self._run_s, self._whole, self._pieces = run_s, whole, pieces
        self._buffer = b""
        self._coming: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        for piece in self._coming:
            piece.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(END_OF_HEAD)
        if not end:
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if len(body) < int(length or 0):
            return
        self._buffer = b""
        if head.startswith(b"GET"):
            kinds = {"calls": Server.calls, "answered": Server.answered, "questions": len(Server.questions)}
            listed = {"object": "list", "data": [{"id": MODEL, "object": "model"}], "counts": kinds}
            self._transport.write(_reply(json.dumps(listed).encode()))
            return
        Server.calls += 1
        Server.questions.update(QUESTION.findall(body))
        pieces = self._pieces if b'"stream":true' in body.replace(b" ", b"") else [self._whole]
        loop = asyncio.get_running_loop()
        self._coming = [
            loop.call_later(self._run_s * number / len(pieces), self._write, piece, number == len(pieces))
            for number, piece in enumerate(pieces, 1)
        ]

    def _write(self, piece: bytes, last: bool) -> None:
        self._transport.write(piece)
        Server.answered += last


async def main(run_s: float, chunks: int) -> None:
    whole, pieces = _reply(json.dumps(completion(MODEL)).encode()), _stream(chunks)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(run_s, whole, pieces), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200))

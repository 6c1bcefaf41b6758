"""Calls of chat completions: through the SDK, and as bytes."""

import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI

from tests.emulator.emulator_support import KEY, Emulator, open_client

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "steps": {"type": "array", "items": {"type": "integer"}}},
    "required": ["answer", "steps"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
QUESTION = "What is 6 * 7?"
USAGE = {"include_usage": True}


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def job(row: int, attempt: int = 1) -> dict[str, str]:
    return {"X-Askmill-Job": f"b1:{row}:{attempt}"}


def body_of(question: Any, **fields: Any) -> dict[str, Any]:
    messages = user(question) if isinstance(question, str) else question
    return {"model": "llama3.2", "messages": messages} | fields


def post(url: str, body: dict[str, Any], *, key: str = KEY, timeout_s: float = 20) -> tuple[int, bytes]:
    """Status and bytes of the reply; http.client.IncompleteRead where the connection died in the middle."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def refusal(url: str, question: Any, **fields: Any) -> tuple[int, dict[str, Any]]:
    """Status and error of a call that is refused in OpenAI's shape."""
    status, raw = post(url, body_of(question, **fields))
    return status, json.loads(raw)["error"]


@asynccontextmanager
async def client_of(emulator: Emulator) -> AsyncIterator[AsyncOpenAI]:
    async with open_client(emulator.url, timeout_s=60) as client:
        yield client


async def complete(client: AsyncOpenAI, question: Any, **fields: Any) -> Any:
    """One unstreamed call."""
    return await client.chat.completions.create(**body_of(question, **fields))


async def stream(client: AsyncOpenAI, question: Any, **fields: Any) -> list[Any]:
    """The chunks of one streamed call."""
    reply = await client.chat.completions.create(**body_of(question, stream=True, **fields))
    return [chunk async for chunk in reply]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def finish_of(chunks: list[Any]) -> str | None:
    """The last finish_reason; None if the stream ended without one."""
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    return reasons[-1] if reasons else None

"""Batches of an emulator: written, created, followed to their end and read."""

import json
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI

from tests.emulator.emulator_support import Emulator, open_client
from tests.support import wait_until_async

RESPONSES, CHAT = "/v1/responses", "/v1/chat/completions"
ENDED = frozenset({"failed", "completed", "expired", "cancelled"})


def body_of(endpoint: str, question: str, **fields: Any) -> dict[str, Any]:
    """The body of one request of either API."""
    asked = {"messages": [{"role": "user", "content": question}]} if endpoint == CHAT else {"input": question}
    return {"model": "gpt-5", **asked, **fields}


def line_of(custom_id: str, question: str, endpoint: str = RESPONSES, **fields: Any) -> dict[str, Any]:
    """One request; `fields` are of its body."""
    body = body_of(endpoint, question, **fields)
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body}


def jsonl(lines: Iterable[Any]) -> bytes:
    """Lines as a file; text stands as it is."""
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()


async def upload(client: AsyncOpenAI, lines: Iterable[Any]) -> str:
    """The id of a new input file."""
    file = await client.files.create(file=("askmill-b1-1-1.jsonl", jsonl(lines)), purpose="batch")
    return file.id


async def create(client: AsyncOpenAI, lines: Iterable[Any], endpoint: str = RESPONSES, **fields: Any) -> Any:
    """A new batch of these lines."""
    asked: dict[str, Any] = {"endpoint": endpoint, "completion_window": "24h"} | fields
    if "input_file_id" not in asked:
        asked["input_file_id"] = await upload(client, lines)
    return await client.batches.create(**asked)


async def reached(client: AsyncOpenAI, batch_id: str, *states: str) -> Any:
    """The batch, when it is in one of these states; by default in one of its ends."""

    async def there() -> Any:
        batch = await client.batches.retrieve(batch_id)
        return batch if batch.status in (states or ENDED) else None

    return await wait_until_async(there, f"batch {batch_id} is {states or 'over'}")


async def read(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a result file; none without one."""
    if file_id is None:
        return []
    content = await client.files.content(file_id)
    return [json.loads(line) for line in content.text.splitlines()]


async def run_batch(
    client: AsyncOpenAI, lines: Iterable[Any], endpoint: str = RESPONSES, **fields: Any
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The batch at its end, and the lines of both files by custom_id."""
    batch = await reached(client, (await create(client, lines, endpoint, **fields)).id)
    return (
        batch,
        {line["custom_id"]: line for line in await read(client, batch.output_file_id)},
        {line["custom_id"]: line for line in await read(client, batch.error_file_id)},
    )


def text_of(line: dict[str, Any]) -> str:
    """The answer in a line of an output file."""
    body = line["response"]["body"]
    text = (
        body["choices"][0]["message"]["content"]
        if "choices" in body
        else body["output"][-1]["content"][0]["text"]
    )
    return str(text)


def ledger(emulator: Emulator) -> dict[str, Any]:
    """What was created and carried out."""
    with urllib.request.urlopen(f"{emulator.url.removesuffix('/v1')}/emulator/batches") as reply:
        return dict(json.load(reply))


def lines_of(prefix: str, n: int, endpoint: str = RESPONSES) -> list[dict[str, Any]]:
    """Lines `PREFIX-1` to `PREFIX-n`; no mathematics, so that they wait for nothing."""
    return [line_of(f"{prefix}-{i}", f"Who is {i}?", endpoint) for i in range(1, n + 1)]


@asynccontextmanager
async def scene(emulator: Emulator, scenario: str = "") -> AsyncIterator[AsyncOpenAI]:
    """A client of an emulator with this scenario."""
    emulator.set_scenario(scenario)
    async with open_client(emulator.url) as client:
        yield client

"""A response as server-sent events, in the order and under the names of the Responses API.

response.created · queued · in_progress ·
  per item  response.output_item.added ·
            content_part.added · output_text.delta… · output_text.done · content_part.done ·
            output_item.done
response.completed | failed | incomplete
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator

from askmill.emulator.protocol.routing import Json, json_bytes
from askmill.emulator.resources.response_object import Response
from askmill.emulator.resources.run_events import split_text
from askmill.emulator.simulation.engine import Engine
from askmill.emulator.simulation.plan import TERMINAL

POLL_S = 0.05


async def response_events(
    row: Response,
    engine: Engine,
    refresh: Callable[[Response, float], str],
    include: list[str],
    after: int = -1,
) -> AsyncGenerator[bytes, None]:
    """Events until the response ends; those numbered up to `after` are skipped."""
    number = 0
    async for event in _unnumbered_events(row, engine, refresh, include):
        if number > after:
            yield _event(event, number)
        number += 1


async def _unnumbered_events(
    row: Response, engine: Engine, refresh: Callable[[Response, float], str], include: list[str]
) -> AsyncGenerator[Json, None]:
    """The same events in the same order at every call, so that `starting_after` finds its place."""
    yield _status_event(row, "created", "queued")
    pending = ["queued", "in_progress"]
    while True:
        now = engine.clock.now()
        status = refresh(row, now)
        while pending and status != "queued":
            name = pending.pop(0)
            yield _status_event(row, name, name)
        if status in TERMINAL:
            break
        if row.state.plan.over(now):
            await engine.wait_answer(row.id)
        else:
            await asyncio.sleep(min(POLL_S, (row.state.plan.next_change(now) or now + POLL_S) - now))
    for event in _end_events(row.to_api(now, include)):
        yield event


def _status_event(row: Response, name: str, status: str) -> Json:
    return {"type": f"response.{name}", "response": row.fields | {"status": status}}


def _end_events(response: Json) -> Iterator[Json]:
    for i, item in enumerate(response["output"]):
        yield from _item(item, i)
    yield {"type": f"response.{response['status']}", "response": response}


def _item(item: Json, index: int) -> Iterator[Json]:
    initial = item | {"status": "in_progress"}
    where = {"item_id": item["id"], "output_index": index}
    match item["type"]:
        case "message":
            yield {
                "type": "response.output_item.added",
                "output_index": index,
                "item": initial | {"content": []},
            }
            for i, part in enumerate(item["content"]):
                yield from _part(part, where | {"content_index": i})
        case "function_call":
            yield {
                "type": "response.output_item.added",
                "output_index": index,
                "item": initial | {"arguments": ""},
            }
            arguments = item["arguments"]
            yield {"type": "response.function_call_arguments.delta", **where, "delta": arguments}
            done = {"name": item["name"], "arguments": arguments}
            yield {"type": "response.function_call_arguments.done", **where, **done}
        case _:
            yield {"type": "response.output_item.added", "output_index": index, "item": initial}
            yield from _tool(item, where)
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part(part: Json, where: Json) -> Iterator[Json]:
    name, kind = ("refusal", "refusal") if part["type"] == "refusal" else ("text", "output_text")
    text = part[name]
    logprobs: Json = {} if name == "refusal" else {"logprobs": []}
    empty = part | {name: ""} | ({} if name == "refusal" else {"annotations": []})
    yield {"type": "response.content_part.added", **where, "part": empty}
    for piece in split_text(text):
        yield {"type": f"response.{kind}.delta", **where, "delta": piece, **logprobs}
    for i, annotation in enumerate(part.get("annotations", [])):
        fields = {"annotation_index": i, "annotation": annotation}
        yield {"type": "response.output_text.annotation.added", **where, **fields}
    yield {"type": f"response.{kind}.done", **where, name: text, **logprobs}
    yield {"type": "response.content_part.done", **where, "part": part}


def _tool(item: Json, where: Json) -> Iterator[Json]:
    if item["type"] == "reasoning":
        return
    yield {"type": f"response.{item['type']}.in_progress", **where}
    if item["type"] == "code_interpreter_call":
        code = "response.code_interpreter_call_code"
        yield {"type": f"{code}.delta", **where, "delta": item["code"]}
        yield {"type": f"{code}.done", **where, "code": item["code"]}
        yield {"type": "response.code_interpreter_call.interpreting", **where}
    else:
        yield {"type": f"response.{item['type']}.searching", **where}
    yield {"type": f"response.{item['type']}.completed", **where}


def _event(event: Json, number: int) -> bytes:
    numbered = event | {"sequence_number": number}
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + json_bytes(numbered) + b"\n\n"

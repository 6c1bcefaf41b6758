"""What `/v1/batches` sends is what OpenAI's SDK and OpenAI's description expect, field for field."""

import asyncio
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI
from openai.types import Batch, FileObject
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from tests.emulator.batch_support import CHAT, create, line_of, lines_of, reached, read, upload
from tests.emulator.emulator_support import (
    Emulator,
    Exchange,
    Recorder,
    open_client,
    run_emulator,
    unknown_fields,
)
from tests.helpers.openapi import (
    needs_batch_description,
    needs_description,
    validate_request,
    validate_response,
)

MODELS: dict[str, Any] = {"batch": Batch, "file": FileObject}
STATES = {"validating", "failed", "in_progress", "completed", "expired", "cancelling", "cancelled"}
SCHEMA = {
    "type": "json_schema",
    "name": "answer",
    "schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
}


async def tour(client: AsyncOpenAI, emulator: Emulator) -> list[dict[str, Any]]:
    """A batch in each state; the lines of all result files."""
    emulator.set_scenario("[batches]\nvalidate_s = 600\nrun_s = 600\ncancel_s = 600")
    policy: Any = {"anchor": "created_at", "seconds": 3600}
    responses = [
        *lines_of("tour", 40),
        line_of(
            "schema", "Who?", text={"format": SCHEMA}, metadata={"askmill_batch": "b1", "askmill_row": "1"}
        ),
        line_of(
            "code", "What is 6 * 7?", tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]
        ),
        line_of("failed", "[emulate: failed(server_error)] Who?"),
        line_of("cut", "[emulate: incomplete(max_completion_tokens)] Who?", max_output_tokens=16),
        line_of("call", '[emulate: requires_action(double, {"n": 21})] Who?'),
    ]
    done = await create(client, responses, metadata={"a": "b"}, output_expires_after=policy)
    cancelled = await create(client, lines_of("tour", 40, CHAT), CHAT)
    bad = await create(client, [*lines_of("tour", 2), "{"])
    emulator.set_scenario("[batches]\nrun_s = 600\ncancel_s = 600")
    await reached(client, cancelled.id, "in_progress")
    await client.batches.cancel(cancelled.id)
    emulator.set_scenario("[batches]\nexpires_s = 0")
    expired = await create(client, lines_of("tour", 2))
    chat = await create(
        client, [line_of("x", "[emulate: failed(429)] Who?", CHAT), *lines_of("y", 2, CHAT)], CHAT
    )
    ended = [await reached(client, one.id) for one in (done, cancelled, bad, expired, chat)]
    await client.batches.list(limit=2)
    await client.batches.list(after=done.id)
    await client.files.list(purpose="batch_output")
    file_id = await upload(client, responses)
    for refused in ({"endpoint": "/v1/none"}, {"input_file_id": 1}):
        try:
            await create(client, [], **({"input_file_id": file_id} | refused))
        except APIStatusError:
            continue
    await client.files.delete(file_id)
    files = [one for batch in ended for one in (batch.output_file_id, batch.error_file_id)]
    return [line for one in files for line in await read(client, one)]


@pytest.fixture(scope="module")
def toured() -> tuple[list[Exchange], list[dict[str, Any]]]:
    """Everything that was sent and answered, and the lines of the result files."""
    recorder = Recorder()

    async def go(emulator: Emulator) -> list[dict[str, Any]]:
        async with open_client(emulator.url, recorder) as client:
            return await tour(client, emulator)

    with run_emulator() as emulator:
        lines = asyncio.run(go(emulator))
    return recorder.exchanges, lines


def _objects(exchange: Exchange) -> list[Any]:
    if exchange.status != 200 or exchange.body.get("deleted"):
        return []
    return exchange.body["data"] if exchange.body.get("object") == "list" else [exchange.body]


def test_every_object_is_one_of_the_sdk(toured: tuple[list[Exchange], list[dict[str, Any]]]) -> None:
    """No field is missing, of another type, or unknown to the SDK's models; every state was seen."""
    states = set()
    for exchange in toured[0]:
        for one in _objects(exchange):
            model = MODELS[one["object"]].model_validate(one, strict=True)
            assert list(unknown_fields(model)) == []
            states |= {one["status"]} if one["object"] == "batch" else set()
    assert states >= STATES - {"cancelling"}
    assert "cancelling" in {exchange.body.get("status") for exchange in toured[0]}


def test_every_line_holds_an_object_of_its_endpoint(
    toured: tuple[list[Exchange], list[dict[str, Any]]],
) -> None:
    """id, custom_id, response and error; with status 200 a Response or a ChatCompletion of the SDK, else an error."""
    seen = set()
    for line in toured[1]:
        assert set(line) == {"id", "custom_id", "response", "error"}
        assert (line["response"] is None) != (line["error"] is None)
        if line["error"]:
            assert set(line["error"]) == {"code", "message"}
            seen.add(line["error"]["code"])
            continue
        body = line["response"]["body"]
        seen.add(body.get("object", "error"))
        if line["response"]["status_code"] == 200:
            model: Any = {"response": Response, "chat.completion": ChatCompletion}[body["object"]]
            model.model_validate(body)
        else:
            assert set(body["error"]) == {"message", "type", "param", "code"}
    assert seen == {"response", "chat.completion", "error", "batch_expired", "batch_cancelled"}


class TestBodies:
    """Against ../shared/data/openai-openapi.yaml."""

    pytestmark = needs_description

    def test_the_bodies_of_responses_satisfy_it(
        self, toured: tuple[list[Exchange], list[dict[str, Any]]]
    ) -> None:
        """A line's body is what `POST /responses` answers."""
        bodies = [line["response"]["body"] for line in toured[1] if line["response"]]
        checked = [body for body in bodies if body.get("object") == "response"]
        assert checked
        for body in checked:
            validate_response("POST", "/responses", 200, body)


class TestDescription:
    """Against ../shared/data/openai-openapi-batches.json."""

    pytestmark = needs_batch_description

    def test_every_answer_satisfies_it(self, toured: tuple[list[Exchange], list[dict[str, Any]]]) -> None:
        """Required fields, types and enumerations, refusals included; the requests are real ones too. OpenAI sends
        null for what a batch does not have yet, where its description knows only absence."""
        for exchange in toured[0]:
            if not exchange.path.startswith("/batches"):
                continue
            body = exchange.body
            if exchange.status == 200:
                shown = [_without_nulls(one) for one in _objects(exchange)]
                body = body | {"data": shown} if body["object"] == "list" else shown[0]
                if exchange.request is not None:
                    validate_request(exchange.method, exchange.path, exchange.request)
            validate_response(exchange.method, exchange.path, exchange.status, body)


def _without_nulls(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if value is not None}

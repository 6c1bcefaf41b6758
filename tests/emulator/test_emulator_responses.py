"""Responses and conversations at the emulator: the lock, function calls, include, cancel, containers, streams."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI

from tests.emulator.emulator_support import Emulator, open_client, respond_to_end


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncOpenAI]:
    async with open_client(emulator.url) as opened:
        yield opened


async def refusal(request: Any) -> dict[str, Any]:
    with pytest.raises(APIStatusError) as caught:
        await request
    body: Any = caught.value.body
    return {"status": caught.value.status_code, **body}


async def item_types(client: AsyncOpenAI, conversation_id: str) -> list[str]:
    items = await client.conversations.items.list(conversation_id, order="asc")
    return [item.type for item in items.data]


CODE: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        ("completed", "completed", None),
        ("failed(invalid_prompt)", "failed", "invalid_prompt"),
        ("expired", "failed", "server_error"),
        ("cancelled", "cancelled", None),
        ("incomplete(max_completion_tokens)", "incomplete", "max_output_tokens"),
        ("incomplete(content_filter)", "incomplete", "content_filter"),
    ],
)
async def test_a_directed_response_ends_as_directed(
    client: AsyncOpenAI, outcome: str, status: str, reason: str | None
) -> None:
    """The same directions as for runs, in the words of this API."""
    response = await respond_to_end(client, f"[emulate: {outcome}] What is 2 + 3?")
    assert response.status == status
    actual_reason = (
        response.error.code
        if response.error
        else response.incomplete_details and response.incomplete_details.reason
    )
    assert actual_reason == reason


async def test_code_and_its_output_are_items(client: AsyncOpenAI) -> None:
    """A code_interpreter_call before the message; its output only when `include` asks, also later."""
    response = await respond_to_end(client, "What is 17 * 23?", tools=CODE)
    call, message = response.output
    assert (call.type, call.outputs, message.type) == ("code_interpreter_call", None, "message")
    assert "391" in response.output_text
    again = await client.responses.retrieve(response.id, include=["code_interpreter_call.outputs"])
    assert "391" in str(again.output[0].outputs)  # type: ignore[union-attr]
    assert again.usage
    assert again.usage.total_tokens == again.usage.input_tokens + again.usage.output_tokens


async def test_a_background_response_locks_its_conversation(client: AsyncOpenAI) -> None:
    """For its whole run: no second response, no items; nothing is in the conversation before its end."""
    conversation = await client.conversations.create()
    slow: Any = {"model": "gpt-5", "background": True, "conversation": conversation.id}
    first = await client.responses.create(input="[emulate: stuck] Hm.", **slow)
    locked = {
        "status": 400,
        "code": "conversation_locked",
        "param": "conversation",
        "type": "invalid_request_error",
        "message": "Another process is currently operating on this conversation. Please retry in a few seconds.",
    }
    assert await refusal(client.responses.create(input="x", **slow)) == locked
    item: Any = [{"role": "user", "content": "x"}]
    assert await refusal(client.conversations.items.create(conversation.id, items=item)) == locked
    assert await item_types(client, conversation.id) == []
    await client.responses.cancel(first.id)
    assert (
        await respond_to_end(client, "What is 1 + 1?", conversation=conversation.id)
    ).status == "completed"
    assert await item_types(client, conversation.id) == ["message", "message"]


async def test_of_many_responses_at_once_one_gets_the_conversation(client: AsyncOpenAI) -> None:
    """Ten creates at the same moment: exactly one response, nine refusals."""
    conversation = await client.conversations.create()
    slow: Any = {"model": "gpt-5", "background": True, "conversation": conversation.id}
    creates = (client.responses.create(input="[emulate: stuck] x", **slow) for _ in range(10))
    ends = await asyncio.gather(*creates, return_exceptions=True)
    assert sum(isinstance(end, APIStatusError) for end in ends) == 9


async def test_a_function_call_waits_for_its_output(client: AsyncOpenAI) -> None:
    """The calling response is completed; nothing else goes on in that conversation before the output."""
    conversation = await client.conversations.create()
    question = '[emulate: requires_action(double, {"n": 21})] Do.'
    calling = await respond_to_end(client, question, conversation=conversation.id)
    assert calling.status == "completed"
    (call,) = calling.output
    assert (call.type, call.name, call.arguments) == ("function_call", "double", '{"n": 21}')
    create = client.responses.create(model="gpt-5", input="And?", conversation=conversation.id)
    assert (await refusal(create))["message"] == f"No tool output found for function call {call.call_id}."
    wrong: Any = [{"type": "function_call_output", "call_id": "call_x", "output": "1"}]
    create = client.responses.create(model="gpt-5", input=wrong, conversation=conversation.id)
    assert "No tool call found" in (await refusal(create))["message"]
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "42"}]
    answer = await respond_to_end(client, output, conversation=conversation.id)
    assert 'double({"n": 21}) = 42' in answer.output_text
    assert await item_types(client, conversation.id) == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]


async def test_a_function_call_is_not_an_attempt(client: AsyncOpenAI, emulator: Emulator) -> None:
    """The response that brings the outputs belongs to the same attempt of its row."""
    metadata = {"askmill_batch": "b_2", "askmill_row": "1"}
    conversation = await client.conversations.create()
    question = "[emulate: requires_action(f, {}), expired] x"
    calling = await respond_to_end(client, question, conversation=conversation.id, metadata=metadata)
    output = [{"type": "function_call_output", "call_id": calling.output[0].call_id, "output": "1"}]
    ended = await respond_to_end(client, output, conversation=conversation.id, metadata=metadata)
    assert ended.status == "completed"
    assert emulator.stats()["runs_by_job"]["b_2:1"] == 1
    assert (await respond_to_end(client, question, metadata=metadata)).status == "failed"


async def test_a_dead_response_leaves_nothing_in_its_conversation(client: AsyncOpenAI) -> None:
    """Neither question nor answer of a failed response is appended, and the lock is gone."""
    conversation = await client.conversations.create()
    failed = await respond_to_end(client, "[emulate: failed(server_error)] x", conversation=conversation.id)
    assert failed.status == "failed"
    assert await item_types(client, conversation.id) == []


async def test_cancel_is_for_the_background_and_idempotent(client: AsyncOpenAI) -> None:
    """Twice is once; a foreground response is refused."""
    slow = await client.responses.create(model="gpt-5", input="[emulate: stuck] x", background=True)
    assert (await client.responses.cancel(slow.id)).status == "cancelled"
    assert (await client.responses.cancel(slow.id)).status == "cancelled"
    ended = await respond_to_end(client, "What is 1 + 1?")
    assert (await client.responses.cancel(ended.id)).status == "completed"
    front = await client.responses.create(model="gpt-5", input="What is 1 + 1?")
    assert (await refusal(client.responses.cancel(front.id)))[
        "message"
    ] == "Cannot cancel a synchronous response."


async def test_a_history_is_named_once_and_must_exist(client: AsyncOpenAI) -> None:
    """A predecessor and a conversation exclude each other; what is missing is named in the API's words."""
    first = await client.responses.create(model="gpt-5", input="What is 1 + 1?")
    second = await client.responses.create(
        model="gpt-5", input="[emulate: completed] And?", previous_response_id=first.id
    )
    assert second.usage
    assert first.usage
    assert second.usage.input_tokens > first.usage.input_tokens
    conversation = await client.conversations.create()
    both: Any = {"previous_response_id": first.id, "conversation": conversation.id}
    assert (
        "Mutually exclusive"
        in (await refusal(client.responses.create(model="gpt-5", input="x", **both)))["message"]
    )
    lost = await refusal(client.responses.create(model="gpt-5", input="x", previous_response_id="resp_x"))
    assert (lost["status"], lost["code"]) == (400, "previous_response_not_found")
    gone = await refusal(client.responses.create(model="gpt-5", input="x", conversation="conv_x"))
    assert (gone["status"], gone["message"]) == (404, "Conversation with id 'conv_x' not found.")


async def test_a_generated_file_lies_in_its_container(client: AsyncOpenAI) -> None:
    """The citation names container and file, and their content can be fetched."""
    response = await respond_to_end(client, "[emulate: completed(file)] What is 1 + 1?", tools=CODE)
    (annotation,) = response.output[-1].content[0].annotations
    assert (annotation.type, annotation.filename) == ("container_file_citation", "answer.csv")
    text = response.output[-1].content[0].text
    assert text[annotation.start_index : annotation.end_index] == "sandbox:/mnt/data/answer.csv"
    content = await client.containers.files.content.retrieve(
        annotation.file_id, container_id=annotation.container_id
    )
    assert content.content.startswith(b"answer\r\n")


async def test_a_limit_ends_a_response_and_going_on_joins(client: AsyncOpenAI) -> None:
    """`max_output_tokens` really cuts, and asked to continue the pieces join to the whole."""
    whole = (await respond_to_end(client, "[emulate: completed(long)] x")).output_text
    conversation = await client.conversations.create()
    pieces, question = "", "[emulate: completed(long)] x"
    for _ in range(10):
        response = await respond_to_end(
            client, question, conversation=conversation.id, max_output_tokens=1500
        )
        pieces += response.output_text
        question = "Please continue."
        if response.status == "completed":
            break
        assert response.incomplete_details.reason == "max_output_tokens"
    assert pieces == whole


async def test_an_answer_follows_its_schema(client: AsyncOpenAI) -> None:
    """`text.format` with a schema gives JSON that the SDK parses."""
    schema: Any = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3}},
        "required": ["n"],
    }
    text: Any = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    assert (await respond_to_end(client, "What?", text=text)).output_text == '{"n":3}'


async def test_a_response_not_stored_cannot_be_read_again(client: AsyncOpenAI) -> None:
    """`store: false` answers and forgets."""
    response = await client.responses.create(model="gpt-5", input="What is 1 + 1?", store=False)
    assert response.status == "completed"
    assert (await refusal(client.responses.retrieve(response.id)))["status"] == 404


async def test_the_sdk_streams_a_response(client: AsyncOpenAI) -> None:
    """The SDK's accumulator ends with the stored response; a stream taken up later goes on behind its place."""
    async with client.responses.stream(
        model="gpt-5", input="What is 12 * 12?", tools=CODE, background=True
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert "144" in deltas
    assert final.output_text == deltas
    assert [event.sequence_number for event in events] == list(range(len(events)))
    rest = await client.responses.retrieve(final.id, stream=True, starting_after=events[4].sequence_number)
    assert [event.type async for event in rest] == [event.type for event in events[5:]]


async def test_items_are_created_read_and_deleted_one_by_one(client: AsyncOpenAI) -> None:
    """At most 20 at once; a deleted item is gone from the list."""
    many: Any = [{"role": "user", "content": f"{i}"} for i in range(21)]
    conversation = await client.conversations.create(items=many[:20])
    assert (await refusal(client.conversations.create(items=many)))["code"] == "array_above_max_length"
    ids = [item.id async for item in client.conversations.items.list(conversation.id, order="asc", limit=7)]
    assert len(ids) == 20
    await client.conversations.items.delete(str(ids[0]), conversation_id=conversation.id)
    left = [
        item.id async for item in client.conversations.items.list(conversation.id, order="asc", limit=100)
    ]
    assert left == ids[1:]
    assert (await client.conversations.delete(conversation.id)).deleted
    assert (await refusal(client.conversations.retrieve(conversation.id)))["status"] == 404

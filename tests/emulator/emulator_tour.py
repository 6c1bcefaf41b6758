"""A walk past every kind of object that the emulator serves, and every way a run may end."""

from typing import Any

from openai import APIStatusError, AsyncOpenAI

from tests.emulator.emulator_support import create_assistant, respond_to_end, run_question, run_to_end

OUTCOMES = (
    "completed",
    "completed(no_message)",
    "completed(two_messages)",
    "completed(file)",
    "completed(left_file)",
    "completed(image)",
    "completed(refusal)",
    "failed(server_error)",
    "failed(rate_limit_exceeded, partial)",
    "expired",
    "expired(partial)",
    "cancelled",
    "incomplete(max_completion_tokens)",
    "incomplete(max_prompt_tokens)",
)
RESPONSES_ONLY = ("completed(reasoning)", "completed(web_search)", "incomplete(content_filter)")
NOTES = b"The sky is blue.\n\nThe capital of Fantasia is Moonville.\n"
SEARCHED = "What is the capital of Fantasia?"
CITED = f"[emulate: completed(citations)] {SEARCHED}"
CALL = '[emulate: requires_action(double, {"n": 21})] Double it.'
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "steps": {"type": "array", "items": {"type": "integer"}}},
    "required": ["answer", "steps"],
    "additionalProperties": False,
}


async def tour(client: AsyncOpenAI) -> None:
    """Prompt for everything once."""
    file = await client.files.create(file=("notes.txt", NOTES), purpose="assistants")
    store = await client.vector_stores.create(name="notes", file_ids=[file.id])
    await _library(client, file.id, store.id)
    await _assistants(client, store.id)
    await _threads(client)
    await _runs(client, store.id)
    await _responses(client, store.id)
    await _refusals(client)
    await client.vector_stores.delete(store.id)
    await client.files.delete(file.id)


async def _library(client: AsyncOpenAI, file_id: str, store_id: str) -> None:
    await client.files.retrieve(file_id)
    await client.files.list(purpose="assistants")
    await client.vector_stores.list()
    await client.vector_stores.update(store_id, name="notes, renamed")
    await client.vector_stores.files.list(store_id)
    await client.vector_stores.files.retrieve(file_id, vector_store_id=store_id)
    await client.vector_stores.files.content(file_id, vector_store_id=store_id)
    await client.vector_stores.search(store_id, query=SEARCHED)
    more = await client.files.create(file=("more.txt", b"Nothing much."), purpose="assistants")
    garbled = await client.files.create(file=("garbled.txt", b"\xff\x00\xfe"), purpose="assistants")
    batch = await client.vector_stores.file_batches.create(store_id, file_ids=[more.id, garbled.id])
    await client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store_id)
    await client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store_id)
    await client.vector_stores.files.create(store_id, file_id=more.id)
    await client.vector_stores.files.delete(more.id, vector_store_id=store_id)
    await client.models.list()
    await client.models.retrieve("gpt-5")


async def _assistants(client: AsyncOpenAI, store_id: str) -> None:
    assistant = await create_assistant(
        client,
        tools=[{"type": "file_search"}, {"type": "function", "function": {"name": "double"}}],
        tool_resources={"file_search": {"vector_store_ids": [store_id]}},
        metadata={"a": "b"},
    )
    await client.beta.assistants.retrieve(assistant.id)
    await client.beta.assistants.update(assistant.id, name="renamed")
    await client.beta.assistants.list()
    await client.beta.assistants.delete(assistant.id)


async def _threads(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": "One."}], metadata={"a": "b"}
    )
    await client.beta.threads.retrieve(thread.id)
    await client.beta.threads.update(thread.id, metadata={})
    picture: Any = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    message = await client.beta.threads.messages.create(
        thread.id, role="user", content=[{"type": "text", "text": "Two."}, picture]
    )
    await client.beta.threads.messages.retrieve(message.id, thread_id=thread.id)
    await client.beta.threads.messages.update(message.id, thread_id=thread.id, metadata={"c": "d"})
    await client.beta.threads.messages.list(thread.id)
    await client.beta.threads.messages.delete(message.id, thread_id=thread.id)
    await client.beta.threads.delete(thread.id)


async def _runs(client: AsyncOpenAI, store_id: str) -> None:
    for outcome in OUTCOMES:
        await _read(client, await run_question(client, f"[emulate: {outcome}] What is 6 * 7?"))
    tools: Any = [{"type": "code_interpreter"}]
    await _read(client, await run_question(client, "What is 6 * 7?", tools=tools))
    searcher = await create_assistant(
        client,
        tools=[{"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [store_id]}},
    )
    for question in (SEARCHED, CITED):
        await _read(client, await run_question(client, question, assistant_id=searcher.id))
    schema: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    await _read(
        client,
        await run_question(client, "What is 6 * 7?", response_format=schema, max_completion_tokens=256),
    )
    run = await run_question(client, CALL)
    await client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)
    assert run.required_action
    outputs: Any = [
        {"tool_call_id": c.id, "output": "42"} for c in run.required_action.submit_tool_outputs.tool_calls
    ]
    await client.beta.threads.runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs)
    await _read(client, await run_to_end(client, run.thread_id, run.id))
    assistant = await create_assistant(client)
    stuck = await client.beta.threads.create_and_run(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "[emulate: stuck] Hm."}]}
    )
    await client.beta.threads.runs.update(stuck.id, thread_id=stuck.thread_id, metadata={"e": "f"})
    await client.beta.threads.runs.cancel(stuck.id, thread_id=stuck.thread_id)
    await _read(client, await run_to_end(client, stuck.thread_id, stuck.id))


async def _read(client: AsyncOpenAI, run: Any) -> None:
    await client.beta.threads.messages.list(run.thread_id, run_id=run.id)
    include: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
    steps = await client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, include=include)
    for step in steps.data:
        await client.beta.threads.runs.steps.retrieve(step.id, thread_id=run.thread_id, run_id=run.id)
    await client.beta.threads.runs.list(run.thread_id)


async def _responses(client: AsyncOpenAI, store_id: str) -> None:
    tools: Any = [
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "file_search", "vector_store_ids": [store_id]},
        {"type": "function", "name": "double", "parameters": {"type": "object"}, "strict": False},
    ]
    include: Any = [
        "code_interpreter_call.outputs",
        "file_search_call.results",
        "web_search_call.action.sources",
    ]
    questions = [f"[emulate: {outcome}] What is 6 * 7?" for outcome in (*OUTCOMES, *RESPONSES_ONLY)]
    for question in (*questions, "What is 6 * 7?", SEARCHED, CITED):
        conversation = await client.conversations.create(metadata={"a": "b"})
        await respond_to_end(client, question, conversation=conversation.id, tools=tools, include=include)
        items = await client.conversations.items.list(conversation.id, include=include)
        for item in items.data:
            await client.conversations.items.retrieve(str(item.id), conversation_id=conversation.id)
    conversation = await client.conversations.create(items=[{"role": "user", "content": "Before."}])
    await client.conversations.retrieve(conversation.id)
    await client.conversations.update(conversation.id, metadata={"g": "h"})
    await client.conversations.items.create(conversation.id, items=[{"role": "assistant", "content": "Yes?"}])
    calling = await respond_to_end(client, CALL, conversation=conversation.id, tools=tools)
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "42"}
        for item in calling.output
        if item.type == "function_call"
    ]
    last = await respond_to_end(client, outputs, conversation=conversation.id, tools=tools)
    items = await client.conversations.items.list(conversation.id)
    await client.conversations.items.delete(str(items.data[0].id), conversation_id=conversation.id)
    await client.conversations.delete(conversation.id)
    await client.responses.input_items.list(last.id)
    await client.responses.create(model="gpt-5", input="And?", previous_response_id=last.id)
    stuck = await client.responses.create(model="gpt-5", input="[emulate: stuck] Hm.", background=True)
    await client.responses.cancel(stuck.id)
    await client.responses.delete(stuck.id)
    response = await respond_to_end(client, "[emulate: completed(file)] Write.", tools=tools)
    (annotation,) = response.output[-1].content[0].annotations
    await client.containers.retrieve(annotation.container_id)
    await client.containers.files.list(annotation.container_id)
    await client.containers.files.retrieve(annotation.file_id, container_id=annotation.container_id)


async def _refusals(client: AsyncOpenAI) -> None:
    failing: list[Any] = [
        client.beta.assistants.retrieve("asst_none"),
        client.beta.threads.retrieve("thread_none"),
        client.responses.retrieve("resp_none"),
        client.conversations.retrieve("conv_none"),
        client.files.retrieve("file-none"),
        client.vector_stores.retrieve("vs_none"),
        client.models.retrieve("no-such-model"),
        client.beta.assistants.create(model="gpt-5", temperature=3),
    ]
    for request in failing:
        try:
            await request
        except APIStatusError:
            continue
        raise AssertionError("the emulator served what is not there")

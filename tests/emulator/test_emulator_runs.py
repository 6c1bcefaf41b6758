"""Assistants at the emulator: locks, states, tools, attempts, pages and refusals as at OpenAI."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIStatusError, AsyncAssistantEventHandler, AsyncOpenAI

from tests.emulator.emulator_support import (
    Emulator,
    create_assistant,
    message_texts,
    open_client,
    run_question,
    run_to_end,
)
from tests.support import wait_until_async

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[AsyncOpenAI]:
    async with open_client(emulator.url) as opened:
        yield opened


async def refusal(request: Any) -> APIStatusError:
    with pytest.raises(APIStatusError) as caught:
        await request
    return caught.value


def message_of(error: APIStatusError) -> str:
    body: Any = error.body
    return str(body["message"])


async def stuck(client: AsyncOpenAI) -> Any:
    assistant = await create_assistant(client)
    return await client.beta.threads.create_and_run(
        assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "[emulate: stuck] Hm."}]}
    )


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        ("completed", "completed", None),
        ("failed(rate_limit_exceeded)", "failed", "rate_limit_exceeded"),
        ("expired", "expired", None),
        ("cancelled", "cancelled", None),
        ("incomplete(max_completion_tokens)", "incomplete", "max_completion_tokens"),
        ("incomplete(max_prompt_tokens)", "incomplete", "max_prompt_tokens"),
    ],
)
async def test_a_directed_run_ends_as_directed(
    client: AsyncOpenAI, outcome: str, status: str, reason: str | None
) -> None:
    """Status, reason and the time of the end are the run's; usage is there once it has ended."""
    run = await run_question(client, f"[emulate: {outcome}] What is 2 + 3?")
    assert run.status == status
    assert run.usage is not None
    actual_reason = (
        run.last_error.code if run.last_error else run.incomplete_details and run.incomplete_details.reason
    )
    assert actual_reason == reason
    assert bool(run.failed_at) == (status == "failed")
    assert bool(run.cancelled_at) == (status == "cancelled")


async def test_the_tutor_answers_by_way_of_code(client: AsyncOpenAI) -> None:
    """Mathematics is computed in a code_interpreter step, then said in a message, tokens of both in the run."""
    run = await run_question(client, "What is 17 * 23?", tools=[{"type": "code_interpreter"}])
    assert "391" in (await message_texts(client, run))[0]
    steps = (await client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")).data
    code, message = (step.step_details for step in steps)
    assert code.type == "tool_calls"
    (call,) = code.tool_calls
    assert call.type == "code_interpreter"
    assert call.code_interpreter.input
    assert "391" in str(call.code_interpreter.outputs)
    assert message.type == "message_creation"
    assert run.usage
    assert sum(step.usage.total_tokens for step in steps if step.usage) == run.usage.total_tokens


async def test_each_attempt_of_a_row_plays_the_next_outcome(client: AsyncOpenAI, emulator: Emulator) -> None:
    """Attempts are counted by the row that the metadata names, fresh thread or not; the last outcome repeats."""
    question = "[emulate: expired, failed(server_error), completed] x"
    metadata = {"askmill_batch": "b_1", "askmill_row": "9"}
    runs = [await run_question(client, question, metadata=metadata) for _ in range(4)]
    assert [run.status for run in runs] == ["expired", "failed", "completed", "completed"]
    assert emulator.stats()["runs_by_job"]["b_1:9"] == 4


async def test_without_a_row_attempts_are_counted_on_the_thread(client: AsyncOpenAI) -> None:
    """The same question again on its thread is the next attempt; another question begins anew."""
    assistant = await create_assistant(client)
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": "[emulate: expired, completed] x"}]
    )
    ends = []
    for extra in ([], [], [{"role": "user", "content": "[emulate: expired, completed] y"}]):
        run = await client.beta.threads.runs.create(
            thread.id,
            assistant_id=assistant.id,
            additional_messages=extra,  # type: ignore[arg-type]
        )
        ends.append((await run_to_end(client, thread.id, run.id)).status)
    assert ends == ["expired", "completed", "expired"]


async def test_additional_messages_stay_on_the_thread(client: AsyncOpenAI) -> None:
    """What a run brings along is asked by it, and stands on the thread before its answer."""
    assistant = await create_assistant(client)
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "First."}])
    extra: Any = [{"role": "user", "content": "What is 20 + 3?"}]
    run = await client.beta.threads.runs.create(
        thread.id, assistant_id=assistant.id, additional_messages=extra
    )
    await run_to_end(client, thread.id, run.id)
    listed: Any = await client.beta.threads.messages.list(thread.id, order="asc")
    texts = [message.content[0].text.value for message in listed.data]
    assert texts[:2] == ["First.", "What is 20 + 3?"]
    assert "23" in texts[2]


async def test_an_active_run_locks_its_thread(client: AsyncOpenAI) -> None:
    """Neither a message nor a second run, in the API's words, until the run is over."""
    run = await stuck(client)
    second = await refusal(client.beta.threads.runs.create(run.thread_id, assistant_id=run.assistant_id))
    assert (second.status_code, message_of(second)) == (
        400,
        f"Thread {run.thread_id} already has an active run {run.id}.",
    )
    message = await refusal(client.beta.threads.messages.create(run.thread_id, role="user", content="Well?"))
    assert message_of(message) == f"Can't add messages to {run.thread_id} while a run {run.id} is active."
    await client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    await run_to_end(client, run.thread_id, run.id)
    await client.beta.threads.messages.create(run.thread_id, role="user", content="Well?")


async def test_of_many_runs_at_once_one_gets_the_thread(client: AsyncOpenAI) -> None:
    """Ten creates at the same moment: exactly one run, nine refusals."""
    assistant = await create_assistant(client)
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "[emulate: stuck] x"}])
    creates = (client.beta.threads.runs.create(thread.id, assistant_id=assistant.id) for _ in range(10))
    ends = await asyncio.gather(*creates, return_exceptions=True)
    assert sum(isinstance(end, APIStatusError) for end in ends) == 9
    assert len((await client.beta.threads.runs.list(thread.id)).data) == 1


async def test_a_cancelled_run_cannot_be_cancelled_again(client: AsyncOpenAI) -> None:
    """Cancelling shows `cancelling`, ends in `cancelled`, and is then refused."""
    run = await stuck(client)
    cancelling = await client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id)
    assert cancelling.status == "cancelling"
    assert (await run_to_end(client, run.thread_id, run.id)).status == "cancelled"
    again = await refusal(client.beta.threads.runs.cancel(run.id, thread_id=run.thread_id))
    assert message_of(again) == "Cannot cancel run with status 'cancelled'."


async def test_functions_are_called_and_their_outputs_answered(client: AsyncOpenAI) -> None:
    """The run waits with its calls, takes all outputs at once, and its answer shows them."""
    run = await run_question(client, '[emulate: requires_action(double, {"n": 21}, half, {"n": 4})] Do.')
    assert run.status == "requires_action"
    assert run.required_action
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("double", '{"n": 21}'),
        ("half", '{"n": 4}'),
    ]
    submit = client.beta.threads.runs.submit_tool_outputs
    one: Any = [{"tool_call_id": calls[0].id, "output": "42"}]
    partly = await refusal(submit(run.id, thread_id=run.thread_id, tool_outputs=one))
    assert "Expected tool outputs for call_ids" in message_of(partly)
    both: Any = [*one, {"tool_call_id": calls[1].id, "output": "2"}]
    await submit(run.id, thread_id=run.thread_id, tool_outputs=both)
    ended = await run_to_end(client, run.thread_id, run.id)
    assert ended.status == "completed"
    (text,) = await message_texts(client, ended)
    assert 'double({"n": 21}) = 42' in text
    late = await refusal(submit(run.id, thread_id=run.thread_id, tool_outputs=both))
    assert message_of(late) == 'Runs in status "completed" do not accept tool outputs.'


async def test_a_wait_for_outputs_expires(client: AsyncOpenAI, emulator: Emulator) -> None:
    """Outputs that come after `expires_at` are refused and the run is expired."""
    emulator.set_scenario("[run]\nexpires_s = 0.2\n")
    try:
        run = await run_question(client, "[emulate: requires_action(f, {})] x")
        assert run.status == "requires_action"
        assert run.required_action
        outputs: Any = [
            {"tool_call_id": run.required_action.submit_tool_outputs.tool_calls[0].id, "output": ""}
        ]

        async def expired() -> bool:
            seen = await client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id)
            return seen.status == "expired"

        await wait_until_async(expired, "the run expires")
        late = await refusal(
            client.beta.threads.runs.submit_tool_outputs(
                run.id, thread_id=run.thread_id, tool_outputs=outputs
            )
        )
        assert message_of(late) == 'Runs in status "expired" do not accept tool outputs.'
    finally:
        emulator.set_scenario("")


async def test_a_limit_ends_a_run_and_a_higher_one_does_not(client: AsyncOpenAI) -> None:
    """The completion limit really cuts: usage is at the limit, and twice the limit gives more text."""
    low = await run_question(client, "[emulate: completed(long)] x", max_completion_tokens=256)
    high = await run_question(client, "[emulate: completed(long)] x", max_completion_tokens=100_000)
    assert (low.status, high.status) == ("incomplete", "completed")
    assert low.usage
    assert low.usage.completion_tokens == 256
    assert (await message_texts(client, high))[0].startswith((await message_texts(client, low))[0])


async def test_a_cut_answer_goes_on_where_it_stopped(client: AsyncOpenAI) -> None:
    """ResponseInput to continue on the same thread, the pieces join to the whole answer."""
    whole = (await message_texts(client, await run_question(client, "[emulate: completed(long)] x")))[0]
    assistant = await create_assistant(client)
    direction = "[emulate: completed(long)] x"
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": direction}])
    pieces: list[str] = []
    status, extra = "incomplete", list[Any]()
    while status == "incomplete":
        run = await client.beta.threads.runs.create(
            thread.id, assistant_id=assistant.id, additional_messages=extra, max_completion_tokens=1500
        )
        ended = await run_to_end(client, thread.id, run.id)
        pieces += await message_texts(client, ended)
        status, extra = ended.status, [{"role": "user", "content": "Please continue."}]
    assert len(pieces) > 1
    assert "".join(pieces) == whole


async def test_a_file_is_searched_and_cited(client: AsyncOpenAI) -> None:
    """The best passage answers, marked and annotated; the step has results, their text only when asked for."""
    file = await client.files.create(
        file=("towns.txt", b"The capital of Fantasia is Moonville."), purpose="assistants"
    )
    store = await client.vector_stores.create(file_ids=[file.id])
    assistant = await create_assistant(
        client,
        tools=[{"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [store.id]}},
    )
    run = await run_question(client, "What is the capital of Fantasia?", assistant_id=assistant.id)
    (message,) = (await client.beta.threads.messages.list(run.thread_id, run_id=run.id)).data
    (part,) = message.content
    assert part.type == "text"
    (citation,) = part.text.annotations
    assert citation.type == "file_citation"
    assert citation.file_citation.file_id == file.id
    assert part.text.value[citation.start_index : citation.end_index] == citation.text == "【4:0†towns.txt】"
    steps = client.beta.threads.runs.steps
    include: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
    plain, full = [
        str((await steps.list(run.id, thread_id=run.thread_id, include=wanted)).data)
        for wanted in (list[Any](), include)
    ]
    assert "score=" in plain
    assert "Moonville" not in plain
    assert "Moonville" in full


async def test_a_generated_file_can_be_fetched(client: AsyncOpenAI) -> None:
    """`completed(file)` links a file that exists; an uploaded one is not handed out again, as at OpenAI."""
    run = await run_question(client, "[emulate: completed(file)] x")
    (message,) = (await client.beta.threads.messages.list(run.thread_id, run_id=run.id)).data
    (part,) = message.content
    assert part.type == "text"
    (link,) = part.text.annotations
    assert link.type == "file_path"
    assert link.text == "sandbox:/mnt/data/answer.csv"
    content = await client.files.content(link.file_path.file_id)
    assert content.content.startswith(b"answer\r\n")
    uploaded = await client.files.create(file=("a.bin", b"\r\n\x00--x\r\n"), purpose="assistants")
    assert uploaded.bytes == 8
    assert "Not allowed to download" in message_of(await refusal(client.files.content(uploaded.id)))


async def test_pages_hold_every_row_once(client: AsyncOpenAI) -> None:
    """Walking pages of 7 over 20 messages meets each once, in either order; the ends of a page are named."""
    thread = await client.beta.threads.create(
        messages=[{"role": "user", "content": f"Message {i}"} for i in range(20)]
    )
    for order in ("asc", "desc"):
        listed: Any = client.beta.threads.messages.list(thread.id, order=order, limit=7)
        texts = [message.content[0].text.value async for message in listed]
        numbers = range(20) if order == "asc" else reversed(range(20))
        assert texts == [f"Message {i}" for i in numbers]
    page = await client.beta.threads.messages.list(thread.id, limit=3)
    before = await client.beta.threads.messages.list(thread.id, before=page.data[2].id, limit=2)
    assert [message.id for message in before.data] == [message.id for message in page.data[:2]]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"max_prompt_tokens": 10}, "integer_below_min_value", "max_prompt_tokens"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "object_above_max_properties", "metadata"),
        ({"metadata": {"a": "x" * 513}}, "string_above_max_length", "metadata.a"),
        ({"tools": [{"type": "code_interpreter"}] * 21}, "array_above_max_length", "tools"),
        ({"tools": [{"type": "hammer"}]}, "invalid_value", "tools[0].type"),
        ({"instructions": 7}, "invalid_type", "instructions"),
        ({"extra_body": {"colour": "red"}}, "unknown_parameter", "colour"),
        ({"truncation_strategy": {"type": "middle"}}, "invalid_value", "truncation_strategy.type"),
    ],
)
async def test_bad_fields_are_refused_by_name(
    client: AsyncOpenAI, fields: dict[str, Any], code: str, param: str
) -> None:
    """What OpenAI's limits forbid is a 400 with OpenAI's code and the field's name; no run is made."""
    assistant = await create_assistant(client)
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "x"}])
    error = await refusal(client.beta.threads.runs.create(thread.id, assistant_id=assistant.id, **fields))
    assert (error.status_code, error.code, error.param) == (400, code, param)
    assert (await client.beta.threads.runs.list(thread.id)).data == []


async def test_what_is_not_there_is_not_found(client: AsyncOpenAI) -> None:
    """404 in the API's words for objects; a model that begins with no-such does not exist."""
    thread = await client.beta.threads.create()
    runs = client.beta.threads.runs
    found = [
        (client.beta.threads.retrieve("thread_x"), "No thread found with id 'thread_x'."),
        (client.beta.assistants.retrieve("asst_x"), "No assistant found with id 'asst_x'."),
        (runs.retrieve("run_x", thread_id=thread.id), "No run found with id 'run_x'."),
        (runs.create(thread.id, assistant_id="asst_x"), "No assistant found with id 'asst_x'."),
        (client.beta.assistants.create(model="no-such-model"), "The model `no-such-model` does not exist"),
        (client.get("/nowhere", cast_to=object), "Invalid URL (GET /v1/nowhere)"),
    ]
    for request, text in found:
        error = await refusal(request)
        assert error.status_code == 404
        assert text in message_of(error)


async def test_a_misspelt_direction_is_refused_and_leaves_no_trace(client: AsyncOpenAI) -> None:
    """The refusal names the word; thread and stats are as before."""
    assistant = await create_assistant(client)
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "First."}])
    extra: Any = [{"role": "user", "content": "[emulate: explode] x"}]
    create = client.beta.threads.runs.create(thread.id, assistant_id=assistant.id, additional_messages=extra)
    assert "explode" in message_of(await refusal(create))
    assert len((await client.beta.threads.messages.list(thread.id)).data) == 1


async def test_a_deleted_thread_takes_its_run_along(client: AsyncOpenAI) -> None:
    """The thread, its messages and its running run are gone; the emulator's stats go on working."""
    run = await stuck(client)
    assert (await client.beta.threads.delete(run.thread_id)).deleted
    error = await refusal(client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id))
    assert error.status_code == 404


async def test_the_sdk_streams_a_run(client: AsyncOpenAI) -> None:
    """The SDK's own event handler sees the text grow to the message that is stored."""
    assistant = await create_assistant(client, tools=[{"type": "code_interpreter"}])
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "What is 12 * 12?"}])
    async with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=AsyncAssistantEventHandler()
    ) as stream:
        text = "".join([piece async for piece in stream.text_deltas])
        (message,) = await stream.get_final_messages()
        steps = await stream.get_final_run_steps()
    assert message.content[0].type == "text"
    assert text == message.content[0].text.value
    assert "144" in text
    assert [step.type for step in steps] == ["tool_calls", "message_creation"]


async def test_a_stream_goes_on_after_the_outputs(client: AsyncOpenAI) -> None:
    """A streamed run stops at its function call; the outputs are answered in a second stream."""
    assistant = await create_assistant(client)
    question = '[emulate: requires_action(double, {"n": 4})] x'
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": question}])
    runs = client.beta.threads.runs
    async with runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        await stream.until_done()
        run = stream.current_run
    assert run
    assert run.status == "requires_action"
    assert run.required_action
    outputs: Any = [
        {"tool_call_id": c.id, "output": "8"} for c in run.required_action.submit_tool_outputs.tool_calls
    ]
    answered: Any = {"run_id": run.id, "thread_id": thread.id, "tool_outputs": outputs}
    async with runs.submit_tool_outputs_stream(**answered) as second:
        text = "".join([piece async for piece in second.text_deltas])
    assert "= 8" in text

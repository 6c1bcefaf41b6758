"""The contract of `Backend`, tested for each API that can show the case, against the emulator's process."""

from typing import Any

import pytest

from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import FileSearch, Functions, FunctionTool, Profile
from askmill.worker.lifecycle.api_types import ENDED, ApiError, LookupKind, ToolOutput
from tests.backends.backend_session import BackendSession

PLAIN = Profile(model="gpt-5-mini")
WEATHER = Profile(
    model="gpt-5-mini",
    functions=Functions(
        module="weather",
        sha256="0" * 64,
        tools=(FunctionTool(name="get_weather", description="The weather of a city."),),
    ),
)
CALL = '[emulate: requires_action(get_weather, {"city": "Oslo"})]'


async def test_a_question_gets_its_answer(any_session: BackendSession) -> None:
    """A run's answer comes with its ids and tokens, and with times where the API has them."""
    ended, answer = await any_session.answer("What is 17 * 23?")
    assert ended.status == "completed"
    assert ended.model == "gpt-5-mini"
    assert ended.usage.prompt_tokens
    assert ended.usage.completion_tokens
    assert "391" in answer.text
    assert (answer.messages, answer.refusal, answer.note) == (1, False, None)
    assert answer.run_id == ended.id
    if any_session.backend.api != "chat":
        assert ended.created_at is not None
        assert ended.finished_at is not None
        assert ended.created_at <= ended.finished_at
        assert answer.last_message_id


async def test_steps_show_code_logs_and_message(session: BackendSession) -> None:
    """Both APIs give the same steps: the code with its log, then the message."""
    run, answer = await session.answer("What is 17 * 23?")
    kinds = [step.type for step in answer.steps]
    assert kinds == ["code_interpreter", "message"]
    code, message = answer.steps
    assert code.run_id == run.id
    assert (code.attempt, code.status) == (1, "completed")
    assert "17" in code.details["code"]
    assert "391" in code.details["logs"]
    assert code.details["images"] == []
    assert "391" in message.details["text"]


async def test_several_messages_are_one_answer(session: BackendSession) -> None:
    """All messages of the run, in order, with a blank line between."""
    _, answer = await session.answer("What is 2 + 2? [emulate: completed(two_messages)]")
    assert answer.messages == 2
    first, second = answer.text.split("\n\n")
    assert first == "Let me think about that."
    assert "4" in second


async def test_a_run_without_messages_has_an_empty_answer(any_session: BackendSession) -> None:
    """`messages` is 0, which differs from an empty message."""
    run, answer = await any_session.answer("Hello [emulate: completed(no_message)]")
    assert run.status == "completed"
    assert (answer.messages, answer.text) == (0, "")


async def test_a_refusal_is_marked(any_session: BackendSession) -> None:
    """Its text is the answer."""
    _, answer = await any_session.answer("Hello [emulate: completed(refusal)]")
    assert answer.refusal
    assert answer.text.startswith("I'm sorry")


async def test_a_failed_run_has_its_error_code(session: BackendSession) -> None:
    """From `last_error` (Assistants) and `error` (Responses) alike."""
    run, _ = await session.answer("Hello [emulate: failed(server_error)]")
    assert (run.status, run.error_code) == ("failed", "server_error")
    assert run.error_message


@pytest.mark.parametrize("reason", ["max_completion_tokens", "content_filter"])
async def test_an_incomplete_run_has_its_reason_and_partial_answer(
    any_session: BackendSession, reason: str
) -> None:
    """The reason has the same name for each API."""
    ended, answer = await any_session.answer(f"What is 2 + 2? [emulate: incomplete({reason})]", PLAIN)
    assert (ended.status, ended.incomplete_reason) == ("incomplete", reason)
    assert answer.text


async def test_function_calls_are_answered(session: BackendSession) -> None:
    """requires_action, outputs of all calls at once, then the answer and its steps."""
    request = await session.new_request(f"Weather? {CALL}", WEATHER)
    thread_id, waiting = await session.start_and_wait(request)
    assert waiting.status == "requires_action"
    (call,) = waiting.tool_calls
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Oslo"}')

    continued = await session.backend.submit(request, thread_id, waiting.id, (ToolOutput(call.id, "rain"),))
    ended = await session.wait(request, thread_id, continued.id)
    answer = await session.backend.read_answer(request, thread_id, continued.id)
    assert ended.status == "completed"
    assert "rain" in answer.text
    function = next(step for step in answer.steps if step.type == "function")
    details = function.details
    assert (details["name"], details["arguments"], details["output"]) == (
        "get_weather",
        '{"city": "Oslo"}',
        "rain",
    )
    assert answer.steps[-1].type == "message"


async def test_tokens_of_a_run_with_function_calls_are_summed(session: BackendSession) -> None:
    """With Responses the run is two responses, and the second's usage is the sum."""
    request = await session.new_request(f"Weather? {CALL}", WEATHER)
    thread_id, waiting = await session.start_and_wait(request)
    outputs = (ToolOutput(waiting.tool_calls[0].id, "rain"),)
    continued = await session.backend.submit(request, thread_id, waiting.id, outputs)
    ended = await session.wait(request, thread_id, continued.id)
    assert ended.usage.prompt_tokens is not None
    if waiting.usage.prompt_tokens is not None:
        assert ended.usage.prompt_tokens > waiting.usage.prompt_tokens


async def test_a_run_whose_reply_was_lost_is_found(session: BackendSession) -> None:
    """The create was carried out and its reply was lost: the run is recovered from the thread."""
    request = await session.new_request("What is 3 + 4?")
    thread_id = await session.backend.create_thread(request)
    assert (await session.backend.recover_run(request, thread_id, frozenset())).kind is LookupKind.NOTHING

    session.set_scenario('[http]\ndrop_after = 1.0\nonly = ["POST /threads/*/runs", "POST /responses"]')
    with pytest.raises(ApiError) as lost:
        await session.backend.create_run(request, thread_id)
    session.set_scenario("")
    assert (lost.value.status, lost.value.sent) == (None, True)

    lookup = await session.until_found(lambda: session.backend.recover_run(request, thread_id, frozenset()))
    run_id = lookup.run.id if lookup.run else None
    assert lookup.kind is (LookupKind.RUN if run_id else LookupKind.ANSWER)
    assert not lookup.duplicates
    if run_id:
        await session.wait(request, thread_id, run_id)
    answer = await session.backend.read_answer(request, thread_id, run_id)
    assert "7" in answer.text
    assert answer.steps
    assert session.stats()["runs_by_job"][f"{session.batch}:{request.row}"] == 1


async def test_a_create_that_never_arrived_leaves_nothing(session: BackendSession) -> None:
    """The connection broke before the server read the request."""
    request = await session.new_request("What is 3 + 4?")
    thread_id = await session.backend.create_thread(request)
    session.set_scenario('[http]\ndrop_before = 1.0\nonly = ["POST /threads/*/runs", "POST /responses"]')
    with pytest.raises(ApiError):
        await session.backend.create_run(request, thread_id)
    session.set_scenario("")
    assert (await session.backend.recover_run(request, thread_id, frozenset())).kind is LookupKind.NOTHING


async def test_a_second_create_is_refused_while_a_run_is_active(session: BackendSession) -> None:
    """The error is one that the lifecycle recognises."""
    request = await session.new_request("Hello [emulate: stuck]")
    thread_id, run = await session.start(request)
    with pytest.raises(ApiError) as refused:
        await session.backend.create_run(request, thread_id)
    assert refused.value.status == 400
    assert refused.value.code == "conversation_locked" or run.id in refused.value.message


async def test_submitted_outputs_without_a_reply_are_recovered(session: BackendSession) -> None:
    """NOTHING before they arrived, then the run that continues."""
    request = await session.new_request(f"Weather? {CALL}", WEATHER)
    thread_id, waiting = await session.start_and_wait(request)
    outputs = (ToolOutput(waiting.tool_calls[0].id, "rain"),)
    before = await session.backend.recover_submit(request, thread_id, waiting.id)
    assert before.kind is LookupKind.NOTHING
    assert before.run is not None
    assert before.run.tool_calls == waiting.tool_calls

    session.set_scenario('[http]\ndrop_after = 1.0\nonly = ["POST /threads/*/runs/*", "POST /responses"]')
    with pytest.raises(ApiError):
        await session.backend.submit(request, thread_id, waiting.id, outputs)
    session.set_scenario("")

    lookup = await session.until_found(lambda: session.backend.recover_submit(request, thread_id, waiting.id))
    run_id = lookup.run.id if lookup.run else None
    if run_id:
        await session.wait(request, thread_id, run_id)
    answer = await session.backend.read_answer(request, thread_id, run_id)
    assert "rain" in answer.text
    assert [step.details["output"] for step in answer.steps if step.type == "function"] == ["rain"]


async def test_cancelling_twice_returns_the_ended_run(session: BackendSession) -> None:
    """The second cancel does not fail."""
    request = await session.new_request("Hello [emulate: stuck]")
    thread_id, run = await session.start(request)
    await session.backend.cancel(thread_id, run.id)
    ended = await session.wait(request, thread_id, run.id)
    assert ended.status == "cancelled"
    repeated = await session.backend.cancel(thread_id, run.id)
    assert repeated.status == "cancelled"


async def test_a_run_that_waits_for_functions_can_be_cancelled(session: BackendSession) -> None:
    """No outputs follow, so the run ends."""
    request = await session.new_request(f"Weather? {CALL}", WEATHER)
    thread_id, waiting = await session.start_and_wait(request)
    cancelled = await session.backend.cancel(thread_id, waiting.id)
    assert cancelled.status in {"cancelling", "cancelled"}


async def test_cancelling_a_completed_run_returns_it(session: BackendSession) -> None:
    """The answer came first and is kept."""
    request = await session.new_request("What is 2 + 2?")
    thread_id, run = await session.start_and_wait(request)
    assert (await session.backend.cancel(thread_id, run.id)).status == "completed"


async def test_an_unknown_status_is_returned_unchanged(session: BackendSession) -> None:
    """The lifecycle decides what it means."""
    request = await session.new_request("Hello [emulate: unknown(pondering)]")
    thread_id, run = await session.start(request)
    polled = await session.wait(request, thread_id, run.id, until=lambda run: run.status == "pondering")
    assert polled.status not in ENDED


async def test_every_profile_field_is_accepted(any_session: BackendSession) -> None:
    """All fields that the API supports, against a server that refuses unknown ones."""
    profile = Profile(
        name="Everything",
        description="All that can be said.",
        model="gpt-5-mini",
        instructions="Be brief.",
        tools=("code_interpreter",),
        functions=WEATHER.functions,
        file_search=FileSearch(max_num_results=3),
        max_completion_tokens=2048,
        truncation="auto",
        temperature=0.5,
        top_p=0.9,
        reasoning_effort="low",
        tool_choice="auto",
        parallel_tool_calls=False,
        metadata={"team": "maths"},
    )
    api_fields: dict[Api, dict[str, Any]] = {
        "assistants": {"max_prompt_tokens": 4096, "truncation": "last_messages:4"},
        "responses": {"service_tier": "default"},
        "chat": {"tools": (), "file_search": None, "truncation": None, "service_tier": "default"},
    }
    profile = profile.model_copy(update=api_fields[any_session.backend.api])
    run, answer = await any_session.answer("What is 2 + 2?", profile)
    assert run.status == "completed"
    assert "4" in answer.text


async def test_a_schema_gives_pure_json(any_session: BackendSession) -> None:
    """Structured output: the text is JSON without footnotes."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    _, answer = await any_session.answer(
        "What is 2 + 2?", PLAIN.model_copy(update={"response_schema": schema})
    )
    assert answer.text.startswith("{")
    assert answer.text.endswith("}")


async def test_runs_carry_our_metadata(any_session: BackendSession) -> None:
    """Batch, row and attempt are on the run at the API."""
    request = await any_session.new_request("What is 2 + 2?")
    before = any_session.stats()["runs_by_job"].get(f"{any_session.batch}:{request.row}", 0)
    await any_session.start(request)
    assert any_session.stats()["runs_by_job"][f"{any_session.batch}:{request.row}"] == before + 1


async def test_a_missing_run_is_a_404(session: BackendSession) -> None:
    """The lifecycle decides how long to wait for it."""
    request = await session.new_request("What is 2 + 2?")
    thread_id = await session.backend.create_thread(request)
    with pytest.raises(ApiError) as missing:
        await session.backend.poll_run(
            request, thread_id, "run_nowhere" if session.backend.api == "assistants" else "resp_no"
        )
    assert missing.value.status == 404


async def test_a_rate_limit_has_its_retry_after(session: BackendSession) -> None:
    """429 with Retry-After, on a create as on a poll."""
    request = await session.new_request("What is 2 + 2?")
    thread_id, run = await session.start(request)
    session.set_scenario("[http]\nrate_429 = 1.0\nretry_after_s = 3.0")
    for call in (
        session.backend.poll_run(request, thread_id, run.id),
        session.backend.create_thread(request),
    ):
        with pytest.raises(ApiError) as limited:
            await call
        assert (limited.value.status, limited.value.retry_after_s) == (429, 3.0)

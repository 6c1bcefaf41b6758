"""Recovery of a response whose create got no reply: from its conversation's items and its lock, without a list."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from askmill.jobs.model.models import Usage
from askmill.worker.backends.base import RunRequest
from askmill.worker.lifecycle.api_types import ApiError, LookupKind, RunLookup, ToolOutput
from tests.backends.backend_session import BackendSession, open_session
from tests.backends.test_backend_contract import CALL, WEATHER

DROP_REPLY = '[http]\ndrop_after = 1.0\nonly = ["POST /responses"]'


@pytest.fixture
async def session(emulator_url: str) -> AsyncIterator[BackendSession]:
    session = open_session(emulator_url, "responses")
    yield session
    session.set_scenario("")
    await session.backend.close()


async def lose_reply(session: BackendSession, request: RunRequest) -> str:
    """Create the response and lose its reply. Returns the thread's id."""
    thread_id = await session.backend.create_thread(request)
    session.set_scenario(DROP_REPLY)
    with pytest.raises(ApiError) as lost:
        await session.backend.create_run(request, thread_id)
    session.set_scenario("")
    assert lost.value.sent
    return thread_id


async def until_found(session: BackendSession, request: RunRequest, thread_id: str) -> RunLookup:
    return await session.until_found(lambda: session.backend.recover_run(request, thread_id, frozenset()))


async def test_a_running_response_is_seen_only_by_its_lock(session: BackendSession) -> None:
    """No items yet, and a create is refused as locked without cost. Then the items appear and are adopted."""
    request = await session.new_request("What is 17 * 23? [emulate: completed after=0.5]")
    thread_id = await lose_reply(session, request)
    assert (await session.backend.recover_run(request, thread_id, frozenset())).kind is LookupKind.NOTHING
    with pytest.raises(ApiError) as refused:
        await session.backend.create_run(request, thread_id)
    assert (refused.value.status, refused.value.code) == (400, "conversation_locked")

    assert (await until_found(session, request, thread_id)).kind is LookupKind.ANSWER
    answer = await session.backend.read_answer(request, thread_id, None)
    assert "391" in answer.text
    assert answer.run_id is None
    assert [step.type for step in answer.steps] == ["code_interpreter", "message"]
    assert {step.run_id for step in answer.steps} == {None}
    assert session.stats()["runs_by_job"][f"{session.batch}:{request.row}"] == 1


async def test_a_response_waiting_for_functions_continues_without_its_id(session: BackendSession) -> None:
    """Its items have the calls. The outputs go to the conversation, and the run has an id again."""
    request = await session.new_request(f"Weather? {CALL}", WEATHER)
    thread_id = await lose_reply(session, request)
    lookup = await until_found(session, request, thread_id)
    assert lookup.kind is LookupKind.RUN
    assert lookup.run is not None
    assert lookup.run.status == "requires_action"
    assert await session.backend.poll_run(request, thread_id, lookup.run.id) == lookup.run
    waiting = await session.backend.recover_submit(request, thread_id, lookup.run.id)
    assert (waiting.kind, waiting.run) == (LookupKind.NOTHING, lookup.run)

    outputs = (ToolOutput(lookup.run.tool_calls[0].id, "rain"),)
    continued = await session.backend.submit(request, thread_id, lookup.run.id, outputs)
    assert continued.id.startswith("resp_")
    await session.wait(request, thread_id, continued.id)
    answer = await session.backend.read_answer(request, thread_id, continued.id)
    assert "rain" in answer.text


async def test_tokens_of_a_run_are_summed_across_a_restart(
    session: BackendSession, emulator_url: str
) -> None:
    """A worker that never read the first response reads the same sum."""
    request = await session.new_request(f"Weather? {CALL}", WEATHER)
    thread_id, first = await session.start_and_wait(request)
    outputs = (ToolOutput(first.tool_calls[0].id, "rain"),)
    continued = await session.backend.submit(request, thread_id, first.id, outputs)
    ended = await session.wait(request, thread_id, continued.id)

    other = open_session(emulator_url, "responses")
    run = await other.backend.poll_run(request, thread_id, continued.id)
    answer = await other.backend.read_answer(request, thread_id, continued.id)
    await other.backend.close()
    assert run.usage == ended.usage
    assert first.usage.prompt_tokens
    alone = Usage(run.usage.prompt_tokens - first.usage.prompt_tokens, run.usage.completion_tokens)
    assert alone.prompt_tokens > 0
    assert alone.completion_tokens > 0
    assert [(step.type, step.run_id) for step in answer.steps] == [
        ("function", first.id),
        ("message", continued.id),
    ]
    assert answer.steps[0].details["output"] == "rain"


async def test_without_a_last_message_the_question_marks_the_turn(session: BackendSession) -> None:
    """A follow-up without `after` finds its own question."""
    request = await session.new_request("What is 17 * 23?")
    thread_id, run = await session.start_and_wait(request)
    first = await session.backend.read_answer(request, thread_id, run.id)
    later = session.next_turn_request(request, "What is 5 + 6?", first)
    without_after = replace(later, after_message_id=None)
    assert (
        await session.backend.recover_run(without_after, thread_id, frozenset())
    ).kind is LookupKind.NOTHING
    session.set_scenario(DROP_REPLY)
    with pytest.raises(ApiError):
        await session.backend.create_run(without_after, thread_id)
    session.set_scenario("")
    assert (await until_found(session, without_after, thread_id)).kind is LookupKind.ANSWER
    answer = await session.backend.read_answer(without_after, thread_id, None)
    assert "11" in answer.text
    assert "391" not in answer.text


async def test_reading_a_polled_response_costs_no_request(session: BackendSession) -> None:
    """The last poll already has the answer: one request a row less."""
    request = await session.new_request("What is 2 + 2?")
    thread_id, run = await session.start_and_wait(request)
    before = session.stats()["requests"]
    answer = await session.backend.read_answer(request, thread_id, run.id)
    assert "4" in answer.text
    assert session.stats()["requests"] == before

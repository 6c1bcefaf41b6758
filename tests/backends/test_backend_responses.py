"""What can be known of a response whose create got no reply: its conversation's items and its lock, no list."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import Usage
from askmill.worker.lifecycle.api_types import ApiError, LookupKind, ToolOutput
from tests.backends.api_support import bench
from tests.backends.test_backend import CALL, WEATHER
from tests.support import wait_until_async

LOSE = '[http]\ndrop_after = 1.0\nonly = ["POST /responses"]'


@pytest.fixture
async def openai(emulator_url):
    at = bench(emulator_url, "responses")
    yield at
    at.scenario("")
    await at.backend.close()


async def lose(openai, ask):
    """Make the response, but never hear of it."""
    thread_id = await openai.backend.make_thread(ask)
    openai.scenario(LOSE)
    with pytest.raises(ApiError) as lost:
        await openai.backend.make_run(ask, thread_id)
    openai.scenario("")
    assert lost.value.sent
    return thread_id


async def found(openai, ask, thread_id):
    async def look():
        seen = await openai.backend.find_run(ask, thread_id, frozenset())
        return seen if seen.kind is not LookupKind.NOTHING else None

    return await wait_until_async(look, "the response's items are there")


async def test_while_it_runs_only_the_lock_shows_it(openai):
    """No items yet; a create is refused as locked and buys nothing; then the items are there, and adopted."""
    ask = await openai.ask("What is 17 * 23? [emulate: completed after=0.5]")
    thread_id = await lose(openai, ask)
    assert (await openai.backend.find_run(ask, thread_id, frozenset())).kind is LookupKind.NOTHING
    with pytest.raises(ApiError) as locked:
        await openai.backend.make_run(ask, thread_id)
    assert (locked.value.status, locked.value.code) == (400, "conversation_locked")

    assert (await found(openai, ask, thread_id)).kind is LookupKind.ANSWER
    answer = await openai.backend.read(ask, thread_id, None)
    assert "391" in answer.text
    assert answer.run_id is None
    assert [step.type for step in answer.steps] == ["code_interpreter", "message"]
    assert {step.run_id for step in answer.steps} == {None}
    assert openai.stats()["runs_by_job"][f"{openai.batch}:{ask.row}"] == 1


async def test_one_that_waits_for_functions_goes_on_without_its_id(openai):
    """Its items name the calls: they are answered on the conversation, and the run has an id again."""
    ask = await openai.ask(f"Weather? {CALL}", WEATHER)
    thread_id = await lose(openai, ask)
    seen = await found(openai, ask, thread_id)
    assert seen.kind is LookupKind.RUN
    assert seen.run is not None
    assert seen.run.status == "requires_action"
    assert await openai.backend.look(ask, thread_id, seen.run.id) == seen.run
    waiting = await openai.backend.find_submitted(ask, thread_id, seen.run.id)
    assert (waiting.kind, waiting.run) == (LookupKind.NOTHING, seen.run)

    outputs = (ToolOutput(seen.run.tool_calls[0].id, "rain"),)
    going = await openai.backend.submit(ask, thread_id, seen.run.id, outputs)
    assert going.id.startswith("resp_")
    await openai.over(ask, thread_id, going.id)
    answer = await openai.backend.read(ask, thread_id, going.id)
    assert "rain" in answer.text


async def test_the_tokens_of_all_responses_of_a_run_are_summed_across_a_restart(openai, emulator_url):
    """Another worker, which never saw the first response, reads the sum all the same."""
    ask = await openai.ask(f"Weather? {CALL}", WEATHER)
    thread_id, run = await openai.begin(ask)
    first = await openai.over(ask, thread_id, run.id)
    outputs = (ToolOutput(first.tool_calls[0].id, "rain"),)
    going = await openai.backend.submit(ask, thread_id, first.id, outputs)
    ended = await openai.over(ask, thread_id, going.id)

    other = bench(emulator_url, "responses")
    seen = await other.backend.look(ask, thread_id, going.id)
    answer = await other.backend.read(ask, thread_id, going.id)
    await other.backend.close()
    assert seen.usage == ended.usage
    assert first.usage.prompt_tokens
    alone = Usage(seen.usage.prompt_tokens - first.usage.prompt_tokens, seen.usage.completion_tokens)
    assert alone.prompt_tokens > 0
    assert alone.completion_tokens > 0
    assert [(step.type, step.run_id) for step in answer.steps] == [
        ("function", first.id),
        ("message", going.id),
    ]
    assert answer.steps[0].details["output"] == "rain"


async def test_without_a_known_last_message_the_question_tells_the_turn(openai):
    """A follow-up that was not told what the turn before ended with finds its own question."""
    ask = await openai.ask("What is 17 * 23?")
    thread_id, run = await openai.begin(ask)
    await openai.over(ask, thread_id, run.id)
    first = await openai.backend.read(ask, thread_id, run.id)
    later = openai.next_turn(ask, "What is 5 + 6?", first)
    blind = replace(later, after=None)
    assert (await openai.backend.find_run(blind, thread_id, frozenset())).kind is LookupKind.NOTHING
    openai.scenario(LOSE)
    with pytest.raises(ApiError):
        await openai.backend.make_run(blind, thread_id)
    openai.scenario("")
    assert (await found(openai, blind, thread_id)).kind is LookupKind.ANSWER
    answer = await openai.backend.read(blind, thread_id, None)
    assert "11" in answer.text
    assert "391" not in answer.text


async def test_a_reading_costs_no_request_when_the_look_saw_the_end(openai):
    """The response that the last look saw is the answer: one request a job less."""
    ask = await openai.ask("What is 2 + 2?")
    thread_id, run = await openai.begin(ask)
    await openai.over(ask, thread_id, run.id)
    before = openai.stats()["requests"]
    answer = await openai.backend.read(ask, thread_id, run.id)
    assert "4" in answer.text
    assert openai.stats()["requests"] == before

"""What every backend promises, kept by both, against the emulator's real process."""

from dataclasses import replace

import pytest

from askmill.jobs.model.profile import FileSearch, Functions, FunctionTool, OpeningMessage, Profile
from askmill.worker.lifecycle.api_types import ENDED, ApiError, LookupKind, ToolOutput
from tests.backends.api_support import TUTOR
from tests.support import wait_until_async

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
SLOW = "after=0.3"


async def test_a_question_gets_its_answer(api):
    """Question in, text out, with the run's ids, times and tokens."""
    ask = await api.ask("What is 17 * 23?")
    thread_id, run = await api.begin(ask)
    ended = await api.over(ask, thread_id, run.id)
    answer = await api.backend.read(ask, thread_id, run.id)
    assert ended.status == "completed"
    assert ended.id == run.id
    assert ended.model == "gpt-5-mini"
    assert ended.usage.prompt_tokens
    assert ended.usage.completion_tokens
    assert ended.created_at is not None
    assert ended.finished_at is not None
    assert ended.created_at <= ended.finished_at
    assert "391" in answer.text
    assert (answer.messages, answer.refusal, answer.note) == (1, False, None)
    assert answer.run_id == run.id
    assert answer.last_message_id


async def test_steps_tell_what_the_run_did(api):
    """Code, its log, and the message, in order, as the same schema for both APIs."""
    run, answer = await api.answered("What is 17 * 23?")
    kinds = [step.type for step in answer.steps]
    assert kinds == ["code_interpreter", "message"]
    code, message = answer.steps
    assert code.run_id == run.id
    assert (code.attempt, code.status) == (1, "completed")
    assert "17" in code.details["code"]
    assert "391" in code.details["logs"]
    assert code.details["images"] == []
    assert "391" in message.details["text"]


async def test_several_messages_are_one_answer(api):
    """All messages of the run, in order, a blank line between."""
    _, answer = await api.answered("What is 2 + 2? [emulate: completed(two_messages)]")
    assert answer.messages == 2
    first, second = answer.text.split("\n\n")
    assert first == "Let me think about that."
    assert "4" in second


async def test_a_run_may_write_nothing(api):
    """No message is an outcome, told apart from an empty one."""
    run, answer = await api.answered("Hello [emulate: completed(no_message)]")
    assert run.status == "completed"
    assert (answer.messages, answer.text) == (0, "")


async def test_a_refusal_is_told(api):
    """The refusal's words are the answer, and it is marked as one."""
    _, answer = await api.answered("Hello [emulate: completed(refusal)]")
    assert answer.refusal
    assert answer.text.startswith("I'm sorry")


async def test_a_failed_run_tells_its_code(api):
    """`last_error` and `error` alike."""
    run, _ = await api.answered("Hello [emulate: failed(server_error)]")
    assert (run.status, run.error_code) == ("failed", "server_error")
    assert run.error_message


@pytest.mark.parametrize("reason", ["max_completion_tokens", "content_filter"])
async def test_an_incomplete_run_tells_its_reason_and_what_there_is(api, reason):
    """The reason has one name on both APIs, and the text so far is the answer."""
    ask = await api.ask(f"What is 2 + 2? [emulate: incomplete({reason})]", PLAIN)
    thread_id, run = await api.begin(ask)
    ended = await api.over(ask, thread_id, run.id)
    answer = await api.backend.read(ask, thread_id, run.id)
    assert (ended.status, ended.incomplete_reason) == ("incomplete", reason)
    assert answer.text


async def test_an_answer_that_was_cut_off_can_be_gone_on_with(api):
    """The next turn sees what there is, and its own text is only the rest."""
    question = "What is 17 * 23? [emulate: incomplete(max_completion_tokens), completed]"
    ask = await api.ask(question, PLAIN)
    thread_id, run = await api.begin(ask)
    await api.over(ask, thread_id, run.id)
    cut = await api.backend.read(ask, thread_id, run.id)
    going = replace(ask, attempt=2, question="Go on.", follow_up=True, after=cut.last_message_id)
    second = await api.backend.make_run(going, thread_id)
    ended = await api.over(going, thread_id, second.id)
    rest = await api.backend.read(going, thread_id, second.id)
    _, whole = await api.answered("What is 17 * 23?", PLAIN)
    assert ended.status == "completed"
    assert cut.text
    assert rest.text
    assert (cut.text + rest.text).replace(" ", "") == whole.text.replace(" ", "")


async def test_functions_are_asked_for_and_answered(api):
    """requires_action, outputs of all calls at once, and the run goes on to its answer and its steps."""
    ask = await api.ask(f"Weather? {CALL}", WEATHER)
    thread_id, run = await api.begin(ask)
    waiting = await api.over(ask, thread_id, run.id)
    assert waiting.status == "requires_action"
    (call,) = waiting.tool_calls
    assert (call.name, call.arguments) == ("get_weather", '{"city": "Oslo"}')

    going = await api.backend.submit(ask, thread_id, waiting.id, (ToolOutput(call.id, "rain"),))
    ended = await api.over(ask, thread_id, going.id)
    answer = await api.backend.read(ask, thread_id, going.id)
    assert ended.status == "completed"
    assert "rain" in answer.text
    function = next(step for step in answer.steps if step.type == "function")
    told = function.details
    assert (told["name"], told["arguments"], told["output"]) == ("get_weather", '{"city": "Oslo"}', "rain")
    assert answer.steps[-1].type == "message"


async def test_tokens_of_a_run_that_called_functions_count_as_one(api):
    """On Responses the run is two responses: the second's usage is the sum."""
    ask = await api.ask(f"Weather? {CALL}", WEATHER)
    thread_id, run = await api.begin(ask)
    waiting = await api.over(ask, thread_id, run.id)
    outputs = (ToolOutput(waiting.tool_calls[0].id, "rain"),)
    going = await api.backend.submit(ask, thread_id, waiting.id, outputs)
    ended = await api.over(ask, thread_id, going.id)
    assert ended.usage.prompt_tokens is not None
    if waiting.usage.prompt_tokens is not None:
        assert ended.usage.prompt_tokens > waiting.usage.prompt_tokens


async def test_a_run_whose_reply_was_lost_is_found(api):
    """The create was carried out, its reply never came: found by what stands on the thread."""
    ask = await api.ask("What is 3 + 4?")
    thread_id = await api.backend.make_thread(ask)
    assert (await api.backend.find_run(ask, thread_id, frozenset())).kind is LookupKind.NOTHING

    api.scenario('[http]\ndrop_after = 1.0\nonly = ["POST /threads/*/runs", "POST /responses"]')
    with pytest.raises(ApiError) as lost:
        await api.backend.make_run(ask, thread_id)
    api.scenario("")
    assert (lost.value.status, lost.value.sent) == (None, True)

    async def found():
        seen = await api.backend.find_run(ask, thread_id, frozenset())
        return seen if seen.kind is not LookupKind.NOTHING else None

    seen = await wait_until_async(found, "the lost run is found")
    run_id = seen.run.id if seen.run else None
    assert seen.kind is (LookupKind.RUN if run_id else LookupKind.ANSWER)
    assert not seen.duplicates
    if run_id:
        await api.over(ask, thread_id, run_id)
    answer = await api.backend.read(ask, thread_id, run_id)
    assert "7" in answer.text
    assert answer.steps
    assert api.stats()["runs_by_job"][f"{api.batch}:{ask.row}"] == 1


async def test_a_create_that_was_never_carried_out_leaves_nothing(api):
    """The connection broke before the server read the request: there is nothing to find."""
    ask = await api.ask("What is 3 + 4?")
    thread_id = await api.backend.make_thread(ask)
    api.scenario('[http]\ndrop_before = 1.0\nonly = ["POST /threads/*/runs", "POST /responses"]')
    with pytest.raises(ApiError):
        await api.backend.make_run(ask, thread_id)
    api.scenario("")
    assert (await api.backend.find_run(ask, thread_id, frozenset())).kind is LookupKind.NOTHING


async def test_a_second_run_meets_the_lock_of_the_first(api):
    """While ours runs, another create on its thread is refused, in words that the lifecycle knows."""
    ask = await api.ask("Hello [emulate: stuck]")
    thread_id, run = await api.begin(ask)
    with pytest.raises(ApiError) as locked:
        await api.backend.make_run(ask, thread_id)
    assert locked.value.status == 400
    assert locked.value.code == "conversation_locked" or run.id in locked.value.message


async def test_outputs_without_a_reply_are_looked_for(api):
    """NOTHING before they were sent; what goes on once they arrived."""
    ask = await api.ask(f"Weather? {CALL}", WEATHER)
    thread_id, run = await api.begin(ask)
    waiting = await api.over(ask, thread_id, run.id)
    outputs = (ToolOutput(waiting.tool_calls[0].id, "rain"),)
    before = await api.backend.find_submitted(ask, thread_id, waiting.id)
    assert before.kind is LookupKind.NOTHING
    assert before.run is not None
    assert before.run.tool_calls == waiting.tool_calls

    api.scenario('[http]\ndrop_after = 1.0\nonly = ["POST /threads/*/runs/*", "POST /responses"]')
    with pytest.raises(ApiError):
        await api.backend.submit(ask, thread_id, waiting.id, outputs)
    api.scenario("")

    async def found():
        seen = await api.backend.find_submitted(ask, thread_id, waiting.id)
        return seen if seen.kind is not LookupKind.NOTHING else None

    seen = await wait_until_async(found, "the outputs are found")
    run_id = seen.run.id if seen.run else None
    if run_id:
        await api.over(ask, thread_id, run_id)
    answer = await api.backend.read(ask, thread_id, run_id)
    assert "rain" in answer.text
    assert [step.details["output"] for step in answer.steps if step.type == "function"] == ["rain"]


async def test_a_running_run_can_be_cancelled_and_twice(api):
    """Cancelled, and a second cancel shows the ended run instead of failing."""
    ask = await api.ask("Hello [emulate: stuck]")
    thread_id, run = await api.begin(ask)
    await api.backend.cancel(thread_id, run.id)
    ended = await api.over(ask, thread_id, run.id)
    assert ended.status == "cancelled"
    again = await api.backend.cancel(thread_id, run.id)
    assert again.status == "cancelled"


async def test_a_run_that_waits_for_functions_can_be_cancelled(api):
    """Nobody will answer the calls: the run ends."""
    ask = await api.ask(f"Weather? {CALL}", WEATHER)
    thread_id, run = await api.begin(ask)
    waiting = await api.over(ask, thread_id, run.id)
    cancelled = await api.backend.cancel(thread_id, waiting.id)
    assert cancelled.status in {"cancelling", "cancelled"}


async def test_cancelling_what_has_completed_shows_the_completion(api):
    """The answer came first: it is kept."""
    ask = await api.ask("What is 2 + 2?")
    thread_id, run = await api.begin(ask)
    await api.over(ask, thread_id, run.id)
    assert (await api.backend.cancel(thread_id, run.id)).status == "completed"


async def test_a_status_never_seen_before_is_shown_as_it_is(api):
    """The lifecycle decides; the backend does not judge."""
    ask = await api.ask("Hello [emulate: unknown(pondering)]")
    thread_id, run = await api.begin(ask)
    seen = await api.over(ask, thread_id, run.id, until=lambda run: run.status == "pondering")
    assert seen.status not in ENDED


async def test_a_later_turn_reads_only_its_own(api):
    """Two questions on one thread: the second answer holds nothing of the first."""
    ask = await api.ask("What is 17 * 23?")
    thread_id, run = await api.begin(ask)
    await api.over(ask, thread_id, run.id)
    first = await api.backend.read(ask, thread_id, run.id)

    later = api.next_turn(ask, "What is 5 + 6?", first)
    assert (await api.backend.find_run(later, thread_id, frozenset({run.id}))).kind is LookupKind.NOTHING
    going = await api.backend.make_run(later, thread_id)
    assert going.id != run.id
    await api.over(later, thread_id, going.id)
    second = await api.backend.read(later, thread_id, going.id)
    assert "11" in second.text
    assert "391" not in second.text
    assert second.messages == 1


async def test_the_lost_run_of_a_later_turn_is_told_from_the_turns_before(api):
    """On a shared thread only this turn's run, or items, are taken."""
    ask = await api.ask("What is 17 * 23?")
    thread_id, run = await api.begin(ask)
    await api.over(ask, thread_id, run.id)
    first = await api.backend.read(ask, thread_id, run.id)
    later = api.next_turn(ask, "What is 5 + 6?", first)
    made = await api.backend.make_run(later, thread_id)
    await api.over(later, thread_id, made.id)

    seen = await api.backend.find_run(later, thread_id, frozenset({run.id}))
    answer = await api.backend.read(later, thread_id, seen.run.id if seen.run else None)
    assert "11" in answer.text
    assert "391" not in answer.text


async def test_clearing_a_turn_keeps_the_turns_before(api):
    """What a dead run left behind the last good message goes; that message stays the last."""
    ask = await api.ask("What is 17 * 23?")
    thread_id, run = await api.begin(ask)
    await api.over(ask, thread_id, run.id)
    first = await api.backend.read(ask, thread_id, run.id)
    dead = api.next_turn(ask, "What is 5 + 6?", first)
    made = await api.backend.make_run(dead, thread_id)
    await api.over(dead, thread_id, made.id)

    await api.backend.clear_turn(thread_id, first.last_message_id)
    await api.backend.clear_turn(thread_id, first.last_message_id)

    on_thread = run.id if api.backend.api == "assistants" else None
    kept = await api.backend.read(ask, thread_id, on_thread)
    assert kept.text == first.text
    again = replace(dead, attempt=2, question="What is 8 + 9?")
    found = await api.backend.find_run(again, thread_id, frozenset({run.id, made.id}))
    assert found.kind is LookupKind.NOTHING
    going = await api.backend.make_run(again, thread_id)
    await api.over(again, thread_id, going.id)
    answer = await api.backend.read(again, thread_id, going.id)
    assert "17" in answer.text
    assert "11" not in answer.text


async def test_opening_messages_stand_before_the_question(api):
    """They are not taken for an answer, neither when read nor when a lost run is looked for."""
    profile = replace_profile(
        messages=(
            OpeningMessage(role="user", content="I like short answers."),
            OpeningMessage(role="assistant", content="Noted: short answers."),
        )
    )
    ask = await api.ask("What is 2 + 2?", profile)
    thread_id = await api.backend.make_thread(ask)
    assert (await api.backend.find_run(ask, thread_id, frozenset())).kind is LookupKind.NOTHING
    run = await api.backend.make_run(ask, thread_id)
    await api.over(ask, thread_id, run.id)
    answer = await api.backend.read(ask, thread_id, run.id)
    assert "Noted" not in answer.text
    found = await api.backend.find_run(ask, thread_id, frozenset())
    adopted = await api.backend.read(ask, thread_id, found.run.id if found.run else None)
    assert adopted.text == answer.text


async def test_everything_a_profile_can_say_is_accepted(api):
    """All fields of a profile that the API knows, against a server that refuses unknown ones."""
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
    more = (
        {"max_prompt_tokens": 4096, "truncation": "last_messages:4"}
        if api.backend.api == "assistants"
        else {"service_tier": "default"}
    )
    run, answer = await api.answered("What is 2 + 2?", profile.model_copy(update=more))
    assert run.status == "completed"
    assert "4" in answer.text


async def test_a_schema_gives_pure_json(api):
    """Structured output: the text is JSON and nothing else."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    _, answer = await api.answered("What is 2 + 2?", PLAIN.model_copy(update={"response_schema": schema}))
    assert answer.text.startswith("{")
    assert answer.text.endswith("}")


async def test_runs_carry_our_metadata(api):
    """Batch, row and attempt are on the run at the API."""
    ask = await api.ask("What is 2 + 2?")
    before = api.stats()["runs_by_job"].get(f"{api.batch}:{ask.row}", 0)
    await api.begin(ask)
    assert api.stats()["runs_by_job"][f"{api.batch}:{ask.row}"] == before + 1


async def test_a_run_that_is_not_there_is_a_404(api):
    """The lifecycle gives it its grace; the backend says it plainly."""
    ask = await api.ask("What is 2 + 2?")
    thread_id = await api.backend.make_thread(ask)
    with pytest.raises(ApiError) as absent:
        await api.backend.look(
            ask, thread_id, "run_nowhere" if api.backend.api == "assistants" else "resp_no"
        )
    assert absent.value.status == 404


async def test_a_rate_limit_tells_how_long_to_wait(api):
    """429 with Retry-After, on a create as on a look."""
    ask = await api.ask("What is 2 + 2?")
    thread_id, run = await api.begin(ask)
    api.scenario("[http]\nrate_429 = 1.0\nretry_after_s = 3.0")
    for request in (api.backend.look(ask, thread_id, run.id), api.backend.make_thread(ask)):
        with pytest.raises(ApiError) as limited:
            await request
        assert (limited.value.status, limited.value.retry_after_s) == (429, 3.0)


def replace_profile(**changes):
    return TUTOR.model_copy(update=changes)

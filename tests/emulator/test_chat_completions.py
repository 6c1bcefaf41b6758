"""Chat completions as OpenAI serves them: answers, streams, tools, limits, refusals, the ledger."""

import base64
import json
from typing import Any

import pytest
from openai import APIStatusError, NotFoundError

from askmill.emulator.simulation.samples import CHART_PNG
from tests.emulator.chat_support import (
    FORMAT,
    QUESTION,
    SCHEMA,
    USAGE,
    body_of,
    client_of,
    complete,
    finish_of,
    job,
    post,
    refusal,
    stream,
    text_of,
    user,
)
from tests.emulator.emulator_support import Emulator
from tests.helpers.sse import chunks
from tests.support import wait_until

CALL = '[emulate: requires_action(double, {"n": 21}, triple, {"n": 14})] Compute it.'


async def test_a_stream_joins_to_the_unstreamed_answer(emulator: Emulator) -> None:
    """The same text, finish_reason and usage both ways; the role comes first, the usage last, without choices."""
    async with client_of(emulator) as client:
        whole = await complete(client, QUESTION)
        streamed = await stream(client, QUESTION, stream_options=USAGE)
    assert "42" in whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    assert text_of(streamed) == whole.choices[0].message.content
    assert streamed[0].choices[0].delta.role == "assistant"
    assert finish_of(streamed) == "stop"
    assert (streamed[-1].choices, streamed[-1].usage) == ([], whole.usage)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
    assert whole.usage.prompt_tokens_details.cached_tokens == 0
    assert {chunk.id for chunk in streamed} == {streamed[0].id} != {whole.id}


def test_a_stream_is_framed_as_events(emulator: Emulator) -> None:
    """One `data:` line an event, a blank line behind it, [DONE] last; no usage that was not asked for."""
    status, raw = post(emulator.url, body_of(QUESTION, stream=True))
    assert status == 200
    read = chunks(raw)
    assert all("usage" not in chunk for chunk in read)
    assert all(len(chunk["choices"]) == 1 for chunk in read)
    asked = chunks(post(emulator.url, body_of(QUESTION, stream=True, stream_options=USAGE))[1])
    assert [chunk["usage"] for chunk in asked[:-1]] == [None] * (len(asked) - 1)
    assert asked[-1]["choices"] == []


async def test_functions_are_called_in_rounds(emulator: Emulator) -> None:
    """Each round brings the calls, streamed in pieces; the last call answers with what they returned."""
    question = CALL.replace(")]", ") rounds=2]")
    messages: list[Any] = user(question)
    async with client_of(emulator) as client:
        for streamed in (False, True):
            if streamed:
                got = await stream(client, messages)
                calls = _joined_calls(got)
                assert finish_of(got) == "tool_calls"
            else:
                choice = (await complete(client, messages)).choices[0]
                assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
                calls = [call.to_dict() for call in choice.message.tool_calls]
            names = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
            assert names == [("double", '{"n": 21}'), ("triple", '{"n": 14}')]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": "42"} for call in calls]
        last = await complete(client, messages)
    assert last.choices[0].message.content.count("= 42") == 2


def _joined_calls(got: list[Any]) -> list[Any]:
    calls: list[Any] = []
    for piece in [one for chunk in got for one in chunk.choices[0].delta.tool_calls or []]:
        if piece.index == len(calls):
            function = {"name": piece.function.name, "arguments": ""}
            calls.append({"id": piece.id, "type": "function", "function": function})
        calls[piece.index]["function"]["arguments"] += piece.function.arguments
    return calls


ASKED = {"role": "user", "content": "Compute it."}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "double", "arguments": "{}"}},
        {"id": "call_2", "type": "function", "function": {"name": "double", "arguments": "{}"}},
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}


@pytest.mark.parametrize(
    ("messages", "said", "param"),
    [
        ([ASKED, CALLING, RESULT], "did not have response messages: call_2", "messages.[3].role"),
        ([ASKED, CALLING, RESULT, ASKED], "did not have response messages: call_2", "messages.[3].role"),
        ([ASKED, CALLING, ASKED], "response messages: call_1, call_2", "messages.[2].role"),
        ([ASKED, RESULT], "must be a response to a preceeding message", "messages.[1].role"),
    ],
)
def test_every_call_is_answered_before_anything_else(
    emulator: Emulator, messages: Any, said: str, param: str
) -> None:
    """400 in OpenAI's words, for a missing result and for one that answers nothing; nothing is carried out."""
    before = emulator.stats()["runs_created"]
    status, error = refusal(emulator.url, messages)
    assert (status, error["param"]) == (400, param)
    assert said in error["message"]
    assert emulator.stats()["runs_created"] == before


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 5}, "invalid_parameter_combination", "max_tokens"),
        ({"stream_options": USAGE}, None, "stream_options"),
        ({"max_output_tokens": 5}, "unknown_parameter", "max_output_tokens"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "invalid_value", "messages[0].role"),
    ],
)
def test_bad_requests_are_refused(emulator: Emulator, fields: Any, code: str | None, param: str) -> None:
    """400 naming the field, before anything is carried out."""
    status, error = refusal(emulator.url, QUESTION, **fields)
    assert (status, error["code"], error["param"]) == (400, code, param)


async def test_an_unknown_model_is_404(emulator: Emulator) -> None:
    """As OpenAI's; both for a call and for the model itself."""
    async with client_of(emulator) as client:
        for request in (complete(client, QUESTION, model="no-such-model"), client.models.retrieve("no-such")):
            with pytest.raises(NotFoundError) as refused:
                await request
            assert refused.value.code == "model_not_found"


async def test_limits_cut(emulator: Emulator) -> None:
    """`length` cuts text, JSON and arguments; the usage is the limit; without one everything is whole."""
    long = "[emulate: completed(long)] " + QUESTION
    async with client_of(emulator) as client:
        for name in ("max_tokens", "max_completion_tokens"):
            cut = await complete(client, long, **{name: 40})
            assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 40)
            assert finish_of(await stream(client, long, **{name: 40})) == "length"
        whole = json.loads(
            (await complete(client, QUESTION, response_format=FORMAT)).choices[0].message.content
        )
        assert set(whole) == set(SCHEMA["properties"])
        part = (await complete(client, long, response_format=FORMAT, max_tokens=20)).choices[0]
        assert part.finish_reason == "length"
        with pytest.raises(json.JSONDecodeError):
            json.loads(part.message.content)
        calling = (await complete(client, CALL, max_tokens=3)).choices[0]
        assert calling.finish_reason == "length"
        (call,) = calling.message.tool_calls
        with pytest.raises(json.JSONDecodeError):
            json.loads(call.function.arguments)
        directed = await complete(client, f"[emulate: incomplete(max_completion_tokens)] {QUESTION}")
        assert directed.choices[0].finish_reason == "length"


async def test_continuing_joins_to_the_whole(emulator: Emulator) -> None:
    """A truncated answer and what `continue` brings are the whole answer."""
    long = "[emulate: completed(long)] " + QUESTION
    async with client_of(emulator) as client:
        whole = (await complete(client, long)).choices[0].message.content
        part = (await complete(client, long, max_tokens=100)).choices[0].message.content
        rest = await complete(
            client, [*user(long), {"role": "assistant", "content": part}, *user("Please continue.")]
        )
    assert part + rest.choices[0].message.content == whole


async def test_reasoning_takes_of_the_limit(emulator: Emulator) -> None:
    """Reasoning tokens are counted as written; all of the limit may go into them, and the answer is empty."""
    question = f"[emulate: completed(reasoning)] {QUESTION}"
    async with client_of(emulator) as client:
        thought = await complete(client, question)
        empty = await complete(client, question, max_completion_tokens=20)
    assert thought.usage.completion_tokens_details.reasoning_tokens == 64
    assert thought.usage.completion_tokens > 64
    assert (empty.choices[0].finish_reason, empty.choices[0].message.content) == ("length", None)
    assert empty.usage.completion_tokens == empty.usage.completion_tokens_details.reasoning_tokens == 20


@pytest.mark.parametrize(
    ("outcome", "reason", "has_text"),
    [
        ("incomplete(content_filter)", "content_filter", True),
        ("unknown(insufficient_system_resource)", "insufficient_system_resource", True),
        ("cancelled", "abort", True),
        ("completed(no_message)", "stop", False),
        ("completed(two_messages)", "stop", True),
        ("completed(refusal)", "stop", False),
    ],
)
async def test_outcomes(emulator: Emulator, outcome: str, reason: str, has_text: bool) -> None:
    """Each directed outcome has its finish_reason, streamed and not."""
    question = f"[emulate: {outcome}] {QUESTION}"
    async with client_of(emulator) as client:
        whole = (await complete(client, question)).choices[0]
        streamed = await stream(client, question)
    assert whole.finish_reason == finish_of(streamed) == reason
    assert bool(whole.message.content) == bool(text_of(streamed)) == has_text
    assert bool(whole.message.refusal) == (outcome == "completed(refusal)")


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ("failed(server_error)", 500, "server_error"),
        ("failed(rate_limit_exceeded)", 429, "rate_limit_exceeded"),
        ("failed(resource_unavailable)", 429, "resource_unavailable"),
        ("failed(503)", 503, None),
        ("expired", 500, "server_error"),
        ("incomplete(max_prompt_tokens)", 400, "context_length_exceeded"),
    ],
)
def test_a_call_that_fails_before_its_first_chunk_is_refused(
    emulator: Emulator, outcome: str, status: int, code: str | None
) -> None:
    """With its HTTP status, streamed and not; its tokens are not counted."""
    before = emulator.stats()["tokens"]
    for streamed in (False, True):
        got, error = refusal(emulator.url, f"[emulate: {outcome}] {QUESTION}", stream=streamed)
        assert (got, error["code"]) == (status, code)
    assert emulator.stats()["tokens"] == before


async def test_a_call_may_fail_in_mid_stream(emulator: Emulator) -> None:
    """`partial`: half of the answer, then an error event, and no finish_reason."""
    question = f"[emulate: failed(server_error, partial)] {QUESTION}"
    *some, error = chunks(post(emulator.url, body_of(question, stream=True))[1])
    assert error["error"]["code"] == "server_error"
    assert some[1]["choices"][0]["delta"]["content"]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in some)
    assert post(emulator.url, body_of(question))[0] == 500


async def test_each_attempt_plays_its_outcome(emulator: Emulator) -> None:
    """Attempts are counted by job; without a job, by the question."""
    question = f"[emulate: failed(server_error), completed] {QUESTION}"
    async with client_of(emulator) as client:
        for headers in (job(100), job(101), {}):
            with pytest.raises(APIStatusError):
                await complete(client, question, extra_headers=headers)
            assert (await complete(client, question, extra_headers=headers)).choices[
                0
            ].finish_reason == "stop"
    by_job = emulator.stats()["runs_by_job"]
    assert (by_job["b1:100"], by_job["b1:101"]) == (2, 2)


async def test_images_come_as_data_or_addresses(emulator: Emulator) -> None:
    """A data URL of a picture or an http address; anything else is refused and named."""
    data = f"data:image/png;base64,{base64.b64encode(CHART_PNG).decode()}"

    def messages(url: str) -> Any:
        picture = {"type": "image_url", "image_url": {"url": url}}
        return [{"role": "user", "content": [{"type": "text", "text": QUESTION}, picture]}]

    async with client_of(emulator) as client:
        for url in (data, "https://example.org/a.png"):
            seen = await complete(client, messages(url))
            assert "42" in seen.choices[0].message.content
            assert seen.usage.prompt_tokens > 85
    for url in ("data:image/png;base64,!", "data:text/plain;base64,YQ==", "file:///etc/passwd"):
        status, error = refusal(emulator.url, messages(url))
        assert (status, error["param"]) == (400, "messages[0].content[1].image_url.url")


async def test_the_served_tier_and_cached_tokens_are_told(emulator: Emulator) -> None:
    """`fast` is served as `priority`; a long beginning that was sent before counts as cached."""
    long = "word " * 2000
    history: Any = [*user(long), {"role": "assistant", "content": "Yes?"}, *user(QUESTION)]
    async with client_of(emulator) as client:
        for asked, served in ((None, "default"), ("auto", "default"), ("flex", "flex"), ("fast", "priority")):
            fields = {"service_tier": asked} if asked else {}
            assert (await complete(client, QUESTION, **fields)).service_tier == served
            assert (await stream(client, QUESTION, **fields))[0].service_tier == served
        usage = (await complete(client, history)).usage
    assert 1024 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


async def test_the_ledger_counts_calls_that_were_carried_out(emulator: Emulator) -> None:
    """One a call, by the job in its header; refused ones are none; tokens are those of the usage."""
    before = emulator.stats()
    async with client_of(emulator) as client:
        for attempt in (1, 2):
            done = await complete(client, QUESTION, extra_headers=job(7, attempt))
        await stream(client, QUESTION, extra_headers={"X-Askmill-Job": "nonsense"})
        with pytest.raises(APIStatusError):
            await complete(client, QUESTION, max_tokens=0, extra_headers=job(8))
    now = emulator.stats()
    assert now["runs_by_job"]["b1:7"] == 2
    assert "b1:8" not in now["runs_by_job"]
    assert now["runs_created"] - before["runs_created"] == 3
    assert now["tokens"] - before["tokens"] == 3 * done.usage.total_tokens
    assert now["requests"]["POST /chat/completions"] - before["requests"]["POST /chat/completions"] == 4
    assert now["runs_active"] == 0


async def test_nothing_is_kept_after_the_reply(emulator: Emulator) -> None:
    """Also with `store`: there is nothing to look up."""
    async with client_of(emulator) as client:
        done = await complete(client, QUESTION, store=True, metadata={"a": "b"})
        with pytest.raises(NotFoundError):
            await client.chat.completions.retrieve(done.id)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_is_given_up_when_its_client_goes(emulator: Emulator, streamed: bool) -> None:
    """It ends at once, and is in the ledger as carried out."""
    async with client_of(emulator) as client:
        created = emulator.stats()["runs_created"]
        question = f"[emulate: stuck] {QUESTION}"
        with pytest.raises(TimeoutError):
            await _abandoned(client, question, streamed)
    wait_until(lambda: emulator.stats()["runs_active"] == 0, "the call was given up")
    assert emulator.stats()["runs_created"] == created + 1


async def _abandoned(client: Any, question: str, streamed: bool) -> None:
    try:
        if streamed:
            async for _ in await client.chat.completions.create(
                **body_of(question, stream=True), timeout=0.5
            ):
                pass
        await complete(client, question, timeout=0.5)
    except Exception as error:
        raise TimeoutError from error

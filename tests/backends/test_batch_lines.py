"""Lines of batch jobs: what is sent equals a live request, and whatever comes back is read as an outcome."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askmill.jobs.model.models import Api, Usage
from askmill.jobs.model.profile import Resources
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.batch_lines import (
    LIVE_ONLY,
    Again,
    Answered,
    LineContext,
    Outcome,
    Refused,
    Unreadable,
    read_line,
    request_line,
)
from askmill.worker.lifecycle.error_rule import ErrorClass
from tests.backends.stub_server import StubServer, backend_at, run_request, serving
from tests.backends.test_request_bodies import PLAIN, SCHEMA, profiles
from tests.helpers.schema_values import mutated

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5-mini-2025-08-07",
    "service_tier": "default",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Two and two."}]},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "4", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 9,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 3},
    },
}
COMPLETION = {
    "id": "chatcmpl_1",
    "object": "chat.completion",
    "model": "gpt-5-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "4", "reasoning_content": "Two and two."},
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 5},
}


def line(response: Any = None, error: Any = None, **fields: Any) -> bytes:
    return orjson.dumps({"id": "b_1", "custom_id": "7-1", "response": response, "error": error, **fields})


def reply(body: Any, status: Any = 200) -> dict[str, Any]:
    return {"status_code": status, "request_id": "req_1", "body": body}


def refusal(status: int, message: str, code: str | None = None, param: str | None = None) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return line(reply({"error": error}, status))


def answered(outcome: Outcome) -> Answered:
    assert isinstance(outcome, Answered)
    return outcome


# ── the input ──


@st.composite
def requests(draw: st.DrawFn, *, chat: bool) -> RunRequest:
    profile = draw(profiles).model_copy(update={"tools": (), "functions": None, "tool_choice": None})
    path = draw(st.sampled_from([None, "https://example.com/a.png", "b.png"]))
    return run_request(
        row=draw(st.integers(1, 10**9)),
        attempt=draw(st.integers(1, 9)),
        question=draw(st.text(min_size=1, max_size=30)),
        profile=profile,
        resources=Resources(row_files={"a.csv": "file-2", "b.png": "file-3"}),
        image=path,
        images={"b.png": "data:image/png;base64,AA"},
        file=None if chat else draw(st.sampled_from([None, "a.csv"])),
        max_completion_tokens=draw(st.none() | st.integers(16, 9999)),
    )


Send = Callable[[Api, RunRequest], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def send() -> Iterator[Send]:
    """Creates a run with a live backend at a server of this process. Returns the bodies that it was sent."""
    server, loop = StubServer(), asyncio.new_event_loop()
    server.routes = {
        "POST /conversations": {"id": "conv_1"},
        "POST /responses": RESPONSE,
        "POST /chat/completions": COMPLETION,
    }
    address = serving(server)
    url = loop.run_until_complete(address.__aenter__())

    async def create(api: Api, request: RunRequest) -> list[dict[str, Any]]:
        server.requests.clear()
        async with backend_at(url, api) as backend:
            await backend.create_run(request, await backend.create_thread(request))
        return [body for _, body in server.requests]

    yield lambda api, request: loop.run_until_complete(create(api, request))
    loop.run_until_complete(address.__aexit__(None, None, None))
    loop.close()


def sent_line(request: RunRequest, api: Api) -> dict[str, Any]:
    sent = request_line("7-1", request, api, "http://127.0.0.1/v1")
    assert sent.count(b"\n") == 1
    assert sent.endswith(b"\n")
    return dict(orjson.loads(sent))


@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(request=requests(chat=False))
def test_a_line_equals_the_live_response(send: Send, request: RunRequest) -> None:
    """The same fields but those of a live run; the conversation's opening messages precede the question."""
    conversation, response = send("responses", request)
    sent = sent_line(request, "responses")
    assert (sent["custom_id"], sent["method"], sent["url"]) == ("7-1", "POST", "/v1/responses")
    response["input"] = [*conversation.get("items", []), *response["input"]]
    assert sent["body"] == {name: value for name, value in response.items() if name not in LIVE_ONLY}
    assert {"background", "conversation"} <= set(response)
    assert not {"background", "conversation", "stream", "service_tier"} & set(sent["body"])


@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(request=requests(chat=True))
def test_a_line_equals_the_live_completion(send: Send, request: RunRequest) -> None:
    """The same fields without the stream."""
    (completion,) = send("chat", request)
    sent = sent_line(request, "chat")
    assert sent["url"] == "/v1/chat/completions"
    assert sent["body"] == {name: value for name, value in completion.items() if name not in LIVE_ONLY}
    assert completion["stream"] is True
    assert not {"stream", "stream_options", "service_tier"} & set(sent["body"])


@pytest.mark.parametrize("custom_id", ["", "a" * 65, "row 1", "ü", "a:b", "a\n"])
def test_a_custom_id_that_a_server_may_refuse_is_an_error(custom_id: str) -> None:
    """Anthropic refuses the whole batch for it."""
    with pytest.raises(ValueError, match="custom_id"):
        request_line(custom_id, run_request(), "responses", "http://127.0.0.1/v1")


# ── the results ──


@pytest.mark.parametrize(("body", "usage", "run_id"), [
    (RESPONSE, Usage(9, 5, 2, None, 3), "resp_1"),
    (COMPLETION, Usage(9, 5), "chatcmpl_1"),
])  # fmt: skip
def test_an_answered_line_is_an_ended_run(body: Any, usage: Usage, run_id: str) -> None:
    """Text, tokens, model and reasoning as the live backend gives them; billed as batch, whatever tier is named."""
    outcome = answered(read_line(line(reply(body)), lambda _: LineContext(attempt=2)))
    run = outcome.run
    assert run.answer is not None
    assert (outcome.custom_id, run.id, run.status, run.tier) == ("7-1", run_id, "completed", "batch")
    assert (run.answer.text, run.answer.messages, run.answer.run_id) == ("4", 1, run_id)
    assert (run.usage, run.model) == (usage, body["model"])
    assert [(step.type, step.attempt) for step in run.answer.steps] == [("reasoning", 2), ("message", 2)]
    assert run.answer.steps[0].details["text"] == "Two and two."


def test_incomplete_and_refused_answers_are_told_apart() -> None:
    """A limit, a refusal and a run that failed at the server are answers, with their reasons."""
    cut = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert answered(read_line(line(reply(cut)))).run.incomplete_reason == "max_completion_tokens"
    message = {**RESPONSE["output"][1], "content": [{"type": "refusal", "refusal": "No."}]}
    refused = answered(read_line(line(reply({**RESPONSE, "output": [message]})))).run
    assert refused.answer is not None
    assert refused.answer.refusal
    failed = {**RESPONSE, "status": "failed", "output": [], "error": {"code": "server_error", "message": "x"}}
    assert answered(read_line(line(reply(failed)))).run.error_code == "server_error"
    choice = {"finish_reason": "length", "message": {"content": "4"}}
    cut_completion = answered(read_line(line(reply({**COMPLETION, "choices": [choice]})))).run
    assert cut_completion.incomplete_reason == "max_completion_tokens"


def test_footnotes_do_not_break_a_json_answer() -> None:
    """As for the live backend: not with a response schema."""
    citation = {
        "type": "url_citation", "start_index": 0, "end_index": 1, "url": "https://a.test", "title": "A",
    }  # fmt: skip
    part = {"type": "output_text", "text": "4", "annotations": [citation]}
    body = {**RESPONSE, "output": [{**RESPONSE["output"][1], "content": [part]}]}
    texts = [
        run.answer.text
        for shown in (True, False)
        if (
            run := answered(
                read_line(line(reply(body)), lambda _, shown=shown: LineContext(footnotes=shown))
            ).run
        ).answer
    ]
    assert texts[0] != "4"
    assert texts[1] == "4"


@pytest.mark.parametrize(("sent", "error_class"), [
    (refusal(400, "Your prompt was flagged", "invalid_prompt"), ErrorClass.ROW),
    (refusal(400, "Invalid URL", param="input[0].content"), ErrorClass.ROW),
    (refusal(400, "The model `gpt-9` does not exist", "model_not_found"), ErrorClass.BATCH),
    (refusal(429, "You exceeded your current quota", "insufficient_quota"), ErrorClass.BATCH),
    (refusal(401, "Incorrect API key provided", "invalid_api_key"), ErrorClass.BATCH),
    (refusal(400, "Unsupported value", param="temperature"), ErrorClass.BATCH),
    (refusal(400, "Who knows"), ErrorClass.UNCLEAR),
    (line(error={"code": "invalid_prompt", "message": "flagged"}), ErrorClass.ROW),
    (line(reply({"error": "input is too long: flagged"}, "400")), ErrorClass.UNCLEAR),
])  # fmt: skip
def test_a_refused_line_has_its_fault_from_the_one_table(sent: bytes, error_class: ErrorClass) -> None:
    """`error` is null and the status 400: no answer, not billed (inspect_ai takes such a line for an answer)."""
    outcome = read_line(sent)
    assert isinstance(outcome, Refused)
    assert outcome.fault.error_class is error_class


def test_a_setting_of_the_row_itself_fails_the_row_only() -> None:
    """`--override model`: another row may name a model that exists."""
    sent = refusal(400, "The model `gpt-9` does not exist", "model_not_found")
    context = LineContext(row_overrides=frozenset({"model"}), model="gpt-9")
    outcome = read_line(sent, lambda _: context)
    assert isinstance(outcome, Refused)
    assert outcome.fault.error_class is ErrorClass.ROW


@pytest.mark.parametrize("sent", [
    refusal(429, "Rate limit reached", "rate_limit_exceeded"),
    refusal(500, "The server had an error"),
    refusal(503, "overloaded"),
    line(error={"code": "batch_expired", "message": "This request could not be executed before the batch expired."}),
    line(error={"code": "batch_cancelled", "message": "This request was not executed."}),
    refusal(400, "This request was not executed.", "batch_cancelled"),
    line(error={"code": "server_error", "message": "try again"}),
    line(error={"code": "500", "message": "upstream"}),
    line(reply({"error": {"message": "busy", "code": 503}})),
])  # fmt: skip
def test_what_did_not_run_is_asked_again(sent: bytes) -> None:
    """429, 5xx and what the end of the job left out: not billed."""
    assert isinstance(read_line(sent), Again)


@pytest.mark.parametrize(("sent", "custom_id"), [
    (b"", None), (b"null", None), (b"[]", None), (b"7", None), (b'"x"', None), (b"{}", None),
    (line(custom_id=None), None),
    (line(), "7-1"), (line(reply(None, 0)), "7-1"), (line(reply("text", 200)), "7-1"),
    (line(reply({"id": "resp_1"})), "7-1"),
    (line(reply(RESPONSE))[:-40], "7-1"),
    (b'{"custom_id":"7-1","response":' + b"[" * 100_000, "7-1"),
    (b'{"custom_id":"7-1","a":[' + b"1," * 1_000_001 + b"1]}", "7-1"),
])  # fmt: skip
def test_an_unreadable_line_names_its_row_where_it_can(sent: bytes, custom_id: str | None) -> None:
    """`2000 completed, 0 failed` with `status_code` 0: such a line is no answer, and may be billed."""
    outcome = read_line(sent)
    assert isinstance(outcome, Unreadable)
    assert outcome.custom_id == custom_id
    assert outcome.reason


def test_other_servers_leave_fields_out() -> None:
    """Groq, Together and vLLM: no line id, no error, no usage, no response id."""
    message = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}
    sent = orjson.dumps({"custom_id": 7, "response": {"status_code": 200, "body": message}})
    outcome = answered(read_line(sent))
    assert (outcome.custom_id, outcome.run.id) == ("7", "7")
    nameless = {"output": RESPONSE["output"]}
    run = answered(read_line(line(reply(nameless)))).run
    assert (run.id, run.status, run.usage) == ("req_1", "completed", Usage())


def test_a_call_of_a_function_that_nobody_offered_does_not_wait() -> None:
    """The line has ended: nothing could bring the function's output."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choice = {"finish_reason": "tool_calls", "message": {"content": None, "tool_calls": [call]}}
    run = answered(read_line(line(reply({**COMPLETION, "choices": [choice]})))).run
    assert (run.status, run.tool_calls) == ("completed", ())


SHAPES = [
    {"id": "b", "custom_id": "7-1", "response": reply(RESPONSE), "error": None},
    {"id": "b", "custom_id": "7-1", "response": reply(COMPLETION), "error": None},
    orjson.loads(refusal(400, "no", "invalid_prompt", "input")),
    orjson.loads(line(error={"code": "batch_expired", "message": "m"})),
]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_every_line_is_read(data: st.DataObject) -> None:
    """Whatever is missing, of another type, twice or nested deeply: an outcome, and never an exception."""
    shape = data.draw(mutated(data.draw(st.sampled_from(SHAPES)), most=4))
    try:
        sent = orjson.dumps(shape)
    except TypeError:
        return  # nested too deeply for orjson: the parametrized test has such a line
    outcome = read_line(sent)
    if isinstance(outcome, Answered):
        assert outcome.run.answer is not None
        assert outcome.run.status != "requires_action"
    cut = read_line(sent[: data.draw(st.integers(0, len(sent)))])
    assert cut.custom_id in {None, outcome.custom_id, "7-1"} or cut == outcome


@settings(max_examples=100, deadline=None)
@given(text=st.text(), status=st.sampled_from(["completed", "incomplete"]))
def test_no_text_is_lost(text: str, status: str) -> None:
    """Any characters; the line may hold half a surrogate pair."""
    message = {**RESPONSE["output"][1], "content": [{"type": "output_text", "text": text}]}
    body = {**RESPONSE, "status": status, "output": [message]}
    run = answered(read_line(line(reply(body)))).run
    assert run.answer is not None
    assert run.answer.text == text


def test_half_an_emoji_is_read() -> None:
    """Case of live replies: an answer cut within an emoji."""
    sent = line(reply(COMPLETION)).replace(b'"content":"4"', b'"content":"4\\ud83d"')
    run = answered(read_line(sent)).run
    assert run.answer is not None
    assert run.answer.text == "4�"


def test_a_schema_travels_with_the_line() -> None:
    """Both bodies, and the raised limit of a second attempt."""
    profile = PLAIN.model_copy(update={"response_schema": SCHEMA})
    request = replace(run_request(profile=profile), max_completion_tokens=99)
    assert sent_line(request, "responses")["body"]["text"]["format"]["schema"] == SCHEMA
    assert sent_line(request, "responses")["body"]["max_output_tokens"] == 99
    assert sent_line(request, "chat")["body"]["response_format"]["json_schema"]["schema"] == SCHEMA

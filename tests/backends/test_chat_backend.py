"""Chat completions: what each manner of a server becomes, as bytes on a socket. One call is a run that has ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from askmill.jobs.model.models import Usage
from askmill.jobs.model.profile import Functions, FunctionTool, OpeningMessage, Profile
from askmill.worker.backends.base import Backend
from askmill.worker.backends.chat_stream import ChatReader
from askmill.worker.lifecycle.api_types import ApiError, Run
from tests.backends.stub_server import StubServer, run_request, stub_backend

PATH = "POST /chat/completions"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
PROFILE = Profile(model="local-7b")


def event(data: Any) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def chunk(delta: Any = None, finish: str | None = None, **fields: Any) -> bytes:
    """One chunk of a stream."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "local-7b"}
    return event({**common, "choices": choices, **fields})


def answer(*texts: str, finish: str = "stop") -> bytes:
    """The chunks of an answer, without the end of the stream."""
    role = chunk({"role": "assistant", "content": None})
    return role + b"".join(chunk({"content": text}) for text in texts) + chunk({}, finish)


WHOLE = answer("4", "2") + chunk(usage=USAGE) + DONE


def stream(*pieces: bytes, gap_s: float = 0.0, abort: bool = False) -> Callable[[web.Request], Any]:
    """A route that streams these pieces; `abort` cuts the connection after the last one."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(gap_s)
        if abort and request.transport is not None:
            request.transport.abort()
        return response

    return reply


def whole(message: Any, finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """A completion that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "choices": [choice], "usage": USAGE, **fields}


async def call(reply: Any, profile: Profile = PROFILE, **changes: Any) -> Run:
    async with stub_backend({PATH: reply}, "chat") as (backend, _):
        return await backend.create_run(run_request(profile=profile, **changes), "t1")


async def failure(reply: Any, profile: Profile = PROFILE, **changes: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        await call(reply, profile, **changes)
    return error.value


@asynccontextmanager
async def chat(*replies: Any) -> AsyncIterator[tuple[Backend, StubServer]]:
    """A server that gives these replies one after the other."""
    left = list(replies)

    def reply(request: web.Request) -> Any:
        route = left.pop(0)
        return route(request) if callable(route) else route

    async with stub_backend({PATH: reply}, "chat") as (backend, server):
        yield backend, server


# ── whole answers ──


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (stream(WHOLE), "42"),
        (stream(*(WHOLE[at : at + 7] for at in range(0, len(WHOLE), 7))), "42"),
        (stream(b": keep-alive\n\n", b"\n\n", WHOLE.replace(b"\n", b"\r\n")), "42"),
        (stream(answer("42")), "42"),
        (stream(answer("42"), abort=True), "42"),
        (stream(answer("42").replace(b"\n\n", b"\n") + DONE), "42"),
        (whole({"content": "42"}), "42"),
        (whole({"content": "42"}, finish=None), "42"),
        (lambda _: web.Response(body=b"\n\n\n" + orjson.dumps(whole({"content": "42"}))), "42"),
        (whole({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                            {"type": "text", "text": "42"}]}), "42"),
        (stream(answer("<think>", "hm</th", "ink>\n\n4", "2") + DONE), "42"),
        (whole({"content": "42", "reasoning": "hm"}), "42"),
        (whole({"content": "42", "reasoning_content": "hm"}), "42"),
    ],
)  # fmt: skip
async def test_a_whole_answer_completes_the_run(reply: Any, text: str) -> None:
    """Streamed in any pieces or not at all, with signs of life, thoughts and without `[DONE]`: the text is the answer."""
    run = await call(reply)

    assert run.answer is not None
    assert (run.status, run.answer.text, run.answer.messages) == ("completed", text, 1)
    thoughts = [step.details["text"] for step in run.answer.steps if step.type == "reasoning"]
    assert thoughts in ([], ["hm"])
    assert run.answer.steps[-1].type == "message"


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("length", "incomplete", "max_completion_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("repetition", "incomplete", "repetition"),
        ("eos", "completed", None),
        ("abort", "failed", None),
        ("insufficient_system_resource", "failed", None),
    ],
)
async def test_the_finish_reason_decides(finish: str, status: str, reason: str | None) -> None:
    """A word never seen keeps the text as incomplete; a server that gave up is asked again."""
    run = await call(stream(answer("half", finish=finish) + DONE))

    assert (run.status, run.incomplete_reason) == (status, reason)
    assert run.answer is not None
    assert run.answer.text == "half"


async def test_tokens_are_read_from_every_field() -> None:
    """Cached and reasoning tokens of OpenAI, DeepSeek and SGLang; none where the server says nothing."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert (await call(whole({"content": "a"}, usage={**USAGE, **details}))).usage == Usage(7, 3, 5, None, 2)
    flat = {"prompt_cache_hit_tokens": 5, "reasoning_tokens": 2}
    assert (await call(whole({"content": "a"}, usage={**USAGE, **flat}))).usage == Usage(7, 3, 5, None, 2)
    assert (await call(stream(answer("a") + DONE))).usage == Usage()


async def test_no_text_is_no_message_and_a_refusal_is_one() -> None:
    """All output went into reasoning: there is no answer."""
    silent = await call(whole({"content": None, "reasoning": "long"}, finish="length"))
    refused = await call(stream(chunk({"refusal": "No."}) + chunk({}, "stop") + DONE))

    assert silent.answer is not None
    assert (silent.status, silent.answer.messages, silent.answer.text) == ("incomplete", 0, "")
    assert refused.answer is not None
    assert (refused.answer.refusal, refused.answer.text) == (True, "No.")


# ── functions ──

CALLS = (
    chunk({"role": "assistant", "content": None, "reasoning_content": "hm"})
    + chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""},
                             "extra_content": {"google": {"thought_signature": "sig"}}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]})
    + chunk({"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]})
    + chunk({"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}}]})
)  # fmt: skip


async def test_function_calls_are_read_from_the_message_and_kept_verbatim() -> None:
    """Whatever the finish_reason says (a forced tool ends with `stop`); unknown fields go back to the server."""
    run = await call(stream(CALLS + chunk({}, "stop") + DONE))

    assert run.status == "requires_action"
    assert [(c.id, c.name, c.arguments) for c in run.tool_calls] == [
        ("c1", "add", '{"a": 1}'),
        ("c2", "now", "{}"),
    ]
    assert run.message is not None
    first, _ = run.message["tool_calls"]
    assert first == {
        "id": "c1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1}'},
        "extra_content": {"google": {"thought_signature": "sig"}},
    }
    assert run.message["reasoning_content"] == "hm"


async def test_calls_without_an_id_get_one_and_cut_arguments_are_no_call() -> None:
    """Outputs need an id; a token limit may cut the arguments."""
    nameless = await call(whole({"tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}))
    cut = await call(
        whole({"tool_calls": [{"id": "1", "function": {"name": "a", "arguments": '{"a'}}]}, "length")
    )

    assert nameless.message is not None
    assert [c.id for c in nameless.tool_calls] == [nameless.message["tool_calls"][0]["id"]] == ["call_1"]
    assert (cut.status, cut.incomplete_reason) == ("incomplete", "max_completion_tokens")


# ── lost answers and errors ──


@pytest.mark.parametrize(
    ("reply", "code", "began"),
    [
        (stream(answer("4")[: -len(chunk({}, "stop"))]), "stream_ended", True),
        (stream(answer("4")[: -len(chunk({}, "stop"))] + DONE), "stream_ended", True),
        (stream(answer("4")[: -len(chunk({}, "stop"))] + b'data: {"id": "c'), "bad_reply", True),
        (stream(chunk({"content": "4"}), abort=True), "connection_lost", True),
        (stream(b": hello\n\n"), "stream_ended", False),
        (stream(chunk({"content": "4"}) + event({"error": {"message": "oops", "code": 502}})), "502", True),
        (stream(event({"error": {"message": "slow down", "code": 429}})), "429", False),
        (stream(event({"object": "error", "message": "full", "code": 503})), "503", False),
        (stream(b"event: error\n" + event({"message": "bad", "code": "weird"})), "weird", False),
        (stream(b'data: "plain text"\n\n'), None, False),
        ({"error": {"message": "no", "code": 402}}, "402", False),
        ([{"error": {"message": "no", "code": 400, "status": "INVALID_ARGUMENT"}}], "400", False),
        ({"choices": []}, "bad_reply", False),
        (lambda _: web.Response(text="<html>busy</html>"), "bad_reply", False),
    ],
)  # fmt: skip
async def test_an_answer_without_its_end_is_lost(reply: Any, code: str | None, began: bool) -> None:
    """HTTP 200 with or without `[DONE]`, a cut connection, an error in any shape: the run is not whole."""
    error = await failure(reply)

    assert (error.code, error.began) == (code, began)
    assert began == (error.partial is not None and error.partial.text == "4")


async def test_time_limits_end_the_call() -> None:
    """No first byte, silence between bytes, and the deadline; comments and blank lines count as life."""

    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(20)
        return web.StreamResponse()

    quick = PROFILE.model_copy(update={"first_byte_s": 2, "idle_s": 1})
    alive = [b": alive\n\n", b"\n\n"] * 3
    assert "first_byte_s" in (await failure(silent, quick)).message
    assert "idle_s" in (await failure(stream(chunk({"content": "4"}), b"", gap_s=5), quick)).message
    endless = stream(*[chunk({"content": "4"})] * 40, gap_s=0.05)
    assert (await failure(endless, deadline_s=0.4)).code == "deadline"
    assert (await call(stream(*alive, WHOLE, gap_s=0.3), quick)).status == "completed"


async def test_a_connection_that_stays_open_after_the_answer_is_not_waited_for() -> None:
    """Some servers send neither `[DONE]` nor the end: the answer is whole all the same."""
    begun = asyncio.get_running_loop().time()

    run = await call(stream(WHOLE, b"", gap_s=30))

    assert run.status == "completed"
    assert asyncio.get_running_loop().time() - begun < 10


async def test_the_first_chunk_is_told_once() -> None:
    """The server has accepted the call: other rows of the batch may start."""
    told = []

    async def hook() -> None:
        told.append(1)

    await call(stream(WHOLE), on_first_chunk=hook)
    await call(whole({"content": "42"}), on_first_chunk=hook)
    failing = stream(event({"error": {"message": "slow down", "code": 429}}))
    await failure(failing, on_first_chunk=hook)
    assert len(told) == 2


# ── what is sent ──


def body_of(server: StubServer) -> dict[str, Any]:
    return dict(server.body_of(PATH))


async def test_the_whole_exchange_and_the_profile_are_sent() -> None:
    """Instructions, opening messages, earlier turns, the question with its image, the row's own rounds; no tools."""
    profile = Profile(
        model="m",
        instructions="Be brief.",
        messages=(OpeningMessage(role="user", content="Hi"),),
        max_completion_tokens=50,
        temperature=0.5,
        response_schema={"type": "object"},
        extra_body={"top_k": 1},
        tools=("code_interpreter",),
        tool_choice="auto",
    )
    earlier = {"role": "user", "content": "Before?"}, {"role": "assistant", "content": "Yes."}
    own = ({"role": "assistant", "content": "part"}, {"role": "user", "content": "Go on."})
    async with chat(stream(WHOLE)) as (backend, server):
        request = run_request(
            profile=profile, image="a.png", images={"a.png": "data:image/png;base64,AA"}, max_completion_tokens=50,
            earlier_messages=earlier, messages=own,
        )  # fmt: skip
        await backend.create_run(request, "t1")

    body = body_of(server)
    assert [message["role"] for message in body["messages"]] == [
        "system", "user", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert body["messages"][4]["content"][1]["image_url"]["url"] == "data:image/png;base64,AA"
    assert (body["max_tokens"], body["temperature"], body["top_k"]) == (50, 0.5, 1)
    assert body["stream_options"] == {"include_usage": True}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert not {"tools", "tool_choice", "metadata", "store", "max_completion_tokens"} & set(body)
    assert server.headers["X-Askmill-Job"] == "b_1:1:1"


async def test_functions_are_sent_and_streaming_can_be_switched_off() -> None:
    """`stream = false` and the limit's name are keys of the profile."""
    tool = FunctionTool(name="add", description="The sum.")
    functions = Functions(module="m", sha256="0", tools=(tool,))
    profile = Profile(model="m", functions=functions, stream=False, token_limit_name="max_completion_tokens")
    async with chat(whole({"content": "42"})) as (backend, server):
        await backend.create_run(run_request(profile=profile, max_completion_tokens=9), "t1")

    body = body_of(server)
    assert body["tools"][0]["function"]["name"] == "add"
    assert "stream" not in body
    assert body["max_completion_tokens"] == 9


REFUSALS = [
    ("stream_options", {"error": {"message": "Unknown field: stream_options", "code": 400}}),
    ("response_format", {"detail": [{"loc": ["body", "response_format"], "msg": "Extra inputs are not permitted"}]}),
    # llama.cpp's Python server, with status 500.
    ("response_format", {"error": {"message": "1 validation error: {'type': 'literal_error', 'loc': ('body', 'response_format', "
                                   "'type'), 'msg': \"Input should be 'text' or 'json_object'\"}", "type": "internal_server_error"}}),
    ("max_tokens", {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                              "'max_completion_tokens' instead.", "code": "unsupported_parameter", "param": "max_tokens"}}),
]  # fmt: skip


@pytest.mark.parametrize(("field", "refusal"), REFUSALS)
async def test_a_field_refused_by_name_is_left_out_once_and_for_all(field: str, refusal: Any) -> None:
    """The second call goes without it, and so do later ones; the other name of the limit takes its place."""
    profile = PROFILE.model_copy(update={"response_schema": {"type": "object"}})
    async with chat((400, refusal), stream(WHOLE), stream(WHOLE)) as (backend, server):
        for row in (1, 2):
            request = run_request(profile=profile, row=row, max_completion_tokens=9)
            assert (await backend.create_run(request, "t1")).status == "completed"

    bodies = [body for _, body in server.requests]
    assert [field in body for body in bodies] == [True, False, False]
    if field == "max_tokens":
        assert bodies[2]["max_completion_tokens"] == 9


@pytest.mark.parametrize(
    "refusal",
    [
        {
            "error": {
                "message": "max_tokens is too large: 9. This model supports at most 4.",
                "param": "max_tokens",
            }
        },
        {"error": {"message": "Unsupported value: 'temperature' does not support 2", "param": "temperature"}},
    ],
)
async def test_a_refused_value_is_the_users_own(refusal: Any) -> None:
    """Nothing that was asked for is left out in silence."""
    error = await failure((400, refusal), max_completion_tokens=9)
    assert error.status == 400


async def test_the_job_is_named_to_local_servers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never through a proxy: the header names batches."""
    monkeypatch.setattr("askmill.worker.backends.chat_completions.is_local", lambda _: False)
    async with chat(stream(WHOLE)) as (backend, server):
        await backend.create_run(run_request(), "t1")
    assert "X-Askmill-Job" not in server.headers


def test_the_reader_does_not_care_where_the_pieces_are_cut() -> None:
    """Byte by byte or at once: the same completion, for text, calls and thoughts."""
    body = CALLS + answer("ü€😀", "x") + chunk(usage=USAGE) + DONE
    completions = []
    for size in (1, 3, 64, len(body)):
        reader = ChatReader()
        for at in range(0, len(body), size):
            reader.feed(body[at : at + size])
        reader.end()
        completions.append(reader.completion())
    assert all(completion == completions[0] for completion in completions)
    assert completions[0]["choices"][0]["message"]["content"] == "ü€😀x"

"""The `[chat]` switches: each plays the manner of a real server, seen by the SDK and as bytes."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import subprocess
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from openai import APIConnectionError, APIError, APIStatusError, InternalServerError, NotFoundError

from askmill.emulator.simulation.chat_manners import ChatManners
from askmill.emulator.simulation.scenario import ScenarioError, read_scenario
from tests.emulator.chat_support import (
    FORMAT,
    QUESTION,
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
from tests.emulator.emulator_support import Emulator, command, run_emulator
from tests.helpers import preloaded
from tests.helpers.sse import chunks, data_lines
from tests.support import wait_until, wait_until_async

STUCK = f"[emulate: stuck] {QUESTION}"
FAILING = f"[emulate: failed(server_error)] {QUESTION}"
CALL = '[emulate: requires_action(double, {"n": 21})] Compute it.'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('error_shape = "round"', r"chat\.error_shape must be one of 'openai', 'int_code'"),
        ("usage = true", r"chat\.usage must be one of"),
        ('reasoning = "thinking"', r"chat\.reasoning must be one of"),
        ("cut_stream = 2", r"chat\.cut_stream must be a share"),
        ('cut_as = ["bang"]', r"chat\.cut_as does not take 'bang'"),
        ("slots = 1.5", r"chat\.slots must be a whole number"),
        ("slots = -1", r"chat\.slots must be a whole number"),
        ("queue_max = 1", r"chat\.queue_max needs chat\.slots"),
        ('ignores = "seed"', r"chat\.ignores must be a list"),
        ('ignores = ["model"]', r"chat\.ignores does not take 'model'"),
        ('refuses = ["model"]', r"chat\.refuses does not take 'model'"),
        ('echo = "reasoning_content"', r'needs chat\.reasoning = "reasoning_content"'),
        ("loading_status = 404", r"chat\.loading_status must be one of 503, 500"),
        ("loading_s = -1", r"chat\.loading_s must be a number of at least 0"),
        ("needs_key = 1", r"chat\.needs_key must be true or false"),
        ('keep_alive = "comments"\nkeep_alive_s = 0', r"chat\.keep_alive_s must be above 0"),
        ("mood = 1", r"chat\.mood is unknown; known: error_shape, usage"),
    ],
)
def test_a_bad_value_is_refused_in_a_sentence(text: str, named: str) -> None:
    """The key, the fault, and what is allowed."""
    with pytest.raises(ScenarioError, match=named):
        read_scenario(f"[chat]\n{text}")


@pytest.mark.parametrize(
    ("shape", "status", "expected"),
    [
        ("openai", 404, {"error": {"code": "model_not_found"}}),
        ("int_code", 404, {"error": {"code": 404}}),
        ("flat", 404, {"object": "error", "type": "NotFoundError", "code": 404}),
        ("string", 404, {"error": "The model `no-such` does not exist or you do not have access to it."}),
        ("array", 404, [{"error": {"code": 404, "status": "NOT_FOUND"}}]),
        ("detail", 404, {"detail": "The model `no-such` does not exist or you do not have access to it."}),
        ("ok_with_error", 404, {"error": {"code": 404}}),
        ("mid_stream", 404, {"error": {"code": 404}}),
    ],
)
async def test_errors_have_the_shape_of_the_server(
    emulator: Emulator, shape: str, status: int, expected: Any
) -> None:
    """Of refusals, of injected faults and of unknown models; the SDK raises each as its status says."""
    emulator.set_scenario(f'[chat]\nerror_shape = "{shape}"')
    got, raw = post(emulator.url, body_of(QUESTION, model="no-such"))
    assert got == status
    assert _holds(json.loads(raw), expected), raw
    async with client_of(emulator) as client:
        with pytest.raises(NotFoundError):
            await complete(client, QUESTION, model="no-such")
        emulator.set_scenario(f'[chat]\nerror_shape = "{shape}"\n[http]\nrate_503 = 1.0')
        with pytest.raises(InternalServerError):
            await complete(client, QUESTION)


def _holds(got: Any, expected: Any) -> bool:
    """Whether the expected fields are there."""
    if isinstance(expected, dict):
        return isinstance(got, dict) and all(_holds(got.get(k), v) for k, v in expected.items())
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(_holds, got, expected))
    return bool(got == expected)


def test_a_bad_request_is_422_where_details_are_told(emulator: Emulator) -> None:
    """As servers made with FastAPI answer."""
    emulator.set_scenario('[chat]\nerror_shape = "detail"')
    status, raw = post(emulator.url, body_of(QUESTION, temperature=9))
    assert status == 422
    assert json.loads(raw)["detail"][0]["loc"] == ["body", "temperature"]


async def test_a_failure_may_come_with_status_200(emulator: Emulator) -> None:
    """`ok_with_error`: the body, or the only event, is the error."""
    emulator.set_scenario('[chat]\nerror_shape = "ok_with_error"')
    status, raw = post(emulator.url, body_of(FAILING))
    assert (status, json.loads(raw)["error"]["code"]) == (200, 500)
    (only,) = chunks(post(emulator.url, body_of(FAILING, stream=True))[1])
    assert only["error"]["code"] == 500
    async with client_of(emulator) as client:
        with pytest.raises(APIError):
            await stream(client, FAILING)


async def test_a_failure_may_come_in_mid_stream(emulator: Emulator) -> None:
    """`mid_stream`: HTTP 200 and a first chunk, then the error, then [DONE]."""
    emulator.set_scenario('[chat]\nerror_shape = "mid_stream"')
    first, error = chunks(post(emulator.url, body_of(FAILING, stream=True))[1])
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert error["error"]["code"] == 500
    async with client_of(emulator) as client:
        with pytest.raises(APIError):
            await stream(client, FAILING)


@pytest.mark.parametrize(
    ("usage", "unstreamed", "unasked", "asked"),
    [
        ("asked", True, False, True),
        ("always", True, True, True),
        ("never", False, False, False),
        ("no_details", True, False, True),
    ],
)
async def test_usage(emulator: Emulator, usage: str, unstreamed: bool, unasked: bool, asked: bool) -> None:
    """Whether it is there; three bare numbers with `no_details`."""
    emulator.set_scenario(f'[chat]\nusage = "{usage}"')
    async with client_of(emulator) as client:
        whole = await complete(client, QUESTION)
        plain = await stream(client, QUESTION)
        wanted = await stream(client, QUESTION, stream_options=USAGE)
    assert (whole.usage is not None) == unstreamed
    assert (plain[-1].usage is not None) == unasked
    assert (wanted[-1].usage is not None) == asked
    if unstreamed:
        assert whole.usage.total_tokens > 0
        assert (whole.usage.prompt_tokens_details is None) == (usage == "no_details")


@pytest.mark.parametrize("place", ["reasoning", "reasoning_content", "think", "chunks"])
async def test_reasoning_is_shown_in_its_place(emulator: Emulator, place: str) -> None:
    """The same text streamed and not, before the answer; its tokens are told; a small limit leaves no answer."""
    emulator.set_scenario(f'[chat]\nreasoning = "{place}"')
    async with client_of(emulator) as client:
        message = (await complete(client, QUESTION)).choices[0].message
        usage = (await complete(client, QUESTION)).usage
        streamed = await stream(client, QUESTION)
        empty = (await complete(client, QUESTION, max_tokens=5)).choices[0]
    deltas = [chunk.choices[0].delta for chunk in streamed]
    if place == "think":
        assert message.content == text_of(streamed)
        assert message.content.startswith("<think>\nLet me read")
        answer = message.content.split("</think>\n\n")[1]
    elif place == "chunks":
        thinking, text = message.content
        pieces = [d.content[0]["thinking"][0]["text"] for d in deltas if isinstance(d.content, list)]
        assert thinking["thinking"][0]["text"] == "".join(pieces)
        answer = text["text"]
    else:
        shown = getattr(message, place)
        assert shown.startswith("Let me read")
        assert shown == "".join(getattr(delta, place, None) or "" for delta in deltas)
        assert message.content == text_of(streamed)
        answer = message.content
    assert "42" in answer
    assert "Let me" not in answer
    assert usage.completion_tokens > usage.completion_tokens_details.reasoning_tokens > 0
    assert empty.finish_reason == "length"
    assert "42" not in str(empty.message.content)


@pytest.mark.parametrize(("keep_alive", "sign"), [("comments", b": keep-alive\n\n"), ("blank_lines", b"\n")])
async def test_a_queue_may_send_signs_of_life(emulator: Emulator, keep_alive: str, sign: bytes) -> None:
    """Before the first chunk of a stream, and blank lines before the JSON; the SDK reads through them."""
    emulator.set_scenario(
        f'[chat]\nkeep_alive = "{keep_alive}"\nkeep_alive_s = 0.02\n[latency]\nmedian_s = 0.5'
    )
    raw = post(emulator.url, body_of(QUESTION, stream=True))[1]
    assert raw.startswith(sign)
    assert raw.count(sign) > 5
    assert data_lines(raw)[-1] == b"[DONE]"
    whole = post(emulator.url, body_of(QUESTION))[1]
    assert whole.startswith(b"\n\n") == (keep_alive == "blank_lines")
    assert json.loads(whole)["choices"]
    async with client_of(emulator) as client:
        assert "42" in text_of(await stream(client, QUESTION))
        assert "42" in (await complete(client, QUESTION)).choices[0].message.content


async def test_a_silent_queue_sends_nothing(emulator: Emulator) -> None:
    """Not even the head of the reply, until the call has a slot and its first chunk."""
    emulator.set_scenario("[chat]\nslots = 1")
    async with client_of(emulator) as client:
        holder = asyncio.create_task(stream(client, STUCK))
        await wait_until_async(lambda: _active(emulator, 1), "one call has the slot")
        reader, writer = await _connect(emulator, body_of(QUESTION, stream=True))
        head = asyncio.create_task(reader.readline())
        await complete_models(client)
        assert not head.done()
        holder.cancel()
        assert b"200 OK" in await asyncio.wait_for(head, 10)
        writer.close()
        await asyncio.gather(holder, return_exceptions=True)


async def complete_models(client: Any) -> None:
    """Some requests that the emulator answers meanwhile."""
    for _ in range(20):
        await client.models.list()


async def _active(emulator: Emulator, n: int) -> bool:
    return bool(emulator.stats()["runs_active"] == n)


async def _connect(
    emulator: Emulator, body: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(emulator.url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: {len(sent)}"
    writer.write(f"{head}\r\n\r\n".encode() + sent)
    await writer.drain()
    return reader, writer


async def test_calls_beyond_the_slots_wait_and_beyond_the_queue_are_refused(emulator: Emulator) -> None:
    """503 without Retry-After; who waits is not carried out, and leaves the queue when it disconnects."""
    emulator.set_scenario("[chat]\nslots = 1\nqueue_max = 1")
    before = emulator.stats()["runs_created"]
    async with client_of(emulator) as client:
        holder = asyncio.create_task(stream(client, STUCK))
        await wait_until_async(lambda: _active(emulator, 1), "one call has the slot")
        _, waiting = await _connect(emulator, body_of(QUESTION))
        refused = await wait_until_async(lambda: _refused(client), "the queue is full")
        assert refused.status_code == 503
        assert "retry-after" not in refused.response.headers
        assert emulator.stats()["runs_created"] == before + 1
        waiting.close()
        queued = await wait_until_async(lambda: _queued(client), "the place of the one that left is free")
        holder.cancel()
        assert "42" in (await queued).choices[0].message.content
        await asyncio.gather(holder, return_exceptions=True)
    wait_until(lambda: emulator.stats()["runs_active"] == 0, "all slots are free")


async def _refused(client: Any) -> APIStatusError | None:
    try:
        await complete(client, STUCK, timeout=0.3)
    except APIStatusError as error:
        return error
    except APIError:
        pass
    return None


async def _queued(client: Any) -> Any:
    """A call that waits in the queue; None if it was refused."""
    task = asyncio.create_task(complete(client, QUESTION))
    done, _ = await asyncio.wait({task}, timeout=0.2)
    return None if done and task.exception() else task


@pytest.mark.parametrize("cut", ["eof", "done", "json", "abort"])
async def test_a_stream_may_end_without_a_finish_reason(emulator: Emulator, cut: str) -> None:
    """HTTP 200, the role chunk, and no finish_reason: a clean end, [DONE], half a line, or a dead connection."""
    emulator.set_scenario(f'[chat]\ncut_stream = 1.0\ncut_as = ["{cut}"]')
    if cut == "abort":
        with pytest.raises(http.client.IncompleteRead) as broken:
            post(emulator.url, body_of(QUESTION, stream=True))
        raw = broken.value.partial
    else:
        status, raw = post(emulator.url, body_of(QUESTION, stream=True))
        assert status == 200
    assert b'"role":"assistant"' in raw
    assert b'"finish_reason":"' not in raw
    assert (b"[DONE]" in raw) == (cut == "done")
    assert raw.endswith(b"\n\n") == (cut in {"eof", "done"})
    async with client_of(emulator) as client:
        with contextlib.nullcontext() if cut != "abort" else pytest.raises(APIConnectionError):
            assert finish_of(await stream(client, QUESTION)) is None
        assert (await complete(client, QUESTION)).choices[0].finish_reason == "stop"


async def test_cut_streams_come_in_their_share_and_are_counted(emulator: Emulator) -> None:
    """A cut call was carried out: it is in the ledger, and so is its repetition."""
    emulator.set_scenario('[chat]\ncut_stream = 0.5\ncut_as = ["eof", "done"]')
    async with client_of(emulator) as client:
        ends = Counter([finish_of(await stream(client, QUESTION, extra_headers=job(900))) for _ in range(60)])
    assert 15 <= ends[None] <= 45
    assert ends["stop"] == 60 - ends[None]
    assert emulator.stats()["runs_by_job"]["b1:900"] == 60


async def test_fields_may_be_ignored_without_a_word(emulator: Emulator) -> None:
    """A limit that does not cut, a schema that is not kept, a stream that is none."""
    ignores = '["max_completion_tokens", "response_format", "stream"]'
    emulator.set_scenario(f"[chat]\nignores = {ignores}")
    async with client_of(emulator) as client:
        long = await complete(client, f"[emulate: completed(long)] {QUESTION}", max_completion_tokens=5)
        assert long.choices[0].finish_reason == "stop"
        assert (await complete(client, QUESTION, max_tokens=3)).choices[0].finish_reason == "length"
        free = await complete(client, QUESTION, response_format=FORMAT)
        assert "42" in free.choices[0].message.content
        with pytest.raises(json.JSONDecodeError):
            json.loads(free.choices[0].message.content)
    raw = post(emulator.url, body_of(QUESTION, stream=True, stream_options=USAGE))[1]
    assert json.loads(raw)["object"] == "chat.completion"


def test_fields_may_be_refused_by_name(emulator: Emulator) -> None:
    """400 naming the field; absent, null and false are no use of it."""
    emulator.set_scenario('[chat]\nrefuses = ["stream", "stream_options", "response_format"]')
    for name, value in (("stream", True), ("stream_options", USAGE), ("response_format", FORMAT)):
        status, error = refusal(emulator.url, QUESTION, **{name: value})
        assert (status, error["param"], error["code"]) == (400, name, "unsupported_parameter")
        assert f"'{name}'" in error["message"]
    assert post(emulator.url, body_of(QUESTION, stream=False, response_format=None))[0] == 200


async def test_a_long_prompt_is_refused_or_cut_without_a_word(emulator: Emulator) -> None:
    """400 with both numbers; ignored, the oldest messages go, then the question's beginning: prompt_tokens shows it."""
    history: Any = [
        {"role": "system", "content": "Answer briefly."},
        *user("word " * 300),
        {"role": "assistant", "content": "Yes?"},
        *user(QUESTION),
    ]
    emulator.set_scenario("[chat]\ncontext_tokens = 100")
    status, error = refusal(emulator.url, history)
    assert (status, error["code"]) == (400, "context_length_exceeded")
    assert "maximum context length is 100 tokens" in error["message"]
    emulator.set_scenario('[chat]\ncontext_tokens = 100\nignores = ["context_tokens"]')
    async with client_of(emulator) as client:
        cut = await complete(client, history)
        assert "42" in cut.choices[0].message.content
        assert cut.usage.prompt_tokens <= 100
        half = await complete(client, f"What is 6 * 7? {'word ' * 300}")
        assert half.usage.prompt_tokens == 100
        assert "42" not in half.choices[0].message.content


@pytest.mark.parametrize("echo", ["reasoning_content", "thought_signature"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_must_be_echoed(emulator: Emulator, echo: str, streamed: bool) -> None:
    """The assistant's message comes back verbatim, or the call is refused; an empty reasoning passes."""
    reasoning = '\nreasoning = "reasoning_content"' if echo == "reasoning_content" else ""
    emulator.set_scenario(f'[chat]\necho = "{echo}"{reasoning}')
    if streamed:
        message = _joined(chunks(post(emulator.url, body_of(CALL, stream=True))[1]))
    else:
        message = json.loads(post(emulator.url, body_of(CALL))[1])["choices"][0]["message"]
    (call,) = message["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "42"}
    async with client_of(emulator) as client:
        whole = await complete(client, [*user(CALL), message, result])
        assert "= 42" in whole.choices[0].message.content
    if echo == "reasoning_content":
        good: Any = message | {"reasoning_content": ""}
        bad = message | {"reasoning_content": None}
    else:
        good = message | {"content": ""}
        bad = message | {"tool_calls": [{k: v for k, v in call.items() if k != "extra_content"}]}
    assert post(emulator.url, body_of([*user(CALL), good, result]))[0] == 200
    status, error = refusal(emulator.url, [*user(CALL), bad, result])
    assert status == 400
    assert echo in error["message"]


def _joined(read: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message that the chunks of one call make."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for delta in [chunk["choices"][0]["delta"] for chunk in read]:
        if "reasoning_content" in delta:
            message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
        for piece in delta.get("tool_calls", []):
            if "id" in piece:
                message["tool_calls"] = [{k: v for k, v in piece.items() if k != "index"}]
            else:
                message["tool_calls"][0]["function"]["arguments"] += piece["function"]["arguments"]
    return message


@pytest.mark.parametrize(("status", "said"), [(503, "Loading model"), (500, "llm server loading model")])
async def test_a_model_loads_for_a_while(emulator: Emulator, status: int, said: str) -> None:
    """Calls are refused meanwhile, and carried out after it."""
    emulator.set_scenario(f"[chat]\nloading_s = 0.5\nloading_status = {status}")
    got, error = refusal(emulator.url, QUESTION)
    assert (got, error["message"]) == (status, said)
    wait_until(lambda: post(emulator.url, body_of(QUESTION))[0] == 200, "the model is loaded")


async def test_a_local_server_has_its_models_and_needs_no_key(emulator: Emulator) -> None:
    """The listed models alone are there, others have the chosen status; other APIs are 404."""
    emulator.set_scenario(
        '[chat]\nneeds_key = false\nonly = true\nmodels = ["llama3.2"]\nno_model_status = 400\n'
        'error_shape = "string"'
    )
    assert post(emulator.url, body_of(QUESTION), key="")[0] == 200
    status, raw = post(emulator.url, body_of(QUESTION, model="qwen3"), key="")
    assert (status, list(json.loads(raw))) == (400, ["error"])
    async with client_of(emulator) as client:
        assert [model.id async for model in client.models.list()] == ["llama3.2"]
        for request in (client.responses.retrieve("resp_1"), client.beta.threads.create()):
            with pytest.raises(NotFoundError):
                await request


async def test_a_call_may_run_on_after_its_client_has_gone(emulator: Emulator) -> None:
    """`run_on`: its slot stays taken until its end, and its tokens are counted."""
    emulator.set_scenario('[chat]\non_disconnect = "run_on"\n[latency]\nmedian_s = 0.6')
    before = emulator.stats()
    _, writer = await _connect(emulator, body_of(QUESTION))
    await wait_until_async(lambda: _active(emulator, 1), "it is carried out")
    writer.close()
    await wait_until_async(lambda: _active(emulator, 0), "it has ended")
    assert emulator.stats()["tokens"] - before["tokens"] > 10
    emulator.set_scenario("[latency]\nmedian_s = 60")
    before = emulator.stats()
    _, writer = await _connect(emulator, body_of(QUESTION))
    await wait_until_async(lambda: _active(emulator, 1), "it is carried out")
    writer.close()
    await wait_until_async(lambda: _active(emulator, 0), "it was given up")
    assert emulator.stats()["tokens"] - before["tokens"] < 10


@pytest.mark.parametrize("streamed", [False, True])
async def test_faults_of_http_apply(emulator: Emulator, streamed: bool) -> None:
    """`drop_before`: not carried out. `drop_after`: carried out whole, the reply is lost. `slow_s` delays."""
    row = 300 + streamed
    ask = stream if streamed else complete
    for fault, carried_out in (("drop_before", 0), ("drop_after", 1)):
        emulator.set_scenario(f'[http]\n{fault} = 1.0\nonly = ["POST /chat/completions"]')
        before = emulator.stats()
        async with client_of(emulator) as client:
            with pytest.raises(APIError):
                await ask(client, QUESTION, extra_headers=job(row))
        now = emulator.stats()
        assert now["runs_by_job"].get(f"b1:{row}", 0) == carried_out
        assert (now["tokens"] > before["tokens"]) == bool(carried_out)
        assert now["runs_active"] == 0
    emulator.set_scenario("[http]\nslow_s = 0.1")
    async with client_of(emulator) as client:
        assert await ask(client, QUESTION)


def test_the_ledger_survives_a_kill(tmp_path: Path) -> None:
    """A call is in the ledger from its start, so that a killed server's calls are counted."""
    with run_emulator("--state", str(tmp_path)) as emulator:
        asyncio.run(_start_and_kill(emulator))
    with run_emulator("--state", str(tmp_path)) as emulator:
        assert emulator.stats()["runs_created"] == 1


async def _start_and_kill(emulator: Emulator) -> None:
    _, writer = await _connect(emulator, body_of(STUCK, stream=True))
    await wait_until_async(lambda: _active(emulator, 1), "it is carried out")
    emulator.kill()
    writer.close()


def test_every_switch_is_documented() -> None:
    """Each key of `[chat]` stands in the table of docs/decisions/emulator.md."""
    note = (Path(__file__).parents[2] / "docs" / "decisions" / "emulator.md").read_text()
    keys = {key for row in note.splitlines() if row.startswith("| `") for key in re.findall(r"`(\w+)`", row)}
    assert {field.name for field in fields(ChatManners)} <= keys


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
async def test_a_signal_ends_open_calls_without_a_traceback(sent: signal.Signals, code: int) -> None:
    """The server gives up what runs, as vLLM does, and prints nothing about it."""
    process = _start()
    assert process.stdout
    emulator = Emulator(process.stdout.readline().decode().split()[-1], process)
    _, writer = await _connect(emulator, body_of(STUCK, stream=True))
    await wait_until_async(lambda: _active(emulator, 1), "it is carried out")
    process.send_signal(sent)
    _, printed = await asyncio.to_thread(process.communicate, timeout=30)
    writer.close()
    assert process.returncode == code
    assert printed == b""


def _start() -> subprocess.Popen[bytes]:
    return preloaded.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

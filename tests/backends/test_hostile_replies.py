"""Replies that are broken or meant to harm: each is an answer or a row's error, in little time and memory.

`tests/backends/test_reply_limits.py` has the bounds of all replies; here are a stream's, and what is inside JSON.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from askmill.jobs.local.ports import HOST
from askmill.jobs.model.error_body import MAX_BODY_TEXT, MAX_CODE, parse_error_body
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.reply_limits import LARGE_REPLY_BYTES, MAX_REPLY_BYTES
from askmill.worker.backends.answer_builder import MAX_TOOL_CALLS
from askmill.worker.backends.chat_stream import MAX_MERGED_ENTRIES, ChatReader
from askmill.worker.backends.coerce import MAX_DEPTH
from askmill.worker.backends.reply import parse_json
from askmill.worker.lifecycle.api_types import ApiError, Run
from tests.backends.stub_server import KEY, backend_at, run_request, stub_backend
from tests.backends.test_chat_backend import (
    DONE,
    PATH,
    USAGE,
    WHOLE,
    answer,
    call,
    chunk,
    failure,
    stream,
    whole,
)

PIECE = 64 * 1024
QUICK_S = 5.0
"""CPU time for a reply of 16 MiB on a slow machine; what grows with the square of it takes minutes."""


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def read(*pieces: bytes) -> ChatReader:
    reader = ChatReader()
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    return reader


def delta(**fields: Any) -> bytes:
    return chunk(fields)


# ── one message of many parts ──


def test_a_line_without_an_end_is_read_once() -> None:
    """15.5: 16 MiB of one line in pieces of 1 KiB; joined anew with each piece they would be 128 GiB."""
    pieces = [b"data: ", *[b"x" * 1024] * (16 * 1024)]
    reader = ChatReader()

    assert cpu_seconds(lambda: [reader.feed(piece) for piece in pieces]) < QUICK_S
    assert reader.kept_bytes >= 16 * 2**20


def test_arguments_in_many_pieces_are_joined_once() -> None:
    """15.5: the arguments of a function in 20,000 pieces of 100 bytes."""
    fields = {"index": 0, "function": {"name": "f", "arguments": "x" * 100}}
    body = delta(tool_calls=[{**fields, "id": "a"}]) + delta(tool_calls=[fields]) * 20_000

    assert cpu_seconds(lambda: read(body, DONE)) < QUICK_S
    message = read(body, DONE).completion()["choices"][0]["message"]
    assert len(message["tool_calls"][0]["function"]["arguments"]) == 100 * 20_001


@pytest.mark.parametrize("name", ["tool_calls", "content", "annotations"])
async def test_a_message_of_too_many_parts_names_the_bound(name: str) -> None:
    """15.5: 100,000 calls, each with an index of its own, took the event loop for hours."""
    entries = [{"index": number, "id": f"c{number}"} for number in range(100_000)]

    error = await failure(stream(delta(**{name: entries}), WHOLE))

    assert (error.code, "MAX_MERGED_ENTRIES" in error.message) == ("reply_too_large", True)
    assert len(entries) > MAX_MERGED_ENTRIES


async def test_a_million_choices_are_no_answer() -> None:
    """15.5: refused before they are parsed; a third of that costs nothing, and the answer is read."""
    error = await failure(stream(b'data: {"choices":[' + b"{}," * 1_000_000 + b"{}]}\n\n"))
    assert "MAX_JSON_VALUES" in error.message

    run = await call(stream(b'data: {"choices":[' + b"{}," * 300_000 + b"{}]}\n\n", WHOLE))
    assert run.answer is not None
    assert run.answer.text == "42"


def function_calls(api: Api, number: int) -> dict[str, Any]:
    """The routes of a run that asks for so many functions."""
    calls = [
        {"id": f"c{at}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for at in range(number)
    ]
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
    items = [{"type": "function_call", "call_id": f"c{at}", "name": "f"} for at in range(number)]
    return {
        PATH: whole({"tool_calls": calls}, finish="tool_calls"),
        "POST /threads/t/runs": {"id": "r", "status": "requires_action", "required_action": action},
        "POST /responses": {"id": "r", "status": "completed", "output": items},
    }


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
async def test_function_calls_of_one_reply_are_bounded(api: Api) -> None:
    """15.5: each call takes a thread of the worker; 1,000 calls of one reply are refused by name."""
    async with stub_backend(function_calls(api, MAX_TOOL_CALLS), api) as (backend, _):
        run = await backend.create_run(run_request(), "t")
        assert len(run.tool_calls) == MAX_TOOL_CALLS
    async with stub_backend(function_calls(api, 1000), api) as (backend, _):
        with pytest.raises(Exception, match="MAX_TOOL_CALLS"):
            await backend.create_run(run_request(), "t")


# ── long streams ──


async def test_a_long_stream_of_short_tokens_is_read_whole() -> None:
    """A paid answer of 110,000 tokens comes in 18 MB of chunks: only what is kept of it has the bound of a reply."""
    body = delta(content="word ") * 110_000 + chunk({}, "stop") + chunk(usage=USAGE) + DONE
    assert len(body) > MAX_REPLY_BYTES

    run = await call(stream(*(body[at : at + PIECE] for at in range(0, len(body), PIECE))))

    assert run.answer is not None
    assert run.answer.text == "word " * 110_000
    error = await failure(stream(*[delta(content="x" * 2**20)] * 17, WHOLE))
    assert "MAX_REPLY_BYTES" in error.message


async def test_many_long_streams_are_read_at_once() -> None:
    """Ten streams have each sent 1.5 MB and go on together: none waits for another one's end."""
    arrived, part = asyncio.Barrier(10), delta(content="word ") * (LARGE_REPLY_BYTES * 3 // 2 // 180)

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for at in range(0, len(part), PIECE):
            await response.write(part[at : at + PIECE])
        await response.write(b"\n\n" + delta(content="end"))
        reached.release()
        await arrived.wait()
        await response.write(chunk({}, "stop") + DONE)
        return response

    reached = asyncio.Semaphore(0)

    async with stub_backend({PATH: reply}, "chat") as (backend, _), asyncio.timeout(60):

        async def one(row: int) -> Run:
            return await backend.create_run(run_request(row=row), "t")

        runs = await asyncio.gather(*(one(row) for row in range(10)))
    assert all(run.answer is not None and run.answer.text.endswith("end") for run in runs)


# ── inside JSON ──


def nested(levels: int, kind: str) -> bytes:
    if kind == "list":
        return b"[" * levels + b"1" + b"]" * levels
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_deep_fields_cost_no_answer_and_can_be_stored(kind: str, streamed: bool) -> None:
    """15.5: 900 levels in a field that nobody asked for, twice: cut, because the message is stored."""
    deep = b'"x":' + nested(900, kind)
    if streamed:
        part = delta(content="42", x=None).replace(b'"x":null', deep)
        reply: Any = stream(part, part, chunk({}, "stop") + DONE)
    else:
        body = orjson.dumps(whole({"content": "42", "x": None})).replace(b'"x":null', deep)
        reply = lambda _: web.Response(body=body, content_type="application/json")  # noqa: E731

    run = await call(reply)

    assert run.answer is not None
    assert run.answer.text == ("4242" if streamed else "42")
    stored = orjson.dumps(run.message)
    assert b'"x":' in stored
    assert max(stored.count(b"["), stored.count(b"{")) <= 2 * MAX_DEPTH


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "9" * 30])
async def test_numbers_that_are_none_cost_no_answer(number: str) -> None:
    """Python servers write NaN, and no number is large enough to lose a paid text."""
    body = orjson.dumps(whole({"content": "42"})).replace(
        b'"prompt_tokens":7', f'"prompt_tokens":{number}'.encode()
    )
    run = await call(lambda _: web.Response(body=body, content_type="application/json"))
    assert run.answer is not None
    assert (run.answer.text, run.usage.prompt_tokens, run.usage.completion_tokens) == ("42", None, 3)

    part = answer("4", "2").replace(b'"created":1', f'"created":{number}'.encode())
    run = await call(stream(part, DONE))
    assert run.answer is not None
    assert run.answer.text == "42"


def test_surrogates_and_duplicate_keys_are_read() -> None:
    """Half of a pair is no character; of two equal keys the last one counts, as in every parser."""
    assert parse_json(b'{"a": "x\\ud83d", "n": NaN, "i": 12, "f": -1.5}') == {
        "a": "x\ufffd",
        "n": None,
        "i": 12,
        "f": -1.5,
    }
    assert parse_json(b'{"a": 1, "a": 2}') == {"a": 2}


async def test_long_words_of_a_reply_are_cut() -> None:
    """15.5: an id, a reason and a function's name of a million characters."""
    long = "n" * 1_000_000
    run = await call(stream(answer("42", finish=long).replace(b"chatcmpl-1", long.encode()) + DONE))
    assert run.answer is not None
    assert (run.id, run.answer.text, len(run.incomplete_reason or "") < 1000) == ("", "42", True)
    asked = {"id": long, "type": "function", "function": {"name": long, "arguments": "{}"}}
    run = await call(whole({"tool_calls": [asked]}, finish="tool_calls"))
    assert run.tool_calls[0].id == "call_1"
    assert len(run.tool_calls[0].name) < 1000


async def test_an_earlier_part_that_cannot_be_read_loses_no_later_one() -> None:
    """15.6, found by the fuzzer: a response that continues one which is gone; the error carries its own text."""
    response = {
        "id": "resp_2",
        "status": "completed",
        "metadata": {"askmill_previous": "resp_1"},
        "output": [
            {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "42"}],
            }
        ],
    }
    async with stub_backend({"GET /responses/resp_2": response}, "responses") as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.read_answer(run_request(), "t", "resp_2")
    assert error.value.partial is not None
    assert error.value.partial.text == "42"


# ── errors ──


@pytest.mark.parametrize(
    "beginning", [b"<script", b"<style ", b"<!--", b"<head>", b"<title", b"<", b"</head", b"<a "]
)
def test_a_page_of_nothing_but_beginnings_is_read_quickly(beginning: bytes) -> None:
    """A page of 20,000 characters took a second of the event loop, for each row that met it."""
    assert cpu_seconds(lambda: parse_error_body(beginning * 20_000)) < 0.3


def test_the_words_of_a_page_are_kept() -> None:
    """Title and text, without scripts, styles, comments and the head."""
    page = (
        b"<!DOCTYPE html><html><head><title>403 Forbidden</title><style>b {}</style></head><body><!-- x -->"
        b"<script>var a = '<b>';</script><h1>403 Forbidden</h1><p class='a'>Request blocked</p></body></html>"
    )
    assert parse_error_body(page).message == "403 Forbidden Request blocked"
    assert parse_error_body(b"<html><title>Busy</title><p>Wait 5 < 6</p>").message == "Busy Wait 5 < 6"


@pytest.mark.parametrize("code", ["z" * 1_000_000, "9" * 5000, 10**30])
async def test_codes_of_an_error_are_cut(code: Any) -> None:
    """15.5: also a status of 5,000 digits, which Python refuses to read as a number."""
    words = {"message": "No.", "code": code, "type": "t" * 10_000, "param": "p" * 10_000}
    for status in (400, 200):
        error = await failure(lambda _, s=status: web.json_response({"error": words}, status=s))
        assert len(error.code or "") <= MAX_CODE
        assert len(error.type or "") <= MAX_CODE
        assert len(error.param or "") <= MAX_CODE
        assert error.message == "No."


@pytest.mark.parametrize("before", [180, 190, 199, 280, 290, 299, 1990, 1999])
async def test_a_key_that_a_cut_would_halve_is_masked(before: int) -> None:
    """15.1: the beginning of a key is as secret as the key: texts are masked before they are cut."""
    words = "x" * before + KEY + "y" * 5000
    replies: list[Any] = [
        lambda _: web.json_response({"error": {"message": words}}, status=400),
        lambda _: web.Response(text=words, status=400),
        lambda _: web.Response(text=words),
        lambda _: web.json_response({"error": {"message": words}}),
        stream(f"data: {words}\n\n".encode()),
    ]
    for reply in replies:
        error = await failure(reply)
        assert KEY[:5] not in str(error)
    assert len(parse_error_body(words.encode()).message) <= MAX_BODY_TEXT


# ── below HTTP ──


@asynccontextmanager
async def raw_server(head: bytes, again: bytes, times: int) -> AsyncIterator[str]:
    """A server that replies to the first request with `head`, then `again`, and keeps the connection open."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            for _ in range(times):
                writer.write(again)
                await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(reply, HOST, 0)
    async with server:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/v1"


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize(
    ("head", "again"),
    [
        (OK, b"X-Header: value\r\n" * 1000),
        (OK + b"X-Header: ", b"v" * PIECE),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: v\r\n" * 1000),
    ],
    ids=["headers", "header", "trailers"],
)
async def test_headers_without_an_end_are_given_up(api: Api, head: bytes, again: bytes) -> None:
    """15.5: aiohttp's bounds; the message says that it is the headers."""
    async with raw_server(head, again, times=100) as url, backend_at(url, api) as backend:
        calls = [backend.create_run(run_request(), "t")]
        calls += [backend.poll_run(run_request(), "t", "r")] if api == "responses" else []
        for request in calls:
            async with asyncio.timeout(30):
                with pytest.raises(Exception, match=r"Too many headers|Got more than \d+ bytes"):
                    await request

"""Replies are bounded (cases D11, E10): a hostile or broken server costs a row, never the worker's memory."""

import asyncio
import gzip
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.model.models import Api
from askmill.jobs.openai_client import reply_limits
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.reply_limits import (
    LARGE_REPLY_BYTES,
    MAX_LIST_OBJECTS,
    MAX_REPLY_BYTES,
    Decompressor,
    LargeReplies,
    ReplyTooLarge,
    UnknownEncoding,
)
from askmill.jobs.openai_client.uploads import purge_objects
from askmill.worker.backends.base import Backend
from askmill.worker.backends.coerce import MAX_DEPTH, bounded
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.stub_server import KEY, run_request, stub_backend, stub_server

BOMB_BYTES = 2 * 2**30
APIS: list[Api] = ["assistants", "responses"]
MESSAGES, STEPS = "GET /threads/t/messages", "GET /threads/t/runs/r/steps"


def gzip_bomb(size: int = BOMB_BYTES) -> bytes:
    """A JSON text of `size` bytes, which takes a thousandth of that."""
    start, blank = b'{"id": "r", "status": "queued"', b" " * 2**20
    return gzip.compress(start) + gzip.compress(blank) * (size // len(blank))


async def endless_body(request: web.Request) -> web.StreamResponse:
    """A JSON text without an end."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"id": "r", "status": "queued", "pad": "')
    try:
        while True:
            await response.write(b"x" * 2**16)
    except ConnectionResetError:
        return response


def create_and_poll(backend: Backend, api: Api) -> list[Any]:
    return [backend.create_run(run_request(), "t"), backend.poll_run(run_request(), "t", "r")]


def routes_with(reply: Any) -> dict[str, Any]:
    names = ("POST /threads/t/runs", "GET /threads/t/runs/r", "POST /responses", "GET /responses/r")
    return dict.fromkeys(names, reply)


@pytest.mark.parametrize("api", APIS)
async def test_a_gzip_bomb_is_not_unpacked(api: Api) -> None:
    """Case D11: by creates, which the SDK sends, and by reads; the error names the bound."""
    bomb = gzip_bomb(64 * 2**20)
    reply = lambda _: web.Response(  # noqa: E731
        body=bomb, headers={"content-encoding": "gzip", "content-type": "application/json"}
    )
    async with stub_backend(routes_with(reply), api) as (backend, _):
        for call in create_and_poll(backend, api):
            with pytest.raises(ApiError) as error:
                await call
            assert error.value.code == "reply_too_large"
            assert "MAX_REPLY_BYTES" in error.value.message


@pytest.mark.parametrize("api", APIS)
async def test_a_body_without_an_end_is_given_up(api: Api) -> None:
    """Case D11: after MAX_REPLY_BYTES, on both ways."""
    async with stub_backend(routes_with(endless_body), api) as (backend, _):
        for call in create_and_poll(backend, api):
            with pytest.raises(ApiError) as error:
                await call
            assert error.value.code == "reply_too_large"


@pytest.mark.parametrize("api", APIS)
async def test_a_reply_with_too_many_values_is_not_parsed(api: Api) -> None:
    """Each of eight million small numbers would take its place in memory."""
    body = b'{"id": "r", "status": "queued", "pad": [' + b"1," * 2_000_000 + b"1]}"
    reply = lambda _: web.Response(body=body, content_type="application/json")  # noqa: E731
    async with stub_backend(routes_with(reply), api) as (backend, _):
        for call in create_and_poll(backend, api):
            with pytest.raises(ApiError, match="MAX_JSON_VALUES"):
                await call


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("encoding", ["br", "zstd", "odd, gzip"])
async def test_an_encoding_that_was_not_asked_for_is_named(api: Api, encoding: str) -> None:
    """Only gzip and deflate are asked for, so nothing else is unpacked."""
    reply = lambda _: web.Response(body=b"\x00", headers={"content-encoding": encoding})  # noqa: E731
    async with stub_backend(routes_with(reply), api) as (backend, server):
        for call in create_and_poll(backend, api):
            with pytest.raises(ApiError, match="not asked for"):
                await call
            assert server.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
async def test_compressed_replies_are_read(api: Api, encoding: str, wbits: int) -> None:
    """Also deflate without its header."""
    packer = zlib.compressobj(wbits=wbits)
    body = packer.compress(b'{"id": "r", "status": "queued"}') + packer.flush()
    reply = lambda _: web.Response(  # noqa: E731
        body=body, headers={"content-encoding": encoding, "content-type": "application/json"}
    )
    async with stub_backend(routes_with(reply), api) as (backend, _):
        for call in create_and_poll(backend, api):
            assert (await call).status == "queued"


# ── lists ──


def page(request: web.Request, *, repeat: int | None = None) -> dict[str, Any]:
    """A page of a list that always has more; `repeat`: its cursors come round."""
    start = int(request.query.get("after", "m0")[1:]) + 1
    numbers = range(start, start + 100)
    objects = [{"id": f"m{n % repeat if repeat else n}", "role": "assistant", "run_id": "r"} for n in numbers]
    return {"data": objects, "has_more": True}


@pytest.mark.parametrize("repeat", [1, 100, 300])
async def test_a_list_that_repeats_its_pages_ends(repeat: int) -> None:
    """Case E10: one object, one page or three, again and again."""
    routes = {MESSAGES: lambda request: page(request, repeat=repeat), STEPS: {"data": []}}
    async with stub_backend(routes) as (backend, server):
        answer = await backend.read_answer(run_request(), "t", "r")
    assert answer.messages > 0
    assert len(server.requests) <= 6


async def test_a_list_without_an_end_is_given_up() -> None:
    """Case D11: `has_more` is always true."""
    async with stub_backend({MESSAGES: page}) as (backend, server):
        with pytest.raises(ApiError, match="MAX_LIST_OBJECTS") as error:
            await backend.read_answer(run_request(), "t", "r")
    assert error.value.code == "reply_too_large"
    assert len(server.requests) <= MAX_LIST_OBJECTS / 100 + 2


async def test_a_list_of_steps_past_its_bounds_costs_the_steps_alone() -> None:
    """The answer is read; one step says why the others are missing."""
    text = {"id": "m", "role": "assistant", "run_id": "r", "content": "42"}
    async with stub_backend({MESSAGES: {"data": [text]}, STEPS: page}) as (backend, _):
        answer = await backend.read_answer(run_request(), "t", "r")
    assert answer.text == "42"
    assert "MAX_LIST_OBJECTS" in answer.steps[0].details["error"]


async def test_steps_that_cannot_be_read_carry_the_answer() -> None:
    """The error of a later part has the text that was read before it."""
    text = {"id": "m", "role": "assistant", "run_id": "r", "content": "42"}
    async with stub_backend({MESSAGES: {"data": [text]}, STEPS: (500, {})}) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.read_answer(run_request(), "t", "r")
    assert error.value.partial is not None
    assert error.value.partial.text == "42"


async def test_purge_ends_although_a_list_repeats_its_page() -> None:
    """Case E10: the items of a conversation are listed once and deleted once."""
    item = {"id": "i1", "type": "message", "role": "user", "status": "completed", "content": []}
    routes = {
        "GET /conversations/c/items": {"data": [item], "last_id": "i1", "first_id": "i1", "has_more": True},
        "DELETE /conversations/c/items/i1": {"id": "c"},
        "DELETE /conversations/c": {"id": "c", "deleted": True},
    }
    async with stub_server(routes) as (server, url), make_client(KEY, url) as client:
        report = await purge_objects(client, [("conversation", "c")])
    assert (report.deleted, report.faults) == (1, [])
    assert server.request_names.count("DELETE /conversations/c/items/i1") == 1


# ── the parts ──


@given(st.binary(max_size=5000), st.sampled_from([31, 15, -15]), st.integers(1, 700))
def test_pieces_are_the_content(content: bytes, wbits: int, cut: int) -> None:
    """However the bytes arrive, and in two members too."""
    packed = b""
    for _ in range(2 if wbits == 31 else 1):
        packer = zlib.compressobj(wbits=wbits)
        packed += packer.compress(content) + packer.flush()
    decompressor = Decompressor("gzip" if wbits == 31 else "deflate")
    pieces = [p for at in range(0, len(packed), cut) for p in decompressor.pieces(packed[at : at + cut])]
    assert b"".join(pieces) == content * (2 if wbits == 31 else 1)


async def test_few_large_replies_are_read_at_a_time() -> None:
    """The third waits until one of two is closed."""
    gate, started = LargeReplies(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * (LARGE_REPLY_BYTES + 1)

    first, second, third = (gate.bounded(chunks(), "") for _ in range(3))
    assert await anext(first) == await anext(second)

    async def read_third() -> None:
        started.set()
        await anext(third)

    waiting = asyncio.create_task(read_third())
    await started.wait()
    assert not waiting.done()
    await first.aclose()
    await asyncio.wait_for(waiting, 10)
    for reader in (second, third):
        await reader.aclose()


def test_bounds_have_their_names() -> None:
    """What is refused says which constant to look for."""
    with pytest.raises(ReplyTooLarge, match="MAX_REPLY_BYTES"):
        reply_limits.check_size(MAX_REPLY_BYTES + 1)
    with pytest.raises(UnknownEncoding, match="br"):
        Decompressor("br")


def test_deep_values_are_cut_and_can_be_stored() -> None:
    """orjson writes 254 levels; a reply may have a thousand."""
    deep: Any = "end"
    for _ in range(900):
        deep = [deep]
    cut, depth = bounded(deep), 0
    while isinstance(cut, list):
        cut, depth = cut[0], depth + 1
    assert (cut, depth) == ("…", MAX_DEPTH)


WORKER = """
import asyncio, sys
from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.factory import BACKENDS
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.stub_server import run_request

async def main(url):
    backend = BACKENDS["assistants"](make_client("k", url))
    async def ask(number):
        calls = [backend.create_run(run_request(), "t"), backend.poll_run(run_request(), "t", "r")]
        try:
            await calls.pop(number % 2)
        except ApiError as error:
            assert error.code in {"reply_too_large", "timeout"}, error
        calls.pop().close()
    await asyncio.gather(*(ask(number) for number in range(60)))
    await backend.close()
    # Not ru_maxrss: it begins with the size of the process that started this one.
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM:")))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
async def test_the_memory_of_a_worker_stays_flat() -> None:
    """Case D11: 60 requests at once meet a gzip bomb of 2 GB each; the process stays below 400 MB."""
    bomb = gzip_bomb()
    reply = lambda _: web.Response(  # noqa: E731
        body=bomb, headers={"content-encoding": "gzip", "content-type": "application/json"}
    )
    async with stub_server(routes_with(reply)) as (_, url):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-c", WORKER, url, stdout=subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 0
    assert int(output) < 400, f"{int(output)} MB"

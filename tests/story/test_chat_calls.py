"""Calls of chat completions in real workers: killed, ended, cancelled, and conversations whose messages are ours."""

import os
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from askmill.jobs.display.status_text import anomalies_line
from askmill.jobs.model.models import InputSpec, JobStatus, Limits, OnUnknown
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import Store
from askmill.jobs.store.broker import publish
from askmill.jobs.store.records import NewBatch, NewRow
from askmill.jobs.store.views import StatusView
from askmill.jobs.submit.images import store_images
from tests.backends.stub_server import StubServer, stub_server
from tests.stack import QUICK, Stack
from tests.support import wait_until, wait_until_async

PROFILE = Profile(model="local-7b")
PICTURE = Path(__file__).parents[2] / "examples" / "red.png"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One Redis and one emulator of chat completions."""
    with Stack(tmp_path_factory.mktemp("stack"), api="chat") as stack:
        yield stack


@pytest.fixture
def stack(servers: Stack) -> Iterator[Stack]:
    """The same for each test, which ends with its workers."""
    yield servers
    for worker in servers.workers:
        worker.kill()
    servers.workers.clear()
    wait_until(lambda: in_flight(servers) == 0, "no call is in flight")


def in_flight(stack: Stack) -> int:
    return int(stack.stats()["runs_active"])


def unknown_creates(view: StatusView) -> int:
    return int(view.to_json()["unknown_creates"])


def calls_of(stack: Stack, batch: str) -> int:
    return sum(count for job, count in stack.stats()["runs_by_job"].items() if job.startswith(f"{batch}:"))


async def test_a_killed_worker_costs_at_most_its_calls_in_flight_and_each_is_counted(stack: Stack) -> None:
    """kill -9: no row is lost, no answered row is asked again, and `unknown_creates` has every call made again."""
    questions = [f"[emulate: completed after=0.6] What is {n} + 1?" for n in range(24)]
    worker = stack.worker(concurrency=6, times=QUICK)
    batch = await stack.submit(questions, PROFILE)

    async def half_done() -> bool:
        return (await stack.status(batch)).counts.by_status[JobStatus.COMPLETED] >= 8

    await wait_until_async(half_done, "a third is answered")
    wait_until(lambda: in_flight(stack) == 6, "six calls are in flight")
    worker.kill()
    stack.worker(concurrency=6, times=QUICK)
    view = await stack.wait_for(batch)

    assert view.counts.by_status[JobStatus.COMPLETED] == 24
    again = calls_of(stack, batch) - 24
    assert 1 <= again <= unknown_creates(view) <= 6
    rows = await stack.rows(batch)
    assert sum(row.result.attempt_count - 1 for row in rows if row.result) == unknown_creates(view)


async def test_sigterm_lets_calls_end_and_starts_none(stack: Stack) -> None:
    """Within ASKMILL_DRAIN_S every call in flight is answered: nothing is asked again, nothing is unknown."""
    worker = stack.worker(concurrency=4, times=QUICK, ASKMILL_DRAIN_S="30")
    batch = await stack.submit(["[emulate: completed after=4] What is 1 + 1?"] * 8, PROFILE)
    # The first row goes alone until the server has accepted it.
    wait_until(lambda: in_flight(stack) == 4, "four calls are in flight")
    assert worker.leave(within_s=20) == 0

    ended = await stack.status(batch)
    assert ended.counts.by_status[JobStatus.COMPLETED] == calls_of(stack, batch) >= 4
    assert ended.counts.by_status[JobStatus.RUNNING] == 0
    assert unknown_creates(ended) == 0
    async with await Store.open(stack.redis_url) as store:
        await store.cancel(batch)


async def test_calls_that_do_not_end_in_time_are_handed_over(stack: Stack) -> None:
    """With `--on-unknown stop` the next worker asks nobody: the rows fail with `unknown_outcome`."""
    worker = stack.worker(concurrency=2, times=QUICK, ASKMILL_DRAIN_S="0")
    batch = await stack.submit(["[emulate: stuck] Why?"] * 2, PROFILE, on_unknown=OnUnknown.STOP)
    wait_until(lambda: in_flight(stack) == 2, "both calls are in flight")
    assert worker.leave(within_s=15) == 0
    wait_until(lambda: in_flight(stack) == 0, "the connections are closed, which is the cancel")
    worker = stack.worker(concurrency=2, times=QUICK)
    view = await stack.wait_for(batch)

    assert (view.counts.by_status[JobStatus.FAILED], unknown_creates(view)) == (2, 2)
    rows = await stack.rows(batch)
    assert {(row.result.error or "").partition(":")[0] for row in rows if row.result} == {"unknown_outcome"}
    assert calls_of(stack, batch) == 2


async def test_cancel_closes_the_connections(stack: Stack) -> None:
    """Rows in flight end `cancelled`, and the server works on none of them."""
    stack.worker(concurrency=3, times=QUICK)
    batch = await stack.submit(["[emulate: stuck] Why?"] * 5, PROFILE)
    wait_until(lambda: in_flight(stack) == 3, "three calls are in flight")
    async with await Store.open(stack.redis_url) as store:
        await store.cancel(batch)

    async def all_ended() -> bool:
        return (await stack.status(batch)).counts.unfinished == 0

    await wait_until_async(all_ended, "every row has ended")
    wait_until(lambda: in_flight(stack) == 0, "the server works on none")
    view = await stack.status(batch)
    assert view.counts.by_status[JobStatus.CANCELLED] == 5


async def test_two_hundred_rows_pass_through_one_slot(stack: Stack) -> None:
    """llama.cpp's default: the other calls wait at the server, and no wait is taken for a lost call."""
    stack.scenario("[chat]\nslots = 1\n")
    try:
        stack.worker(concurrency=None, times=QUICK)
        batch = await stack.submit([f"What is {number} + 1?" for number in range(200)], PROFILE)
        view = await stack.wait_for(batch)
    finally:
        stack.scenario("")
    assert (view.counts.by_status[JobStatus.COMPLETED], unknown_creates(view)) == (200, 0)
    assert calls_of(stack, batch) == 200


async def test_a_prompt_that_the_server_cuts_in_silence_is_told(stack: Stack) -> None:
    """Once a batch in `status`, and in the steps of each row: the answer looks whole."""
    stack.scenario('[chat]\ncontext_tokens = 1024\nignores = ["context_tokens"]\n')
    try:
        stack.worker(concurrency=2, times=QUICK)
        batch = await stack.submit(["What is 1 + 1?", "a word " * 3_000 + "What is 6 * 7?"], PROFILE)
        view = await stack.wait_for(batch)
    finally:
        stack.scenario("")
    assert view.counts.by_status[JobStatus.COMPLETED] == 2
    assert view.to_json()["cut_contexts"] == 1
    assert "1 prompt probably cut by the server" in anomalies_line(view)
    short, long = [row.result for row in await stack.rows(batch) if row.result]
    assert ["warning" in step.details for step in (*short.steps, *long.steps)] == [False, True]


# ── conversations ──


def completion(number: int) -> dict[str, Any]:
    """An answer with a field that nobody knows."""
    message = {"role": "assistant", "content": f"answer {number}", "signature": {"of": number}}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": f"c{number}", "object": "chat.completion", "model": "m", "choices": [choice]}


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[StubServer, str]]:
    """A server that numbers its answers."""

    def reply(_: web.Request) -> dict[str, Any]:
        return completion(len(server.requests))

    async with stub_server({"POST /chat/completions": reply}) as (server, url):
        yield server, url


async def test_a_conversation_goes_back_verbatim_and_its_images_too(stack: Stack) -> None:
    """Each turn sends all earlier ones, with every field the server wrote; each is stored once, and so is a picture."""
    async with answering() as (server, url):
        stack.base_url, before = url, stack.base_url
        try:
            stack.worker(concurrency=2, times=QUICK)
            batch = await _submit_conversation(stack, [f"Turn {n}?" for n in range(1, 5)])
            view = await stack.wait_for(batch)
        finally:
            stack.base_url = before
        bodies = [body for _, body in server.requests]

    assert view.counts.by_status[JobStatus.COMPLETED] == 4
    assert [len(body["messages"]) for body in bodies] == [1, 3, 5, 7]
    *_, asked, answered, last = bodies[3]["messages"]
    assert asked == {"role": "user", "content": "Turn 3?"}
    assert answered == {"role": "assistant", "content": "answer 3", "signature": {"of": 3}}
    assert last["content"] == "Turn 4?"
    picture = f"data:image/png;base64,{b64encode(PICTURE.read_bytes()).decode()}"
    for body in bodies:
        _, part = body["messages"][0]["content"]
        assert part == {"type": "image_url", "image_url": {"url": picture}}
    rows = await stack.rows(batch)
    assert {row.result.thread_id for row in rows if row.result} == {f"{batch}-1"}
    async with await Store.open(stack.redis_url) as store:
        (fourth,) = await store.previous_turns(batch, [4])
    assert len(orjson.loads(fourth)["messages"]) == 2


async def _submit_conversation(stack: Stack, questions: list[str]) -> str:
    """Store a batch whose rows are the turns of one conversation; the first one has a picture."""
    spec = InputSpec(
        ("chat", "question", "image"), "question", conversation_column="chat", overrides=("image",)
    )
    new = NewBatch(
        name="test", file="test.csv", spec=spec, profile=PROFILE, resources=Resources(), api="chat",
        base_url=stack.base_url, model="local-7b", limits=Limits(), identity=os.urandom(32).hex(),
    )  # fmt: skip
    pictures = ["red.png", *[""] * len(questions)]
    rows = [
        NewRow(["ann", question, picture], conversation="ann")
        for question, picture in zip(questions, pictures, strict=False)
    ]
    async with await Store.open(stack.redis_url) as store:
        batch = await store.create_batch(new)
        await store_images(store, batch, {"red.png": PICTURE})
        await store.add_rows(batch, 1, rows)
        await store.seal_batch(batch)
        publish(stack.redis_url, await store.dispatch(20))
    return batch

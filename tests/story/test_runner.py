"""One row processed in this process, on a real Redis, against a server that the test scripts request by request.

Interruptions, delays and repetitions at one exact moment, which real kills hit too seldom.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import redis
from aiohttp import web

from askmill.jobs.model.models import JobStatus
from askmill.jobs.openai_client import client as jobs_api
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store, keys
from askmill.jobs.store.claim_records import Claim
from askmill.worker.backends.factory import Backends
from askmill.worker.execution import request_builder
from askmill.worker.execution.job_runner import JobRunner
from askmill.worker.lifecycle.decision import CreateThread
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.transitions import SEND_WITHIN_S
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext, elapsed_clock_s
from askmill.worker.runtime.interrupts import Interrupts
from askmill.worker.runtime.rate_limiter import SharedLimits
from tests.backends.stub_server import StubServer, stub_server
from tests.helpers.batches import claim_row, expire_worker, submit_batch, worker_info
from tests.support import RedisServer, wait_until_async

RUNS, MESSAGES = "/threads/t/runs", "GET /threads/t/messages"
DONE = {"id": "r", "status": "completed", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


def answer(text: str) -> dict[str, Any]:
    message = {
        "id": "m",
        "role": "assistant",
        "run_id": "r",
        "content": [{"type": "text", "text": {"value": text}}],
    }
    return {"data": [message]}


def routes(**changed: Any) -> dict[str, Any]:
    """A server whose runs have completed when they are created."""
    return {
        "POST /assistants": {"id": "a"},
        "POST /threads": {"id": "t"},
        f"POST {RUNS}": DONE,
        f"GET {RUNS}": {"data": [DONE]},
        f"GET {RUNS}/r": DONE,
        MESSAGES: answer("42"),
        f"GET {RUNS}/r/steps": {"data": []},
        **changed,
    }


@dataclass
class Scene:
    """One row of a batch at this server; the test decides when a worker claims it."""

    store: Store
    redis_url: str
    server: StubServer
    url: str
    batch: str

    def worker_info(self, worker: str):
        return worker_info(worker, base_url=self.url)

    async def claim(self, worker: str = "w1") -> Claim:
        await self.store.heartbeat(self.worker_info(worker))
        return await claim_row(self.store, (await self.store.dispatch(1))[0], worker)

    @asynccontextmanager
    async def runner(self, claim: Claim) -> AsyncIterator[JobRunner]:
        client = jobs_api.make_client("local-key", self.url)
        context = WorkerContext(
            store=self.store,
            backends=Backends(client),
            limits=SharedLimits(self.store),
            prices=Prices.read(None),
            worker=self.worker_info(claim.worker),
            lifetime_s=12,
            margin_s=5,
            heartbeat_acknowledged_s=elapsed_clock_s(),
        )
        sent_s = elapsed_clock_s()
        heartbeat = await self.store.heartbeat(self.worker_info(claim.worker))
        context.clock.learn(sent_s, elapsed_clock_s(), heartbeat.now_ms / 1000)
        batch = BatchContext(await self.store.batch(claim.batch), claim.update, claim.now_ms)
        try:
            yield JobRunner(context, batch, claim, Interrupts())
        finally:
            await context.backends.close()

    async def run(self, claim: Claim) -> None:
        async with asyncio.timeout(60), self.runner(claim) as runner:
            await runner.run()

    def live_field(self, name: str) -> str | None:
        """A field of the claimed row's hash in Redis."""
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as client:
            value: str | None = client.hget(keys.live(self.batch, 1), name)
            return value

    def state(self) -> dict[str, Any]:
        return dict(orjson.loads(self.live_field("state") or "{}"))

    def counter(self, name: str) -> int:
        with redis.Redis.from_url(self.redis_url) as client:
            return int(client.hget(keys.part(self.batch, "counters"), name) or 0)

    async def take_over(self) -> None:
        """Reap the worker's claim; another worker then polls a run of its own."""
        expire_worker(self.redis_url, "w1")
        await self.store.heartbeat(self.worker_info("w2"))

        async def reaped() -> bool:
            return bool((await self.store.reap_dead_workers("w2")).rows)

        await wait_until_async(reaped, "the row waits again")
        claim = await self.claim("w2")
        await self.store.save(
            claim, b'{"phase":"polling","thread_id":"t","run_id":"other"}', run_created=True
        )


@pytest.fixture
async def scene(store: Store, redis_url: str) -> AsyncIterator[Scene]:
    """After the test the row has ended, and Redis is checked for leaks."""
    async with stub_server(routes()) as (server, url):
        batch = await submit_batch(store, 1, base_url=url)
        yield Scene(store, redis_url, server, url, batch)
        for worker in ("w1", "w2"):
            await store.deregister_worker(worker)


async def _finished(scene: Scene) -> Any:
    detail = await scene.store.row(scene.batch, 1)
    assert detail.view.result is not None, scene.state()
    return detail.view.result


# ── interrupted ──


@pytest.mark.parametrize("status", ["completed", "requires_action"])
async def test_a_run_that_ended_in_its_creates_reply_is_handed_over(scene: Scene, status: str) -> None:
    """A shutdown begins while the create is in flight: the next worker gets the id, and it is counted once."""
    claim = await scene.claim()
    async with scene.runner(claim) as runner:

        def create(_: web.Request) -> Any:
            runner.interrupts.shutting_down = True
            return {**DONE, "status": status}

        scene.server.routes[f"POST {RUNS}"] = create
        await runner.run()
    assert scene.state()["run_id"] == "r"

    await scene.run(await scene.claim())
    result = await _finished(scene)
    assert (result.status, result.run_id, result.usage.prompt_tokens) == (JobStatus.COMPLETED, "r", 3)
    assert (scene.counter("runs"), scene.server.requests.count((f"GET {RUNS}", None))) == (1, 0)


async def test_tokens_are_reserved_by_the_worker_that_created_the_run(scene: Scene, redis_url: str) -> None:
    """A run handed over under `tokens_per_minute`: the worker that reads its answer reserves nothing again."""
    await scene.store.set_limits(tokens_per_minute=60_000)
    reservations = list[bytes]()
    for shutting_down in (True, False):
        claim = await scene.claim()
        async with scene.runner(claim) as runner:

            def create(_: web.Request, signals: Interrupts = runner.interrupts) -> Any:
                signals.shutting_down = True
                return {**DONE, "status": "in_progress"}

            scene.server.routes[f"POST {RUNS}"] = create
            await runner.context.limits.refresh()
            await runner.run()
        with redis.Redis.from_url(redis_url) as client:
            reservations.append(client.get(keys.rate_limit("tokens_per_minute")) or b"")
        assert (scene.live_field("state") is not None) is shutting_down, (
            "the first has handed over, the second has finished"
        )

    assert (await _finished(scene)).run_id == "r"
    assert reservations[0] == reservations[1] != b""


async def test_an_interrupted_save_counts_its_run_once(scene: Scene, redis_server: RedisServer) -> None:
    """Redis is slow during a shutdown: whether or not the save was carried out, the id is handed over."""
    claim = await scene.claim()
    async with scene.runner(claim) as runner:
        running = {**DONE, "status": "in_progress"}
        job = asyncio.create_task(runner.run())

        def create(_: web.Request) -> Any:
            redis_server.freeze()
            asyncio.get_running_loop().call_later(0.3, job.cancel)
            asyncio.get_running_loop().call_later(0.6, redis_server.thaw)
            return running

        scene.server.routes[f"POST {RUNS}"] = create
        await job
    assert scene.state()["run_id"] == "r"

    await scene.run(await scene.claim())
    assert (await _finished(scene)).run_id == "r"
    assert scene.counter("runs") == 1


async def test_a_late_run_is_cancelled_although_the_api_fails(scene: Scene) -> None:
    """A create is answered after another worker claimed the row: counted, and its cancel repeated until it works."""
    claim, cancels = await scene.claim(), list[float]()
    async with scene.runner(claim) as runner:

        async def create(_: web.Request) -> Any:
            await scene.take_over()
            runner.interrupts.claim_lost = True
            return {**DONE, "id": "late", "status": "requires_action"}

        def cancel(_: web.Request) -> Any:
            cancels.append(time.monotonic())
            return (503, {}) if len(cancels) < 3 else {"id": "late", "status": "cancelled"}

        scene.server.routes |= {f"POST {RUNS}": create, f"POST {RUNS}/late/cancel": cancel}
        await runner.run()

    assert (len(cancels), scene.counter("late_runs")) == (3, 1)
    assert scene.state()["run_id"] == "other"


# ── delayed ──


async def test_a_create_is_sent_only_after_a_recent_save(scene: Scene, redis_server: RedisServer) -> None:
    """Redis delays the save beyond the age limit of its mark: it is stored again before the create is sent."""
    ages, freezes = list[float](), list[bool]()

    def thread(_: web.Request) -> Any:
        freezes.append(True)
        redis_server.freeze()
        asyncio.get_running_loop().call_later(SEND_WITHIN_S + 0.7, redis_server.thaw)
        return {"id": "t"}

    def create(_: web.Request) -> Any:
        ages.append(time.time() - scene.state()["create_sent_at"])
        return DONE

    scene.server.routes |= {"POST /threads": thread, f"POST {RUNS}": create}
    await scene.run(await scene.claim())

    assert (await _finished(scene)).status is JobStatus.COMPLETED
    assert (len(freezes), len(ages)) == (1, 1)
    assert ages[0] <= SEND_WITHIN_S + 0.2


async def test_a_slow_thread_does_not_make_the_create_late(scene: Scene) -> None:
    """The mark of a create takes its time from the thread's event, which therefore has the time of the reply.

    With that of the request, a wait for the thread made the mark too old, and it was stored a second time.
    """
    replied_s = list[float]()
    async with scene.runner(await scene.claim()) as runner:

        def thread(_: web.Request) -> Any:
            replied_s.append(runner.context.now_s())
            return {"id": "t"}

        scene.server.routes["POST /threads"] = thread
        event = await runner.actions.perform(CreateThread(), runner.state)
        await runner.run()

    assert event.at >= replied_s[0]
    assert (await _finished(scene)).status is JobStatus.COMPLETED


# ── reading ──


async def test_waiting_for_the_next_read_sets_no_crash_mark(scene: Scene) -> None:
    """The messages cannot be read for a while: a worker killed during this wait was not killed by the row."""
    available = list[bool]()
    scene.server.routes[MESSAGES] = lambda _: answer("42") if available else (503, {})
    job = asyncio.create_task(scene.run(await scene.claim()))

    async def waits_unmarked() -> bool:
        reads = [name for name, _ in scene.server.requests].count(MESSAGES)
        return reads >= 2 and scene.live_field("crash_mark") == "0"

    await wait_until_async(waits_unmarked, "it waits between two reads, unmarked", 5)
    available.append(True)
    await job

    assert (await _finished(scene)).status is JobStatus.COMPLETED


def _raw(body: bytes) -> Callable[[web.Request], web.Response]:
    return lambda _: web.Response(body=body, content_type="application/json")


async def test_an_answer_truncated_within_an_emoji_is_stored(scene: Scene) -> None:
    """Some servers send a lone surrogate: the answer and its steps have U+FFFD in its place."""
    body = orjson.dumps(answer("so @")).replace(b"@", rb"\ud83d")
    step = {"id": "s", "type": "message_creation", "status": "completed"}
    step["step_details"] = {"type": "message_creation", "message_creation": {"message_id": "m"}}
    scene.server.routes |= {MESSAGES: _raw(body), f"GET {RUNS}/r/steps": {"data": [step]}}
    await scene.run(await scene.claim())

    result = await _finished(scene)
    assert (result.status, result.answer) == (JobStatus.COMPLETED, "so \ufffd")
    assert [step.details["text"] for step in result.steps] == ["so \ufffd"]


# ── servers that lag, and one that refuses to cancel ──

ASKING = {
    **DONE,
    "status": "requires_action",
    "required_action": {
        "submit_tool_outputs": {
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        }
    },
}


async def test_accepted_outputs_are_submitted_once_although_the_server_lags(scene: Scene) -> None:
    """Case A4: the run shows the same calls for three more polls; nothing is called or submitted again."""
    polls = list[dict[str, Any]]([ASKING, ASKING, ASKING, DONE])
    scene.server.routes |= {
        f"POST {RUNS}": ASKING,
        f"POST {RUNS}/r/submit_tool_outputs": ASKING,
        f"GET {RUNS}/r": lambda _: polls.pop(0) if len(polls) > 1 else polls[0],
    }
    await scene.run(await scene.claim())

    assert (await _finished(scene)).answer == "42"
    assert scene.server.request_names.count(f"POST {RUNS}/r/submit_tool_outputs") == 1
    assert scene.server.request_names.count(f"GET {RUNS}/r") == 4


async def test_a_message_that_appears_late_is_the_answer(scene: Scene) -> None:
    """Case A6: the run has completed with tokens, its message is listed at the third read; the tokens count once."""
    reads = [{"data": []}, {"data": []}, answer("42")]
    scene.server.routes[MESSAGES] = lambda _: reads.pop(0) if len(reads) > 1 else reads[0]
    await scene.run(await scene.claim())

    result = await _finished(scene)
    assert (result.status, result.answer, result.attempt_count) == (JobStatus.COMPLETED, "42", 1)
    assert scene.counter("completion") == DONE["usage"]["completion_tokens"]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_run_whose_cancel_is_refused_is_followed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Case E1: one run is created; its answer is kept if it comes, else the row and `status` say what may be paid."""
    limits = {
        "deadline_s": 0.1,
        "cancel_grace_s": 0.2,
        "uncancelled_s": 30.0 if ends else 1.5,
        "base_s": 0.05,
    }
    monkeypatch.setattr(request_builder, "RetryPolicy", lambda **fields: RetryPolicy(**{**fields, **limits}))
    cancels = list[str]()

    def cancel(_: web.Request) -> Any:
        cancels.append("refused")
        return 409, {"error": {"message": "it is at work", "code": "conflict"}}

    def poll(_: web.Request) -> Any:
        return DONE if ends and len(cancels) > 4 else {**DONE, "status": "in_progress", "usage": None}

    scene.server.routes |= {
        f"POST {RUNS}": {**DONE, "status": "queued"},
        f"POST {RUNS}/r/cancel": cancel,
        f"GET {RUNS}/r": poll,
    }
    await scene.run(await scene.claim())

    result = await _finished(scene)
    assert scene.server.request_names.count(f"POST {RUNS}") == 1
    assert scene.counter("uncancelled_runs") == (0 if ends else 1)
    if ends:
        assert (result.status, result.answer) == (JobStatus.COMPLETED, "42")
    else:
        assert result.status is JobStatus.FAILED
        assert "refused to cancel the run (conflict: it is at work): r may still be paid" in result.error

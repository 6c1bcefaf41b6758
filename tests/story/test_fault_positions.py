"""A fault at every request of a row's life: the row ends as the table of statuses says, and no paid text is lost.

One row in this process, on a real Redis, against a real emulator. A server between the two fails one request, by its
number in the row's life. The row is cut off once and continues, so two runs are created.
"""

import asyncio
import functools
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from askmill.jobs.model.models import Api, JobStatus, Limits, OnIncomplete
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from askmill.worker.backends.factory import Backends
from askmill.worker.execution import request_builder
from askmill.worker.execution.job_runner import JobRunner
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext, elapsed_clock_s
from askmill.worker.runtime.interrupts import Interrupts
from askmill.worker.runtime.rate_limiter import SharedLimits
from tests.backends.backend_session import emulator_running
from tests.backends.stub_server import StubServer, serving
from tests.helpers.batches import claim_row, submit_batch, worker_info

QUESTION = "[emulate: incomplete(max_completion_tokens), completed] What is 2 + 2?"
WHOLE = "2 + 2 = 4."
APIS: list[Api] = ["assistants", "responses", "chat"]
CREATES = ("/runs", "/responses", "/chat/completions")
TRANSIENT = ("429", "500", "503", "drop_before", "drop_after")
POSITIONS = range(16)
SAMPLE = [
    ("assistants", 5, "drop_after"),
    ("assistants", 3, "500"),
    ("responses", 2, "503"),
    ("responses", 3, "drop_after"),
    ("responses", 4, "429"),
    ("chat", 0, "drop_after"),
    ("chat", 1, "500"),
]
QUICK = {"create_limit_s": 0.3, "base_s": 0.02, "cap_s": 0.2, "attempt_base_s": 0.02, "late_message_s": 0.2}


@dataclass
class FaultyRelay(StubServer):
    """Passes requests on to the emulator; the request of this number meets the fault."""

    upstream: str = ""
    position: int = -1
    fault: str = ""
    creates: int = 0
    refuse_create: int = 0
    """The number of the create that is refused with 400; 0: none."""
    failed: list[str] = field(default_factory=list)
    batch: str = ""

    async def reply(self, request: web.Request) -> web.Response:
        """Carry the request out, unless it is the one that fails."""
        name = f"{request.method} {request.path}"
        self.requests.append((name, None))
        is_create = request.method == "POST" and request.path.endswith(CREATES)
        self.creates += is_create
        if is_create and self.creates == self.refuse_create:
            return web.json_response({"error": {"message": "No.", "param": "input"}}, status=400)
        fault = self.fault if len(self.requests) - 1 == self.position else ""
        if fault:
            self.failed.append(name)
        if fault.isdigit():
            headers = {"retry-after": "0.05"} if fault == "429" else {}
            return web.json_response({"error": {"message": "Later."}}, status=int(fault), headers=headers)
        if fault != "drop_before":
            reply = await self._carried_out(request)
        if fault:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return reply

    def runs_created(self) -> int:
        """How many runs the emulator has made for this row."""
        with urllib.request.urlopen(self.upstream.removesuffix("/v1") + "/emulator/stats") as reply:
            runs: dict[str, int] = json.load(reply)["runs_by_job"]
        return runs[f"{self.batch}:1"]

    async def _carried_out(self, request: web.Request) -> web.Response:
        url = self.upstream.removesuffix("/v1") + str(request.rel_url)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in {"host", "content-length"}}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, data=await request.read(), headers=headers) as reply,
        ):
            kept = {
                k: v
                for k, v in reply.headers.items()
                if k.lower() in {"content-type", "openai-poll-after-ms"}
            }
            return web.Response(body=await reply.read(), status=reply.status, headers=kept)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with emulator_running(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@asynccontextmanager
async def worker_at(store: Store, api: Api, url: str) -> AsyncIterator[WorkerContext]:
    client = make_client("sk-emulated-0123456789", url)
    context = WorkerContext(
        store=store,
        backends=Backends(client),
        limits=SharedLimits(store),
        prices=Prices.read(None),
        worker=worker_info("w1", api=api, base_url=url),
        lifetime_s=12,
        margin_s=5,
        heartbeat_acknowledged_s=elapsed_clock_s() + 3600,
    )
    try:
        yield context
    finally:
        await context.backends.close()


async def row_of(store: Store, api: Api, relay: FaultyRelay) -> Any:
    """The result of one row, from its claim to its end."""
    async with serving(relay) as url, worker_at(store, api, url) as context, asyncio.timeout(60):
        batch = await submit_batch(
            store,
            [NewRow([QUESTION])],
            api=api,
            base_url=url,
            profile=Profile(model="gpt-5-mini"),
            limits=Limits(on_incomplete=OnIncomplete.CONTINUE),
        )
        relay.batch = batch
        while (result := (await store.row(batch, 1)).view.result) is None:
            reply = await store.heartbeat(context.worker)
            context.clock.learn(elapsed_clock_s(), elapsed_clock_s(), reply.now_ms / 1000)
            for row in await store.dispatch(1):
                claim = await claim_row(store, row)
                current = BatchContext(await store.batch(batch), claim.update, claim.now_ms)
                await JobRunner(context, current, claim, Interrupts()).run()
        await store.deregister_worker("w1")
        return result


async def check(store: Store, api: Api, emulator: str, position: int, fault: str) -> None:
    """The row completes with both parts in two attempts; a create may be repeated only where no list shows it."""
    relay = FaultyRelay(upstream=emulator, position=position, fault=fault)
    result = await row_of(store, api, relay)
    if not relay.failed:
        assert position >= len(relay.requests)
        return
    if relay.failed == ["POST /v1/responses"] and position == 1 and fault == "drop_after":
        # The answer is adopted from the conversation, which does not say why it is incomplete.
        assert (result.status, result.answer) == (JobStatus.INCOMPLETE, "2 + 2")
        return
    assert result.status is JobStatus.COMPLETED, (relay.failed, result.error)
    assert result.answer == WHOLE
    created = relay.runs_created()
    if api == "chat" and fault.startswith("drop"):
        # Nothing can be looked up: the lost call is an attempt of its own, counted before the next one.
        assert 2 <= created <= result.attempt_count <= 3 or created == result.attempt_count + 1 == 3
        return
    assert result.attempt_count == 2
    assert created == 2 or (api == "responses" and "POST /v1/responses" in relay.failed and created == 3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a hundredth of their length."""
    monkeypatch.setattr(request_builder, "RetryPolicy", functools.partial(RetryPolicy, **QUICK))


@pytest.mark.parametrize(("api", "position", "fault"), SAMPLE)
async def test_a_fault_at_one_request_changes_no_end(
    store: Store, emulator: str, quick: None, api: Api, position: int, fault: str
) -> None:
    """Sampled: a lost create, a poll, a message, a rate limit."""
    await check(store, api, emulator, position, fault)


@pytest.mark.parametrize("api", APIS)
async def test_a_refused_continuation_leaves_what_was_paid_for(
    store: Store, emulator: str, quick: None, api: Api
) -> None:
    """Case A12, end to end: the second create is answered with 400; the row is incomplete, with the first half."""
    result = await row_of(store, api, FaultyRelay(upstream=emulator, refuse_create=2))
    assert (result.status, bool(result.answer)) == (JobStatus.INCOMPLETE, True)
    assert result.error.startswith("max_completion_tokens: then ")


@pytest.mark.long
@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("api", APIS)
async def test_a_fault_at_any_request_changes_no_end(
    store: Store, emulator: str, quick: None, api: Api, position: int, fault: str
) -> None:
    """Every fault at every request of both attempts."""
    await check(store, api, emulator, position, fault)

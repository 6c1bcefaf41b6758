"""Refusals without a reason, pauses that end by themselves, and the last fault: what the store records and decides."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askmill.jobs.model.models import BatchState, JobStatus, Refusals
from askmill.jobs.store import Store, keys
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.waits import Fault
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.decision import Decision, Finish, PauseBatch, RecordRefusal
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import RefusalRecorded, RequestFailed
from askmill.worker.lifecycle.on_refusal import REFUSED_ALIKE
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.helpers.batches import claim_row, make_result, submit_batch, worker_info

FIREWALL = ApiError(403, message="Access denied, incident 17", page=True)
NO_MONEY = ApiError(402, message="Insufficient Balance")
BAD_ROWS = {
    "unclear": FIREWALL,
    "filter": ApiError(400, code="content_filter", param="prompt", message="filtered"),
    "picture": ApiError(400, param="url", message="Failed to fetch"),
    "large": ApiError(429, message="Request too large on tokens per min (TPM): Limit 300, Requested 613."),
    "input": ApiError(422, param="messages.0.content", message="too long"),
}


TRANSIENT = [
    ApiError(429, message="slow down", retry_after_s=1.0),
    ApiError(503, message="overloaded"),
    ApiError(None, code="not_connected", message="refused", sent=False),
    ApiError(None, code="connection_lost", message="reset"),
]
ASSISTANTS, CHAT = RetryPolicy(), RetryPolicy(stateless=True)


@dataclass
class World:
    """A batch and its API: each row is good, or refused in one of the ways of BAD_ROWS."""

    store: Store
    batch: str
    kinds: list[str]
    rng: random.Random
    policy: RetryPolicy = ASSISTANTS
    transient: list[ApiError | None] = field(default_factory=list)
    """What the next creates meet before anything else: the server is busy, down, or not reached."""
    broke_at: int = -1
    """From this create on money is refused, until the batch is resumed."""
    creates: int = 0
    money_refused: int = 0
    pauses: list[str] = field(default_factory=list)
    asked_first: list[int] = field(default_factory=list)
    """The first row that was asked after each resume."""
    resumed: bool = False

    async def play(self, slots: int) -> None:
        """Ask all rows with so many in flight, in a random order, resuming after each pause, to the batch's end."""
        held: list[Claim] = []
        for _ in range(2000):
            found = await self.store.batch(self.batch)
            if found.state is BatchState.DONE:
                return
            if found.state is BatchState.PAUSED and not held:
                self.pauses.append(found.paused_reason or "")
                self.broke_at, self.resumed = -1, True
                await self.store.resume(self.batch)
            await self.store.heartbeat(worker_info(self.batch, slots=slots))
            for row in await self.store.dispatch(0):
                claim = await self.store.claim(row.batch, row.row, self.batch)
                held += [claim] if isinstance(claim, Claim) else []
            if held:
                await self.ask(held.pop(self.rng.randrange(len(held))))
        raise AssertionError("no end in sight")

    async def ask(self, claim: Claim) -> None:
        """Create the row's run as a worker does: the last check, the request, what its reply means."""
        if not (await self.store.save(claim, b"{}", run_in_flight=True)).may_start:
            await self.store.release(claim, b"{}", run_in_flight=False)
            return
        self.creates += 1
        if self.resumed:
            self.asked_first.append(claim.row)
            self.resumed = False
        passing = self.transient.pop() if self.transient else None
        own = NO_MONEY if 0 <= self.broke_at < self.creates else BAD_ROWS.get(self.kinds[claim.row - 1])
        error = own if passing is None else passing
        if error is None:
            await self.store.save(claim, b"{}", run_created=True)
            await self.store.finish(claim, make_result(claim.row))
            return
        self.money_refused += error is NO_MONEY
        await self.refuse(claim, error)

    async def refuse(self, claim: Claim, error: ApiError) -> None:
        now = time.time()
        state = JobState(phase=Phase.CREATE_SENT, thread_id="thread_1", create_sent_at=now)
        decision = advance(state, RequestFailed(now, error=error, request=RequestKind.CREATE), self.policy)
        if isinstance(decision.action, RecordRefusal):
            refusals = await self.store.record_refusal(claim)
            assert refusals is not None
            recorded = RefusalRecorded(now, error=error, refusals=refusals)
            decision = advance(decision.state, recorded, self.policy)
        await self.apply(claim, decision)

    async def apply(self, claim: Claim, decision: Decision) -> None:
        if isinstance(decision.action, Finish):
            await self.store.finish(claim, make_result(claim.row, decision.action.status, attempts=()))
            return
        if isinstance(decision.action, PauseBatch):
            await self.store.pause_from_worker(self.batch, decision.action.reason)
        # Due now: no test waits for a backoff.
        await self.store.release(claim, b"{}", due_ms=int(time.time() * 1000), run_in_flight=False)


async def play(
    url: str,
    kinds: list[str],
    slots: int,
    seed: int,
    broke_at: int = -1,
    transient: list[ApiError | None] | None = None,
    policy: RetryPolicy = ASSISTANTS,
) -> World:
    """A world at the end of its batch; exactly the bad rows have failed."""
    async with await Store.open(url) as store:
        batch = await submit_batch(store, len(kinds), identity=f"{random.getrandbits(200):064x}")
        world = World(store, batch, kinds, random.Random(seed), policy, transient or [], broke_at)
        await world.play(slots)
        rows = [view.status async for view in store.results(batch)]
        await store.deregister_worker(batch)
    expected = [JobStatus.COMPLETED if kind == "good" else JobStatus.FAILED for kind in kinds]
    assert rows == expected, kinds
    return world


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `play`: what the rows are, how many are asked at once, and what goes wrong when."""
    kinds = st.lists(st.sampled_from(["good", "good", "good", *BAD_ROWS]), min_size=2, max_size=14)
    return {
        "kinds": draw(kinds.filter(lambda kinds: "good" in kinds)),
        "slots": draw(st.sampled_from([1, 3, 20])),
        "seed": draw(st.integers(0, 999)),
        "broke_at": draw(st.one_of(st.just(-1), st.integers(0, 12))),
        "transient": draw(st.lists(st.sampled_from([None, *TRANSIENT]), max_size=20)),
        "policy": draw(st.sampled_from([ASSISTANTS, CHAT])),
    }


def play_and_check(redis_url: str, batch: dict[str, Any]) -> None:
    world = asyncio.run(play(redis_url, **batch))

    assert world.money_refused <= 1
    by_money = sum("Insufficient Balance" in reason for reason in world.pauses)
    assert by_money == world.money_refused
    if batch["kinds"].count("unclear") < REFUSED_ALIKE:
        assert len(world.pauses) == by_money, "no row's fault has paused the batch"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=batches())
def test_exactly_the_bad_rows_fail_in_any_order(redis_url: str, batch: dict[str, Any]) -> None:
    """A7, 15.2: for any sequence of faults good rows complete and bad ones fail; money is refused at most once."""
    play_and_check(redis_url, batch)


@pytest.mark.long
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=batches())
def test_exactly_the_bad_rows_fail_in_a_thousand_batches(redis_url: str, batch: dict[str, Any]) -> None:
    """The same, at length."""
    play_and_check(redis_url, batch)


async def test_bad_rows_at_the_front_stop_a_batch_once_and_are_named(redis_url: str) -> None:
    """A7: five rows refused alike before any is accepted: the pause names them, and another row goes first after it."""
    world = await play(redis_url, ["unclear"] * 7 + ["good"] * 5, slots=10, seed=1)

    assert world.pauses == [
        "http_403: Access denied, incident 17, refused for rows 1, 2, 3, 4 and 5 in the same way"
    ]
    assert world.asked_first == [6]


async def test_a_fault_of_the_whole_batch_stops_it_after_five_rows(store: Store) -> None:
    """Every row is refused without a reason: no row fails, and five requests were made."""
    batch = await submit_batch(store, 30)
    world = World(store, batch, ["unclear"] * 30, random.Random(1))
    await store.heartbeat(worker_info())
    while (await store.batch(batch)).state is not BatchState.PAUSED:
        (row,) = await store.dispatch(0)
        await world.ask(await claim_row(store, row))

    assert world.creates == REFUSED_ALIKE
    assert (await store.counts(batch)).by_status[JobStatus.QUEUED] == 30


async def test_a_recorded_refusal_is_counted_once_and_only_under_its_claim(store: Store) -> None:
    """A repeated call finds what the first found; a claim that is lost records nothing."""
    await submit_batch(store, 3)
    await store.heartbeat(worker_info())
    (row,) = await store.dispatch(0)
    claim = await claim_row(store, row)
    first = Refusals(refused_alone=1, other_rows=2, rows=(1,))
    assert [await store.record_refusal(claim) for _ in range(2)] == [first, first]
    await store.release(claim, b"{}")
    assert await store.record_refusal(claim) is None

    (second,) = await store.dispatch(0)
    other = await claim_row(store, second)
    assert (other.row, await store.record_refusal(other)) == (2, Refusals(False, 2, 1, False, (1, 2)))
    await store.release(other, b"{}")
    (third,) = await store.dispatch(0)
    good = await claim_row(store, third)
    await store.save(good, b"{}", run_created=True)
    await store.finish(good, make_result(3))
    (again,) = [row for row in await store.dispatch(0) if row.row == 1]
    repeated = await store.record_refusal(await claim_row(store, again))
    assert repeated == Refusals(True, 0, 1, True, (1,))


async def test_a_pause_with_an_end_resumes_by_itself_and_gives_way_to_one_without(
    store: Store, redis_url: str
) -> None:
    """A10: dispatch ends it; `askmill pause` and a fault that lasts replace it; other batches go on meanwhile."""
    batch, other = await submit_batch(store, 2), await submit_batch(store, 1, identity="1" * 64)
    await store.heartbeat(worker_info())
    assert await store.pause_from_worker(batch, "rate_limit: try again in 1h", 3600.0)
    assert {row.batch for row in await store.dispatch(0)} == {other}
    view = await store.status(batch)
    assert view.waiting is not None
    assert (view.waiting.who, view.waiting.reason) == ("batch", "rate_limit: try again in 1h")
    assert view.waiting.until_ms - (view.waiting.since_ms or 0) == 3_600_000
    assert view.to_json()["waiting"]["until"].endswith("Z")

    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "paused_until", 1)
    assert {row.batch for row in await store.dispatch(0)} == {batch}
    resumed = await store.batch(batch)
    assert (resumed.state, resumed.paused_until_ms, resumed.paused_reason) == (BatchState.QUEUED, None, None)

    await store.pause_from_worker(batch, "rate_limit: try again in 1h", 3600.0)
    assert not await store.pause_from_worker(batch, "rate_limit: try again in 2h", 7200.0)
    assert await store.pause(batch, "requested by a user")
    stopped = await store.batch(batch)
    assert (stopped.paused_until_ms, stopped.paused_reason) == (None, "requested by a user")


async def test_the_last_fault_is_counted_by_kind(store: Store) -> None:
    """E5: how often in a row and since when; a repeated report counts once; another kind begins anew."""
    batch = await submit_batch(store, 1)
    assert (await store.status(batch)).to_json()["last_fault"] is None
    for report in ("a", "a", "b"):
        await store.record_fault(batch, Fault("http_500", f"http_500: {report}", "POST /threads", 3, report))
    view = await store.status(batch)
    assert view.batch.last_fault is not None
    assert (view.batch.last_fault.count, view.batch.last_fault.words) == (6, "http_500: b")
    await store.record_fault(batch, Fault("timeout", "x" * 1000, "POST /threads", 1, "c"))
    last = (await store.status(batch)).to_json()["last_fault"]
    assert (last["count"], len(last["words"]), last["request"]) == (1, 300, "POST /threads")
    assert not await store.record_fault("b_nothere", Fault("x", "x", "", 1, "d"))


async def test_a_wait_of_all_batches_is_shown_with_its_words(store: Store) -> None:
    """Since when, until when, and why: for each batch that goes on."""
    batch = await submit_batch(store, 1)
    await store.throttle(30.0, "rate_limit_exceeded: slow down")
    waiting = (await store.status(batch)).waiting
    assert waiting is not None
    assert (waiting.who, waiting.reason) == ("all batches", "rate_limit_exceeded: slow down")
    assert 25_000 < waiting.until_ms - (waiting.since_ms or 0) <= 30_000
    assert waiting == await store.hold()

"""Limits of all workers together: requests and tokens a minute, runs in flight; the budget; fairness."""

import time
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from askmill.jobs.functions.registry import describe
from askmill.jobs.model.models import Api, InputSpec, JobStatus, Limits
from askmill.jobs.store import Store, keys
from askmill.jobs.store.records import NewRow
from tests.chaos.support import (
    assert_each_paid_once,
    counter,
    questions_lasting,
    status_bytes,
    wait_for_runs,
    wait_for_workers,
)
from tests.helpers.batches import claim_row, submit_batch, worker_info
from tests.stack import QUICK, TUTOR, Stack
from tests.support import wait_until, wait_until_async


def asked(stack: Stack) -> int:
    return sum(stack.stats()["requests"].values())


async def test_a_limit_that_is_no_number_leaves_the_others(store: Store, redis_url: str) -> None:
    """Typed by hand into `askmill:limits`: it limits nothing and is logged; other fields are not read."""
    await store.set_limits(requests_per_minute=600)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.LIMITS, mapping={"max_runs": "7O", "note": "raised for the night"})
    with capture_logs() as logs:
        assert await store.read_limits() == {"requests_per_minute": 600}
    (line,) = (line for line in logs if line["event"] == "limits.unreadable")
    assert (line["limit"], line["value"]) == ("max_runs", "7O")


async def test_requests_a_minute_hold_for_two_workers_together(tmp_path: Path) -> None:
    """600 a minute: never more than 10 a second and a burst of one second, whoever asks."""
    with Stack(tmp_path) as stack:
        async with await Store.open(stack.redis_url) as store:
            await store.set_limits(requests_per_minute=600)
        stack.worker(20, QUICK)
        stack.worker(20, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 20)
        wait_until(lambda: asked(stack) > 0, "the first request", 30)
        began_s, before = time.monotonic(), asked(stack)
        await stack.wait_for(batch, timeout_s=60)
        took_s = time.monotonic() - began_s

        assert asked(stack) - before <= 10 * (took_s + 1) + 2
        assert asked(stack) >= 80


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_every_request_is_counted_and_takes_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Api
) -> None:
    """Cleared turns, functions, files and their names too: the batch counts what the emulator was asked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adding.py").write_text(
        'def add(a: int, b: int) -> int:\n    """Adds."""\n    return a + b\n'
    )
    profile = TUTOR.model_copy(update={"functions": describe("adding.py")})
    dies = "[emulate: failed(server_error, partial), completed(left_file)] What is 1 + 1?"
    calls = '[emulate: requires_action(add, {"a": 1, "b": 2}) rounds=2] Go'
    turns = [NewRow([text], conversation=name) for text in (dies, calls, dies) for name in "abcd"]
    with Stack(tmp_path, api=api) as stack:
        async with await Store.open(stack.redis_url) as store:
            await store.set_limits(requests_per_minute=600)
            asking = {"profile": profile, "api": api, "base_url": stack.base_url, "model": "gpt-5-mini"}
            spec = InputSpec(("question", "chat"), "question", conversation_column="chat")
            rows = [turn._replace(cells=[*turn.cells, turn.conversation]) for turn in turns]
            batch = await submit_batch(store, rows, spec=spec, limits=Limits(attempts=3), **asking)
            stack.worker(20, QUICK, ["adding.py"])
            wait_until(lambda: asked(stack) > 0, "the first request", 30)
            began_s, before, over = time.monotonic(), asked(stack), list[float]()

            async def is_done() -> bool:
                state = (await store.status(batch)).batch.state
                over.append(asked(stack) - before - 10 * (time.monotonic() - began_s + 1))
                return state == "done"

            await wait_until_async(is_done, "the batch is done", 60)
        status = await stack.status(batch)

        assert status.counts.by_status[JobStatus.COMPLETED] == len(turns)
        assert counter(stack, batch, "requests") == asked(stack)
        assert max(over) <= 5, "more than the limit at some moment, and half a second of a busy machine"


async def test_tokens_a_minute_slow_the_starts(tmp_path: Path) -> None:
    """Each run is booked at what runs take: 20 of them do not start within their first second."""
    with Stack(tmp_path) as stack:
        async with await Store.open(stack.redis_url) as store:
            await store.set_limits(tokens_per_minute=20_000)
        stack.worker(20, QUICK)
        profile = TUTOR.model_copy(update={"max_completion_tokens": 256})
        batch = await stack.submit(["What is 1 + 1?"] * 20, profile)
        wait_for_runs(stack, 1)
        began_s = time.monotonic()
        status = await stack.wait_for(batch, timeout_s=60)
        took_s = time.monotonic() - began_s
        used = stack.stats()["tokens"]

        assert used / (took_s + 2) * 60 <= 20_000 * 1.1
        await assert_each_paid_once(stack, batch, status, 20)


async def test_max_runs_hold_for_all_and_change_while_running(tmp_path: Path) -> None:
    """Two workers of 30 slots, 8 runs allowed; raised in Redis to 16, and obeyed, through a hand-over too."""
    with Stack(tmp_path) as stack:
        async with await Store.open(stack.redis_url) as store:
            await store.set_limits(max_runs=8)
            first = stack.worker(30, QUICK)
            stack.worker(30, QUICK)
            batch = await stack.submit(questions_lasting(1.5, 40))
            other = await stack.submit(questions_lasting(1.5, 20))
            wait_for_runs(stack, 16)
            first.leave()
            wait_for_runs(stack, 30)
            assert stack.stats()["runs_active_max"] <= 8
            await store.set_limits(max_runs=16)
            for name in (batch, other):
                await stack.wait_for(name, timeout_s=60)
            assert 8 < stack.stats()["runs_active_max"] <= 16


async def test_limits_of_the_settings_go_with_the_workers_that_had_them(tmp_path: Path) -> None:
    """Unset at the next start: none again. Changed by hand meanwhile: the change stays."""
    with Stack(tmp_path) as stack:
        async with await Store.open(stack.redis_url) as store:
            first = stack.worker(2, QUICK, ASKMILL_MAX_RUNS="2", ASKMILL_REQUESTS_PER_MINUTE="300")
            wait_for_workers(stack, 1)
            assert await store.read_limits() == {"max_runs": 2, "requests_per_minute": 300}
            beside = stack.worker(2, QUICK)
            wait_for_workers(stack, 2)
            assert (await store.read_limits())["max_runs"] == 2, "the first one works on under it"
            await store.set_limits(max_runs=5)
            first.leave()
            beside.leave()

            stack.worker(2, QUICK)
            wait_for_workers(stack, 1)

            assert await store.read_limits() == {"max_runs": 5}


async def test_rows_between_two_workers_count_as_runs(store: Store) -> None:
    """A row handed over has its run out at the API: its place under `max_runs` goes to nobody else."""
    await store.set_limits(max_runs=2)
    await store.heartbeat(worker_info())
    first, second = await submit_batch(store, 1), await submit_batch(store, 3, identity="1" * 64)
    claims = {fed.batch: await claim_row(store, fed) for fed in await store.dispatch(0)}
    for claim in claims.values():
        await store.save(claim, b"{}", run_created=True)
    await store.release(claims[first])

    assert [(fed.batch, fed.row) for fed in await store.dispatch(0)] == [(first, 1)]
    assert set(claims) == {first, second}


async def test_a_429_halves_the_runs_in_flight_and_they_recover(tmp_path: Path) -> None:
    """All workers start fewer runs after the API said 429; no attempt is used up."""
    with Stack(tmp_path, scenario="[latency]\nmedian_s = 0.3\n") as stack:
        stack.worker(40, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 160)
        wait_for_runs(stack, 60)
        stack.scenario("[latency]\nmedian_s = 0.3\n[http]\nrate_429 = 0.3\nretry_after_s = 0.5\n")
        wait_until(lambda: counter(stack, batch, "throttled") >= 3, "some were throttled", 30)
        stack.scenario("[latency]\nmedian_s = 0.3\n")
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 160)


async def test_a_budget_with_token_limits_is_never_exceeded(tmp_path: Path) -> None:
    """Worst cases are reserved before each create: the batch pauses below its budget, having used most of it."""
    profile = TUTOR.model_copy(
        update={"tools": (), "max_prompt_tokens": 256, "max_completion_tokens": 256, "model": "gpt-5-mini"}
    )
    with Stack(tmp_path) as stack:
        stack.worker(30, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 200, profile, budget_usd=0.0025)
        status = await stack.wait_for(batch, ["paused"], timeout_s=60)
        wait_until(lambda: status_bytes(stack, batch)["r"] == 0, "what ran has ended", 30)
        status = await stack.status(batch)

        assert status.batch.paused_reason == "budget: a run may cost $0.0006, and less is left"
        assert 0.0015 < (status.counts.cost_usd or 0) <= 0.0025
        assert status.counts.by_status[JobStatus.COMPLETED] == stack.stats()["runs_created"]


async def test_a_small_batch_behind_a_big_one_starts_at_once(tmp_path: Path) -> None:
    """50 rows submitted behind 1,000: done before as many more of the big one are, which gets the other half."""
    with Stack(tmp_path, scenario="[latency]\nmedian_s = 0.5\n") as stack:
        stack.worker(50)
        big = await stack.submit(["What is 1 + 1?"] * 1_000)
        wait_for_runs(stack, 100)
        small = await stack.submit(["What is 1 + 1?"] * 50)
        before = status_bytes(stack, big)["c"]
        await stack.wait_for(small, timeout_s=30)
        of_the_big_one = status_bytes(stack, big)["c"] - before
        async with await Store.open(stack.redis_url) as store:
            await store.cancel(big)
        await stack.wait_for(big, ["cancelled"])
        wait_until(lambda: set(status_bytes(stack, big)) <= set("cx"), "all have ended", 30)

        assert of_the_big_one < 500

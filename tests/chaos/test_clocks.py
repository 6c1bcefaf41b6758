"""Wrong clocks, and clocks set during a run: no row is lost, no run is created twice, durations stay right."""

import asyncio
import os
import time
from pathlib import Path

import pytest
import redis

from askmill.jobs.model.models import Api
from askmill.jobs.store import Store, single_flight
from askmill.jobs.store.records import ResourceKey
from tests.chaos.driver import CREATES
from tests.chaos.support import (
    assert_each_paid_once,
    counter,
    outage,
    questions_lasting,
    wait_for_runs,
    wait_for_workers,
)
from tests.helpers.clocks import LIBRARY, WallClock, faketime_library
from tests.stack import QUICK, Stack
from tests.support import wait_until

HOUR_S = 3600
ROWS = 150


def faketime() -> None:
    """Skip the test, or with CI=true fail it, where the library is missing; .ci/run installs it."""
    if faketime_library() is not None:
        return
    reason = f"{LIBRARY} is not installed; `apt-get install faketime` brings it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


async def assert_durations(stack: Stack, batch: str, started_s: float) -> None:
    """Each row took some time, but not longer than the test."""
    results = [row.result for row in await stack.rows(batch) if row.result]
    took_s = time.monotonic() - started_s
    wrong = [result.duration_s for result in results if not 0 < (result.duration_s or 0) <= took_s]
    assert wrong == []


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_workers_clock_may_be_set_during_a_run(tmp_path: Path, api: Api, ahead_s: float) -> None:
    """An hour ahead or back with all runs in flight: each row completes with one run, in seconds."""
    clock, started_s = WallClock(tmp_path), time.monotonic()
    with Stack(tmp_path, api=api) as stack:
        clock.worker(stack, ROWS)
        batch = await stack.submit(questions_lasting(6, ROWS))
        wait_for_runs(stack, ROWS)
        clock.set(ahead_s)
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, ROWS)
        await assert_durations(stack, batch, started_s)


@pytest.mark.parametrize("ahead_s", [-17 * 60, 17 * 60])
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_the_servers_clock_may_be_wrong(tmp_path: Path, api: Api, ahead_s: float) -> None:
    """Case A3: 17 minutes behind, every `expires_at` is in the past: each row completes with one run."""
    started_s = time.monotonic()
    with Stack(tmp_path, api=api, scenario=f"[clock]\noffset_s = {ahead_s}") as stack:
        stack.worker(20)
        batch = await stack.submit(questions_lasting(1, 20))
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 20)
        await assert_durations(stack, batch, started_s)


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_redis_clock_may_be_set_during_a_run(tmp_path: Path, ahead_s: float) -> None:
    """Runs in flight and rows waiting for a retry: no living worker is reaped, and no run created twice."""
    faketime()
    clock, rows, started_s = WallClock(tmp_path), 40, time.monotonic()
    stack = Stack(tmp_path)
    stack.redis.env = clock.redis_env()
    with stack:
        workers = [stack.worker(20), stack.worker(20)]
        wait_for_workers(stack, 2)
        batch = await stack.submit(questions_lasting(8, rows))
        wait_for_runs(stack, rows)
        set_redis_clock(stack, clock, ahead_s)
        status = await stack.wait_for(batch, timeout_s=60)

        log = "".join(worker.log.read_text() for worker in workers)
        assert log.count("redis.clock_stepped") == 2
        assert "worker.dead" not in log
        assert "worker.declared_dead" not in log
        await assert_each_paid_once(stack, batch, status, rows)
        await assert_durations(stack, batch, started_s)


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_a_worker_killed_as_redis_clock_is_set_is_reaped(tmp_path: Path, ahead_s: float) -> None:
    """Its heartbeat would last another hour: within seconds others take over its rows and runs."""
    faketime()
    clock, rows = WallClock(tmp_path), 20
    stack = Stack(tmp_path)
    stack.redis.env = clock.redis_env()
    with stack:
        killed, survivor = stack.worker(rows, QUICK), stack.worker(rows, QUICK)
        wait_for_workers(stack, 2)
        batch = await stack.submit(questions_lasting(8, rows))
        wait_for_runs(stack, rows)
        killed.freeze()
        set_redis_clock(stack, clock, ahead_s)
        killed.kill()
        status = await stack.wait_for(batch, timeout_s=40)

        assert "worker.dead" in survivor.log.read_text()
        await assert_each_paid_once(stack, batch, status, rows)


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_run_is_not_given_up_where_nobody_noticed_the_step(tmp_path: Path, api: Api) -> None:
    """The only worker dies, and Redis' clock is set an hour ahead: by it the runs are overdue, by the API's own they
    are young. The next worker follows them."""
    faketime()
    clock, rows = WallClock(tmp_path), 5
    stack = Stack(tmp_path, api=api)
    stack.redis.env = clock.redis_env()
    with stack:
        worker = stack.worker(rows, QUICK)
        batch = await stack.submit(questions_lasting(25, rows))
        wait_for_runs(stack, rows)
        worker.kill()
        set_redis_clock(stack, clock, HOUR_S)
        stack.worker(rows, QUICK)
        status = await stack.wait_for(batch, timeout_s=90)

        await assert_each_paid_once(stack, batch, status, rows)


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_worker_that_starts_after_a_step_still_waits_for_a_late_create(
    tmp_path: Path, api: Api
) -> None:
    """The create's sender dies, and a busy worker notices the step. The create is an hour old by the clock, and carried
    out after 18 s: it is found, and none is sent beside it."""
    faketime()
    clock, times = WallClock(tmp_path), {**QUICK, "CREATE_LIMIT_S": 45.0}
    stack = Stack(tmp_path, api=api)
    stack.redis.env = clock.redis_env()
    with stack:
        busy = stack.worker(1, times)
        await stack.submit(questions_lasting(60, 1))
        wait_for_runs(stack, 1)
        stack.scenario(f"[http]\nlate_s = 18\nonly = {CREATES}\n")
        sender = stack.worker(1, times)
        batch = await stack.submit(questions_lasting(0.2, 1))
        wait_until(lambda: "request.failed" in sender.log.read_text(), "the create has no reply", 30)
        sender.kill()
        set_redis_clock(stack, clock, HOUR_S)
        wait_until(lambda: "redis.clock_stepped" in busy.log.read_text(), "the step is noticed")
        stack.scenario("")
        stack.worker(1, times)
        await stack.wait_for(batch, timeout_s=60)

        assert stack.stats()["runs_by_job"][f"{batch}:1"] == 1


@pytest.mark.parametrize("taken_over", [False, True])
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_deadline_that_passes_in_a_suspended_machine_gets_one_poll(
    tmp_path: Path, api: Api, taken_over: bool
) -> None:
    """What has ended meanwhile is read, by the same worker or by the one that takes its rows over; nothing is cancelled."""
    with Stack(tmp_path, api=api) as stack:
        worker = stack.worker(1, QUICK)
        batch = await stack.submit(questions_lasting(4, 1), deadline_s=8)
        wait_until(lambda: counter(stack, batch, "runs") == 1, "its id is stored", 45)
        worker.freeze()
        outage(8.5)
        if taken_over:
            stack.worker(1, QUICK)
        else:
            worker.thaw()
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 1)
        requests = stack.stats()["requests"]
        assert not [name for name in requests if name.endswith("/cancel")], requests


def set_redis_clock(stack: Stack, clock: WallClock, ahead_s: float) -> None:
    """Set the clock, and wait until Redis reads it."""
    clock.set(ahead_s)
    with redis.Redis.from_url(stack.redis_url) as client:
        wait_until(lambda: abs(client.time()[0] - time.time() - ahead_s) < 60, "Redis' clock is set")


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_the_lock_of_a_dead_creator_is_taken_over_whatever_redis_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    """Two commands need one upload; the one that uploads dies, and Redis' clock is set: the other goes on at once."""
    faketime()
    monkeypatch.setattr(single_flight, "POLL_S", 0.01)
    clock = WallClock(tmp_path)
    stack = Stack(tmp_path)
    stack.redis.env = clock.redis_env()
    with stack:
        async with await Store.open(stack.redis_url) as store:
            dead, living = (ResourceKey("", "file", "ab" * 32, name) for name in ("dead", "living"))
            assert (await store.acquire_resource(dead)).is_creator
            set_redis_clock(stack, clock, ahead_s)

            async def create() -> str:
                return "file-1"

            async with asyncio.timeout(30):
                assert await single_flight.single_flight(store, living, create) == "file-1"

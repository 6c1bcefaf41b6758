"""kill -9, SIGSTOP and SIGTERM of any part: every row ends, and no run is paid twice."""

from pathlib import Path

import pytest
import redis

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store import Store
from tests.chaos.support import (
    assert_each_paid_once,
    counter,
    questions_lasting,
    rows_held,
    status_bytes,
    wait_for_finished,
    wait_for_runs,
    wait_for_workers,
)
from tests.stack import QUICK, Stack
from tests.support import wait_until

BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])


@BOTH
async def test_another_worker_follows_the_runs_of_a_killed_one(tmp_path: Path, api: Api) -> None:
    """kill -9 with runs in flight: the next worker follows the same runs."""
    with Stack(tmp_path, api=api) as stack:
        first = stack.worker(30, QUICK)
        batch = await stack.submit(questions_lasting(6, 30))
        wait_for_runs(stack, 30)
        wait_until(lambda: counter(stack, batch, "runs") == 30, "their ids are stored")
        first.kill()
        stack.worker(30, QUICK)
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 30)


async def test_with_its_real_heartbeat_a_dead_worker_is_replaced_within_30_s(tmp_path: Path) -> None:
    """CONTRACT: rows of a killed worker are taken over within 30 s, measured from the kill to the claim."""
    with Stack(tmp_path) as stack:
        first = stack.worker(10)
        batch = await stack.submit(questions_lasting(60, 5), deadline_s=300)
        wait_until(lambda: counter(stack, batch, "runs") == 5, "all runs are out", 20)
        stack.worker(10)
        wait_for_workers(stack, 2)
        first.kill()
        wait_until(lambda: sorted(rows_held(stack)) == [5], "the other worker holds all rows", 30)

        assert stack.stats()["runs_created"] == 5
        await _cancelled(stack, batch)


async def _cancelled(stack: Stack, batch: str) -> None:
    async with await Store.open(stack.redis_url) as store:
        await store.cancel(batch)
    await stack.wait_for(batch, ["cancelled"])
    wait_until(lambda: not set(status_bytes(stack, batch)) & set("qpwr"), "all rows have ended", 20)


@BOTH
async def test_everything_killed_at_half(tmp_path: Path, api: Api) -> None:
    """Worker, emulator and Redis are killed together and come back: as many runs as rows."""
    rows = 60
    with Stack(tmp_path, api=api) as stack:
        stack.worker(20, QUICK)
        batch = await stack.submit(questions_lasting(1, rows))
        wait_for_finished(stack, batch, rows // 2)
        stack.crash()
        stack.worker(20, QUICK)
        status = await stack.wait_for(batch, timeout_s=80)

        await assert_each_paid_once(stack, batch, status, rows)


@BOTH
async def test_a_frozen_worker_neither_overwrites_nor_pays_twice(tmp_path: Path, api: Api) -> None:
    """SIGSTOP past its lifetime, others finish its rows, SIGCONT: it drops them and takes new ones."""
    with Stack(tmp_path, api=api) as stack:
        frozen = stack.worker(20, QUICK)
        batch = await stack.submit(questions_lasting(2, 40))
        wait_for_runs(stack, 20)
        frozen.freeze()
        stack.worker(20, QUICK)
        await stack.wait_for(batch, timeout_s=90)
        frozen.thaw()
        later_batch = await stack.submit(questions_lasting(0.2, 40))
        await stack.wait_for(later_batch, timeout_s=60)
        wait_until(lambda: "worker.declared_dead" in frozen.log.read_text(), "it has rejoined")
        status = await stack.status(batch)

        assert status.counts.by_status[JobStatus.COMPLETED] == 40
        repeated = {name: runs for name, runs in stack.stats()["runs_by_job"].items() if runs != 1}
        assert sum(repeated.values()) - len(repeated) <= counter(stack, batch, "late_runs")


async def test_sigterm_hands_50_long_runs_over_within_5_s(tmp_path: Path) -> None:
    """However long the runs are, the worker exits in 5 s and another follows the same runs."""
    with Stack(tmp_path) as stack:
        first = stack.worker(50)
        batch = await stack.submit(questions_lasting(8, 50))
        wait_until(lambda: counter(stack, batch, "runs") == 50, "all runs are out", 20)
        stack.worker(50)
        wait_for_workers(stack, 2)
        code = first.leave(within_s=5)
        wait_until(lambda: sum(rows_held(stack)) == 50, "the other holds them", 5)
        status = await stack.wait_for(batch, timeout_s=60)

        assert code == 0
        await assert_each_paid_once(stack, batch, status, 50)


async def test_a_rolling_restart_costs_no_run(tmp_path: Path) -> None:
    """Two workers are replaced one after the other under load: one run per row."""
    rows = 150
    with Stack(tmp_path) as stack:
        old = [stack.worker(30), stack.worker(30)]
        wait_for_workers(stack, 2)
        batch = await stack.submit(questions_lasting(1.5, rows))
        wait_for_finished(stack, batch, 20)
        for worker in old:
            stack.worker(30)
            wait_until(lambda: len(rows_held(stack)) == 3, "the new one is ready", 20)
            worker.leave(within_s=5)
        status = await stack.wait_for(batch, timeout_s=70)

        await assert_each_paid_once(stack, batch, status, rows)


async def test_rows_with_lost_messages_are_dispatched_again(tmp_path: Path) -> None:
    """The broker's queue is deleted with unclaimed messages in it."""
    with Stack(tmp_path) as stack:
        stack.worker(5, QUICK)
        batch = await stack.submit(questions_lasting(2, 30))
        with redis.Redis.from_url(stack.redis_url) as client:
            wait_until(lambda: client.llen("askmill") >= 15, "messages are queued", 20)
            client.delete("askmill")
        status = await stack.wait_for(batch, timeout_s=70)

        await assert_each_paid_once(stack, batch, status, 30)


async def test_a_row_delivered_twice_runs_once(tmp_path: Path) -> None:
    """Every message is in the queue three times."""
    with Stack(tmp_path) as stack:
        stack.worker(5, QUICK)
        batch = await stack.submit(questions_lasting(1, 30))
        with redis.Redis.from_url(stack.redis_url) as client:
            wait_until(lambda: client.llen("askmill") >= 15, "messages are queued", 20)
            messages = client.lrange("askmill", 0, -1)
            client.lpush("askmill", *messages, *messages)
        stack.worker(5, QUICK)
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 30)

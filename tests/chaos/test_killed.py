"""kill -9, SIGSTOP and SIGTERM of any part: every row ends, no run is paid twice."""

from pathlib import Path

import pytest
import redis

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store import Store
from tests.chaos.support import (
    assert_each_paid_once,
    bytes_of,
    counter,
    held_by_all,
    lasting,
    wait_for_finished,
    wait_for_runs,
    wait_for_workers,
)
from tests.stack import QUICK, Stack
from tests.support import wait_until

BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])


@BOTH
async def test_another_worker_goes_on_with_the_runs_of_a_killed_one(tmp_path: Path, api: Api) -> None:
    """kill -9 with runs in flight: the next worker follows those very runs."""
    with Stack(tmp_path, api=api) as mill:
        first = mill.worker(30, QUICK)
        batch = await mill.submit(lasting(6, 30))
        wait_for_runs(mill, 30)
        wait_until(lambda: counter(mill, batch, "runs") == 30, "their ids are stored")
        first.kill()
        mill.worker(30, QUICK)
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, 30)


async def test_with_its_real_heartbeat_a_dead_worker_is_replaced_within_30_s(tmp_path: Path) -> None:
    """CONTRACT: a worker killed at any moment is replaced within 30 s; measured from the kill to the claim."""
    with Stack(tmp_path) as mill:
        first = mill.worker(10)
        batch = await mill.submit(lasting(60, 5), deadline_s=300)
        wait_until(lambda: counter(mill, batch, "runs") == 5, "all runs are out", 20)
        mill.worker(10)
        wait_for_workers(mill, 2)
        first.kill()
        wait_until(lambda: sorted(held_by_all(mill)) == [5], "the other worker holds all rows", 30)

        assert mill.stats()["runs_created"] == 5
        await _cancelled(mill, batch)


async def _cancelled(mill: Stack, batch: str) -> None:
    async with await Store.open(mill.redis_url) as store:
        await store.cancel(batch)
    await mill.wait_for(batch, ["cancelled"])
    wait_until(lambda: not set(bytes_of(mill, batch)) & set("qpwr"), "all rows have ended", 20)


@BOTH
async def test_everything_killed_at_half(tmp_path: Path, api: Api) -> None:
    """Worker, emulator and Redis die together and come back: not one run more than rows."""
    rows = 60
    with Stack(tmp_path, api=api) as mill:
        worker = mill.worker(20, QUICK)
        batch = await mill.submit(lasting(1, rows))
        wait_for_finished(mill, batch, rows // 2)
        for child in (worker, mill.emulator, mill.redis):
            child.process.kill()
        for child in (worker, mill.emulator, mill.redis):
            child.kill()
        mill.redis.start()
        mill.emulator.start()
        mill.wait_for_servers()
        mill.worker(20, QUICK)
        status = await mill.wait_for(batch, timeout_s=80)

        await assert_each_paid_once(mill, batch, status, rows)


@BOTH
async def test_a_frozen_worker_neither_overwrites_nor_pays(tmp_path: Path, api: Api) -> None:
    """SIGSTOP beyond its lifetime, others finish its rows, SIGCONT: it drops them and takes new ones."""
    with Stack(tmp_path, api=api) as mill:
        frozen = mill.worker(20, QUICK)
        batch = await mill.submit(lasting(2, 40))
        wait_for_runs(mill, 20)
        frozen.freeze()
        mill.worker(20, QUICK)
        await mill.wait_for(batch, timeout_s=90)
        frozen.thaw()
        after = await mill.submit(lasting(0.2, 40))
        await mill.wait_for(after, timeout_s=60)
        wait_until(lambda: "worker.swept" in frozen.log.read_text(), "it has noticed")
        status = await mill.status(batch)

        assert status.counts.by_status[JobStatus.COMPLETED] == 40
        made = {name: runs for name, runs in mill.stats()["runs_by_job"].items() if runs != 1}
        assert sum(made.values()) - len(made) <= counter(mill, batch, "late_runs")


async def test_sigterm_hands_50_long_runs_over_within_5_s(tmp_path: Path) -> None:
    """However long the runs are, the worker is gone in 5 s and another goes on with the same runs."""
    with Stack(tmp_path) as mill:
        first = mill.worker(50)
        batch = await mill.submit(lasting(8, 50))
        wait_until(lambda: counter(mill, batch, "runs") == 50, "all runs are out", 20)
        mill.worker(50)
        wait_for_workers(mill, 2)
        code = first.leave(within_s=5)
        wait_until(lambda: sum(held_by_all(mill)) == 50, "the other holds them", 5)
        status = await mill.wait_for(batch, timeout_s=60)

        assert code == 0
        await assert_each_paid_once(mill, batch, status, 50)


async def test_a_rolling_restart_costs_no_run(tmp_path: Path) -> None:
    """Two workers replaced one after the other under load: every row has one run."""
    rows = 150
    with Stack(tmp_path) as mill:
        old = [mill.worker(30), mill.worker(30)]
        wait_for_workers(mill, 2)
        batch = await mill.submit(lasting(1.5, rows))
        wait_for_finished(mill, batch, 20)
        for worker in old:
            mill.worker(30)
            wait_until(lambda: len(held_by_all(mill)) == 3, "the new one is ready", 20)
            worker.leave(within_s=5)
        status = await mill.wait_for(batch, timeout_s=70)

        await assert_each_paid_once(mill, batch, status, rows)


async def test_messages_lost_on_the_way_are_found_again(tmp_path: Path) -> None:
    """The broker's queue deleted with messages nobody has claimed: their rows are published again."""
    with Stack(tmp_path) as mill:
        mill.worker(5, QUICK)
        batch = await mill.submit(lasting(2, 30))
        with redis.Redis.from_url(mill.redis_url) as client:
            wait_until(lambda: client.llen("askmill") >= 15, "messages wait", 20)
            client.delete("askmill")
        status = await mill.wait_for(batch, timeout_s=70)

        await assert_each_paid_once(mill, batch, status, 30)


async def test_a_row_delivered_twice_is_asked_once(tmp_path: Path) -> None:
    """Forced redelivery: every message three times in the queue."""
    with Stack(tmp_path) as mill:
        mill.worker(5, QUICK)
        batch = await mill.submit(lasting(1, 30))
        with redis.Redis.from_url(mill.redis_url) as client:
            wait_until(lambda: client.llen("askmill") >= 15, "messages wait", 20)
            messages = client.lrange("askmill", 0, -1)
            client.lpush("askmill", *messages, *messages)
        mill.worker(5, QUICK)
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, 30)

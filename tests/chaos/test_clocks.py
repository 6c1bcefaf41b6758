"""Clocks that are wrong, or are set in mid-run: no row is lost, no run is made twice, and times stay sane."""

import os
import time
from pathlib import Path

import pytest
import redis

from askmill.jobs.model.models import Api
from tests.chaos.support import assert_each_paid_once, lasting, wait_for_runs, wait_for_workers
from tests.stack import HELPERS, QUICK, Child, Stack
from tests.support import wait_until

HOUR_S = 3600
ROWS = 150
LIBRARY = "libfaketimeMT.so.1"


class WallClock:
    """A clock that a test sets; by a rename, so that nobody reads half a number."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "wall-clock"
        self.set(0)

    def set(self, ahead_s: float) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead_s:+g}\n")
        new.replace(self.file)

    def worker(self, mill: Stack, concurrency: int) -> Child:
        """A worker whose wall clock it is."""
        worker = mill.worker(concurrency, MILL_WALL_CLOCK=str(self.file))
        worker.kill()
        worker.command[2:4] = [str(HELPERS / "workers" / "stepped_worker.py")]
        return worker.start()

    def redis(self, mill: Stack) -> None:
        """The mill's Redis, not yet started, goes by it."""
        mill.redis.env = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
        }


def faketime() -> Path:
    """The library that gives one process a clock of its own; .ci/run installs it."""
    for folder in ("/usr/lib", "/usr/local/lib", "/opt"):
        for found in Path(folder).glob(f"**/faketime/{LIBRARY}"):
            return found
    absent = f"{LIBRARY} is not installed; `apt-get install faketime` brings it"
    if os.environ.get("CI"):
        pytest.fail(absent)
    pytest.skip(absent)


async def assert_sane(mill: Stack, batch: str, began_s: float) -> None:
    """Each row took some time, and no longer than the whole test."""
    results = [row.result for row in await mill.rows(batch) if row.result]
    took_s = time.monotonic() - began_s
    odd = [result.duration_s for result in results if not 0 < (result.duration_s or 0) <= took_s]
    assert odd == []


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_workers_wall_clock_may_be_set_in_mid_run(tmp_path: Path, api: Api, ahead_s: float) -> None:
    """An hour ahead or back while all runs are in flight: each row completes with one run, and in seconds."""
    clock, began_s = WallClock(tmp_path), time.monotonic()
    with Stack(tmp_path, api=api) as mill:
        clock.worker(mill, ROWS)
        batch = await mill.submit(lasting(6, ROWS))
        wait_for_runs(mill, ROWS)
        clock.set(ahead_s)
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, ROWS)
        await assert_sane(mill, batch, began_s)


@pytest.mark.parametrize("ahead_s", [-17 * 60, 17 * 60])
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_the_servers_clock_may_be_wrong(tmp_path: Path, api: Api, ahead_s: float) -> None:
    """17 minutes behind, every `expires_at` lies in our past: each row completes with one run all the same."""
    began_s = time.monotonic()
    with Stack(tmp_path, api=api, scenario=f"[clock]\noffset_s = {ahead_s}") as mill:
        mill.worker(20)
        batch = await mill.submit(lasting(1, 20))
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, 20)
        await assert_sane(mill, batch, began_s)


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_redis_clock_may_be_set_in_mid_run(tmp_path: Path, ahead_s: float) -> None:
    """Runs in flight, rows that wait for another attempt: no living worker is taken for dead, nothing made twice."""
    clock, rows, began_s = WallClock(tmp_path), 40, time.monotonic()
    mill = Stack(tmp_path)
    clock.redis(mill)
    with mill:
        workers = [mill.worker(20), mill.worker(20)]
        wait_for_workers(mill, 2)
        batch = await mill.submit(lasting(8, rows))
        wait_for_runs(mill, rows)
        set_redis(mill, clock, ahead_s)
        status = await mill.wait_for(batch, timeout_s=60)

        log = "".join(worker.log.read_text() for worker in workers)
        assert log.count("redis.clock_stepped") == 2
        assert "worker.dead" not in log
        assert "worker.swept" not in log
        await assert_each_paid_once(mill, batch, status, rows)
        await assert_sane(mill, batch, began_s)


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_a_worker_that_dies_as_redis_clock_is_set_is_noticed(tmp_path: Path, ahead_s: float) -> None:
    """Its heartbeat would outlive it by an hour: within seconds others have its rows, and its runs."""
    clock, rows = WallClock(tmp_path), 20
    mill = Stack(tmp_path)
    clock.redis(mill)
    with mill:
        doomed, heir = mill.worker(rows, QUICK), mill.worker(rows, QUICK)
        wait_for_workers(mill, 2)
        batch = await mill.submit(lasting(8, rows))
        wait_for_runs(mill, rows)
        doomed.freeze()
        set_redis(mill, clock, ahead_s)
        doomed.kill()
        status = await mill.wait_for(batch, timeout_s=40)

        assert "worker.dead" in heir.log.read_text()
        await assert_each_paid_once(mill, batch, status, rows)


def set_redis(mill: Stack, clock: WallClock, ahead_s: float) -> None:
    """Set it, and see that it goes by it."""
    clock.set(ahead_s)
    with redis.Redis.from_url(mill.redis_url) as client:
        wait_until(lambda: abs(client.time()[0] - time.time() - ahead_s) < 60, "Redis' clock is set")

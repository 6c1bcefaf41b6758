"""Redis killed, frozen, cut off, full or slow: workers wait and go on by themselves, and pay nothing twice."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from tests.chaos.support import (
    assert_each_paid_once,
    lasting,
    wait_for_finished,
    wait_for_runs,
    wait_for_workers,
)
from tests.helpers.tcp_relay import Relay
from tests.stack import QUICK, Stack
from tests.support import wait_until

Fault = Callable[[Stack], None]


def outage(seconds: float) -> None:
    """Its length is the very thing under test."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "the outage has lasted", seconds + 5)


def killed(mill: Stack) -> None:
    mill.redis.kill()
    outage(2)
    mill.redis.start()


def killed_for_longer_than_a_worker_lives(mill: Stack) -> None:
    mill.redis.kill()
    outage(4.5)
    mill.redis.start()


def frozen(mill: Stack) -> None:
    mill.redis.freeze()
    outage(4.5)
    mill.redis.thaw()


def cut_off(mill: Stack) -> None:
    with redis.Redis.from_url(mill.redis_url) as client:
        for _ in range(5):
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(skipme=True, _type=kind)
            outage(0.2)


def full(mill: Stack) -> None:
    with redis.Redis.from_url(mill.redis_url) as client:
        client.config_set("maxmemory", 1)
        outage(2)
        client.config_set("maxmemory", 0)


def slow(mill: Stack) -> None:
    with redis.Redis.from_url(mill.redis_url) as client:
        for _ in range(6):
            client.execute_command("CLIENT", "PAUSE", "400", "ALL")
            outage(0.5)


@pytest.mark.parametrize(
    "fault", [killed, killed_for_longer_than_a_worker_lives, frozen, cut_off, full, slow]
)
async def test_the_mill_goes_on_after_redis(tmp_path: Path, fault: Fault) -> None:
    """Creates, runs and finishes are all going on when it strikes; afterwards every row has one run."""
    rows = 60
    with Stack(tmp_path) as mill:
        worker = mill.worker(20, QUICK)
        batch = await mill.submit(lasting(0.7, rows))
        wait_for_finished(mill, batch, 10)
        before_s = cpu_s(worker.process.pid)
        fault(mill)
        spent_s = cpu_s(worker.process.pid) - before_s
        mill.wait_for_servers()
        status = await mill.wait_for(batch, timeout_s=70)

        assert worker.alive
        assert spent_s < 2.5, "it spins"
        await assert_each_paid_once(mill, batch, status, rows)


async def test_an_outage_of_redis_buries_no_living_worker(tmp_path: Path) -> None:
    """All keys of workers are gone after a long outage: nobody takes the others for dead before they are heard."""
    with Stack(tmp_path) as mill:
        workers = [mill.worker(10, QUICK), mill.worker(10, QUICK)]
        batch = await mill.submit(lasting(8, 20))
        wait_for_runs(mill, 20)
        mill.redis.kill()
        outage(4)
        mill.redis.start()
        mill.wait_for_servers()
        status = await mill.wait_for(batch, timeout_s=60)

        assert "worker.dead" not in "".join(worker.log.read_text() for worker in workers)
        await assert_each_paid_once(mill, batch, status, 20)


async def test_claims_whose_replies_are_lost_are_still_ours(tmp_path: Path) -> None:
    """Taken, and not told, in an outage longer than a call's own patience, shorter than a worker's life: no row hangs."""
    claimed = b"*10\r\n$0\r\n"  # as `claim` begins its answer: no refusal
    with Stack(tmp_path) as mill, Relay(mill.redis_url) as wire:
        worker = mill.worker(10, ASKMILL_REDIS_URL=wire.url)
        wait_for_workers(mill, 1)
        wire.cut_at(claimed, 9.5)
        batch = await mill.submit(lasting(0.2, 30))
        status = await mill.wait_for(batch, timeout_s=40)

        assert wire.was_cut.is_set()
        await assert_each_paid_once(mill, batch, status, 30)
        worker.kill()


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system

"""Redis killed, frozen, cut off, full or slow: workers recover by themselves, and no run is paid twice."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from askmill.jobs.store import keys
from tests.chaos.machines import MachineStack
from tests.chaos.support import (
    assert_each_paid_once,
    outage,
    questions_lasting,
    wait_for_finished,
    wait_for_runs,
    wait_for_workers,
)
from tests.helpers.tcp_relay import TcpRelay
from tests.stack import QUICK, Stack
from tests.support import wait_until

Fault = Callable[[Stack], None]


def killed(stack: Stack) -> None:
    stack.redis.kill()
    outage(2)
    stack.redis.start()


def killed_for_longer_than_a_worker_lives(stack: Stack) -> None:
    stack.redis.kill()
    outage(4.5)
    stack.redis.start()


def frozen(stack: Stack) -> None:
    stack.redis.freeze()
    outage(4.5)
    stack.redis.thaw()


def cut_off(stack: Stack) -> None:
    with redis.Redis.from_url(stack.redis_url) as client:
        for _ in range(5):
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(skipme=True, _type=kind)
            outage(0.2)


def full(stack: Stack) -> None:
    with redis.Redis.from_url(stack.redis_url) as client:
        client.config_set("maxmemory", 1)
        outage(2)
        client.config_set("maxmemory", 0)


def slow(stack: Stack) -> None:
    with redis.Redis.from_url(stack.redis_url) as client:
        for _ in range(6):
            client.execute_command("CLIENT", "PAUSE", "400", "ALL")
            outage(0.5)


@pytest.mark.parametrize(
    "fault", [killed, killed_for_longer_than_a_worker_lives, frozen, cut_off, full, slow]
)
async def test_workers_recover_after_redis(tmp_path: Path, fault: Fault) -> None:
    """Creates, polls and finishes are all under way when it happens. Afterwards every row has one run."""
    rows = 60
    with Stack(tmp_path) as stack:
        worker = stack.worker(20, QUICK)
        batch = await stack.submit(questions_lasting(0.7, rows))
        wait_for_finished(stack, batch, 10)
        before_s = cpu_s(worker.process.pid)
        fault(stack)
        spent_s = cpu_s(worker.process.pid) - before_s
        stack.wait_for_servers()
        status = await stack.wait_for(batch, timeout_s=70)

        assert worker.alive
        assert spent_s < 2.5, "it spins"
        await assert_each_paid_once(stack, batch, status, rows)


async def test_a_worker_that_is_stopped_while_redis_is_away_logs_no_traceback(tmp_path: Path) -> None:
    """One line a row; another worker continues the runs once Redis is back."""
    with Stack(tmp_path) as stack:
        worker = stack.worker(5, QUICK)
        batch = await stack.submit(questions_lasting(20, 5))
        wait_for_runs(stack, 5)
        stack.redis.kill()
        worker.leave()
        log = worker.log.read_text()
        stack.redis.start()
        stack.wait_for_servers()
        stack.worker(5, QUICK)
        status = await stack.wait_for(batch, timeout_s=60)

        assert "Traceback" not in log, log[-3000:]
        assert "job.not_released" in log
        await assert_each_paid_once(stack, batch, status, 5)


async def test_an_outage_of_redis_reaps_no_living_worker(tmp_path: Path) -> None:
    """All worker keys expire in a long outage: workers wait for heartbeats before they reap."""
    with Stack(tmp_path) as stack:
        workers = [stack.worker(10, QUICK), stack.worker(10, QUICK)]
        batch = await stack.submit(questions_lasting(8, 20))
        wait_for_runs(stack, 20)
        stack.redis.kill()
        outage(4)
        stack.redis.start()
        stack.wait_for_servers()
        status = await stack.wait_for(batch, timeout_s=60)

        assert "worker.dead" not in "".join(worker.log.read_text() for worker in workers)
        await assert_each_paid_once(stack, batch, status, 20)


async def test_claims_with_lost_replies_are_kept(tmp_path: Path) -> None:
    """The outage is longer than a call's timeout and shorter than a worker's life: no row hangs."""
    claimed = b"*16\r\n$0\r\n"  # as `claim` begins its answer of sixteen fields: no refusal
    with Stack(tmp_path) as stack, TcpRelay(stack.redis_url) as relay:
        worker = stack.worker(10, ASKMILL_REDIS_URL=relay.url)
        wait_for_workers(stack, 1)
        relay.cut_at(claimed, 9.5)
        batch = await stack.submit(questions_lasting(0.2, 30))
        status = await stack.wait_for(batch, timeout_s=40)

        assert relay.was_cut.is_set()
        await assert_each_paid_once(stack, batch, status, 30)
        worker.kill()


def fill(client: "redis.Redis") -> None:
    for number in range(100):
        client.set(f"askmill:test:{number}", "x" * 300)
        outage(0.05)


def test_a_redis_whose_disk_was_full_starts_again(tmp_path: Path) -> None:
    """Case D14, after the step of docs/how-to/own-redis.md: without it the file has NULs, and no server reads it."""
    with MachineStack(tmp_path) as stack:
        with stack.connect() as client:
            client.bgrewriteaof()
            wait_until(lambda: client.info("persistence")["aof_rewrites"] >= 1, "the file is rewritten")
            stack.fill_disk()
            with pytest.raises(redis.ResponseError, match="MISCONF"):
                fill(client)
            stack.clear_disk()
            client.set("askmill:test:after", 1)
        stack.lose_power(0)
        with stack.connect() as client:
            assert client.get("askmill:test:after") == b"1"
            client.delete(*client.keys("askmill:test:*"))


async def test_a_redis_that_gives_less_durability_gets_no_run(tmp_path: Path) -> None:
    """`disk`: a Redis that comes back without `appendfsync always` is refused as at the start, until it is set."""
    always = {"--appendfsync": "always"}
    with MachineStack(tmp_path, persistence=always) as stack:
        stack.slots, stack.durability = 5, "disk"
        stack.start_workers()
        batch = await stack.submit(questions_lasting(0.5, 40))
        wait_for_finished(stack, batch, 5)
        at = stack.redis.command.index("--appendfsync") + 1
        stack.redis.command[at] = "everysec"
        stack.lose_power(0)
        with stack.connect() as client:
            wait_until(
                lambda: b"appendfsync always" in (client.hget(keys.batch(batch), "last_fault") or b""),
                "the batch's last fault says what to set",
            )
            wait_until(lambda: not stack.stats()["runs_active"], "the runs have ended")
            created = stack.stats()["runs_created"]
            client.config_set("appendfsync", "always")
        status = await stack.wait_for(batch, timeout_s=60)

        assert created < 40
        await assert_each_paid_once(stack, batch, status, 40)
        assert "redis.not_durable" in stack.workers[0].log.read_text()


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system

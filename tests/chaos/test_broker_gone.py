"""Redis goes away under a living worker: it goes on by itself, never exits, never spins (worker/celery/kombu_transport.py)."""

import time
from collections.abc import Callable

import psutil
import pytest
import redis

from tests.helpers.workers.pool_process import SETTINGS, PoolProcess, pool_process
from tests.support import RedisServer, wait_until

__all__ = ["pool_process"]  # a fixture

Fault = Callable[[RedisServer], None]
DOWN_S = 2.0


def killed(server: RedisServer) -> None:
    """Gone, and back at the same address, empty."""
    server.kill()
    pause(DOWN_S)
    server.start()


def frozen(server: RedisServer) -> None:
    """There, but answering nothing."""
    server.freeze()
    pause(DOWN_S)
    server.thaw()


def cut_off(server: RedisServer) -> None:
    """Every connection dropped; new ones are served."""
    with redis.Redis.from_url(server.url) as client:
        client.client_kill_filter(skipme=True, _type="normal")
        client.client_kill_filter(skipme=True, _type="pubsub")


def pause(seconds: float) -> None:
    """Let an outage last: its length is the very thing under test."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "the outage has lasted", seconds + 1)


def cpu_s(worker: PoolProcess) -> float:
    times = psutil.Process(worker.process.pid).cpu_times()
    return times.user + times.system


@pytest.mark.parametrize("fault", [killed, frozen, cut_off])
@pytest.mark.parametrize("late", [False, True], ids=["early-ack", "late-ack"])
def test_the_worker_outlives_its_broker(
    pool_process: PoolProcess, redis_server: RedisServer, fault: Fault, late: bool
) -> None:
    """The tasks in its hands go on, and it takes new ones once Redis is back; meanwhile it rests."""
    # As askmill has it; late acknowledgement is nothing without kombu's own record of what is unacknowledged.
    options = {**SETTINGS["broker_transport_options"], "ack_emulation": late}
    worker = pool_process.start(20, task_acks_late=late, broker_transport_options=options)
    worker.send(*"abcde", seconds=DOWN_S + 1)
    wait_until(lambda: len(worker.noted("begins")) == 5, "all run")
    before_s = cpu_s(worker)
    fault(redis_server)
    spent_s = cpu_s(worker) - before_s
    worker.send("after")
    wait_until(lambda: worker.names("ends")["after"] or worker.process.poll() is not None, "it works", 25)
    wait_until(lambda: set("abcde") <= set(worker.names("ends")), "what ran has ended")

    assert worker.process.poll() is None, worker.output
    assert spent_s < 0.5
    if not late:  # a late ack whose connection was dropped is delivered again: why askmill acknowledges early
        assert set(worker.names("begins").values()) == {1}


def test_kombus_own_transport_still_needs_the_guard(
    pool_process: PoolProcess, redis_server: RedisServer
) -> None:
    """Without it the worker exits with 1. When this fails, a release has fixed it: drop worker/celery/kombu_transport.py."""
    worker = pool_process.start(20, guarded=False, task_acks_late=True)
    worker.send("a", seconds=1)
    wait_until(lambda: worker.noted("begins"), "it runs")
    redis_server.kill()

    assert worker.process.wait(20) == 1
    assert "'NoneType' object has no attribute 'hostname'" in worker.output

"""Helpers of all tests: wait for a condition, and a Redis server that a test may kill, freeze and restart."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import redis

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.redis_service import server_binary

T = TypeVar("T")

SHORTEST_POLL_S, LONGEST_POLL_S = 0.01, 0.1
"""A wait polls after 10 ms and then after each tenth of the time waited, so that long waits take little CPU."""
PATIENCE = 3.0
"""Time limits are multiplied by this: they bound a wait on a busy machine, they measure nothing."""


def wait_until(predicate: Callable[[], T], description: str, timeout_s: float = 10) -> T:
    """Poll until `predicate` is truthy and return its value; fail with `description` and the last value."""
    start = time.monotonic()
    while not (value := predicate()):
        time.sleep(_poll_delay_s(start, timeout_s, description, value))
    return value


async def wait_until_async(
    predicate: Callable[[], Awaitable[T]], description: str, timeout_s: float = 10
) -> T:
    """`wait_until` on an event loop."""
    start = time.monotonic()
    while not (value := await predicate()):  # noqa: ASYNC110 -- other processes set no event here
        await asyncio.sleep(_poll_delay_s(start, timeout_s, description, value))
    return value


def _poll_delay_s(start: float, timeout_s: float, description: str, value: object) -> float:
    waited_s = time.monotonic() - start
    if waited_s > PATIENCE * timeout_s:
        raise AssertionError(f"waited {waited_s:.0f} s until {description}; last value: {value!r}")
    return min(max(SHORTEST_POLL_S, waited_s / 10), LONGEST_POLL_S)


class RedisServer:
    """A server that tests may kill, freeze and start again at the same address.

    Nothing is stored on disk: `restart` and `kill` lose all data.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://{HOST}:{self._port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [str(server_binary()), "--port", str(self._port), "--bind", HOST]
        command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        wait_until(self._answers, "the tests' Redis answers")

    def kill(self) -> None:
        """SIGKILL, and wait for its end. The next test's `redis_url` starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """SIGKILL and start: an empty server at the same address, or with the data of the test's last SAVE."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: the kernel accepts connections, nothing replies."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def clean(self) -> None:
        """Start or thaw it if need be, and delete all data."""
        if self._process is None or self._process.poll() is not None:
            self.restart()
        self.thaw()
        (self._folder / "dump.rdb").unlink(missing_ok=True)
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
            client.config_resetstat()

    def take_over_from(self, master: "RedisServer") -> None:
        """Copy the master, then become a master too, as a replica that is promoted."""
        with redis.Redis.from_url(master.url) as old, redis.Redis.from_url(self.url) as new:
            old.config_set("repl-diskless-sync-delay", 0)
            new.replicaof(HOST, str(master._port))
            wait_until(lambda: new.info("replication")["master_link_status"] == "up", "it is a replica", 30)
            new.replicaof("NO", "ONE")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, retry=None) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

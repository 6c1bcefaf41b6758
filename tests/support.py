"""What tests share besides fixtures: waiting for a condition, and a Redis that may be ill-treated."""

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

LOOK_EVERY_S = 0.01
PATIENCE = 3.0
"""Waits are bounds, not measurements: a busy machine takes longer, and nobody waits longer than needed."""


def wait_until(predicate: Callable[[], T], description: str, timeout_s: float = 10) -> T:
    """The first truthy value of `predicate`; fails naming `description` and the value last seen."""
    deadline = time.monotonic() + PATIENCE * timeout_s
    while not (seen := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE * timeout_s:g} s until {description}; last saw {seen!r}")
        time.sleep(LOOK_EVERY_S)
    return seen


async def wait_until_async(
    predicate: Callable[[], Awaitable[T]], description: str, timeout_s: float = 10
) -> T:
    """`wait_until` for a test on an event loop: the loop goes on between two looks."""
    deadline = time.monotonic() + PATIENCE * timeout_s
    while not (seen := await predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE * timeout_s:g} s until {description}; last saw {seen!r}")
        await asyncio.sleep(LOOK_EVERY_S)
    return seen


class RedisServer:
    """A server that tests may kill, freeze and start again, always at the same address.

    Nothing is kept on disk: `restart` and `kill` lose all data.
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
        """kill -9, and reap. The next test's `redis_url` starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """kill -9 and start: an empty server at the same address."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def clean(self) -> None:
        """Running, thawed and empty, whatever the last test did to it."""
        if self._process is None or self._process.poll() is not None:
            self.restart()
        self.thaw()
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
            client.config_resetstat()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, retry=None) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

"""Start and watch `tests/helpers/workers/pool_worker.py` from a test."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import pools

from askmill.jobs.store.broker import client_app
from tests.support import wait_until

TESTS = Path(__file__).parent
PROGRAM = [sys.executable, "-P", str(TESTS / "pool_worker.py")]

SETTINGS: dict[str, Any] = {
    "worker_pool": "askmill.worker.celery.greenlet_pool:TaskPool",
    "task_acks_late": False,
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "task_ignore_result": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        "socket_keepalive": True,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
    },
}
"""askmill's settings of a worker (docs/decisions/celery-version.md)."""


class PoolProcess:
    """One worker process; `conf` changes Celery's settings, `options` those of `app.Worker`."""

    def __init__(self, broker: str, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.log = folder / "records.jsonl"
        self.log.touch()
        self.client = Celery("pool_test_client", broker=broker, set_as_current=False)
        self.client.conf.task_ignore_result = True

    def start(
        self,
        concurrency: int = 10,
        *,
        install_transport: bool = True,
        program: list[str] = PROGRAM,
        cwd: Path | None = None,
        options: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        **conf: Any,
    ) -> "PoolProcess":
        program_settings = {
            "broker": self.broker,
            "log": str(self.log),
            "install_transport": install_transport,
            "conf": {**SETTINGS, "worker_concurrency": concurrency, **conf},
            "options": {"without_gossip": True, "without_mingle": True, **(options or {})},
        }
        with (self.folder / "worker.log").open("ab") as output:
            self.process = subprocess.Popen(
                program,
                cwd=cwd or self.folder,
                env={**os.environ, "POOL_TEST": json.dumps(program_settings), **(env or {})},
                stdout=output,
                stderr=output,
            )
        wait_until(
            lambda: self.records("ready") or self.process.poll() is not None, "the worker is ready", 20
        )
        assert self.process.poll() is None, self.output
        return self

    def send(self, *names: str, seconds: float = 0.1) -> list[AsyncResult]:
        return [self.client.send_task("nap", (name, seconds)) for name in names]

    def records(self, kind: str) -> list[list[Any]]:
        """The details of the worker's records of this kind, in order."""
        lines = [
            json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line[-1] == "\n"
        ]
        return [details for record_kind, *details in lines if record_kind == kind]

    def task_names(self, kind: str) -> Counter[str]:
        return Counter(details[0] for details in self.records(kind))

    def max_concurrent(self) -> int:
        """How many naps ran at the same time at most."""
        running = maximum = 0
        for record_kind, *_ in (json.loads(line) for line in self.log.read_text().splitlines()):
            running += {"begins": 1, "ends": -1, "cancelled": -1}.get(record_kind, 0)
            maximum = max(maximum, running)
        return maximum

    def inspect(self, command: str) -> Any:
        """The worker's reply to `celery inspect COMMAND`."""
        replies = getattr(self.client.control.inspect(timeout=5, limit=1), command)()
        assert replies, self.output
        return next(iter(replies.values()))

    def stop(self, signum: int, within_s: float = 20) -> int:
        """Send a signal. Returns the exit code."""
        self.process.send_signal(signum)
        return self.process.wait(within_s)

    def close(self) -> None:
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self.client.close()
        pools.reset()  # kombu keeps pools by address for the whole process
        client_app.cache_clear()  # its pool is closed, and a later Redis may have the same address

    @property
    def output(self) -> str:
        return (self.folder / "worker.log").read_text()


@pytest.fixture
def pool_process(redis_url: str, tmp_path: Path) -> Iterator[PoolProcess]:
    """A worker, not yet started; killed at the end of the test."""
    with ExitStack() as stack:
        process = PoolProcess(redis_url, tmp_path)
        stack.callback(process.close)
        yield process

"""The web server is killed while a batch that was submitted through it runs. Issue 18, 1."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.helpers.web_server import WebServer, web_server
from tests.stack import Stack
from tests.support import wait_until

ROWS = 12
QUESTIONS = b"question\n" + b"".join(
    b"[emulate: completed after=%d] %d?\n" % (2 + n % 3, n) for n in range(ROWS)
)


@pytest.mark.parametrize(
    "with_worker", [False, pytest.param(True, marks=pytest.mark.chaos)], ids=["alone", "with its worker"]
)
def test_after_a_kill_the_batch_continues_and_nothing_is_asked_twice(
    with_worker: bool, tmp_path: Path
) -> None:
    """`kill -9`, the same command again: each row completes, and each has one run at the API; viewers go on."""
    with Stack(tmp_path) as stack, web_server(stack) as server:
        batch = server.submit(QUESTIONS)
        wait_until(lambda: stack.stats()["runs_created"] >= ROWS // 2, "half of the runs are in flight", 60)
        workers = children(server)
        server.child.kill()
        if with_worker:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        server.start()
        assert b"event: status" in events_again(server, batch)
        assert counts(server, batch)["completed"] < ROWS  # the kill was in time
        wait_until(lambda: counts(server, batch)["completed"] == ROWS, "the batch is done", 90)
        assert stack.stats()["runs_created"] == ROWS
        assert json.loads(server.read(f"/api/batches/{batch}"))["state"] == "done"
        assert server.read(f"/api/batches/{batch}/results").count(b"completed,") == ROWS
        wait_until(
            lambda: not any(map(psutil.pid_exists, workers)), "the first server's workers are gone", 60
        )


def events_again(server: WebServer, batch: str) -> bytes:
    """What a viewer gets at once whose connection has dropped."""
    connection, response = server.request("GET", f"/api/batches/{batch}/events", **{"Last-Event-ID": "7"})
    lines = b"".join(response.readline() for _ in range(5))
    response.close()
    connection.close()
    return lines


def children(server: WebServer) -> list[int]:
    assert server.child.process is not None
    return [child.pid for child in psutil.Process(server.child.process.pid).children(recursive=True)]


def counts(server: WebServer, batch: str) -> dict[str, int]:
    return dict(json.loads(server.read(f"/api/batches/{batch}"))["counts"])

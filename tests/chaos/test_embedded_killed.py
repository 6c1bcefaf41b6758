"""`askmill run` with nothing configured, whose own Redis and emulator are killed under it: one run a row, results whole.

run ─┬─ keeper ─ redis       kill -9 ─▶ started again, its AOF replayed
     ├─ keeper ─ emulator    kill -9 ─▶ started again, with its objects and its runs' ends
     └─ worker               kill -9 ─▶ another one (tests/chaos/test_killed.py)
"""

import csv
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from jobs.local import EmulatorService, emulator_process
from tests.command_line import Terminal, terminal
from tests.support import wait_until

ROWS = 60
SERVERS = ("redis", "emulator")
LIMIT_S = 240


@pytest.fixture
def user(tmp_path: Path) -> Terminal:
    """A file of questions whose runs take half a second to two."""
    made = terminal(tmp_path)
    seconds = [0.5 + 1.5 * row / ROWS for row in range(1, ROWS + 1)]
    asked = [
        f"What is {row} + 1? [emulate: completed after={time:.2f}]" for row, time in enumerate(seconds, 1)
    ]
    made.write("questions.csv", "question", *asked)
    return made


@pytest.fixture
def running(user: Terminal) -> Iterator["subprocess.Popen[str]"]:
    """`askmill run`, a few rows at a time, so that it lasts; killed if the test does not see its end."""
    process = user.start("run", "questions.csv", "--concurrency", "8")
    yield process
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
    process.communicate()


def _data(user: Terminal) -> Path:
    return Path(user.settings["ASKMILL_DATA_DIR"])


def _pid(user: Terminal, server: str) -> int:
    return int((_data(user) / "locks" / f"{server}.server").read_text())


def _stats(user: Terminal) -> dict[str, Any]:
    """What the emulator has counted; nothing while it is not there."""
    try:
        address = EmulatorService(_data(user)).address()
        return dict(httpx2.get(address.replace("/v1", "/emulator/stats"), timeout=5).json())
    except (httpx2.HTTPError, OSError, KeyError, ValueError):
        return {}


def _wait_for_runs(user: Terminal, count: int) -> None:
    wait_until(lambda: _stats(user).get("runs_created", 0) >= count, f"{count} runs are made", 60)


def _kill(user: Terminal, servers: Sequence[str]) -> None:
    """kill -9, and wait until each is there again, as another process."""
    killed = {server: _pid(user, server) for server in servers}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    for server, pid in killed.items():
        wait_until(lambda server=server, pid=pid: _pid(user, server) != pid, f"{server} is started again", 20)


def _assert_whole(user: Terminal) -> None:
    """Every row once, in order, right; each paid for once, also when the emulator is asked afterwards."""
    with (user.folder / "questions.answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(1, ROWS + 1))
    assert {(row["status"], row["attempts"]) for row in rows} == {("completed", "1")}
    assert all(row["answer"] == f"{row['row']} + 1 = {int(row['row']) + 1}." for row in rows)
    with emulator_process(_data(user)) as address:
        stats = httpx2.get(address.replace("/v1", "/emulator/stats")).json()
    assert stats["runs_created"] == ROWS
    assert set(stats["runs_by_job"].values()) == {1}
    assert len(stats["runs_by_job"]) == ROWS


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("servers", [("emulator",), ("redis",), SERVERS], ids=" and ".join)
def test_killed_servers_come_back_under_a_run(
    user: Terminal, running: "subprocess.Popen[str]", servers: Sequence[str]
) -> None:
    """Twice, while runs are in flight: the command ends with 0, says no traceback, and pays nothing twice."""
    for runs in (10, 35):
        _wait_for_runs(user, runs)
        _kill(user, servers)

    _, said = running.communicate(timeout=LIMIT_S)

    assert running.returncode == 0, said
    assert "Traceback" not in said
    _assert_whole(user)


@pytest.mark.timeout(LIMIT_S + 60)
def test_everything_killed_at_once_goes_on_with_the_same_command(
    user: Terminal, running: "subprocess.Popen[str]"
) -> None:
    """Command, worker, keepers, Redis and emulator: typed again, the same runs are followed to their end."""
    _wait_for_runs(user, 20)
    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    for server in SERVERS:
        process = psutil.Process(_pid(user, server))
        family += [process, *filter(None, [process.parent()])]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=20)
    running.communicate()

    again = user.askmill("run", "questions.csv", "--concurrency", "30")

    assert again.returncode == 0, again.stderr
    _assert_whole(user)

"""`askmill run` without settings, while its own Redis and emulator are killed: one run a row, complete results.

run ─┬─ supervisor ─ redis       kill -9 ─▶ restarted, its AOF replayed
     ├─ supervisor ─ emulator    kill -9 ─▶ restarted with its objects and its ended runs
     └─ worker                   kill -9 ─▶ another worker (tests/chaos/test_killed.py)
"""

import csv
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.chaos.embedded import SERVERS, kill_everything, pid_of, stats, stats_after_end
from tests.helpers.command_line import CommandLine, terminal
from tests.support import wait_until

ROWS = 60
LIMIT_S = 240


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    """A file of questions whose runs take half a second to two."""
    user = terminal(tmp_path, offline=True)
    seconds = [0.5 + 1.5 * row / ROWS for row in range(1, ROWS + 1)]
    questions = [
        f"What is {row} + 1? [emulate: completed after={time:.2f}]" for row, time in enumerate(seconds, 1)
    ]
    user.write("questions.csv", "question", *questions)
    return user


@pytest.fixture
def running(user: CommandLine) -> Iterator["subprocess.Popen[str]"]:
    """`askmill run`, a few rows at a time, so that it lasts; killed if the test does not see its end."""
    process = user.start("run", "questions.csv", "--concurrency", "8")
    yield process
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
    process.communicate()


def _wait_for_runs(user: CommandLine, count: int) -> None:
    wait_until(lambda: stats(user).get("runs_created", 0) >= count, f"{count} runs are created", 60)


def _kill(user: CommandLine, servers: Sequence[str]) -> None:
    """kill -9, and wait until each is there again, as another process."""
    killed = {server: pid_of(user, server) for server in servers}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    for server, pid in killed.items():
        wait_until(
            lambda server=server, pid=pid: pid_of(user, server) != pid, f"{server} is started again", 20
        )


def _assert_complete(user: CommandLine) -> None:
    """Every row is there once, in order, with the right answer, and was paid for once."""
    with (user.folder / "questions.answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(1, ROWS + 1))
    assert {(row["status"], row["attempts"]) for row in rows} == {("completed", "1")}
    assert all(row["answer"] == f"{row['row']} + 1 = {int(row['row']) + 1}." for row in rows)
    stats_at_end = stats_after_end(user)
    assert stats_at_end["runs_created"] == ROWS
    assert set(stats_at_end["runs_by_job"].values()) == {1}
    assert len(stats_at_end["runs_by_job"]) == ROWS


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("servers", [("emulator",), ("redis",), SERVERS], ids=" and ".join)
def test_killed_servers_restart_during_a_run(
    user: CommandLine, running: "subprocess.Popen[str]", servers: Sequence[str]
) -> None:
    """Twice with runs in flight: the command exits 0, shows no traceback and pays for nothing twice."""
    for runs in (10, 35):
        _wait_for_runs(user, runs)
        _kill(user, servers)

    _, stderr = running.communicate(timeout=LIMIT_S)

    assert running.returncode == 0, stderr
    assert "Traceback" not in stderr
    _assert_complete(user)


@pytest.mark.timeout(LIMIT_S + 60)
def test_everything_killed_at_once_resumes_with_the_same_command(
    user: CommandLine, running: "subprocess.Popen[str]"
) -> None:
    """Command, worker, supervisors, Redis and emulator: the same runs are followed to their end."""
    _wait_for_runs(user, 20)
    kill_everything(user, running)

    resumed = user.askmill("run", "questions.csv", "--concurrency", "30")

    assert resumed.returncode == 0, resumed.stderr
    _assert_complete(user)

"""SIGKILL at half, then each tool's own way to go on: calls carried out, calls made again, rows lost.

The process that has the calls in flight is killed when the mock server has answered half of the rows: for
the peers their only process, for askmill its worker. Then the same command runs again, in the same folder.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2

from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.profile import Profile
from benchmarks.chat import chat_server
from benchmarks.measure import Load
from benchmarks.peers.environments import python_of, script_of
from tests.chaos.support import counter
from tests.stack import Stack

TIME_LIMIT_S = 300


@dataclass(frozen=True)
class Killed:
    """One tool after its kill. `calls` were carried out, for `questions` different rows."""

    name: str
    load: Load
    calls: int
    questions: int
    rows: int
    counted: int | None = None
    """Calls that the tool itself counts as perhaps made twice; None where it counts none."""
    error: str = ""

    def __str__(self) -> str:
        lost, again = self.load.jobs - self.rows, self.calls - self.questions
        counted = "" if self.counted is None else str(self.counted)
        figures = f"{self.load.in_flight:12}{self.calls:12}{again:12}{counted:>12}{lost:12}"
        return f"{self.name:16}{figures}  {self.error}"


HEADS = ("in flight", "calls", "made again", "counted", "rows lost")


def main(loads: list[Load], peers: tuple[str, ...]) -> list[dict[str, object]]:
    """Kill askmill and each peer once per load; print the table and return its rows."""
    print(f"{loads[0].jobs} rows, calls of {loads[0].run_s:g} s, SIGKILL at half")
    print(" " * 16 + "".join(f"{head:>12}" for head in HEADS))
    ends = list[Killed]()
    for load in loads:
        for name in ("askmill", *peers):
            with tempfile.TemporaryDirectory() as folder, chat_server(load.run_s) as (url, _):
                killed = _askmill if name == "askmill" else _peer
                ends.append(killed(name, load, url, Path(folder)))
            print(ends[-1], flush=True)
    return [asdict(end) for end in ends]


def _askmill(name: str, load: Load, url: str, folder: Path) -> Killed:
    with Stack(folder, api="chat") as stack:
        stack.base_url = url
        worker = stack.worker(load.in_flight)
        questions = [f"What is {number} * 34?" for number in range(load.jobs)]
        batch = asyncio.run(stack.submit(questions, Profile(model="mock", stream=False)))
        _wait_until_half(url, load)
        worker.kill()
        stack.worker(load.in_flight)
        view = asyncio.run(stack.wait_for(batch, timeout_s=TIME_LIMIT_S / 3))
        rows = view.counts.by_status[JobStatus.COMPLETED]
        return Killed(name, load, *_calls(url), rows, counter(stack, batch, "unknown_creates"))


def _peer(name: str, load: Load, url: str, folder: Path) -> Killed:
    command = [python_of(name), script_of(name), str(load.jobs), str(load.in_flight), str(folder)]
    env = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "offline", "HOME": str(folder)}
    with (folder / "first.log").open("wb") as log:
        first = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_half(url, load)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
    again = subprocess.run(
        command, env=env, check=False, capture_output=True, text=True, timeout=TIME_LIMIT_S
    )
    if again.returncode:
        reason = again.stderr.strip().splitlines()[-1:]
        return Killed(name, load, *_calls(url), 0, error=f"cannot go on: {''.join(reason)[:120]}")
    return Killed(name, load, *_calls(url), json.loads(again.stdout.strip().splitlines()[-1])["rows"])


def _wait_until_half(url: str, load: Load) -> None:
    deadline_s = time.monotonic() + TIME_LIMIT_S
    while _counts(url)["answered"] < load.jobs / 2:
        if time.monotonic() > deadline_s:
            print("half was not reached in time", file=sys.stderr)
            return
        time.sleep(0.02)


def _calls(url: str) -> tuple[int, int]:
    counts = _counts(url)
    return counts["calls"], counts["questions"]


def _counts(url: str) -> dict[str, int]:
    return dict(httpx2.get(f"{url}/models").json()["counts"])

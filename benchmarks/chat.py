"""Chat completions: one askmill worker and bare aiohttp on one mock server, unstreamed and streamed.

`--run-s` is the time of a call (0.2 is usual), `--in-flight` the calls at a time. The CPU is that of the
process that sends the calls; askmill's includes Celery, the Redis client and storing each row.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.profile import Profile
from benchmarks.measure import Load, Run, cpu_of, peak_of, pid_of, table
from tests.stack import Stack

CHUNKS = 200
TIME_LIMIT_S = 300
KINDS = ("whole", "stream")


@contextmanager
def chat_server(run_s: float, chunks: int = CHUNKS) -> Iterator[tuple[str, int]]:
    """URL and process id of a mock server of chat completions."""
    command = [sys.executable, "-m", "benchmarks.peers.chat", str(run_s), str(chunks)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip(), server.pid
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def main(load: Load, rounds: int) -> list[dict[str, object]]:
    """Measure both in turn; print a table for each kind and return all rows."""
    runs = list[Run]()
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder), api="chat") as stack,
        chat_server(load.run_s) as (url, server),
    ):
        stack.base_url = url
        for _ in range(rounds):
            for kind in KINDS:
                runs += [_aiohttp(kind, load, url, server), askmill(kind, load, stack, server)]
    for kind in KINDS:
        of_kind = [run for run in runs if run.name.endswith(kind)]
        table(of_kind, f"aiohttp {kind}")
    return [asdict(run) for run in runs]


def _aiohttp(kind: str, load: Load, url: str, server: int) -> Run:
    before_s = cpu_of(server)
    command = [sys.executable, "-m", "benchmarks.peers.chat_loop", str(load.jobs), str(load.in_flight), kind]
    env = {**os.environ, "OPENAI_BASE_URL": url}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    used_s = cpu_of(server) - before_s
    return Run(f"aiohttp {kind}", load, emulator_cpu_s=used_s, requests=1.0, **json.loads(done.stdout))


def askmill(kind: str, load: Load, stack: Stack, server: int) -> Run:
    """One worker, from the submission to the last row, after 20 warm-up rows. `server` is the mock's pid."""
    profile = Profile(model="mock", stream=kind == "stream")
    worker = stack.worker(load.in_flight)
    try:
        asyncio.run(_answer(stack, profile, 20))
        pids = [pid_of(worker), server, pid_of(stack.redis)]
        before = [cpu_of(pid) for pid in pids]
        wall_s = asyncio.run(_answer(stack, profile, load.jobs))
        used_s, server_s, redis_s = [cpu_of(pid) - at for pid, at in zip(pids, before, strict=True)]
        costs = {"cpu_s": used_s, "emulator_cpu_s": server_s, "redis_cpu_s": redis_s}
        return Run(f"askmill {kind}", load, wall_s, peak_kb=peak_of(pids[0]), requests=1.0, **costs)
    finally:
        worker.leave(30)
        stack.workers.remove(worker)


async def _answer(stack: Stack, profile: Profile, rows: int) -> float:
    """Answer this many questions; return the seconds from the submission to the last row."""
    submitted_at_s = time.time()
    batch = await stack.submit([f"What is {number} * 34?" for number in range(rows)], profile)
    view = await stack.wait_for(batch, timeout_s=TIME_LIMIT_S / 3)  # wait_until multiplies it by PATIENCE
    assert view.counts.by_status[JobStatus.COMPLETED] == rows, view.counts
    assert view.batch.finished_at_ms
    return view.batch.finished_at_ms / 1000 - submitted_at_s

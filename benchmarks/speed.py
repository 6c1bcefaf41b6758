"""Jobs per second and CPU per job: one askmill worker and bare loops, one after another on one emulator.

The main figure is the CPU per job of the process that sends the requests (user and system; for askmill, the
worker), because it depends little on the machine's other load. It includes the work of Celery and of the
Redis client in the worker. The Redis server's CPU is a figure of its own.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import redis

from askmill.jobs.model.models import JobStatus
from benchmarks.measure import Load, Run, cpu_of, peak_of, pid_of, requests_of, table
from benchmarks.peers.loop import QUESTION
from tests.stack import Stack

Measure = Callable[[Stack, Load], Run | None]
TIME_LIMIT_S = 900


def with_loop(kind: str) -> Measure:
    """A loop of benchmarks.peers.loop. If it fails, its message is printed and it has no figures."""

    def measure(stack: Stack, load: Load) -> Run | None:
        before_s, served = cpu_of(pid_of(stack.emulator)), requests_of(stack)
        command = [sys.executable, "-m", "benchmarks.peers.loop", kind]
        numbers = [str(load.jobs), str(load.in_flight), str(load.run_s)]
        env = {**os.environ, "OPENAI_BASE_URL": stack.base_url, "OPENAI_API_KEY": "offline"}
        done = subprocess.run(
            [*command, *numbers], env=env, check=False, capture_output=True, text=True, timeout=TIME_LIMIT_S
        )
        if done.returncode:
            print(f"{kind} ended with an error: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        return Run(
            name=kind,
            load=load,
            emulator_cpu_s=cpu_of(pid_of(stack.emulator)) - before_s,
            requests=(requests_of(stack) - served - 1) / (load.jobs + 20),
            **json.loads(done.stdout),
        )

    return measure


def _commands(stack: Stack) -> int:
    with redis.Redis.from_url(stack.redis_url) as client:
        return int(client.info("stats")["total_commands_processed"])


def askmill(stack: Stack, load: Load, workers: int = 1) -> Run:
    """Workers that share the slots, from the first run created to the last row, after 20 warm-up rows."""
    started = [stack.worker(-(-load.in_flight // workers)) for _ in range(workers)]
    try:
        asyncio.run(answer(stack, 20 * workers))
        pids = [pid_of(stack.emulator), pid_of(stack.redis), *map(pid_of, started)]
        before, served, commands = [cpu_of(pid) for pid in pids], requests_of(stack), _commands(stack)
        wall_s = asyncio.run(answer(stack, load.jobs))
        emulator_s, redis_s, *used = [
            cpu_of(pid) - start_s for pid, start_s in zip(pids, before, strict=True)
        ]
        return Run(
            name="askmill" if workers == 1 else f"askmill x {workers}",
            load=load,
            wall_s=wall_s,
            cpu_s=sum(used),
            peak_kb=sum(map(peak_of, pids[2:])),
            emulator_cpu_s=emulator_s,
            redis_cpu_s=redis_s,
            requests=(requests_of(stack) - served) / load.jobs,
            commands=(_commands(stack) - commands) / load.jobs,
        )
    finally:
        for worker in started:
            worker.leave(30)
            stack.workers.remove(worker)


async def answer(stack: Stack, jobs: int) -> float:
    """Answer this many questions; return the seconds from the first run to the last row."""
    batch = await stack.submit([QUESTION] * jobs)
    status = await stack.wait_for(batch, timeout_s=TIME_LIMIT_S / 3)  # wait_until multiplies it by PATIENCE
    assert status.counts.by_status[JobStatus.COMPLETED] == jobs, status.counts
    batch_view = status.batch
    assert batch_view.finished_at_ms
    assert batch_view.started_at_ms
    return (batch_view.finished_at_ms - batch_view.started_at_ms) / 1000


PEERS: dict[str, Measure] = {"floor": with_loop("floor"), "gather": with_loop("gather"), "askmill": askmill}


def measured(load: Load, rounds: int, peers: dict[str, Measure]) -> list[Run]:
    """Measure all peers in turn, `rounds` times, on one emulator."""
    runs = list[Run]()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), scenario=load.scenario) as stack:
        for _ in range(rounds):
            for measure in peers.values():
                run = measure(stack, load)
                if run is not None:
                    runs.append(run)
                    print(run, file=sys.stderr)
    return runs


def main(load: Load, rounds: int, names: Sequence[str] = tuple(PEERS)) -> list[dict[str, object]]:
    """Measure some of floor, gather and askmill; print the table and return its rows.

    The floor polls at the known end of a run, so it is left out where run times vary.
    """
    peers = {name: PEERS[name] for name in names if name != "floor" or not load.sigma}
    runs = measured(load, rounds, peers)
    table(runs, "floor" if "floor" in peers else next(iter(peers)))
    return [asdict(run) for run in runs]


def workers(load: Load, counts: tuple[int, ...] = (1, 2, 4)) -> list[dict[str, object]]:
    """The same number of slots in one, two and four worker processes."""
    peers: dict[str, Measure] = {
        str(count): lambda stack, load, count=count: askmill(stack, load, count)  # type: ignore[misc]
        for count in counts
    }
    runs = measured(load, 1, peers)
    table(runs, "askmill")
    for run in runs:
        redis_ms = 1000 * run.redis_cpu_s / load.jobs
        print(f"{run.name}: Redis {redis_ms:.2f} ms, {run.commands:.0f} commands a job")
    return [asdict(run) for run in runs]

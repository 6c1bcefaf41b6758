"""jobs/s and CPU a job: one askmill worker beside bare loops, against the same emulator, one after another.

The main figure is CPU a job of the process that asks (user and system; for askmill: the worker): it depends
little on what else the machine does. Celery's and Redis' own work in the worker is in it; the Redis server's
is told apart.
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
from benchmarks.measure import Load, Run, asked, cpu_of, peak_of, pid_of, table
from benchmarks.peers.loop import QUESTION
from tests.stack import Stack

Measure = Callable[[Stack, Load], Run | None]
PATIENCE_S = 900


def with_loop(kind: str) -> Measure:
    """A bare loop of benchmarks.peers.loop. One that ends with an error is told of, and has no figures."""

    def measure(mill: Stack, load: Load) -> Run | None:
        before, served = cpu_of(pid_of(mill.emulator)), asked(mill)
        command = [sys.executable, "-m", "benchmarks.peers.loop", kind]
        numbers = [str(load.jobs), str(load.in_flight), str(load.run_s)]
        env = {**os.environ, "OPENAI_BASE_URL": mill.base_url, "OPENAI_API_KEY": "offline"}
        said = subprocess.run(
            [*command, *numbers], env=env, check=False, capture_output=True, text=True, timeout=PATIENCE_S
        )
        if said.returncode:
            print(f"{kind} ended with an error: {said.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        return Run(
            who=kind,
            load=load,
            emulator_cpu_s=cpu_of(pid_of(mill.emulator)) - before,
            requests=(asked(mill) - served - 1) / (load.jobs + 20),
            **json.loads(said.stdout),
        )

    return measure


def _commands(mill: Stack) -> int:
    with redis.Redis.from_url(mill.redis_url) as client:
        return int(client.info("stats")["total_commands_processed"])


def askmill(mill: Stack, load: Load, workers: int = 1) -> Run:
    """Workers that share the slots, from the first run created to the last row done; 20 rows warm them up."""
    started = [mill.worker(-(-load.in_flight // workers)) for _ in range(workers)]
    try:
        asyncio.run(done(mill, 20 * workers))
        pids = [pid_of(mill.emulator), pid_of(mill.redis), *map(pid_of, started)]
        before, served, commands = [cpu_of(pid) for pid in pids], asked(mill), _commands(mill)
        wall_s = asyncio.run(done(mill, load.jobs))
        emulator_s, redis_s, *used = [cpu_of(pid) - then for pid, then in zip(pids, before, strict=True)]
        return Run(
            who="askmill" if workers == 1 else f"askmill x {workers}",
            load=load,
            wall_s=wall_s,
            cpu_s=sum(used),
            peak_kb=sum(map(peak_of, pids[2:])),
            emulator_cpu_s=emulator_s,
            redis_cpu_s=redis_s,
            requests=(asked(mill) - served) / load.jobs,
            commands=(_commands(mill) - commands) / load.jobs,
        )
    finally:
        for worker in started:
            worker.leave(30)
            mill.workers.remove(worker)


async def done(mill: Stack, jobs: int) -> float:
    """Ask so many questions; seconds from the first run to the last row."""
    batch = await mill.submit([QUESTION] * jobs)
    status = await mill.wait_for(batch, timeout_s=PATIENCE_S / 3)  # tests.support is three times as patient
    assert status.counts.by_status[JobStatus.COMPLETED] == jobs, status.counts
    about = status.batch
    assert about.finished_at_ms
    assert about.started_at_ms
    return (about.finished_at_ms - about.started_at_ms) / 1000


PEERS: dict[str, Measure] = {"floor": with_loop("floor"), "gather": with_loop("gather"), "askmill": askmill}


def measured(load: Load, rounds: int, peers: dict[str, Measure]) -> list[Run]:
    """All in turn, `rounds` times, against one emulator."""
    runs = list[Run]()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), scenario=load.scenario) as mill:
        for _ in range(rounds):
            for measure in peers.values():
                run = measure(mill, load)
                if run is not None:
                    runs.append(run)
                    print(run, file=sys.stderr)
    return runs


def main(load: Load, rounds: int, names: Sequence[str] = tuple(PEERS)) -> list[dict[str, object]]:
    """Some of floor, gather and askmill; prints the table, returns its rows.

    The floor knows how long a run takes, so it is left out where that varies.
    """
    peers = {name: PEERS[name] for name in names if name != "floor" or not load.sigma}
    runs = measured(load, rounds, peers)
    table(runs, "floor" if "floor" in peers else next(iter(peers)))
    return [asdict(run) for run in runs]


def workers(load: Load, counts: tuple[int, ...] = (1, 2, 4)) -> list[dict[str, object]]:
    """The same slots shared by one, two and four worker processes."""
    peers: dict[str, Measure] = {
        str(count): lambda mill, given, count=count: askmill(mill, given, count)  # type: ignore[misc]
        for count in counts
    }
    runs = measured(load, 1, peers)
    table(runs, "askmill")
    for run in runs:
        print(
            f"{run.who}: Redis {1000 * run.redis_cpu_s / load.jobs:.2f} ms, {run.commands:.0f} commands a job"
        )
    return [asdict(run) for run in runs]

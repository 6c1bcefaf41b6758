"""jobs/s and CPU a job: one askmill worker beside bare loops, against the same emulator, one after another.

The main figure is CPU a job of the process that asks (user and system; for askmill: the worker): it hardly
depends on what else the machine does. Celery's and Redis' own work in the worker is in it; the Redis server's
is told apart.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.peers.loop import QUESTION
from jobs.models import JobStatus
from tests.mill import Mill

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What is asked: so many jobs, so many at once, each run taking so long."""

    jobs: int
    in_flight: int
    run_s: float


@dataclass(frozen=True)
class Run:
    """One measurement. `emulator_cpu_s`: below `wall_s`, or the emulator was the bottleneck."""

    who: str
    load: Load
    wall_s: float
    cpu_s: float
    peak_kb: int
    emulator_cpu_s: float
    redis_cpu_s: float = 0.0
    requests: float = 0.0
    commands: float = 0.0

    @property
    def cpu_ms_a_job(self) -> float:
        return 1000 * self.cpu_s / self.load.jobs

    @property
    def jobs_a_s(self) -> float:
        return self.load.jobs / self.wall_s


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_of(pid: int) -> int:
    """Peak resident memory of a process, in KB (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def _pid(child: object) -> int:
    return int(child.process.pid)  # type: ignore[attr-defined]  # tests.mill.Child


def _asked(mill: Mill) -> int:
    return int(sum(mill.stats()["requests"].values()))


def with_loop(kind: str) -> Callable[[Mill, Load], Run]:
    """A bare loop of benchmarks.peers.loop."""

    def measure(mill: Mill, load: Load) -> Run:
        before, asked = cpu_of(_pid(mill.emulator)), _asked(mill)
        command = [sys.executable, "-m", "benchmarks.peers.loop", kind]
        numbers = [str(load.jobs), str(load.in_flight), str(load.run_s)]
        env = {**os.environ, "OPENAI_BASE_URL": mill.base_url, "OPENAI_API_KEY": "offline"}
        said = subprocess.run([*command, *numbers], env=env, check=True, capture_output=True, text=True)
        requests = (_asked(mill) - asked - 1) / (load.jobs + 20)
        emulator_s = cpu_of(_pid(mill.emulator)) - before
        return Run(
            who=kind, load=load, emulator_cpu_s=emulator_s, requests=requests, **json.loads(said.stdout)
        )

    return measure


def _commands(mill: Mill) -> int:
    import redis  # noqa: PLC0415 -- the loops need none

    with redis.Redis.from_url(mill.redis_url) as client:
        return int(client.info("stats")["total_commands_processed"])


def askmill(mill: Mill, load: Load) -> Run:
    """One worker, from the first run created to the last row done; a batch of 20 warms it up."""
    worker = mill.worker(load.in_flight)
    try:
        asyncio.run(_done(mill, 20))
        pids = [_pid(child) for child in (worker, mill.emulator, mill.redis)]
        before, asked, commands = [cpu_of(pid) for pid in pids], _asked(mill), _commands(mill)
        wall_s = asyncio.run(_done(mill, load.jobs))
        used = [cpu_of(pid) - then for pid, then in zip(pids, before, strict=True)]
        return Run(
            who="askmill",
            load=load,
            wall_s=wall_s,
            cpu_s=used[0],
            peak_kb=peak_of(pids[0]),
            emulator_cpu_s=used[1],
            redis_cpu_s=used[2],
            requests=(_asked(mill) - asked) / load.jobs,
            commands=(_commands(mill) - commands) / load.jobs,
        )
    finally:
        worker.leave(30)
        mill.workers.remove(worker)


async def _done(mill: Mill, jobs: int) -> float:
    batch = await mill.submit([QUESTION] * jobs)
    status = await mill.wait_for(batch, timeout_s=600)
    assert status.counts.by_status[JobStatus.COMPLETED] == jobs, status.counts
    about = status.batch
    assert about.finished_at_ms
    assert about.started_at_ms
    return (about.finished_at_ms - about.started_at_ms) / 1000


PEERS: dict[str, Callable[[Mill, Load], Run]] = {
    "floor": with_loop("floor"),
    "gather": with_loop("gather"),
    "askmill": askmill,
}


def main(jobs: int, in_flight: int, run_s: float, rounds: int) -> list[dict[str, object]]:
    """Measure all in turn, `rounds` times; print the table; return its rows."""
    load, runs = Load(jobs, in_flight, run_s), list[Run]()
    with tempfile.TemporaryDirectory() as folder:
        scenario = f"[latency]\nmedian_s = {run_s}\nsigma = 0\n"
        with Mill(Path(folder), scenario=scenario) as mill:
            for _ in range(rounds):
                for measure in PEERS.values():
                    runs.append(measure(mill, load))
                    print(runs[-1], file=sys.stderr)
    print(f"{jobs} jobs, {in_flight} in flight, runs of {run_s:g} s, {rounds} rounds")
    heads = ("CPU ms/job", "spread", "ratio", "jobs/s", "requests", "emulator", "peak MB")
    print(" " * 10 + "".join(f"{head:>11}" for head in heads))
    floor = median(run.cpu_ms_a_job for run in runs if run.who == "floor")
    for who in PEERS:
        _print(who, [run for run in runs if run.who == who], floor)
    return [asdict(run) for run in runs]


def _print(who: str, runs: list[Run], floor: float) -> None:
    cpu = sorted(run.cpu_ms_a_job for run in runs)
    busy = max(run.emulator_cpu_s / run.wall_s for run in runs)
    speed, peak = median(run.jobs_a_s for run in runs), max(run.peak_kb for run in runs) / 1024
    spread = f"{cpu[0]:.2f}-{cpu[-1]:.2f}"
    costs = f"{median(cpu):11.2f}{spread:>11}{median(cpu) / floor:11.2f}"
    print(f"{who:10}{costs}{speed:11.0f}{runs[-1].requests:11.1f}{busy:11.0%}{peak:11.0f}")

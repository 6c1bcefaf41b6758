"""What each ASKMILL_DURABILITY costs: jobs per second and time per job, one after another in one run.

process   one Redis with `appendfsync everysec`
disk      the same Redis with `appendfsync always`
replica   a master with two replicas and `min-replicas-to-write 1`: a create waits for a replica

The time of a job is that in a worker's slot, claim to finish, the run's own time taken off: with all slots in
use it is the slots divided by the jobs per second.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from askmill.config.settings import Durability
from benchmarks.measure import Load
from benchmarks.speed import answer
from tests.helpers.sentinels import Sentinels
from tests.stack import Stack

LOADS = (Load(500, 50, 0.0), Load(250, 50, 2.0), Load(50, 50, 30.0))


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    durability: str
    run_s: float
    jobs_a_s: float
    own_ms_a_job: float


@contextmanager
def _stack(load: Load, durability: Durability) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), scenario=load.scenario) as stack:
        if durability is Durability.REPLICA:
            with Sentinels(stack) as sentinels:
                sentinels.configure(min_replicas_to_write="1")
                yield stack
            return
        with redis.Redis.from_url(stack.redis_url) as client:
            client.config_set("appendfsync", "always" if durability is Durability.DISK else "everysec")
        yield stack


def measured(load: Load, durability: Durability) -> Figure:
    """Answer the load's jobs with one worker, after a warm-up of a tenth."""
    with _stack(load, durability) as stack:
        stack.worker(load.in_flight, ASKMILL_DURABILITY=durability)
        asyncio.run(answer(stack, max(1, load.jobs // 10)))
        wall_s = asyncio.run(answer(stack, load.jobs))
    own_s = min(load.in_flight, load.jobs) * wall_s / load.jobs - load.run_s
    return Figure(durability, load.run_s, load.jobs / wall_s, 1000 * own_s)


def main(rounds: int) -> list[Figure]:
    """Measure each durability with runs of 0, 2 and 30 s; print a line each, with the machine's load."""
    figures = []
    for load in LOADS:
        for _ in range(rounds):
            for durability in Durability:
                figure = measured(load, durability)
                figures.append(figure)
                print(
                    f"{load}: {figure.durability:8}{figure.jobs_a_s:8.1f} jobs/s"
                    f"{figure.own_ms_a_job:9.0f} ms a job   (load {os.getloadavg()[0]:.0f})"
                )
    return figures

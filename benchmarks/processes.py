"""Memory per run in flight: in one askmill worker, and in Celery prefork, where each run is a process.

With runs of T seconds a slot completes 1 / T jobs per second. So jobs per second at equal memory are
inversely proportional to the memory per slot, with the worker's own memory divided among its slots.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import redis
from celery import Celery
from openai import OpenAI

from benchmarks.measure import Load, Run, cpu_of, own_kb, pid_of, requests_of
from benchmarks.peers.loop import QUESTION
from tests.stack import Stack
from tests.support import wait_until

LONG = "[latency]\nmedian_s = 3600\nsigma = 0\n"
WAVES = (500, 1500, 2500)


def main() -> dict[str, float]:
    """KB per run in flight, as the growth from one wave of new runs to the next.

    The first waves also open connections for many creates at once, and the process keeps that memory. The
    last wave shows the memory of a run alone.
    """
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), scenario=LONG) as stack:
        pid = pid_of(stack.worker(WAVES[-1]))
        sizes = [_in_flight(stack, pid, more - less) for less, more in pairwise((0, *WAVES))]
    for runs, size in zip(WAVES, sizes, strict=True):
        print(f"{runs} runs in flight: {size / 1024:.0f} MB, {size / runs:.0f} KB each, the process included")
    average = (sizes[-1] - sizes[0]) / (WAVES[-1] - WAVES[0])
    last = (sizes[-1] - sizes[-2]) / (WAVES[-1] - WAVES[-2])
    print(f"{average:.1f} KB a run from {WAVES[0]} to {WAVES[-1]}, {last:.1f} in the last wave")
    return {"kb_a_run": average, "kb_a_run_last_wave": last}


def _in_flight(stack: Stack, pid: int, more: int) -> int:
    target = stack.stats()["runs_created"] + more
    asyncio.run(stack.submit([QUESTION] * more))
    wait_until(lambda: stack.stats()["runs_created"] >= target, f"{target} runs are in flight", 100)
    return own_kb(pid)


def prefork(processes: int = 8, jobs: int = 24, run_s: float = 5.0) -> dict[str, object]:
    """Celery prefork with this many processes: CPU per job and memory per run."""
    load = Load(jobs, processes, run_s)
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), scenario=load.scenario) as stack:
        env = {**os.environ, "OPENAI_BASE_URL": stack.base_url, "OPENAI_API_KEY": "offline"}
        env["PREFORK_BROKER"] = broker = stack.redis_url.removesuffix("0") + "1"
        command = [sys.executable, "-m", "benchmarks.peers.prefork", str(processes)]
        worker = subprocess.Popen(command, env=env, stdout=sys.stderr)
        try:
            run = _measure(stack, load, broker, worker.pid)
            memory_kb = own_kb(worker.pid)
        finally:
            worker.terminate()
            worker.wait(60)
    print(f"prefork: {run.cpu_ms_a_job:.1f} ms of CPU a job, {memory_kb / processes / 1024:.1f} MB a run")
    return {**asdict(run), "kb_a_run": memory_kb / processes}


def _measure(stack: Stack, load: Load, broker: str, pid: int) -> Run:
    app = Celery(broker=broker)
    client = OpenAI(base_url=stack.base_url, api_key="offline")
    assistant = client.beta.assistants.create(model="gpt-5-mini").id
    with redis.Redis.from_url(broker) as counter:

        def answer(name: str, jobs: int) -> None:
            for _ in range(jobs):
                app.send_task("ask", (assistant, QUESTION, name))
            wait_until(lambda: int(counter.get(name) or 0) >= jobs, f"{jobs} jobs are answered", 200)

        answer("warm", load.in_flight)
        cpu_s, served, start = cpu_of(pid), requests_of(stack), time.perf_counter()
        answer("done", load.jobs)
        wall_s, used_s = time.perf_counter() - start, cpu_of(pid) - cpu_s
    requests = (requests_of(stack) - served) / load.jobs
    return Run("prefork", load, wall_s, used_s, own_kb(pid), requests=requests)

"""Scenes of whole processes: random rounds, kills, outages, rolling restarts, fairness, an hour of load."""

import argparse
import asyncio
import csv
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import redis

from askmill.jobs.model.models import STATUS_OF_BYTE, Api
from askmill.jobs.store import Store, keys
from askmill.jobs.store.views import StatusView
from benchmarks.measure import cpu_of, pid_of
from tests.chaos.driver import Totals
from tests.chaos.embedded import kill_everything, stats, stats_after_end
from tests.chaos.machine_driver import MachineChaos, machine_stack
from tests.chaos.support import FINAL_STATUSES, counter, status_bytes, wait_for_finished, wait_for_workers
from tests.helpers.command_line import terminal
from tests.stack import Child, Stack
from tests.support import wait_until

ROUNDS_A_STACK = 10


async def rounds(options: argparse.Namespace) -> dict[str, Any]:
    """Many rounds; a new stack every ten, the APIs of `--apis` in turn."""
    total = Totals()
    for at in range(0, options.rounds, ROUNDS_A_STACK):
        number = at // ROUNDS_A_STACK
        api: Api = options.apis[number % len(options.apis)]
        quick = number % 10 != 9
        with tempfile.TemporaryDirectory() as folder, machine_stack(Path(folder), api, quick=quick) as stack:
            chaos = MachineChaos(stack, options.seed + number, quick=quick)
            for _ in range(min(ROUNDS_A_STACK, options.rounds - at)):
                await chaos.round(options.rows, options.accidents)
                print_json({"api": api, "so_far": chaos.totals.to_json()})
            _add(total, chaos.totals)
    return total.to_json()


def _add(total: Totals, more: Totals) -> None:
    for name, value in vars(more).items():
        both = getattr(total, name) + value
        setattr(total, name, Counter(both) if isinstance(value, Counter) else both)


def _totals_of(stack: Stack, status: StatusView) -> dict[str, Any]:
    """The batch's counts and the runs at the emulator."""
    return {
        "rows": status.batch.rows,
        "runs": stack.stats()["runs_created"],
        "counts": {name.value: rows for name, rows in status.counts.by_status.items() if rows},
        "unknown_creates": counter(stack, status.batch.id, "unknown_creates"),
    }


async def crash(options: argparse.Namespace) -> dict[str, Any]:
    """Kill everything half-way and start it again; there must be as many runs as rows."""
    scenario = "[latency]\nmedian_s = 0.5\nsigma = 0.3\n"
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), options.api, scenario) as stack:
        worker = stack.worker(50)
        began_s = time.monotonic()
        batch = await stack.submit(["What is 1 + 1?"] * options.rows)
        wait_for_finished(stack, batch, options.rows // 2, timeout_s=3600)
        parts = (worker, stack.emulator, stack.redis)
        for part in parts:
            assert part.process is not None
            part.process.kill()
        for part in parts:
            part.kill()
        stack.redis.start()
        stack.emulator.start()
        stack.wait_for_servers()
        stack.worker(50)
        status = await stack.wait_for(batch, timeout_s=3600)
        return {
            **_totals_of(stack, status),
            "took_s": round(time.monotonic() - began_s, 1),
        }


async def embedded(options: argparse.Namespace) -> dict[str, Any]:
    """Kill command, worker, supervisors, Redis and emulator half-way; then run the same command again."""
    command = ("run", "questions.csv", "--concurrency", "50")
    with tempfile.TemporaryDirectory() as folder:
        user = terminal(Path(folder), offline=True)
        question = "What is 1 + 1? [emulate: completed after=0.5]"
        user.write("questions.csv", "question", *[question] * options.rows)
        first = user.start(*command)
        wait_until(
            lambda: stats(user).get("runs_created", 0) >= options.rows // 2,
            "half of the runs are created",
            1200,
        )
        kill_everything(user, first)
        began_s = time.monotonic()
        again = user.start(*command)
        _, stderr = again.communicate(timeout=3600)
        took_s = round(time.monotonic() - began_s, 1)
        with (user.folder / "questions.answers.csv").open(encoding="utf-8", newline="") as file:
            statuses = Counter(row["status"] for row in csv.DictReader(file))
        counted = stats_after_end(user)
    assert again.returncode == 0, stderr
    return {
        "rows": options.rows,
        "runs": counted["runs_created"],
        "most_runs_a_row": max(counted["runs_by_job"].values()),
        "counts": dict(statuses),
        "second_took_s": took_s,
    }


async def outages(options: argparse.Namespace) -> dict[str, Any]:
    """Stop each for some minutes: the worker's CPU meanwhile, and the time until a row ends again."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), options.api, _FIVE_SECONDS) as stack:
        worker = stack.worker(200)
        batch = await stack.submit(["What is 1 + 1?"] * options.rows)
        figures = dict[str, Any]()
        for name, part, share in (("api", stack.emulator, 5), ("redis", stack.redis, 2)):
            wait_for_finished(stack, batch, options.rows // share, timeout_s=600)
            figures[name] = await _outage(stack, batch, part, worker, options.minutes * 60)
        status = await stack.wait_for(batch, timeout_s=3600)
        return {
            **_totals_of(stack, status),
            "the_same_worker": worker.alive,
            **figures,
        }


_FIVE_SECONDS = "[latency]\nmedian_s = 5\nsigma = 0.5\n"


async def _outage(stack: Stack, batch: str, part: Child, worker: Child, seconds: float) -> dict[str, float]:
    """Kill the part, start it again after `seconds`, and wait until a row ends."""
    before_s = cpu_of(pid_of(worker))
    part.kill()
    await asyncio.sleep(seconds)
    worker_cpu_s = cpu_of(pid_of(worker)) - before_s
    part.start()
    stack.wait_for_servers()
    back_s, ended = time.monotonic(), _ended(stack, batch)
    wait_until(lambda: _ended(stack, batch) > ended, "a row ends", 120)
    return {
        "away_s": seconds,
        "worker_cpu_s": round(worker_cpu_s, 1),
        "next_row_after_s": round(time.monotonic() - back_s, 1),
    }


async def drops(options: argparse.Namespace) -> dict[str, Any]:
    """The replies of 5 % of the creates are lost."""
    http = '[http]\ndrop_after = 0.05\nonly = ["POST /threads/*/runs", "POST /responses"]\n'
    scenario = f"[latency]\nmedian_s = 0.5\n{http}"
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), options.api, scenario) as stack:
        stack.worker(100)
        batch = await stack.submit(["What is 1 + 1?"] * options.rows)
        status = await stack.wait_for(batch, timeout_s=3600)
        return _totals_of(stack, status)


async def roll(options: argparse.Namespace) -> dict[str, Any]:
    """The longest time in which no row ends, without and with a restart of both workers."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), options.api, _FIVE_SECONDS) as stack:
        workers = [stack.worker(250), stack.worker(250)]
        batch = await stack.submit(["What is 1 + 1?"] * options.rows)
        wait_for_finished(stack, batch, 200, timeout_s=600)
        alone_s = await _longest_pause_s(stack, batch, options.rows // 3)
        rolling = asyncio.create_task(asyncio.to_thread(_replace, stack, workers))
        rolled_s = await _longest_pause_s(stack, batch, 2 * options.rows // 3, rolling)
        status = await stack.wait_for(batch, timeout_s=3600)
        return {
            **_totals_of(stack, status),
            "longest_pause_s": {"without": alone_s, "restarting": rolled_s},
            "exits_s": rolling.result(),
        }


def _replace(stack: Stack, workers: list[Child]) -> list[float]:
    """Each new worker is ready before the next old one is stopped. Returns the exit times in seconds."""
    took_s = list[float]()
    for worker in workers:
        began_s = time.monotonic()
        worker.leave()
        took_s.append(round(time.monotonic() - began_s, 2))
        stack.worker(250)
        wait_for_workers(stack, 2)
    return took_s


async def _longest_pause_s(
    stack: Stack, batch: str, rows: int, also: asyncio.Task[list[float]] | None = None
) -> float:
    """Wait until this many rows have ended (and `also` has); return the longest time in which none ended."""
    ended, changed_s, longest_s = 0, time.monotonic(), 0.0
    while ended < rows or (also and not also.done()):
        await asyncio.sleep(0.02)
        now_s, so_far = time.monotonic(), _ended(stack, batch)
        longest_s = max(longest_s, now_s - changed_s)
        if so_far > ended:
            ended, changed_s = so_far, now_s
    return round(longest_s, 2)


async def fair(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from a submit of 50 rows to its first run and its last row, alone and behind a big batch."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), options.api, _HALF_A_SECOND) as stack:
        stack.worker(50)
        await stack.wait_for(await stack.submit(["What is 1 + 1?"] * 50))
        alone = await _times_of(stack, await stack.submit(["What is 1 + 1?"] * 50))
        big = await stack.submit(["What is 1 + 1?"] * options.rows)
        wait_for_finished(stack, big, 200, timeout_s=600)
        behind = await _times_of(stack, await stack.submit(["What is 1 + 1?"] * 50))
        other = await stack.submit(["What is 1 + 1?"] * options.rows)
        wait_for_finished(stack, other, 50, timeout_s=600)
        before = [_ended(stack, batch) for batch in (big, other)]
        wait_for_finished(stack, other, 550, timeout_s=600)
        shares = [_ended(stack, batch) - then for batch, then in zip((big, other), before, strict=True)]
        return {"behind_rows": options.rows, "alone_s": alone, "behind_s": behind, "two_big_ended": shares}


_HALF_A_SECOND = "[latency]\nmedian_s = 0.5\nsigma = 0\n"


def _ended(stack: Stack, batch: str) -> int:
    return sum(
        rows for byte, rows in status_bytes(stack, batch).items() if STATUS_OF_BYTE[byte] in FINAL_STATUSES
    )


async def _times_of(stack: Stack, batch: str) -> dict[str, float]:
    view = (await stack.wait_for(batch, timeout_s=600)).batch
    assert view.started_at_ms
    assert view.finished_at_ms
    times_ms = {"first_run": view.started_at_ms, "done": view.finished_at_ms}
    return {name: (at_ms - view.submitted_at_ms) / 1000 for name, at_ms in times_ms.items()}


async def soak(options: argparse.Namespace) -> dict[str, Any]:
    """One batch after another, each purged from Redis when it is done."""
    curve: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), options.api, _SOAK) as stack:
        worker = stack.worker(200)
        process, until = psutil.Process(pid_of(worker)), time.monotonic() + options.minutes * 60
        rows = 0
        while time.monotonic() < until:
            batch = await stack.submit(["What is 1 + 1?"] * options.rows)
            await stack.wait_for(batch, timeout_s=3600)
            rows += options.rows
            await _purge(stack, batch)
            curve.append(_measured(stack, process, rows))
            print_json(curve[-1])
    return {"first": curve[0], "second": curve[min(1, len(curve) - 1)], "last": curve[-1]}


_SOAK = "[latency]\nmedian_s = 1.0\nsigma = 0.5\n"


async def _purge(stack: Stack, batch: str) -> None:
    async with await Store.open(stack.redis_url) as store:
        await store.purge(batch)


def _measured(stack: Stack, process: psutil.Process, rows: int) -> dict[str, Any]:
    with redis.Redis.from_url(stack.redis_url) as client:
        wait_until(lambda: not client.zcard(keys.DISPATCHED), "no row is dispatched")
        memory = client.info("memory")["used_memory"]
        return {
            "rows": rows,
            "worker_mb": round(process.memory_info().rss / 2**20, 1),
            "redis_keys": client.dbsize(),
            "redis_mb": round(memory / 2**20, 2),
        }


def print_json(entry: dict[str, Any]) -> None:
    """One line of JSON, at once."""
    print(json.dumps(entry), flush=True)


SCENES = {scene.__name__: scene for scene in (rounds, crash, embedded, drops, outages, roll, fair, soak)}

"""Shared steps of the chaos tests: questions with a chosen run time, waits, and the check of what was paid."""

import time
from collections import Counter

import redis

from askmill.jobs.model.models import STATUS_OF_BYTE, JobStatus
from askmill.jobs.store import keys
from askmill.jobs.store.views import StatusView
from tests.stack import Stack
from tests.support import wait_until

FINAL_STATUSES = frozenset(JobStatus) - {JobStatus.QUEUED, JobStatus.RUNNING}


def outage(seconds: float) -> None:
    """Wait: the length of an outage is what the test is about."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, "the outage has lasted", seconds + 5)


def questions_lasting(seconds: float, rows: int) -> list[str]:
    """Questions whose runs take `seconds` each."""
    return [f"[emulate: completed after={seconds:g}] What is {row} + 1?" for row in range(1, rows + 1)]


def status_bytes(stack: Stack, batch: str) -> Counter[str]:
    """The number of rows by status byte."""
    with redis.Redis.from_url(stack.redis_url) as client:
        return Counter((client.get(keys.part(batch, "status")) or b"").decode())


def worker_names(client: "redis.Redis") -> dict[int, str]:
    """The workers that are registered with this Redis: process id → name."""
    names = [name.decode() for name in client.zrange(keys.WORKERS, 0, -1)]
    pids = [client.hget(keys.worker(name), "pid") for name in names]
    return {int(pid): name for pid, name in zip(pids, names, strict=True) if pid}


def counter(stack: Stack, batch: str, name: str) -> int:
    """One of the batch's counters."""
    with redis.Redis.from_url(stack.redis_url) as client:
        return int(client.hget(keys.part(batch, "counters"), name) or 0)


def rows_held(stack: Stack) -> list[int]:
    """The number of rows that each registered worker holds."""
    with redis.Redis.from_url(stack.redis_url) as client:
        return [client.scard(keys.claims(name.decode())) for name in client.zrange(keys.WORKERS, 0, -1)]


def max_claims(stack: Stack, batch: str) -> int:
    """The highest number of claims of any running row."""
    with redis.Redis.from_url(stack.redis_url) as client:
        live = list(client.scan_iter(keys.live(batch, 0).removesuffix("0") + "*"))
        return max((int(client.hget(key, "deliveries") or 0) for key in live), default=0)


def wait_for_runs(stack: Stack, count: int, timeout_s: float = 45) -> None:
    """Wait until the emulator has created `count` runs."""
    wait_until(lambda: stack.stats()["runs_created"] >= count, f"{count} runs are created", timeout_s)


def wait_for_workers(stack: Stack, count: int, timeout_s: float = 45) -> None:
    """Wait until `count` workers send heartbeats."""
    with redis.Redis.from_url(stack.redis_url) as client:
        wait_until(lambda: client.zcard(keys.WORKERS) >= count, f"{count} workers are ready", timeout_s)


def wait_for_finished(stack: Stack, batch: str, rows: int, timeout_s: float = 45) -> None:
    """Wait until `rows` rows have ended."""
    ended = {byte for byte, status in STATUS_OF_BYTE.items() if status in FINAL_STATUSES}
    wait_until(
        lambda: sum(count for byte, count in status_bytes(stack, batch).items() if byte in ended) >= rows,
        f"{rows} rows have ended",
        timeout_s,
    )


async def assert_each_paid_once(stack: Stack, batch: str, status: StatusView, rows: int) -> None:
    """Every row completed, with one run at the emulator and one attempt in its result."""
    assert status.counts.by_status[JobStatus.COMPLETED] == rows, status.to_json()
    runs_by_row = stack.stats()["runs_by_job"]
    assert {name: runs for name, runs in runs_by_row.items() if runs != 1} == {}, "rows paid more than once"
    assert stack.stats()["runs_created"] == rows
    results = [row.result for row in await stack.rows(batch)]
    assert [result.attempt_count for result in results if result] == [1] * rows

"""What the chaos tests ask of a mill: questions with a run time, what is in flight, what was paid for."""

from collections import Counter

import redis

from askmill.jobs.model.models import STATUS_OF_BYTE, JobStatus
from askmill.jobs.store import keys
from askmill.jobs.store.records import StatusView
from tests.stack import Stack
from tests.support import wait_until


def lasting(seconds: float, rows: int) -> list[str]:
    """Questions whose runs take so long."""
    return [f"[emulate: completed after={seconds:g}] What is {row} + 1?" for row in range(1, rows + 1)]


def bytes_of(mill: Stack, batch: str) -> Counter[str]:
    """How many rows have each status byte."""
    with redis.Redis.from_url(mill.redis_url) as client:
        return Counter((client.get(keys.part(batch, "status")) or b"").decode())


def counter(mill: Stack, batch: str, name: str) -> int:
    """One of the batch's counters."""
    with redis.Redis.from_url(mill.redis_url) as client:
        return int(client.hget(keys.part(batch, "counters"), name) or 0)


def held_by_all(mill: Stack) -> list[int]:
    """How many rows each living worker holds."""
    with redis.Redis.from_url(mill.redis_url) as client:
        return [client.scard(keys.held(name.decode())) for name in client.zrange(keys.WORKERS, 0, -1)]


def most_claims(mill: Stack, batch: str) -> int:
    """How often the row that was claimed most often, of those under way, has been."""
    with redis.Redis.from_url(mill.redis_url) as client:
        live = list(client.scan_iter(keys.live(batch, 0).removesuffix("0") + "*"))
        return max((int(client.hget(key, "deliveries") or 0) for key in live), default=0)


def wait_for_runs(mill: Stack, count: int, timeout_s: float = 45) -> None:
    """Until the emulator has so many runs."""
    wait_until(lambda: mill.stats()["runs_created"] >= count, f"{count} runs are created", timeout_s)


def wait_for_workers(mill: Stack, count: int, timeout_s: float = 45) -> None:
    """Until so many workers' hearts beat."""
    with redis.Redis.from_url(mill.redis_url) as client:
        wait_until(lambda: client.zcard(keys.WORKERS) >= count, f"{count} workers are ready", timeout_s)


def wait_for_finished(mill: Stack, batch: str, rows: int, timeout_s: float = 45) -> None:
    """Until so many rows have ended."""
    ended = {byte for byte, status in STATUS_OF_BYTE.items() if status in FINISHED}
    wait_until(
        lambda: sum(count for byte, count in bytes_of(mill, batch).items() if byte in ended) >= rows,
        f"{rows} rows have ended",
        timeout_s,
    )


FINISHED = frozenset(JobStatus) - {JobStatus.QUEUED, JobStatus.RUNNING}


async def assert_each_paid_once(mill: Stack, batch: str, status: StatusView, rows: int) -> None:
    """Every row completed, with one run at the emulator and one attempt in its result."""
    assert status.counts.by_status[JobStatus.COMPLETED] == rows, status.to_json()
    made = mill.stats()["runs_by_job"]
    assert {name: runs for name, runs in made.items() if runs != 1} == {}, "rows paid more than once"
    assert mill.stats()["runs_created"] == rows
    results = [row.result for row in await mill.rows(batch)]
    assert [result.attempt_count for result in results if result] == [1] * rows

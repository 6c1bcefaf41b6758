"""A worker's own work without Celery, counted: `python -m tests.helpers.workers.counted_worker calls|bytes ROWS`.

calls   one row after the other: calls of functions, Python's and C's, that one took on the loop's thread
bytes   all rows at once, whose runs take an hour: memory of Python's that one more run in flight takes

Rows are fed at once instead of by way of the broker. Prints one number as JSON that does not depend on how fast
or busy the machine is.
"""

import asyncio
import gc
import json
import os
import sys
import traceback
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import redis

from askmill.config.logs import set_up_logs
from askmill.config.settings import load_settings
from askmill.jobs.store.broker import QUEUE
from askmill.jobs.store.records import DispatchedRow
from askmill.worker.process import worker as process
from tests.support import wait_until_async

WARM, LIMIT_S = 10, 100.0
SCOUTS = 5
"""Of runs in flight, so many may be looked at just now."""


class Counted:
    """A worker to whom rows are fed at once, so many at a time, instead of by way of the broker."""

    def __init__(self, at_once: int, slots: int | None = None) -> None:
        settings = load_settings()
        assert settings.redis_url is not None
        url = settings.redis_url.get_secret_value()
        self.worker = process.WorkerProcess(settings, url, slots or at_once, "here", os.getpid())
        self.free = asyncio.Semaphore(at_once)
        self.loop = asyncio.get_running_loop()
        self.begun: list[asyncio.Task[None]] = []
        self.done, self.ended = 0, asyncio.Event()
        process.publish = self.publish  # type: ignore[assignment]
        with redis.Redis.from_url(url) as client:
            names = [json.loads(raw)["headers"]["id"].split(":") for raw in client.lrange(QUEUE, 0, -1)]
        self._begin([DispatchedRow(batch, int(row), int(attempt)) for batch, row, attempt in names])

    def start(self) -> None:
        self.heart = self.loop.create_task(self.worker.run())

    def publish(self, _: str, fed: Sequence[DispatchedRow]) -> None:
        self.loop.call_soon_threadsafe(self._begin, list(fed))

    def _begin(self, fed: list[DispatchedRow]) -> None:
        self.begun += [self.loop.create_task(self._answer(one)) for one in fed]

    async def _answer(self, one: DispatchedRow) -> None:
        async with self.free:
            await self.worker.answer(one.batch, one.row)
        self.done += 1
        self.ended.set()

    async def until(self, done: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self.done < done:
                self.ended.clear()
                await self.ended.wait()

    async def until_waiting(self, rows: int) -> None:
        """So many rows have their run, and wait for it."""

        async def waiting() -> bool:
            return sum(job.waiting is not None for job in self.worker.jobs.values()) >= rows - SCOUTS

        await wait_until_async(waiting, f"{rows} rows wait for their runs", LIMIT_S)


async def bytes_a_run(rows: int) -> int:
    """What each takes beyond the first fifth: the object that follows it, its parked coroutines, what it knows."""
    few = rows // 5
    counted = Counted(few, slots=rows)
    counted.start()
    tracemalloc.start()
    sizes = list[int]()
    for more in (0, rows - few):
        for _ in range(more):
            counted.free.release()
        await counted.until_waiting(few + more)
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    return (sizes[1] - sizes[0]) // (rows - few)


async def calls_a_job(rows: int) -> int:
    """The fewest of all rows: those with no heartbeat, no sweep and no second look between."""
    counted, made = Counted(1), 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal made
        made += event in {"call", "c_call"}

    counted.start()
    await counted.until(WARM)
    sys.setprofile(count)
    marks = list[int]()
    for done in range(WARM, rows + 1):
        await counted.until(done)
        marks.append(made)
    sys.setprofile(None)
    return min(later - sooner for sooner, later in pairwise(marks))


async def _tell(what: str, rows: int) -> None:
    """Print it, and end at once: runs of an hour are not waited for, nor given back."""
    count = {"calls": calls_a_job, "bytes": bytes_a_run}[what]
    try:
        print(json.dumps({what: await count(rows)}), flush=True)
    except Exception:  # noqa: BLE001 -- told, whatever it is
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    set_up_logs("json")
    asyncio.run(_tell(sys.argv[1], int(sys.argv[2])))

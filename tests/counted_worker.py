"""A worker's own work without Celery, counted: `python -m tests.counted_worker ROWS` answers so many.

One row after the other, fed at once instead of by way of the broker. Prints as JSON how many calls of functions,
Python's and C's, one took on the loop's thread: a count that does not depend on the machine.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from itertools import pairwise

import redis

from config.logs import set_up_logs
from config.settings import load_settings
from jobs.queue import QUEUE
from jobs.records import Fed
from worker import process

WARM, LIMIT_S = 10, 100.0


class Counted:
    """A worker to whom rows are fed at once, so many at a time, instead of by way of the broker."""

    def __init__(self, at_once: int) -> None:
        settings = load_settings()
        assert settings.redis_url is not None
        url = settings.redis_url.get_secret_value()
        self.worker = process.WorkerProcess(settings, url, at_once, "here", os.getpid())
        self.free = asyncio.Semaphore(at_once)
        self.loop = asyncio.get_running_loop()
        self.begun: list[asyncio.Task[None]] = []
        self.done, self.ended = 0, asyncio.Event()
        process.publish = self.publish  # type: ignore[assignment]
        with redis.Redis.from_url(url) as client:
            names = [json.loads(raw)["headers"]["id"].split(":") for raw in client.lrange(QUEUE, 0, -1)]
        self._begin([Fed(batch, int(row), int(attempt)) for batch, row, attempt in names])

    def publish(self, _: str, fed: Sequence[Fed]) -> None:
        self.loop.call_soon_threadsafe(self._begin, list(fed))

    def _begin(self, fed: list[Fed]) -> None:
        self.begun += [self.loop.create_task(self._answer(one)) for one in fed]

    async def _answer(self, one: Fed) -> None:
        async with self.free:
            await self.worker.answer(one.batch, one.row)
        self.done += 1
        self.ended.set()

    async def until(self, done: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self.done < done:
                self.ended.clear()
                await self.ended.wait()


async def calls_a_job(rows: int) -> int:
    """The fewest of all rows: those with no heartbeat, no sweep and no second look between."""
    counted, made = Counted(1), 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal made
        made += event in {"call", "c_call"}

    heart = asyncio.create_task(counted.worker.run())
    await counted.until(WARM)
    sys.setprofile(count)
    marks = list[int]()
    for done in range(WARM, rows + 1):
        await counted.until(done)
        marks.append(made)
    sys.setprofile(None)
    heart.cancel()
    await asyncio.gather(heart, return_exceptions=True)
    return min(later - sooner for sooner, later in pairwise(marks))


if __name__ == "__main__":
    set_up_logs("json")
    print(json.dumps({"calls": asyncio.run(calls_a_job(int(sys.argv[1])))}))

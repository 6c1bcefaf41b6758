"""The cost of a row in a worker without Celery: `python -m tests.helpers.workers.counted_worker calls|bytes|objects ROWS`.

calls   rows one after another: function calls (Python's and C's) per row on the event loop's thread
bytes   all rows at once, with runs of an hour: Python memory per additional run in flight
objects batches of so many rows, one after another, each purged: objects that are left of them

Rows are dispatched directly instead of through the broker. Prints one number as JSON that does not depend on the
machine's speed or load.
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
from askmill.jobs.store import Store, lost_writes
from askmill.jobs.store.broker import QUEUE
from askmill.jobs.store.claim_records import DispatchedRow
from askmill.worker.process import worker as process
from tests.helpers.batches import submit_batch
from tests.support import wait_until_async

WARM, LIMIT_S = 10, 400.0
BEING_POLLED = 5
"""Runs that may be polled at the moment instead of waiting."""
READINGS, READING_INTERVAL_S = 10, 0.3
"""The smallest of several readings counts: a poll in progress takes some 20 KB, and a busy machine has more of them."""


class DirectWorker:
    """A worker that gets rows directly, `concurrency` at a time, instead of through the broker."""

    def __init__(self, concurrency: int, slots: int | None = None) -> None:
        settings = load_settings()
        assert settings.redis_url is not None
        url = settings.redis_url.get_secret_value()
        self.worker = process.WorkerProcess(
            settings, url, slots or concurrency, "here", os.getpid(), process.WorkerScope()
        )
        self.free = asyncio.Semaphore(concurrency)
        self.loop = asyncio.get_running_loop()
        self.tasks: list[asyncio.Task[None]] = []
        self.done, self.ended = 0, asyncio.Event()
        process.publish = self.publish  # type: ignore[assignment]
        with redis.Redis.from_url(url) as client:
            names = [json.loads(raw)["headers"]["id"].split(":") for raw in client.lrange(QUEUE, 0, -1)]
        self._start_rows([DispatchedRow(batch, int(row), int(attempt)) for batch, row, attempt in names])

    def start(self) -> None:
        self.heartbeat = self.loop.create_task(self.worker.run())

    def publish(self, _: str, rows: Sequence[DispatchedRow]) -> None:
        self.loop.call_soon_threadsafe(self._start_rows, list(rows))

    def _start_rows(self, rows: list[DispatchedRow]) -> None:
        self.tasks += [self.loop.create_task(self._answer(row)) for row in rows]

    async def _answer(self, row: DispatchedRow) -> None:
        async with self.free:
            await self.worker.answer(row.batch, row.row)
        self.done += 1
        self.ended.set()

    async def wait_for_done(self, done: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while self.done < done:
                self.ended.clear()
                await self.ended.wait()

    async def wait_for_in_flight(self, rows: int) -> None:
        """Wait until this many rows have a run and wait for its end."""

        async def waiting() -> bool:
            return sum(job.waiting is not None for job in self.worker.jobs.values()) >= rows - BEING_POLLED

        await wait_until_async(waiting, f"{rows} rows wait for their runs", LIMIT_S)


async def bytes_a_run(rows: int) -> int:
    """Memory per run beyond the first fifth: its job, its suspended coroutines, its state."""
    few = rows // 5
    worker = DirectWorker(few, slots=rows)
    worker.start()
    tracemalloc.start()
    sizes = list[int]()
    for more in (0, rows - few):
        for _ in range(more):
            worker.free.release()
        readings = []
        for _ in range(READINGS):
            await worker.wait_for_in_flight(few + more)
            gc.collect()
            readings.append(tracemalloc.get_traced_memory()[0])
            await asyncio.sleep(READING_INTERVAL_S)
        sizes.append(min(readings))
    return (sizes[1] - sizes[0]) // (rows - few)


async def calls_a_job(rows: int) -> int:
    """The minimum over all rows, which is a row without a heartbeat, a reap or a second poll in between."""
    worker, calls = DirectWorker(1), 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    worker.start()
    await worker.wait_for_done(WARM)
    sys.setprofile(count)
    totals = list[int]()
    for done in range(WARM, rows + 1):
        await worker.wait_for_done(done)
        totals.append(calls)
    sys.setprofile(None)
    return min(after - before for before, after in pairwise(totals))


JOB_OBJECTS = {"ActionExecutor", "BatchContext", "Claim", "Interrupts", "JobRunner"}
BATCHES = 4


async def objects_left(rows: int) -> int:
    """What a worker keeps of ended batches: objects of its jobs, and others that are more after the last batch.

    The record of the last half minute's writes is not counted: it has a bound of its own.
    """
    process.HEARTBEAT_S = process.MAINTENANCE_S = 0.2
    worker = DirectWorker(rows)
    worker.start()
    totals, left = list[int](), 0
    info = worker.worker.info
    async with await Store.open(worker.worker.redis_url) as store:
        for number in range(1, BATCHES + 1):
            batch = await submit_batch(store, rows, api=info.api, base_url=info.base_url)
            await worker.wait_for_done(rows * number)
            await store.purge(batch)
            worker.tasks.clear()

            async def forgotten() -> bool:
                return not worker.worker.batches.contexts

            await wait_until_async(forgotten, "the batch is forgotten", LIMIT_S)
            gc.collect()
            kinds = [type(kept) for kept in gc.get_objects()]
            ours = [kind for kind in kinds if str(kind.__module__).startswith("askmill.")]
            totals.append(sum(kind.__module__ != lost_writes.__name__ for kind in ours))
            left = max(left, sum(kind.__name__ in JOB_OBJECTS for kind in ours))
    return left + max(0, totals[-1] - totals[0])


async def _print_cost(what: str, rows: int) -> None:
    """Print the number and exit at once, without waiting for the runs or releasing the rows."""
    measure = {"calls": calls_a_job, "bytes": bytes_a_run, "objects": objects_left}[what]
    try:
        print(json.dumps({what: await measure(rows)}), flush=True)
    except Exception:  # noqa: BLE001 -- printed, whatever it is
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    set_up_logs("json")
    asyncio.run(_print_cost(sys.argv[1], int(sys.argv[2])))

"""How the pool ends, warm and cold, and what it keeps of a task that has ended."""

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest

from askmill.worker.celery import greenlet_pool as pool
from askmill.worker.celery.greenlet_pool import TaskPool, await_coroutine
from tests.helpers.workers.pool_driver import driven


async def echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def test_stop_waits_for_what_runs_and_drops_what_waits() -> None:
    """Warm shutdown: the broker keeps the messages of what was dropped; a second call finds nothing to do."""

    async def until_none_waits() -> str:
        while driver.pool.info["waiting"]:  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0)
        return "done"

    with driven(1) as driver:
        hold = asyncio.Event()
        running = driver.apply(lambda: (await_coroutine(hold.wait()), await_coroutine(until_none_waits()))[1])
        waiting = driver.apply(lambda: "never")
        driver.until(lambda: driver.pool.info["waiting"] == 1, "one runs, one waits")
        pool.loop().call_soon_threadsafe(hold.set)
        driver.pool.stop()
        driver.pool.stop()

        assert running.outcome == "done"
        assert waiting.events == []


def test_terminate_cancels_what_runs() -> None:
    """Cold shutdown: coroutines get CancelledError and may clean up; the second call finds nothing to do."""
    begun: list[int] = []
    cleaned: list[int] = []

    async def hold(n: int) -> None:
        begun.append(n)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(n)

    with driven() as driver:
        for number in range(5):
            driver.apply(lambda n=number: await_coroutine(hold(n)))
        driver.until(lambda: len(begun) == 5, "all run")
        driver.pool.terminate()
        driver.pool.terminate()

        assert sorted(cleaned) == [0, 1, 2, 3, 4]


def test_what_was_submitted_ends_after_the_last_task() -> None:
    """A client that lives as long as the process serves the tasks to their end, then closes itself."""
    order: list[str] = []

    async def client() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("client closed")

    def body() -> None:
        await_coroutine(asyncio.sleep(0.02))
        order.append("task ended")

    with driven() as driver:
        pool.submit(client())
        told = driver.apply(body)
        driver.until(lambda: told.events, "it runs")
        driver.pool.stop()

        assert order == ["task ended", "client closed"]
        assert TaskPool.current is None


def test_nothing_is_kept_of_an_ended_task(request: pytest.FixtureRequest) -> None:
    """Neither greenlet nor the exception's frames: a worker of a million tasks stays as small as it was."""

    class Held:
        pass

    async def fail(held: Held) -> None:
        raise ValueError(held)

    def body() -> None:
        held = Held()
        alive.add(held)
        await_coroutine(echo(held))
        with suppress(ValueError):
            await_coroutine(fail(held))

    alive: weakref.WeakSet[Held] = weakref.WeakSet()
    request.addfinalizer(gc.enable)
    gc.disable()  # what only the garbage collector finds would wait for it
    with driven() as driver:
        told = [driver.apply(body) for _ in range(3)]
        driver.until(lambda: all(len(t.events) == 2 for t in told), "all have ended")
        flights = [weakref.ref(t.flight) for t in told]
        for t in told:
            t.flight = None

        assert len(alive) == 0
        assert [ref() for ref in flights] == [None, None, None]

"""Warm and cold shutdown of the pool, and the memory of ended tasks."""

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from typing import Any

import pytest
from celery.worker import state

from askmill.worker.celery import greenlet_pool
from askmill.worker.celery.greenlet_pool import TaskPool, await_coroutine
from tests.helpers.workers.pool_driver import pool_driver


async def echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def test_stop_waits_for_running_tasks_and_drops_waiting_ones() -> None:
    """Warm shutdown: the broker keeps the dropped messages. A second call has nothing to do."""

    async def until_none_waits() -> str:
        while driver.pool.info["waiting"]:  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0)
        return "done"

    with pool_driver(1) as driver:
        hold = asyncio.Event()
        running = driver.apply(lambda: (await_coroutine(hold.wait()), await_coroutine(until_none_waits()))[1])
        waiting = driver.apply(lambda: "never")
        driver.until(lambda: driver.pool.info["waiting"] == 1, "one runs, one waits")
        greenlet_pool.event_loop().call_soon_threadsafe(hold.set)
        driver.pool.stop()
        driver.pool.stop()

        assert running.outcome == "done"
        assert waiting.events == []


def test_terminate_cancels_running_tasks() -> None:
    """Cold shutdown: coroutines get CancelledError and may clean up. A second call has nothing to do."""
    begun: list[int] = []
    cleaned: list[int] = []

    async def hold(n: int) -> None:
        begun.append(n)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(n)

    with pool_driver() as driver:
        for number in range(5):
            driver.apply(lambda n=number: await_coroutine(hold(n)))
        driver.until(lambda: len(begun) == 5, "all run")
        driver.pool.terminate()
        driver.pool.terminate()

        assert sorted(cleaned) == [0, 1, 2, 3, 4]


@pytest.mark.timeout(20)
def test_a_cold_stop_cancels_tasks_whose_start_celery_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGQUIT between the start of a task and its callback: Celery cancels only what it knows to run, and then stops."""
    begun = threading.Event()
    ended = threading.Event()

    async def hold() -> None:
        begun.set()
        await asyncio.Event().wait()

    with pool_driver() as driver:
        unseen = driver.apply(lambda: await_coroutine(hold()))
        done = driver.apply(lambda: "done")
        driver.apply(ended.set)
        assert begun.wait(10)
        assert ended.wait(10)
        monkeypatch.setattr(state, "should_terminate", True)
        driver.pool.stop()

        assert unseen.names == ["accepted"]
        assert done.outcome == "done"


def test_a_cold_stop_cancels_a_task_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coroutine that Celery has cancelled, and that cleans up, is not cancelled again."""
    begun, cleaning = threading.Event(), threading.Event()
    cleaned: list[bool] = []

    async def hold() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.sleep(0.1)
            cleaned.append(True)

    with pool_driver() as driver:
        task = driver.apply(lambda: await_coroutine(hold()))
        assert begun.wait(10)
        assert task.task is not None
        task.task.terminate()
        assert cleaning.wait(10)
        monkeypatch.setattr(state, "should_terminate", True)
        driver.pool.stop()
        driver.pool.terminate()

        assert cleaned == [True]


def test_submitted_coroutines_end_after_the_last_task() -> None:
    """A client that lives as long as the process serves the tasks to their end."""
    order: list[str] = []

    async def client() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("client closed")

    def body() -> None:
        await_coroutine(asyncio.sleep(0.02))
        order.append("task ended")

    with pool_driver() as driver:
        greenlet_pool.submit(client())
        task = driver.apply(body)
        driver.until(lambda: task.events, "it runs")
        driver.pool.stop()

        assert order == ["task ended", "client closed"]
        assert TaskPool.current is None


def test_an_ended_task_is_not_kept_in_memory(request: pytest.FixtureRequest) -> None:
    """Neither its greenlet nor the exception's frames, even without the garbage collector."""

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
    with pool_driver() as driver:
        tasks = [driver.apply(body) for _ in range(3)]
        driver.until(lambda: all(len(t.events) == 2 for t in tasks), "all have ended")
        pool_tasks = [weakref.ref(t.task) for t in tasks]
        for t in tasks:
            t.task = None

        assert len(alive) == 0
        assert [ref() for ref in pool_tasks] == [None, None, None]

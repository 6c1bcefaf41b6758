"""What the pool promises a task body: awaiting, cancellation, its own context, its slot."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from askmill.worker.celery import greenlet_pool
from askmill.worker.celery.greenlet_pool import await_coroutine
from tests.helpers.workers.pool_driver import pool_driver

PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


async def echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def waits_for(gate: asyncio.Event) -> None:
    await_coroutine(gate.wait())


def test_a_body_gets_what_its_coroutine_returns() -> None:
    """`await_coroutine` works like `await`, any number of times in one body."""
    with pool_driver() as driver:
        task = driver.apply(lambda: [await_coroutine(echo(n)) for n in range(3)])
        driver.until(lambda: len(task.events) == 2, "the task has ended")

        assert task.events == [("accepted", None), ("value", [0, 1, 2])]


def test_a_body_gets_what_its_coroutine_raises() -> None:
    """The body may catch the exception; otherwise Celery gets it."""

    async def fail() -> None:
        raise LookupError("gone")

    def catches() -> str:
        try:
            await_coroutine(fail())
        except LookupError as error:
            return f"caught {error}"
        return "nothing raised"

    with pool_driver() as driver:
        caught, uncaught = driver.apply(catches), driver.apply(lambda: await_coroutine(fail()))
        driver.until(lambda: len(caught.events) == len(uncaught.events) == 2, "both have ended")

        assert caught.outcome == "caught gone"
        assert uncaught.names == ["accepted", "error"]
        assert isinstance(uncaught.outcome, LookupError)


def test_await_outside_the_pool_names_the_pool() -> None:
    """Under another pool, in eager mode or in a script: the error names the pool, and the coroutine is closed."""
    with pytest.raises(RuntimeError, match=r"greenlet_pool:TaskPool.*'MainThread'"):
        await_coroutine(echo(1))


def test_await_inside_a_coroutine_names_the_pool() -> None:
    """A coroutine must use `await`: suspending it would stop the loop."""

    async def confused() -> None:
        await_coroutine(echo(1))

    with pool_driver() as driver:
        task = driver.apply(lambda: await_coroutine(confused()))
        driver.until(lambda: len(task.events) == 2, "the task has ended")

        assert "askmill-loop" in str(task.outcome)


def test_without_a_pool_there_is_no_loop() -> None:
    """`event_loop` and `submit` raise instead of creating a loop that nothing runs."""
    with pytest.raises(RuntimeError, match="no event loop"):
        greenlet_pool.event_loop()
    with pytest.raises(RuntimeError, match="no event loop"):
        greenlet_pool.submit(echo(1))


def test_submit_runs_beside_the_tasks() -> None:
    """Any thread may submit a coroutine and wait for its result."""
    with pool_driver():
        assert greenlet_pool.submit(echo(threading.get_ident())).result(5) == threading.get_ident()


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_bodies_run_than_the_limit(limit: int) -> None:
    """Also when Celery passes on more at once, as it does without `worker_disable_prefetch`."""
    running, maximum = 0, 0

    async def count() -> None:
        nonlocal running, maximum
        running += 1
        maximum = max(maximum, running)
        await asyncio.sleep(0.001)
        running -= 1

    with pool_driver(limit) as driver:
        tasks = [driver.apply(lambda: await_coroutine(count())) for _ in range(20)]
        driver.until(lambda: all(len(t.events) == 2 for t in tasks), "all have ended")

        assert maximum == limit


def test_bodies_that_never_suspend_do_not_nest() -> None:
    """Ten thousand waiting bodies that end at once run one after another."""
    with pool_driver(1) as driver:
        gate = asyncio.Event()
        driver.apply(waits_for, gate)
        tasks = [driver.apply(lambda n=n: n) for n in range(10_000)]
        greenlet_pool.event_loop().call_soon_threadsafe(gate.set)
        driver.until(lambda: len(tasks[-1].events) == 2, "the last has ended")

        assert [t.outcome for t in tasks] == list(range(10_000))


def test_a_grown_pool_takes_more_and_a_shrunk_one_fewer() -> None:
    """`celery control pool_grow` starts waiting tasks; `pool_shrink` leaves running ones alone."""
    with pool_driver(1) as driver:
        gate = asyncio.Event()
        tasks = [driver.apply(waits_for, gate) for _ in range(3)]
        driver.until(lambda: tasks[0].events, "the first runs")
        driver.pool.grow(1)
        driver.until(lambda: tasks[1].events, "the second runs")
        driver.pool.shrink(5)

        assert driver.pool.num_processes == 1
        assert tasks[2].events == []
        assert driver.pool.info["running"] == 2
        greenlet_pool.event_loop().call_soon_threadsafe(gate.set)
        driver.until(lambda: len(tasks[2].events) == 2, "the third has ended")


def test_a_terminated_body_is_cancelled_and_frees_its_slot() -> None:
    """Revoke with terminate: the coroutine gets CancelledError, and Celery gets no outcome."""
    events: list[str] = []

    async def forever() -> None:
        events.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")

    with pool_driver(1) as driver:
        task, following = driver.apply(lambda: await_coroutine(forever())), driver.apply(lambda: "next")
        driver.until(lambda: events, "it runs")
        assert task.task is not None
        task.task.terminate("TERM")
        driver.until(lambda: following.names == ["accepted", "value"], "the next has ended")

        assert events == ["began", "cancelled"]
        assert task.names == ["accepted"]


def test_a_body_terminated_while_it_waits_never_runs() -> None:
    """It is accepted, because only then does Celery announce the revoked task, and skipped."""
    ran: list[int] = []
    with pool_driver(1) as driver:
        gate = asyncio.Event()
        blocks, revoked = driver.apply(waits_for, gate), driver.apply(ran.append, 1)
        driver.until(lambda: blocks.events, "the first runs")
        assert revoked.task is not None
        revoked.task.terminate()
        greenlet_pool.event_loop().call_soon_threadsafe(gate.set)
        driver.until(lambda: revoked.events and not driver.pool.info["running"], "both have ended")

        assert revoked.names == ["accepted"]
        assert ran == []


def test_a_hard_time_limit_cancels_and_reports_it() -> None:
    """Celery gets `timeout` and no outcome. A body that ends in time gets no `timeout`."""
    with pool_driver(2, timeout=0.04) as driver:
        punctual = driver.apply(lambda: await_coroutine(echo("in time")), timeout=60)
        late = driver.apply(lambda: await_coroutine(asyncio.Event().wait()))
        driver.until(lambda: not driver.pool.info["running"] and len(late.events) == 2, "both have ended")

        assert late.events[1] == ("timeout", (False, 0.04))
        assert punctual.events == [("accepted", None), ("value", "in time")]


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_no_exception_ends_the_loop(exception: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """A body or coroutine that calls `sys.exit` fails only its own task."""

    async def leave() -> None:
        raise exception

    def leaves() -> None:
        raise exception

    with pool_driver() as driver:
        bystander = driver.apply(lambda: await_coroutine(asyncio.sleep(0.02, "unharmed")))
        tasks = [driver.apply(lambda: await_coroutine(leave())), driver.apply(leaves)]
        driver.until(lambda: all(len(t.events) == 2 for t in [*tasks, bystander]), "all have ended")

        assert [type(t.outcome) for t in tasks] == [exception, exception]
        assert bystander.outcome == "unharmed"
        assert ("asked the worker to exit" in caplog.text) == (exception is not asyncio.CancelledError)


def test_context_variables_stay_in_their_task() -> None:
    """A body sees what was set before the pool started and by its own coroutines, but no other task's."""

    async def move(place: str) -> None:
        PLACE.set(place)
        await asyncio.sleep(0.001)

    def body(n: int) -> tuple[str, str, str]:
        before = PLACE.get()
        await_coroutine(move(f"coroutine {n}"))
        between = PLACE.get()
        PLACE.set(f"body {n}")
        await_coroutine(asyncio.sleep(0.001))
        return before, between, PLACE.get()

    PLACE.set("start")
    with pool_driver(10) as driver:
        tasks = [driver.apply(body, n) for n in range(20)]
        driver.until(lambda: all(len(t.events) == 2 for t in tasks), "all have ended")

        assert [t.outcome for t in tasks] == [("start", f"coroutine {n}", f"body {n}") for n in range(20)]
    assert PLACE.get() == "start"


def test_callbacks_run_on_the_main_thread() -> None:
    """Celery's request sets and connection belong to it. `accepted` always comes before the outcome."""
    threads: set[str] = set()
    with pool_driver() as driver:
        driver.pool.apply_async(
            lambda: await_coroutine(echo(1)),
            accept_callback=lambda *_: threads.add("accepted by " + threading.current_thread().name),
            callback=lambda _: threads.add("ended by " + threading.current_thread().name),
            error_callback=None,
        )
        driver.until(lambda: len(threads) == 2, "both callbacks came")

        assert threads == {"accepted by MainThread", "ended by MainThread"}


def test_a_callback_that_fails_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """As in Celery's own pools, the failure of one task's bookkeeping does not end the worker."""

    def fail(_: object) -> None:
        raise OSError("result backend is away")

    with pool_driver() as driver:
        driver.pool.apply_async(
            lambda: 1, accept_callback=lambda *_: None, callback=fail, error_callback=fail
        )
        task = driver.apply(lambda: 2)
        driver.until(lambda: len(task.events) == 2, "the other has ended")

        assert "result backend is away" in caplog.text

"""What a task body may rely on in the pool: awaiting, cancelling, its own context, its slot."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from askmill.worker.celery import greenlet_pool as pool
from askmill.worker.celery.greenlet_pool import await_coroutine
from tests.helpers.workers.pool_driver import driven

PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


async def echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def waits_for(gate: asyncio.Event) -> None:
    await_coroutine(gate.wait())


def test_a_body_gets_what_its_coroutine_returns() -> None:
    """`await_coroutine` reads as `await` does, any number of times in one body."""
    with driven() as driver:
        told = driver.apply(lambda: [await_coroutine(echo(n)) for n in range(3)])
        driver.until(lambda: len(told.events) == 2, "the task has ended")

        assert told.events == [("accepted", None), ("value", [0, 1, 2])]


def test_a_body_gets_what_its_coroutine_raises() -> None:
    """An exception of the coroutine is the body's to catch, and else Celery's to judge."""

    async def fail() -> None:
        raise LookupError("gone")

    def catches() -> str:
        try:
            await_coroutine(fail())
        except LookupError as error:
            return f"caught {error}"
        return "nothing raised"

    with driven() as driver:
        caught, uncaught = driver.apply(catches), driver.apply(lambda: await_coroutine(fail()))
        driver.until(lambda: len(caught.events) == len(uncaught.events) == 2, "both have ended")

        assert caught.outcome == "caught gone"
        assert uncaught.names == ["accepted", "error"]
        assert isinstance(uncaught.outcome, LookupError)


def test_await_outside_the_pool_names_the_pool() -> None:
    """In a worker with another pool, in eager mode or in a script, the mistake is told, and nothing leaks."""
    with pytest.raises(RuntimeError, match=r"worker\.pool:TaskPool.*'MainThread'"):
        await_coroutine(echo(1))


def test_await_inside_a_coroutine_names_the_pool() -> None:
    """A coroutine must use `await`: parking it would stop the loop."""

    async def confused() -> None:
        await_coroutine(echo(1))

    with driven() as driver:
        told = driver.apply(lambda: await_coroutine(confused()))
        driver.until(lambda: len(told.events) == 2, "the task has ended")

        assert "askmill-loop" in str(told.outcome)


def test_without_a_pool_there_is_no_loop() -> None:
    """`loop` and `submit` say so instead of making a loop that nobody runs."""
    with pytest.raises(RuntimeError, match="no event loop"):
        pool.loop()
    with pytest.raises(RuntimeError, match="no event loop"):
        pool.submit(echo(1))


def test_submit_runs_beside_the_tasks() -> None:
    """Any thread may give the loop a coroutine, and wait for its result."""
    with driven():
        assert pool.submit(echo(threading.get_ident())).result(5) == threading.get_ident()


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_bodies_run_than_the_limit(limit: int) -> None:
    """Also when Celery hands over more at once, as it does without `worker_disable_prefetch`."""
    running, most = 0, 0

    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    with driven(limit) as driver:
        told = [driver.apply(lambda: await_coroutine(count())) for _ in range(20)]
        driver.until(lambda: all(len(t.events) == 2 for t in told), "all have ended")

        assert most == limit


def test_bodies_that_never_park_do_not_nest() -> None:
    """Ten thousand waiting bodies that end at once do so one after another, not inside one another."""
    with driven(1) as driver:
        gate = asyncio.Event()
        driver.apply(waits_for, gate)
        told = [driver.apply(lambda n=n: n) for n in range(10_000)]
        pool.loop().call_soon_threadsafe(gate.set)
        driver.until(lambda: len(told[-1].events) == 2, "the last has ended")

        assert [t.outcome for t in told] == list(range(10_000))


def test_a_grown_pool_takes_more_and_a_shrunk_one_fewer() -> None:
    """`celery control pool_grow` starts what waits; `pool_shrink` lets what runs go on."""
    with driven(1) as driver:
        gate = asyncio.Event()
        told = [driver.apply(waits_for, gate) for _ in range(3)]
        driver.until(lambda: told[0].events, "the first runs")
        driver.pool.grow(1)
        driver.until(lambda: told[1].events, "the second runs")
        driver.pool.shrink(5)

        assert driver.pool.num_processes == 1
        assert told[2].events == []
        assert driver.pool.info["running"] == 2
        pool.loop().call_soon_threadsafe(gate.set)
        driver.until(lambda: len(told[2].events) == 2, "the third has ended")


def test_a_terminated_body_is_cancelled_and_frees_its_slot() -> None:
    """Revoke with terminate: the coroutine gets CancelledError; Celery, which knows, hears of no outcome."""
    seen: list[str] = []

    async def forever() -> None:
        seen.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    with driven(1) as driver:
        told, following = driver.apply(lambda: await_coroutine(forever())), driver.apply(lambda: "next")
        driver.until(lambda: seen, "it runs")
        assert told.flight is not None
        told.flight.terminate("TERM")
        driver.until(lambda: following.names == ["accepted", "value"], "the next has ended")

        assert seen == ["began", "cancelled"]
        assert told.names == ["accepted"]


def test_a_body_terminated_while_it_waits_never_runs() -> None:
    """It is accepted, because only then Celery announces the revoked task, and skipped."""
    ran: list[int] = []
    with driven(1) as driver:
        gate = asyncio.Event()
        blocks, revoked = driver.apply(waits_for, gate), driver.apply(ran.append, 1)
        driver.until(lambda: blocks.events, "the first runs")
        assert revoked.flight is not None
        revoked.flight.terminate()
        pool.loop().call_soon_threadsafe(gate.set)
        driver.until(lambda: revoked.events and not driver.pool.info["running"], "both have ended")

        assert revoked.names == ["accepted"]
        assert ran == []


def test_a_hard_time_limit_cancels_and_says_so() -> None:
    """Celery hears `timeout` and no outcome; a body in time hears nothing of its limit."""
    with driven(2, timeout=0.04) as driver:
        punctual = driver.apply(lambda: await_coroutine(echo("in time")), timeout=0.03)
        late = driver.apply(lambda: await_coroutine(asyncio.Event().wait()))
        driver.until(lambda: not driver.pool.info["running"] and len(late.events) == 2, "both have ended")

        assert late.events[1] == ("timeout", (False, 0.04))
        assert punctual.events == [("accepted", None), ("value", "in time")]


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_no_exception_ends_the_loop(exception: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """A body or coroutine that calls `sys.exit` fails its own task; the thousands beside it go on."""

    async def leave() -> None:
        raise exception

    def leaves() -> None:
        raise exception

    with driven() as driver:
        bystander = driver.apply(lambda: await_coroutine(asyncio.sleep(0.02, "unharmed")))
        told = [driver.apply(lambda: await_coroutine(leave())), driver.apply(leaves)]
        driver.until(lambda: all(len(t.events) == 2 for t in [*told, bystander]), "all have ended")

        assert [type(t.outcome) for t in told] == [exception, exception]
        assert bystander.outcome == "unharmed"
        assert ("asked the worker to exit" in caplog.text) == (exception is not asyncio.CancelledError)


def test_context_variables_stay_in_their_task() -> None:
    """A body sees what was bound before the pool started and by its own coroutines, no other task's."""

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
    with driven(10) as driver:
        told = [driver.apply(body, n) for n in range(20)]
        driver.until(lambda: all(len(t.events) == 2 for t in told), "all have ended")

        assert [t.outcome for t in told] == [("start", f"coroutine {n}", f"body {n}") for n in range(20)]
    assert PLACE.get() == "start"


def test_celery_is_told_on_the_main_thread() -> None:
    """Its request sets and connection are the main thread's; `accepted` always comes before the outcome."""
    threads: set[str] = set()
    with driven() as driver:
        driver.pool.apply_async(
            lambda: await_coroutine(echo(1)),
            accept_callback=lambda *_: threads.add("accepted by " + threading.current_thread().name),
            callback=lambda _: threads.add("ended by " + threading.current_thread().name),
            error_callback=None,
        )
        driver.until(lambda: len(threads) == 2, "both callbacks came")

        assert threads == {"accepted by MainThread", "ended by MainThread"}


def test_a_callback_that_fails_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """As in Celery's own pools: one task's bookkeeping must not end the worker."""

    def fail(_: object) -> None:
        raise OSError("result backend is away")

    with driven() as driver:
        driver.pool.apply_async(
            lambda: 1, accept_callback=lambda *_: None, callback=fail, error_callback=fail
        )
        told = driver.apply(lambda: 2)
        driver.until(lambda: len(told.events) == 2, "the other has ended")

        assert "result backend is away" in caplog.text

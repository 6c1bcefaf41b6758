"""The Celery worker pool: thousands of tasks parked on one asyncio loop, one greenlet each.

    main thread (Celery's hub)                  thread "askmill-loop" (asyncio)
    ──────────────────────────                  ───────────────────────────────
    on_apply ────── call_soon_threadsafe ─────▶ waiting ─▶ body greenlet: Celery's tracer ─▶ task body
                                                             │ ▲                        await_(coro)
    _settle_all ◀────── queue and doorbell ───── accepted    │ │ done: switch back           │
      early ack                                              │ └───────── coroutine ◀────────┘ park
      callback, slot is free, BRPOP again ◀────── ended ◀────┘

Celery's bookkeeping (accept, ack, callbacks, events) stays on the main thread, as with prefork: its
request sets and its broker connection are not made for two threads. More in `docs/decisions/pool.md`.
"""

import asyncio
import concurrent.futures
import contextvars
import logging
import math
import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

import greenlet
from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool

__all__ = ("TaskPool", "await_coroutine", "loop", "submit")

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Longest wait, when the pool stops, for coroutines given to `submit` to end once cancelled.
STOP_GRACE_S = 10.0


def await_coroutine(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` on the pool's loop from inside a task body; the body's greenlet is parked meanwhile.

    Raises RuntimeError outside a task body of this pool; else what `coro` raises (CancelledError when
    the task is revoked with terminate, or at a cold shutdown).
    """
    body = greenlet.getcurrent()
    if not isinstance(body, _Body):
        coro.close()
        raise RuntimeError(  # noqa: TRY004 - what is wrong is the place of the call
            f"await_coroutine() works only in a Celery task's body that askmill.worker.celery.greenlet_pool:TaskPool runs; this is thread "
            f"{threading.current_thread().name!r}. Start the worker with worker_pool='askmill.worker.celery.greenlet_pool:TaskPool'."
        )
    return body.flight.await_coroutine(coro)


def loop() -> asyncio.AbstractEventLoop:
    """The pool's event loop; RuntimeError in a process where no pool runs."""
    if TaskPool.current is None:
        raise RuntimeError(
            "No askmill.worker.celery.greenlet_pool:TaskPool runs in this process, so there is no event loop to use."
        )
    return TaskPool.current.loop


def submit(coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Run `coro` on the pool's loop from any thread, e.g. from a Celery signal on the main thread.

    What must live as long as the process (heartbeat, sweeper, an open client) is such a coroutine: it is
    cancelled after the last task has ended. RuntimeError in a process where no pool runs.
    """
    try:
        return asyncio.run_coroutine_threadsafe(coro, loop())
    except RuntimeError:
        coro.close()
        raise


class _Body(greenlet.greenlet):  # type: ignore[misc]  # see pyproject: greenlet counts as untyped
    """The greenlet of one task body. Its parent is the greenlet of the event loop."""

    __slots__ = ("flight",)
    flight: "InFlight"


@dataclass(slots=True, weakref_slot=True, eq=False)
class InFlight:
    """One Celery task in the pool: waiting, running, ended. Celery keeps a weak reference to it."""

    pool: "TaskPool"
    name: str
    callback: Callable[..., Any]
    error_callback: Callable[..., Any]
    limit_s: float = 0.0
    terminated: bool = False
    body: _Body | None = None
    awaited: asyncio.Task[Any] | None = None
    limit: asyncio.TimerHandle | None = None

    def terminate(self, _signal: object = None) -> None:
        """Celery's revoke or cold shutdown: cancel the coroutine, tell Celery no outcome."""
        self.terminated = True
        self.pool.on_loop(self.cancel)

    def cancel(self) -> None:
        self.terminated = True
        if self.awaited is not None:
            self.awaited.cancel()

    def await_coroutine(self, coro: Coroutine[Any, Any, T]) -> T:
        """In the body's greenlet: let the loop run until `coro` has ended, then give its result."""
        body = self.body
        assert body is not None
        assert body.parent is not None
        # The body's own context, so that `coro` sets context variables for the body as a plain await would.
        task = self.awaited = self.pool.loop.create_task(coro, name=self.name, context=body.gr_context)
        task.add_done_callback(self.resume, context=self.pool.context)
        body.parent.switch()
        self.awaited = None
        try:
            return cast("T", task.result())
        finally:
            del task  # else an exception, its traceback, this frame and the task hold one another

    def resume(self, *switch_args: object) -> None:
        """In the loop's greenlet: run the body until it parks or ends."""
        body = self.body
        assert body is not None
        outcome = body.switch(*switch_args)
        if body.dead:
            self.body = None  # each holds the other
            self.pool.end(self, *outcome)


def _trace(flight: InFlight, call: Callable[[], Any]) -> tuple[Callable[..., Any], Any]:
    """Run Celery's tracer to its end; give the callback that is to hear of it, and what it is to hear."""
    try:
        return flight.callback, call()
    except BaseException:  # noqa: BLE001 - Celery judges it: Reject, MemoryError, SystemExit, CancelledError
        return flight.error_callback, ExceptionInfo()


class TaskPool(BasePool):  # type: ignore[misc]  # celery publishes no types
    """Celery's `BasePool` over one asyncio loop; `limit` tasks run at once, later ones wait here.

    Soft time limits are not supported (use `asyncio.timeout`); hard ones cancel the coroutine.
    """

    current: ClassVar["TaskPool | None"] = None
    signal_safe = False
    body_can_be_buffer = True

    limit: int
    loop: asyncio.AbstractEventLoop
    context: contextvars.Context

    def on_start(self) -> None:
        self.context = contextvars.copy_context()
        self._open: set[InFlight] = set()  # main thread's: handed to the pool, not yet settled
        self._waiting: deque[tuple[InFlight, Callable[[], Any], dict[str, Any]]] = deque()  # loop thread's
        self._running = 0  # loop thread's
        self._settlements: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._doorbell, self._ear = socket.socketpair()
        self._ear.setblocking(False)
        self._rung = False
        self._stopping = False
        up = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(up,), name="askmill-loop", daemon=True)
        self._thread.start()
        up.wait()
        TaskPool.current = self

    # ── main thread: Celery's side ──────────────────────────────────────────────────────────────────────

    def register_with_event_loop(self, hub: Any) -> None:
        """Have Celery's hub listen to the doorbell; called again after each reconnect.

        Not `hub.call_soon`: what a callback of it schedules in turn (our early acks) waits for the next event
        on a socket, up to a second (kombu 5.7, `Hub.create_loop`). Readers are served before that point.
        """
        hub.add_reader(self._ear, self._settle_all)

    def on_apply(self, target: Any, args: Any, kwargs: Any, **hooks: Any) -> InFlight:
        """Take a task from Celery; `hooks` are the callbacks of `Request.execute_using_pool`.

        Raises ValueError or TypeError for a time limit, which a message may name, that is none.
        """
        limit_s = float(hooks.get("timeout") or self.options.get("timeout") or 0)
        if not 0 <= limit_s < math.inf:
            raise ValueError(f"{limit_s} is no time limit")
        name = str(hooks.get("correlation_id") or "task")
        flight = InFlight(self, name, hooks["callback"], hooks["error_callback"], limit_s)
        self._open.add(flight)
        self.on_loop(self._admit, flight, partial(target, *args, **kwargs), hooks)
        return flight

    def grow(self, n: int = 1) -> None:
        self.limit += n
        self.on_loop(self._fill)

    def shrink(self, n: int = 1) -> None:
        """Let fewer tasks run from now on, at least one; those running are left alone."""
        self.limit = max(1, self.limit - n)

    def terminate_job(self, pid: int, signal: object = None) -> None:  # noqa: ARG002 - Celery's signature
        """Settle what has ended, so that Celery does not redeliver it; it calls `InFlight.terminate` next."""
        self._settle_all()

    def flush(self) -> None:
        """Drop the tasks that wait: the broker delivers them again (connection lost, or stopping)."""
        self.on_loop(self._drop_waiting)

    def on_stop(self) -> None:
        """Wait until every running task has ended (warm shutdown), then stop the loop.

        A cold shutdown calls this from a signal handler, perhaps inside itself: hence no locks, and the
        last line, which ends the wait of an outer call.
        """
        self.flush()
        while self._open and self._thread.is_alive():
            self._settle(*self._settlements.get())
        self._stop_loop()
        self._settlements.put((lambda: None,))

    def on_terminate(self) -> None:
        for flight in tuple(self._open):
            flight.terminate()
        self._stop_loop()

    def on_loop(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback` soon on the loop's thread; nothing happens once the loop is closed."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *args, context=self.context)

    def _settle_all(self) -> None:
        with suppress(OSError):  # nothing to hear, or stopped
            self._ear.recv(4096)
        self._rung = False  # before the queue is emptied: what comes later rings again
        with suppress(queue.Empty):
            while True:
                self._settle(*self._settlements.get_nowait())

    def _settle(self, callback: Callable[..., Any], *args: Any) -> None:
        try:
            callback(*args)
        except self.callbacks_propagate:
            raise
        except Exception:
            logger.exception("Celery's callback for a task failed")  # as billiard's pool does

    def _close(self, flight: InFlight, callback: Callable[..., Any], outcome: Any) -> None:
        self._open.discard(flight)
        if not flight.terminated:  # else Celery has announced its end itself
            callback(outcome)

    def _stop_loop(self) -> None:
        self._stopping = True
        self.on_loop(self.loop.stop)
        self._thread.join(STOP_GRACE_S)
        if self._thread.is_alive():
            logger.warning("Coroutines still run %s s after the pool stopped; leaving them", STOP_GRACE_S)
        else:
            self._doorbell.close()
            self._ear.close()
        if TaskPool.current is self:
            TaskPool.current = None

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "running": self._running, "waiting": len(self._waiting)}

    # ── loop thread ─────────────────────────────────────────────────────────────────────────────────────

    def _serve(self, up: threading.Event) -> None:
        with asyncio.Runner() as runner:  # its end cancels what `submit` left, and waits for it
            self.loop = runner.get_loop()
            self.loop.call_soon(up.set)
            while not self._stopping:
                try:
                    self.loop.run_forever()
                except (SystemExit, KeyboardInterrupt):
                    # asyncio lets these out of the loop; the task that awaits has them too, and fails.
                    logger.exception("A coroutine asked the worker to exit; going on")

    def _admit(self, flight: InFlight, call: Callable[[], Any], hooks: dict[str, Any]) -> None:
        self._waiting.append((flight, call, hooks))
        self._fill()

    def _fill(self) -> None:
        while self._waiting and self._running < self.limit:
            self._running += 1
            self._start(*self._waiting.popleft())

    def _start(self, flight: InFlight, call: Callable[[], Any], hooks: dict[str, Any]) -> None:
        self._post(hooks["accept_callback"], os.getpid(), time.monotonic())
        if flight.terminated:  # revoked while it waited: accepted, as Celery expects, but not run
            self.end(flight, flight.callback, None)
            return
        if flight.limit_s:
            expire = partial(self._expire, flight, hooks["timeout_callback"], flight.limit_s)
            flight.limit = self.loop.call_later(flight.limit_s, expire, context=self.context)
        flight.body = _Body(_trace)
        flight.body.flight = flight
        flight.body.gr_context = self.context.copy()
        flight.resume(flight, call)

    def end(self, flight: InFlight, callback: Callable[..., Any], outcome: Any) -> None:
        """Give the slot back and hand the outcome to the main thread."""
        self._running -= 1
        if flight.limit is not None:
            flight.limit.cancel()
        self._post(self._close, flight, callback, outcome)
        if self._waiting:
            self.loop.call_soon(self._fill, context=self.context)  # soon: bodies that never park would nest

    def _expire(self, flight: InFlight, callback: Callable[..., Any], limit_s: float) -> None:
        flight.cancel()
        self._post(callback, False, limit_s)

    def _drop_waiting(self) -> None:
        while self._waiting:
            flight, *_ = self._waiting.popleft()
            flight.terminated = True
            self._post(self._close, flight, flight.callback, None)

    def _post(self, *settlement: Any) -> None:
        """Have the main thread call something; that wakes Celery's hub, which then sees a free slot."""
        self._settlements.put(settlement)
        if not self._rung:
            self._rung = True
            self._doorbell.send(b"\0")

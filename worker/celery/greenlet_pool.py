"""The Celery worker pool: thousands of tasks on one asyncio loop, each in a greenlet.

    main thread (Celery's hub)                  thread "askmill-loop" (asyncio)
    ──────────────────────────                  ───────────────────────────────
    on_apply ────── call_soon_threadsafe ─────▶ waiting ─▶ greenlet: Celery's tracer ─▶ task body
                                                             │ ▲                   await_coroutine(coro)
    _run_callbacks ◀────── queue and socket ──── accepted    │ │ done: switch back      │
      early ack                                              │ └──────── coroutine ◀────┘ suspend
      callback, slot is free, BRPOP again ◀────── ended ◀────┘

Celery's bookkeeping (accept, ack, callbacks, events) stays on the main thread, as with prefork, because its
request sets and its broker connection are not thread-safe. More in `docs/decisions/pool.md`.
"""

import asyncio
import concurrent.futures
import contextvars
import logging
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
from celery.worker import state

__all__ = ("TaskPool", "await_coroutine", "event_loop", "submit")

T = TypeVar("T")
logger = logging.getLogger(__name__)

STOP_GRACE_S = 10.0
"""How long a stopping pool waits for cancelled coroutines of `submit`."""
POOL = f"{__name__}:TaskPool"


def await_coroutine(coro: Coroutine[Any, Any, T]) -> T:
    """Run `coro` on the pool's loop from inside a task body, which is suspended meanwhile.

    Returns:
        The result of `coro`.

    Raises:
        RuntimeError: The caller is not a task body of this pool.
        CancelledError: The task was revoked with terminate, or the worker shuts down cold.
    """
    body = greenlet.getcurrent()
    if not isinstance(body, _TaskGreenlet):
        coro.close()
        raise RuntimeError(  # noqa: TRY004 -- the place of the call is wrong, not a type
            f"await_coroutine() works only in the body of a Celery task that {POOL} runs; this is thread "
            f"{threading.current_thread().name!r}. Start the worker with worker_pool={POOL!r}."
        )
    return body.task.await_coroutine(coro)


def event_loop() -> asyncio.AbstractEventLoop:
    """The pool's event loop. Raises RuntimeError in a process without a pool."""
    if TaskPool.current is None:
        raise RuntimeError(f"No {POOL} runs in this process, so there is no event loop to use.")
    return TaskPool.current.loop


def submit(coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Run `coro` on the pool's loop from any thread, for example from a Celery signal on the main thread.

    Use it for what lives as long as the process, such as the heartbeat or a client: the coroutine is
    cancelled after the last task has ended.

    Raises:
        RuntimeError: No pool runs in this process.
    """
    try:
        return asyncio.run_coroutine_threadsafe(coro, event_loop())
    except RuntimeError:
        coro.close()
        raise


class _TaskGreenlet(greenlet.greenlet):  # type: ignore[misc]  # see pyproject: greenlet counts as untyped
    """The greenlet of one task body. Its parent is the greenlet of the event loop."""

    __slots__ = ("task",)
    task: "PoolTask"


@dataclass(slots=True, weakref_slot=True, eq=False)
class PoolTask:
    """One Celery task in the pool: waiting, running or ended. Celery keeps a weak reference to it."""

    pool: "TaskPool"
    name: str
    callback: Callable[..., Any]
    error_callback: Callable[..., Any]
    time_limit_s: float = 0.0
    terminated: bool = False
    greenlet: _TaskGreenlet | None = None
    awaited: asyncio.Task[Any] | None = None
    timer: asyncio.TimerHandle | None = None

    def terminate(self, _signal: object = None) -> None:
        """Cancel the coroutine without reporting an outcome: Celery's revoke or cold shutdown."""
        self.terminated = True
        self.pool.call_on_loop(self.cancel)

    def cancel(self) -> None:
        self.terminated = True
        if self.awaited is not None:
            self.awaited.cancel()

    def await_coroutine(self, coro: Coroutine[Any, Any, T]) -> T:
        """Called in the body's greenlet: let the loop run until `coro` has ended, and return its result."""
        body = self.greenlet
        assert body is not None
        assert body.parent is not None
        # The body's own context: `coro` sets context variables for the body, as a plain await would.
        awaited = self.awaited = self.pool.loop.create_task(coro, name=self.name, context=body.gr_context)
        awaited.add_done_callback(self.resume, context=self.pool.context)
        body.parent.switch()
        self.awaited = None
        try:
            return cast("T", awaited.result())
        finally:
            del awaited  # else an exception, its traceback, this frame and the task form a reference cycle

    def resume(self, *switch_args: object) -> None:
        """Called in the loop's greenlet: run the body until it is suspended or ends."""
        body = self.greenlet
        assert body is not None
        outcome = body.switch(*switch_args)
        if body.dead:
            self.greenlet = None  # breaks the reference cycle
            self.pool.finish(self, *outcome)


def _trace(task: PoolTask, tracer: Callable[[], Any]) -> tuple[Callable[..., Any], Any]:
    """Run Celery's tracer to its end. Returns the callback to call and its argument."""
    try:
        return task.callback, tracer()
    except BaseException:  # noqa: BLE001 -- Celery judges it: Reject, MemoryError, SystemExit, CancelledError
        return task.error_callback, ExceptionInfo()


class TaskPool(BasePool):  # type: ignore[misc]  # celery publishes no types
    """Celery's `BasePool` over one asyncio loop. `limit` tasks run at once; later ones wait in the pool.

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
        self._unsettled: set[PoolTask] = set()  # main thread only
        self._waiting: deque[tuple[PoolTask, Callable[[], Any], dict[str, Any]]] = deque()  # loop thread only
        self._running = 0  # loop thread only
        self._callbacks: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._wakeup_send, self._wakeup_receive = socket.socketpair()
        self._wakeup_receive.setblocking(False)
        self._wakeup_sent = False
        self._stopping = False
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run_loop, args=(ready,), name="askmill-loop", daemon=True
        )
        self._thread.start()
        ready.wait()
        TaskPool.current = self

    # ── main thread: Celery's side ──────────────────────────────────────────────────────────────────────

    def register_with_event_loop(self, hub: Any) -> None:
        """Add the wakeup socket to Celery's hub; called again after each reconnect.

        Not `hub.call_soon`: what its callbacks schedule in turn (our early acks) waits for the next event
        on a socket, up to a second (kombu 5.7, `Hub.create_loop`). Readers run before that point.
        """
        hub.add_reader(self._wakeup_receive, self._run_callbacks)

    def on_apply(self, target: Any, args: Any, kwargs: Any, **hooks: Any) -> PoolTask:
        """Accept a task from Celery; `hooks` are the callbacks of `Request.execute_using_pool`."""
        time_limit_s = float(hooks.get("timeout") or self.options.get("timeout") or 0)
        name = str(hooks.get("correlation_id") or "task")
        task = PoolTask(self, name, hooks["callback"], hooks["error_callback"], time_limit_s)
        self._unsettled.add(task)
        self.call_on_loop(self._enqueue, task, partial(target, *args, **kwargs), hooks)
        return task

    def grow(self, n: int = 1) -> None:
        self.limit += n
        self.call_on_loop(self._start_waiting)

    def shrink(self, n: int = 1) -> None:
        """Lower the limit, to one at least. Running tasks are left alone."""
        self.limit = max(1, self.limit - n)

    def terminate_job(self, pid: int, signal: object = None) -> None:  # noqa: ARG002 -- Celery's signature
        """Settle ended tasks, so that Celery does not redeliver them. It calls `PoolTask.terminate` next."""
        self._run_callbacks()

    def flush(self) -> None:
        """Drop the waiting tasks: the broker redelivers them (connection lost, or stopping)."""
        self.call_on_loop(self._drop_waiting)

    def on_stop(self) -> None:
        """Wait until every running task has ended (warm shutdown), then stop the loop.

        A cold shutdown calls this from a signal handler, possibly inside itself. So there are no locks, and
        the last line ends the wait of an outer call. Celery has cancelled the tasks that it knows to run;
        those whose start still waits in the queue of callbacks are cancelled here.
        """
        self.flush()
        if state.should_terminate:
            self._run_callbacks()
            self._terminate_tasks()
        while self._unsettled and self._thread.is_alive():
            self._run_callback(*self._callbacks.get())
        self._stop_loop()
        self._callbacks.put((lambda: None,))

    def on_terminate(self) -> None:
        self._terminate_tasks()
        self._stop_loop()

    def _terminate_tasks(self) -> None:
        """Cancel each running task once: a second time would interrupt its cleaning up."""
        for task in tuple(self._unsettled):
            if not task.terminated:
                task.terminate()

    def call_on_loop(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback` soon on the loop's thread. Ignored once the loop is closed."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *args, context=self.context)

    def _run_callbacks(self) -> None:
        with suppress(OSError):  # nothing to read, or closed
            self._wakeup_receive.recv(4096)
        self._wakeup_sent = False  # before the queue is emptied: a later callback wakes the hub again
        with suppress(queue.Empty):
            while True:
                self._run_callback(*self._callbacks.get_nowait())

    def _run_callback(self, callback: Callable[..., Any], *args: Any) -> None:
        try:
            callback(*args)
        except self.callbacks_propagate:
            raise
        except Exception:
            logger.exception("Celery's callback for a task failed")  # as billiard's pool does

    def _settle(self, task: PoolTask, callback: Callable[..., Any], outcome: Any) -> None:
        self._unsettled.discard(task)
        if not task.terminated:  # else Celery has already reported its end
            callback(outcome)

    def _stop_loop(self) -> None:
        self._stopping = True
        self.call_on_loop(self.loop.stop)
        self._thread.join(STOP_GRACE_S)
        if self._thread.is_alive():
            logger.warning("Coroutines still run %s s after the pool stopped; leaving them", STOP_GRACE_S)
        else:
            self._wakeup_send.close()
            self._wakeup_receive.close()
        if TaskPool.current is self:
            TaskPool.current = None

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "running": self._running, "waiting": len(self._waiting)}

    # ── loop thread ─────────────────────────────────────────────────────────────────────────────────────

    def _run_loop(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:  # its end cancels what `submit` left, and waits for it
            self.loop = runner.get_loop()
            self.loop.call_soon(ready.set)
            while not self._stopping:
                try:
                    self.loop.run_forever()
                except (SystemExit, KeyboardInterrupt):
                    # asyncio lets these out of the loop. The task that awaits gets them too, and fails.
                    logger.exception("A coroutine asked the worker to exit; going on")

    def _enqueue(self, task: PoolTask, tracer: Callable[[], Any], hooks: dict[str, Any]) -> None:
        self._waiting.append((task, tracer, hooks))
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self.limit:
            self._running += 1
            self._start(*self._waiting.popleft())

    def _start(self, task: PoolTask, tracer: Callable[[], Any], hooks: dict[str, Any]) -> None:
        self._call_on_main_thread(hooks["accept_callback"], os.getpid(), time.monotonic())
        if task.terminated:  # revoked while waiting: accepted, as Celery expects, but not run
            self.finish(task, task.callback, None)
            return
        if task.time_limit_s:
            expire = partial(self._expire, task, hooks["timeout_callback"], task.time_limit_s)
            task.timer = self.loop.call_later(task.time_limit_s, expire, context=self.context)
        task.greenlet = _TaskGreenlet(_trace)
        task.greenlet.task = task
        task.greenlet.gr_context = self.context.copy()
        task.resume(task, tracer)

    def finish(self, task: PoolTask, callback: Callable[..., Any], outcome: Any) -> None:
        """Free the slot and hand the outcome to the main thread."""
        self._running -= 1
        if task.timer is not None:
            task.timer.cancel()
        self._call_on_main_thread(self._settle, task, callback, outcome)
        if self._waiting:
            # Not at once: bodies that end without suspending would nest.
            self.loop.call_soon(self._start_waiting, context=self.context)

    def _expire(self, task: PoolTask, callback: Callable[..., Any], time_limit_s: float) -> None:
        task.cancel()
        self._call_on_main_thread(callback, False, time_limit_s)

    def _drop_waiting(self) -> None:
        while self._waiting:
            task, *_ = self._waiting.popleft()
            task.terminated = True
            self._call_on_main_thread(self._settle, task, task.callback, None)

    def _call_on_main_thread(self, *callback_and_args: Any) -> None:
        """Queue a callback for the main thread, and wake Celery's hub, which then sees a free slot."""
        self._callbacks.put(callback_and_args)
        if not self._wakeup_sent:
            self._wakeup_sent = True
            self._wakeup_send.send(b"\0")

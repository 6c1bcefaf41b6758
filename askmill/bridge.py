"""Runs a use case on an event loop of its own thread, and reports its progress in the caller's.

    caller's thread                            askmill's thread
    in_thread, or `await in_loop` ──start──▶   asyncio.run(work(call))
    display.say, display.show     ◀──events──  call.say, call.show
    Ctrl-C, task.cancel()         ──cancel──▶  the task ends, and stops what it has started

A running event loop (a notebook) does not matter, nothing blocks it, and no signal handler is touched.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click

from askmill.config.settings import BadSetting
from askmill.config.text import safe_text
from askmill.errors import AskmillError, Interrupted, UsageError
from askmill.jobs.model.api_target import CREDENTIAL_VARIABLES
from askmill.jobs.store.views import StatusView
from askmill.progress import Display

T = TypeVar("T")
Event = Callable[[Display], None]


class Call:
    """One call of the library: what it reports while it runs. `batch`: its batch's id, once there is one."""

    def __init__(self, post: Callable[[Event | None], object]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self.batch: str | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def say(self, text: str) -> None:
        """Report a message."""
        self._post(lambda display: display.say(text))

    def show(self, view: StatusView, *, worker_starting: bool = False) -> None:
        """Report the progress of the batch. `worker_starting`: the call starts a worker itself."""
        self._post(lambda display: display.show(view, worker_starting=worker_starting))

    def start(self, work: Callable[["Call"], Coroutine[Any, Any, T]]) -> None:
        """Start the thread. A None event is its end."""
        threading.Thread(target=self._run, args=(work,), name="askmill", daemon=True).start()

    def cancel(self) -> None:
        """Cancel the work; its end is an event."""
        with self._lock:
            self._cancelled = True
            if self._loop is not None and self._task is not None:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    self._loop.call_soon_threadsafe(self._task.cancel)

    def outcome(self) -> Any:
        """The result of the work. Raises its exception; an interrupt as Interrupted."""
        if self.error is None:
            return self.result
        raise self.error

    def _run(self, work: Callable[["Call"], Coroutine[Any, Any, T]]) -> None:
        try:
            with _credentials_kept():
                self.result = asyncio.run(self._main(work))
        except BaseException as error:  # noqa: BLE001 -- raised in the caller's thread
            self.error = _public(error, self.batch)
        self._post(None)

    async def _main(self, work: Callable[["Call"], Coroutine[Any, Any, T]]) -> T:
        with self._lock:
            if self._cancelled:
                raise asyncio.CancelledError
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        return await work(self)


def in_thread(work: Callable[[Call], Coroutine[Any, Any, T]], *, progress: bool = False) -> T:
    """Do the work in a thread and wait for it. The first Ctrl-C cancels it, the second abandons it."""
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    call = Call(events.put)
    with Display.choose(progress=progress) as display:
        call.start(work)
        while not _next_event(events, call, display):
            pass
    result: T = call.outcome()
    return result


def _next_event(events: queue.SimpleQueue[Event | None], call: Call, display: Display) -> bool:
    """Handle one event; return whether it was the last."""
    try:
        event = events.get()
        if event is not None:
            event(display)
    except KeyboardInterrupt:
        call.cancel()
        try:
            while events.get() is not None:
                pass
        except KeyboardInterrupt:
            raise Interrupted(call.batch) from None
        if call.error is None or not isinstance(call.error, AskmillError):
            raise Interrupted(call.batch) from None
        return True
    return event is None


async def in_loop(work: Callable[[Call], Coroutine[Any, Any, T]], *, progress: bool = False) -> T:
    """Do the work in a thread, without blocking the running loop; cancelling the task cancels the work."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with Display.choose(progress=progress) as display:

        def handle(event: Event | None) -> None:
            if event is None:
                ended.set()
            else:
                event(display)

        def post(event: Event | None) -> None:
            with suppress(RuntimeError):  # the caller's loop is closed
                loop.call_soon_threadsafe(handle, event)

        call = Call(post)
        call.start(work)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            call.cancel()
            await ended.wait()
            raise
    result: T = call.outcome()
    return result


def _public(error: BaseException, batch: str | None) -> BaseException:
    """The exception as the caller sees it: of askmill/errors.py with a message that is safe to show.

    Anything unexpected stays what it is, with its traceback.
    """
    match error:
        case asyncio.CancelledError() | KeyboardInterrupt():
            return Interrupted(batch)
        case AskmillError():
            error.args = (safe_text(str(error)),)
            return error.with_traceback(None)
        case click.ClickException():
            return UsageError(safe_text(error.format_message()))
        case BadSetting():
            return UsageError(safe_text(str(error)))
        case BaseExceptionGroup():
            return _public(error.exceptions[0], batch)
        case _:
            return error


@contextmanager
def _credentials_kept() -> Iterator[None]:
    """Put back what `permitted_credentials` withholds from this process's environment for the call."""
    before = {name: os.environ[name] for name in CREDENTIAL_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.setdefault(name, value)

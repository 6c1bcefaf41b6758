"""Calls the functions that a model requests, concurrently, with timeouts. Errors become text for the model.

    def          runs in a thread of its own, which is abandoned after the timeout
    async def    runs on an event loop in another thread, so that blocking code does not block the worker

A thread cannot be stopped. Those that hang are counted; from MAX_STUCK_THREADS on, no function is called.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import orjson

from askmill.jobs.functions.registry import Function, load
from askmill.jobs.model.errors import ProfileError
from askmill.jobs.model.profile import Functions

CALL_TIMEOUT_S = 60.0
MAX_STUCK_THREADS = 64
T = TypeVar("T")

_stuck: set[threading.Thread] = set()


class _EventLoopThread:
    """An event loop in a daemon thread. It is reused, so that connections opened on it stay usable."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, function: Function, arguments: dict[str, Any]) -> "Future[Any]":
        """Start the coroutine function on the loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="askmill-functions", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(_run_coroutine(function, arguments), self._loop)

    def abandon(self) -> None:
        """Use a new loop for the next call: this one may be blocked forever."""
        self._loop = None


async def _run_coroutine(function: Function, arguments: dict[str, Any]) -> Any:
    try:
        return await function.call(**arguments)
    except BaseException as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # it took too long, and nobody waits for its end
            raise asyncio.CancelledError from error
        raise _as_exception(error) from error


_event_loop_thread = _EventLoopThread()


async def call_functions(
    functions: Functions | None, calls: Sequence[tuple[str, str]], limit_s: float = CALL_TIMEOUT_S
) -> list[str]:
    """Call functions and return their outputs, or error texts, in the order of `calls`. Never raises.

    Args:
        functions: the module and its functions, as stored in the profile.
        calls: pairs of function name and JSON arguments.
        limit_s: seconds for each call.
    """
    loaded, load_error = dict[str, Function](), ""
    try:
        loaded = load(functions) if functions else {}
    except ProfileError as error:
        load_error = str(error)
    return await asyncio.gather(*(_call_one(loaded, call, limit_s, load_error) for call in calls))


async def _call_one(
    loaded: dict[str, Function], call: tuple[str, str], limit_s: float, load_error: str
) -> str:
    name, arguments = call
    function = loaded.get(name)
    if function is None:
        return f"Error: there is no function named {name}. {load_error}".strip()
    if sum(thread.is_alive() for thread in _stuck) >= MAX_STUCK_THREADS:
        return f"Error: {name} is not called: {MAX_STUCK_THREADS} earlier calls have never returned."
    try:
        async with asyncio.timeout(limit_s):
            return _to_text(await _call_function(function, arguments))
    except TimeoutError:
        return f"Error: {name} took longer than {limit_s:g} s."
    except Exception as error:  # noqa: BLE001 -- the model gets every error of the function
        return f"Error: {type(error).__name__}: {error}"


async def _call_function(function: Function, arguments: str) -> Any:
    parsed = function.parse_arguments(arguments)
    if not inspect.iscoroutinefunction(function.call):
        return await _in_thread(lambda: function.call(**parsed))
    try:
        return await asyncio.wrap_future(_event_loop_thread.submit(function, parsed))
    except asyncio.CancelledError:
        _event_loop_thread.abandon()
        raise


async def _in_thread(call: Callable[[], T]) -> T:
    """asyncio.to_thread with a daemon thread of its own: neither other calls nor the exit wait for it."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()
    thread = threading.Thread(
        target=_run_into_future, args=(done, call), name="askmill-function", daemon=True
    )
    thread.start()
    try:
        return await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        _stuck.difference_update([thread for thread in _stuck if not thread.is_alive()])
        _stuck.add(thread)
        raise


def _run_into_future(done: "Future[T]", call: Callable[[], T]) -> None:
    try:
        done.set_result(call())
    except BaseException as error:  # noqa: BLE001 -- also sys.exit() in a user's function
        done.set_exception(_as_exception(error))


def _as_exception(error: BaseException) -> Exception:
    """An exception that a future accepts: StopIteration would hang it, SystemExit would end its loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)

"""Calls the functions that a model asks for: together, each within its time; faults become words for it.

    def          a thread of its own, which nobody waits for any more once its time is over
    async def    a loop beside ours: one that blocks holds up neither the worker nor the screen

Threads cannot be ended from outside: those that never return are counted, and after STUCK_MOST none is begun.
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

LIMIT_S = 60.0
STUCK_MOST = 64
Made = TypeVar("Made")

_stuck: set[threading.Thread] = set()


class _AsyncCalls:
    """A loop in a daemon thread, kept so that what a module opens on it lasts; a blocked one is left."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, function: Function, arguments: dict[str, Any]) -> "Future[Any]":
        """Start the coroutine function there."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="askmill-functions", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(_guarded(function, arguments), self._loop)

    def leave(self) -> None:
        """The next call gets a new loop: this one may be blocked for ever."""
        self._loop = None


async def _guarded(function: Function, arguments: dict[str, Any]) -> Any:
    try:
        return await function.call(**arguments)
    except BaseException as error:
        raise _plain(error) from error


_async_calls = _AsyncCalls()


async def answers(
    functions: Functions | None, calls: Sequence[tuple[str, str]], limit_s: float = LIMIT_S
) -> list[str]:
    """Call each (name, arguments as JSON); its output, or what went wrong, in their order. Never raises."""
    try:
        async with asyncio.timeout(limit_s):
            known = await _in_thread(lambda: load(functions)) if functions else {}
    except ProfileError as fault:
        known, missing = {}, str(fault)
    except TimeoutError:
        known, missing = {}, f"The module took longer than {limit_s:g} s to be imported."
    else:
        missing = ""
    return await asyncio.gather(*(_answer(known, call, limit_s, missing) for call in calls))


async def _answer(known: dict[str, Function], call: tuple[str, str], limit_s: float, missing: str) -> str:
    name, arguments = call
    function = known.get(name)
    if function is None:
        return f"Error: there is no function named {name}. {missing}".strip()
    if sum(thread.is_alive() for thread in _stuck) >= STUCK_MOST:
        return f"Error: {name} is not called: {STUCK_MOST} earlier calls have never returned."
    try:
        async with asyncio.timeout(limit_s):
            return _as_text(await _called(function, arguments))
    except TimeoutError:
        return f"Error: {name} took longer than {limit_s:g} s."
    except Exception as error:  # noqa: BLE001 -- whatever it raises is for the model to know
        return f"Error: {type(error).__name__}: {error}"


async def _called(function: Function, arguments: str) -> Any:
    parsed = function.parsed(arguments)
    if not inspect.iscoroutinefunction(function.call):
        return await _in_thread(lambda: function.call(**parsed))
    try:
        return await asyncio.wrap_future(_async_calls.begin(function, parsed))
    except asyncio.CancelledError:
        _async_calls.leave()
        raise


async def _in_thread(call: Callable[[], Made]) -> Made:
    """As asyncio.to_thread, but in a daemon thread of its own: no other call and no end waits for it."""
    done: Future[Made] = Future()
    done.set_running_or_notify_cancel()
    thread = threading.Thread(target=_settle, args=(done, call), name="askmill-function", daemon=True)
    thread.start()
    try:
        return await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        _stuck.difference_update([one for one in _stuck if not one.is_alive()])
        _stuck.add(thread)
        raise


def _settle(done: "Future[Made]", call: Callable[[], Made]) -> None:
    try:
        done.set_result(call())
    except BaseException as error:  # noqa: BLE001 -- also sys.exit() of a user's function
        done.set_exception(_plain(error))


def _plain(error: BaseException) -> Exception:
    """What a future takes: it would wait for ever on StopIteration, and SystemExit would end its loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)

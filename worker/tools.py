"""The functions a model may call: called together, each within its time; faults become words."""

import asyncio
import inspect
from typing import Any

import orjson

from jobs.errors import ProfileError
from jobs.functions import Function, load
from jobs.profile import Functions
from worker.backends.base import ToolCall, ToolOutput


async def call_tools(
    functions: Functions | None, calls: tuple[ToolCall, ...], limit_s: float
) -> tuple[ToolOutput, ...]:
    """The outputs of all calls, in their order. Never raises: the model is told what went wrong.

    A function may be called again after a crash: it runs at least once.
    """
    try:
        known = await asyncio.to_thread(load, functions) if functions else {}
    except ProfileError as fault:
        known, missing = {}, str(fault)
    else:
        missing = ""
    outputs = await asyncio.gather(*(_call(known, call, limit_s, missing) for call in calls))
    return tuple(ToolOutput(call.id, output) for call, output in zip(calls, outputs, strict=True))


async def _call(known: dict[str, Function], call: ToolCall, limit_s: float, missing: str) -> str:
    function = known.get(call.name)
    if function is None:
        return f"Error: there is no function named {call.name}. {missing}".strip()
    try:
        async with asyncio.timeout(limit_s):
            return _as_text(await _called(function, call.arguments))
    except TimeoutError:
        return f"Error: {call.name} took longer than {limit_s:g} s."
    except Exception as error:  # noqa: BLE001 -- whatever a user's function raises is for the model to know
        return f"Error: {type(error).__name__}: {error}"


async def _called(function: Function, arguments: str) -> Any:
    parsed = function.parsed(arguments)
    if inspect.iscoroutinefunction(function.call):
        return await function.call(**parsed)
    return await asyncio.to_thread(function.call, **parsed)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)

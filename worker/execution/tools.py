"""Calls the functions that the model asks for."""

from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.model.profile import Functions
from askmill.worker.lifecycle.api_types import ToolCall, ToolOutput


async def call_tools(
    functions: Functions | None, calls: tuple[ToolCall, ...], limit_s: float
) -> tuple[ToolOutput, ...]:
    """The outputs of all calls, in order; an error is an output for the model. A crash may repeat a call."""
    outputs = await call_functions(functions, [(call.name, call.arguments) for call in calls], limit_s)
    return tuple(ToolOutput(call.id, output) for call, output in zip(calls, outputs, strict=True))

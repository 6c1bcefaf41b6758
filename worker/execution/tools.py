"""The functions a model may call, as the worker is asked for them and gives their outputs."""

from askmill.jobs.functions.invoke import answers
from askmill.jobs.model.profile import Functions
from askmill.worker.lifecycle.api_types import ToolCall, ToolOutput


async def call_tools(
    functions: Functions | None, calls: tuple[ToolCall, ...], limit_s: float
) -> tuple[ToolOutput, ...]:
    """The outputs of all calls, in their order. Never raises: the model is told what went wrong.

    A function may be called again after a crash: it runs at least once.
    """
    outputs = await answers(functions, [(call.name, call.arguments) for call in calls], limit_s)
    return tuple(ToolOutput(call.id, output) for call, output in zip(calls, outputs, strict=True))

"""A call that is answered as a whole, such as a line of a batch: what it asks, and how it fails."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from askmill.emulator.protocol.chat_errors import resource_unavailable
from askmill.emulator.protocol.routing import ApiError, Json
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import RunState, error_of
from askmill.emulator.simulation.prompt import Prompt

# The HTTP status of a call that fails with this code; 500 for others, and NUMBER for `failed(NUMBER)`.
STATUSES = {
    "content_policy_violation": 400,
    "insufficient_quota": 429,
    "invalid_prompt": 400,
    "rate_limit_exceeded": 429,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one line of a batch asks. `answer` carries it out with its outcome; ApiError where it fails."""

    prompt: Prompt
    outcomes: tuple[Outcome, ...]
    job: str
    """`BATCH:ROW` of its metadata; empty without."""
    answer: Callable[[RunState], Awaitable[Json]]


def failure_of(outcome: Outcome) -> ApiError | None:
    """The HTTP error of a call whose outcome is `failed(…)`; None for others."""
    if outcome.name != "failed":
        return None
    error = error_of(outcome)
    code = error["code"]
    if code == "resource_unavailable":
        return resource_unavailable()
    if code.isdecimal():
        return ApiError(int(code), error["message"], kind="server_error")
    status = STATUSES.get(code, 500)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return ApiError(status, error["message"], code=code, kind=kind)

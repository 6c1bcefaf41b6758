"""How the rows of random rounds end, and what their runs may have cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store.views import RowView

Ending = tuple[str, JobStatus, int]
"""The emulator's directive, the row's final status, and its number of runs."""
_ENDINGS: tuple[Ending, ...] = (
    ("completed", JobStatus.COMPLETED, 1),
    ("completed", JobStatus.COMPLETED, 1),
    ("completed(two_messages)", JobStatus.COMPLETED, 1),
    ("failed(server_error), completed", JobStatus.COMPLETED, 2),
    ("failed(server_error)", JobStatus.FAILED, 3),
    ("failed(invalid_prompt)", JobStatus.FAILED, 1),
    ("incomplete(max_completion_tokens)", JobStatus.INCOMPLETE, 1),
)
_CHAT_ENDINGS: tuple[Ending, ...] = (
    ("completed", JobStatus.COMPLETED, 1),
    ("completed", JobStatus.COMPLETED, 1),
    ("failed(server_error), completed", JobStatus.COMPLETED, 2),
    ("failed(invalid_prompt)", JobStatus.FAILED, 0),
    ("incomplete(max_completion_tokens)", JobStatus.INCOMPLETE, 1),
)
"""A refused call buys nothing: it is no attempt."""
CHAT_ATTEMPTS = 30
"""A lost call takes an attempt: no row ends for lack of them."""


def endings_of(api: Api) -> tuple[Ending, ...]:
    """The endings that the rows of an API may have."""
    return _CHAT_ENDINGS if api == "chat" else _ENDINGS


@dataclass
class Cost:
    """What the runs of a batch cost beyond those that its rows need."""

    runs: int = 0
    paid_twice: int = 0
    resent: int = 0
    """Chat: calls made again because an answer was lost on its way."""
    faults: list[str] = field(default_factory=list)


def run_cost(
    api: Api, runs: Sequence[tuple[RowView, Ending, int]], late: int, unknown: int, at_risk: float
) -> Cost:
    """Compare the runs at the API with the attempts in the results.

    Assistants, Responses: they are equal, apart from runs that were counted as late, or (Responses) unknown.
    Chat: each call is an attempt of its row, so no answer that arrived was bought again without trace; calls made
    again were counted as unknown before; and no more are unknown than were in flight when something failed.

    Args:
        api: of the batch.
        runs: each row that has ended, how it should end, and its runs at the API.
        late: counted as `late_runs`.
        unknown: counted as `unknown_creates`.
        at_risk: calls that were in flight in what was killed, frozen or cut off.
    """
    cost = Cost(sum(count for *_, count in runs))
    if api == "chat":
        cost.resent = sum(max(0, count - max(1, ending[2])) for _, ending, count in runs)
        bought = [(row.result, count - (ending[2] == 0)) for row, ending, count in runs]
        cost.paid_twice = sum(max(0, calls - result.attempt_count) for result, calls in bought if result)
        if cost.resent > unknown:
            cost.faults.append(f"{cost.resent} calls made again, {unknown} counted")
        if unknown > at_risk:
            cost.faults.append(f"{unknown} calls unknown, {at_risk} were in flight")
    else:
        extra = sum(abs(count - row.result.attempt_count) for row, _, count in runs if row.result)
        cost.paid_twice = max(0, extra - late - (unknown if api == "responses" else 0))
    if cost.paid_twice:
        cost.faults.append(f"{cost.paid_twice} runs more than attempts, {late} late, {unknown} unknown")
    return cost


UNBOUNDED = math.inf
"""Faults that may lose the reply to any call."""

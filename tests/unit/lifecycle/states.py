"""Moments of a row's life, for tests of one event at a time."""

from dataclasses import replace

from askmill.jobs.model.models import Usage
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run, ToolCall, ToolOutput
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import Decision, Finish, JobState, Phase

P = RetryPolicy()
NOW = 10_000.0
ENDED = Run("run_1", "completed", usage=Usage(10, 5))
FOLLOWING = JobState(
    phase=Phase.POLLING, thread_id="thread_1", run_id="run_1", create_sent_at=NOW - 5, began_at=NOW - 4
)
READING = replace(FOLLOWING, phase=Phase.READING, ended_run=ENDED)
SENT = JobState(phase=Phase.CREATE_SENT, thread_id="thread_1", create_sent_at=NOW - 5)
ACTING = replace(FOLLOWING, phase=Phase.CALLING_TOOLS, outputs=(ToolOutput("call_1", "42"),))
WAITING = Run("run_1", "requires_action", tool_calls=(ToolCall("call_1", "add", "{}"),))
SAID = Answer(text="42", messages=1, run_id="run_1")
LOST = ApiError(None, code="connection_lost")
REFUSED = {
    "no_money": (
        "rate_limit_exceeded",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "no_model": ("server_error", "The model 'gpt-9' does not exist"),
}
"""How runs end that say in words what their code hides."""
GONE = ApiError(404, message="No run found with id 'run_1'.")


def finish_of(decision: Decision) -> Finish:
    """The decision's end of the row; fails when it is none."""
    assert isinstance(decision.action, Finish), decision
    return decision.action

"""States of a row, and what an API returns, for tests of one event at a time."""

from dataclasses import replace

from askmill.jobs.model.models import Usage
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run, ToolCall, ToolOutput
from askmill.worker.lifecycle.decision import Decision, Finish
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState, Phase

P = RetryPolicy()
NOW = 10_000.0
ENDED = Run("run_1", "completed", usage=Usage(10, 5))
POLLING = JobState(
    phase=Phase.POLLING, thread_id="thread_1", run_id="run_1", create_sent_at=NOW - 5, began_at=NOW - 4
)
READING = replace(POLLING, phase=Phase.READING, ended_run=ENDED)
SENT = JobState(phase=Phase.CREATE_SENT, thread_id="thread_1", create_sent_at=NOW - 5)
CALLING_TOOLS = replace(POLLING, phase=Phase.CALLING_TOOLS, outputs=(ToolOutput("call_1", "42"),))
RUN_REQUIRING_ACTION = Run("run_1", "requires_action", tool_calls=(ToolCall("call_1", "add", "{}"),))
ANSWER = Answer(text="42", messages=1, run_id="run_1")
NO_REPLY = ApiError(None, code="connection_lost")
REFUSED_RUNS = {
    "no_money": (
        "rate_limit_exceeded",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "no_model": ("server_error", "The model 'gpt-9' does not exist"),
}
"""Errors of runs whose message says what their code does not."""
RUN_NOT_FOUND = ApiError(404, message="No run found with id 'run_1'.")


def finish_of(decision: Decision) -> Finish:
    """The decision's Finish action; fails when it is another."""
    assert isinstance(decision.action, Finish), decision
    return decision.action

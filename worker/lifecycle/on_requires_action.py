"""Transitions of a run that asks for functions: call those that have no output yet, else look again.

An API may show a run as `requires_action` for a moment without any call, or with calls whose outputs it has
accepted. Those outputs are never made or submitted again.

Pure, as `worker.lifecycle.transitions`.
"""

from dataclasses import replace

from askmill.jobs.model.models import Step
from askmill.worker.lifecycle.api_types import Answer, Run, ToolCall
from askmill.worker.lifecycle.decision import CallTools, Decision, PollRun, Reserve
from askmill.worker.lifecycle.events import Event, ToolsCalled
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase

STALE_S = 10.0
"""For so long after a run has moved on, an equal call is the old one. Later it is a new one: some servers
number the calls of each round from 0."""


def open_calls(state: JobState, run: Run, at: float) -> tuple[ToolCall, ...]:
    """The run's calls whose outputs have not been accepted.

    The calls of another run (Responses) are new; where it has a message too, it may repeat the earlier calls.
    """
    if run.id != state.answered_run_id and not run.message_with_calls:
        return run.tool_calls
    if state.calls_are_new_at is not None and at > state.calls_are_new_at:
        return run.tool_calls
    return tuple(call for call in run.tool_calls if call not in state.answered_calls)


def outputs_accepted(state: JobState) -> JobState:
    """The API has the outputs of `state.calls`."""
    answered = tuple(dict.fromkeys((*state.answered_calls, *state.calls)))
    return replace(
        state,
        outputs=(),
        calls=(),
        answered_calls=answered,
        answered_run_id=state.run_id,
        calls_are_new_at=None,
    )


def with_calls(state: JobState, run: Run) -> JobState:
    """Chat completions: the state with the calling message, which goes back verbatim, and its tokens."""
    message = () if run.message is None else (run.message,)
    answer = run.answer or Answer()
    return replace(
        state,
        messages=(*state.messages, *message),
        rounds_usage=state.rounds_usage.plus_request(run.usage),
        past_steps=(*state.past_steps, *answer.steps),
    )


def next_round(state: JobState, event: ToolsCalled) -> Decision:
    """Chat completions: the functions have been called; their outputs are sent with another call."""
    outputs = {output.call_id: output.output for output in event.outputs}
    messages = [
        {"role": "tool", "tool_call_id": output.call_id, "content": output.output} for output in event.outputs
    ]
    steps = [
        Step(
            state.run_id or None,
            state.attempt,
            "function",
            "completed",
            details={"name": call.name, "arguments": call.arguments, "output": outputs.get(call.id)},
        )
        for call in state.calls
    ]
    called = replace(
        state,
        phase=Phase.NEW,
        run_id=None,
        calls=(),
        messages=(*state.messages, *messages),
        past_steps=(*state.past_steps, *steps),
        tool_rounds=state.tool_rounds + 1,
        failures=0,
    )
    return Decision(called, Reserve(), store=True)


def on_requires_action(
    state: JobState, run: Run, event: Event, policy: RetryPolicy, deadline_at: float
) -> Decision:
    """Call the functions whose outputs are missing; without any, poll again with backoff."""
    calls = open_calls(state, run, event.at)
    if not calls:
        since = state.unsettled_since if state.unsettled_since is not None else event.at
        wait_s = min(policy.settle_wait_s(event.at - since, event.jitter), max(0.0, deadline_at - event.at))
        return Decision(replace(state, unsettled_since=since), PollRun(after_s=wait_s))
    if state.tool_rounds >= policy.tool_rounds:
        error = f"tool_rounds: the model asked for functions more than {policy.tool_rounds} times"
        return Decision.cancel_run(replace(state, cancel_error=error), CancelReason.ROW, event.at)
    calling = replace(state, calls=calls, unsettled_since=None)
    return Decision(calling, CallTools(calls=calls), store=True)

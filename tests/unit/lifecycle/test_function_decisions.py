"""A run that asks for functions: the complete decision of each step, on both kinds of API."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import Step, Usage
from askmill.worker.lifecycle.api_types import Answer, Run, ToolCall, ToolOutput
from askmill.worker.lifecycle.decision import CallTools, CancelRun, Decision, PollRun, Reserve
from askmill.worker.lifecycle.events import OutputsSubmitted, RunCreated, RunPolled, ToolsCalled
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import CALLING_TOOLS, NOW, POLLING, RUN_REQUIRING_ACTION, SENT, P

CALLS = RUN_REQUIRING_ACTION.tool_calls
NEW_CALL = ToolCall("call_2", "add", "{}")
ASKING = replace(RUN_REQUIRING_ACTION, tool_calls=(*CALLS, NEW_CALL))
ANSWERED = replace(POLLING, answered_calls=CALLS, answered_run_id="run_1", tool_rounds=1)
CHAT = RetryPolicy(stateless=True)
CALL_MESSAGE = {"role": "assistant", "tool_calls": [{"id": "call_1"}]}


def polled(state: JobState, run: Run, at: float = NOW, policy: RetryPolicy = P) -> Decision:
    """The decision after a poll whose backoff is its longest."""
    return advance(state, RunPolled(at, 1.0, run=run), policy)


def test_calls_without_outputs_are_made() -> None:
    """Stored first, all of them; no time of waiting is carried along."""
    expected = replace(POLLING, calls=ASKING.tool_calls)
    decision = polled(replace(POLLING, unsettled_since=NOW - 3), ASKING)
    assert decision == Decision(expected, CallTools(ASKING.tool_calls), store=True)


@pytest.mark.parametrize(("since", "wait_s"), [(None, 1.0), (NOW - 20, 5.0)])
def test_calls_that_are_answered_are_passed_over(since: float | None, wait_s: float) -> None:
    """The API shows them for a while: the run is polled again, with backoff."""
    state = replace(ANSWERED, unsettled_since=since)
    expected = replace(state, unsettled_since=NOW if since is None else since)
    assert polled(state, RUN_REQUIRING_ACTION) == Decision(expected, PollRun(after_s=wait_s))
    assert polled(ANSWERED, ASKING).action == CallTools((NEW_CALL,))


def test_an_answered_run_is_polled_by_its_deadline() -> None:
    """Half a second before it, not a second later."""
    policy = replace(P, deadline_s=4.5)
    assert polled(ANSWERED, RUN_REQUIRING_ACTION, policy=policy).action == PollRun(after_s=0.5)


def test_equal_calls_are_new_once_the_run_has_moved_on() -> None:
    """Ten seconds later; calls of another run are new at once, unless it has a message beside them."""
    working = polled(ANSWERED, Run("run_1", "in_progress"))
    assert working.state.calls_are_new_at == NOW + 10
    assert polled(working.state, Run("run_1", "in_progress"), NOW + 5).state.calls_are_new_at == NOW + 10
    assert isinstance(polled(working.state, RUN_REQUIRING_ACTION, NOW + 10).action, PollRun)
    assert isinstance(polled(working.state, RUN_REQUIRING_ACTION, NOW + 10.1).action, CallTools)
    other = replace(RUN_REQUIRING_ACTION, id="run_2")
    assert isinstance(polled(ANSWERED, other).action, CallTools)


def test_accepted_outputs_are_remembered_by_their_calls() -> None:
    """Each once; nothing of them is submitted again, and what an equal call means is open again."""
    state = replace(
        CALLING_TOOLS,
        calls=(NEW_CALL, *CALLS),
        answered_calls=CALLS,
        answered_run_id="run_0",
        calls_are_new_at=NOW - 1,
    )
    accepted = advance(state, OutputsSubmitted(NOW, run=Run("run_1", "requires_action")), P)
    expected = replace(
        state,
        phase=Phase.POLLING,
        outputs=(),
        calls=(),
        answered_calls=(*CALLS, NEW_CALL),
        answered_run_id="run_1",
        calls_are_new_at=None,
        tool_rounds=1,
        unsettled_since=NOW,
    )
    assert accepted == Decision(expected, PollRun(after_s=0.75), store=True)


def test_a_model_that_never_stops_asking_is_cancelled() -> None:
    """At the limit, not before it."""
    policy = replace(P, tool_rounds=2)
    assert isinstance(polled(replace(POLLING, tool_rounds=1), ASKING, policy=policy).action, CallTools)
    state = replace(POLLING, tool_rounds=2)
    expected = replace(
        state,
        cancel_error="tool_rounds: the model asked for functions more than 2 times",
        cancel_reason=CancelReason.ROW,
        cancel_requested_at=NOW,
    )
    assert polled(state, ASKING, policy=policy) == Decision(expected, CancelRun(), store=True)


@pytest.mark.parametrize(
    "answer", [None, Answer("let me see", 1, steps=(Step(None, 1, "reasoning", "completed"),))]
)
def test_chat_completions_keeps_the_calling_message_and_its_tokens(answer: Answer | None) -> None:
    """The message goes back verbatim, behind those before it."""
    earlier_step = Step(None, 1, "function", "completed")
    state = replace(SENT, messages=({"role": "tool"},), rounds_usage=Usage(1, 2), past_steps=(earlier_step,))
    run = replace(RUN_REQUIRING_ACTION, usage=Usage(10, 20), message=CALL_MESSAGE, answer=answer)
    decision = advance(state, RunCreated(NOW, run=run), CHAT)
    assert decision.state.messages == ({"role": "tool"}, CALL_MESSAGE)
    assert decision.state.rounds_usage == Usage(11, 22, longest_prompt_tokens=10)
    assert decision.state.past_steps == (earlier_step, *(answer.steps if answer else ()))
    without = advance(state, RunCreated(NOW, run=replace(run, message=None)), CHAT)
    assert without.state.messages == ({"role": "tool"},)


def test_chat_completions_sends_the_outputs_with_another_call() -> None:
    """Stored first: outputs as messages, calls as steps with what they returned, a round more."""
    state = replace(
        CALLING_TOOLS,
        run_id="run_1",
        attempt=2,
        calls=(*CALLS, NEW_CALL),
        outputs=(),
        messages=(CALL_MESSAGE,),
        past_steps=(Step(None, 1, "reasoning", "completed"),),
        tool_rounds=1,
        failures=3,
    )
    event = ToolsCalled(NOW, outputs=(ToolOutput("call_1", "42"),))

    def step(output: str | None) -> Step:
        return Step(
            "run_1", 2, "function", "completed", details={"name": "add", "arguments": "{}", "output": output}
        )

    expected = replace(
        state,
        phase=Phase.NEW,
        run_id=None,
        calls=(),
        messages=(CALL_MESSAGE, {"role": "tool", "tool_call_id": "call_1", "content": "42"}),
        past_steps=(*state.past_steps, step("42"), step(None)),
        tool_rounds=2,
        failures=0,
    )
    assert advance(state, event, CHAT) == Decision(expected, Reserve(), store=True)
    without_id = advance(replace(state, run_id=""), event, CHAT).state
    assert without_id.past_steps[-1].run_id is None

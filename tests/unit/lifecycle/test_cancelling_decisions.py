"""A run that is to end: the complete decision of each poll until it has."""

from dataclasses import replace

import pytest

from askmill.worker.lifecycle.api_types import Run
from askmill.worker.lifecycle.decision import Action, CancelRun, Decision, PollRun, ReadAnswer
from askmill.worker.lifecycle.events import RunPolled
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import NOW, POLLING, P

RUNNING = Run("run_1", "in_progress")
DYING = Run("run_1", "cancelling")
UNFAMILIAR = Run("run_1", "resting")
BY_USER = replace(POLLING, cancel_reason=CancelReason.USER, cancel_requested_at=NOW - 20)
LATE = replace(POLLING, cancel_reason=CancelReason.DEADLINE, cancel_requested_at=NOW - 20)
UNSTARTED = replace(
    POLLING,
    create_fault="http_500: boom",
    cancel_reason=CancelReason.NEVER_STARTED,
    cancel_error="never_started: x",
    cancel_requested_at=NOW - 20,
    cancel_refusal="http_400: no",
)


def polled(state: JobState, run: Run, at: float = NOW) -> Decision:
    """The decision after a poll whose backoff is its longest."""
    return advance(state, RunPolled(at, 1.0, run=run), P)


@pytest.mark.parametrize(
    ("run", "action"), [(RUNNING, CancelRun(after_s=5.0)), (DYING, PollRun(after_s=5.0))]
)
def test_a_run_is_cancelled_until_it_is_ending(run: Run, action: Action) -> None:
    """Then it is only polled, less often as time passes."""
    assert polled(BY_USER, run) == Decision(BY_USER, action)


def test_the_first_cancel_goes_out_at_once() -> None:
    """And its time counts from then."""
    state = replace(BY_USER, cancel_requested_at=None)
    assert polled(state, RUNNING) == Decision(replace(state, cancel_requested_at=NOW), CancelRun())


@pytest.mark.parametrize(
    ("state", "run", "limit_s"),
    [
        (BY_USER, RUNNING, 30),
        (UNSTARTED, Run("run_1", "queued"), 30),
        (LATE, UNFAMILIAR, 30),
        (LATE, RUNNING, 600),
        (LATE, DYING, 600),
    ],
)
def test_a_run_that_does_not_end_is_read_at_its_limit(state: JobState, run: Run, limit_s: int) -> None:
    """The grace where it is of no use or not known to be alive, else ten minutes: it may still be paid."""
    start = NOW - 20
    assert not isinstance(polled(state, run, start + limit_s - 0.1).action, ReadAnswer)
    decision = polled(state, run, start + limit_s)
    expected = replace(state, phase=Phase.READING, ended_run=run)
    assert decision == Decision(expected, ReadAnswer(), store=True)


@pytest.mark.parametrize("status", ["in_progress", "requires_action"])
def test_a_run_at_work_after_all_is_followed_on(status: str) -> None:
    """Nothing of the cancel stays; one that is queued or ending has not started."""
    decision = polled(UNSTARTED, Run("run_1", status))
    state = decision.state
    cancel = (state.cancel_reason, state.cancel_error, state.cancel_requested_at, state.cancel_refusal)
    assert (decision.store, cancel) == (True, (None, None, None, None))
    for waiting in ("queued", "cancelling", "resting"):
        assert polled(UNSTARTED, Run("run_1", waiting)).state.cancel_reason is CancelReason.NEVER_STARTED
    assert polled(LATE, RUNNING).state.cancel_reason is CancelReason.DEADLINE


def test_only_a_run_whose_create_failed_counts_as_never_started() -> None:
    """Two minutes queued after it began to be followed, before any functions; it is polled by then."""
    queued, fault = Run("run_1", "queued"), "http_500: boom"
    state, start = replace(POLLING, create_fault=fault), NOW - 4
    assert polled(state, queued) == Decision(state, PollRun(by=start + 120))
    assert polled(state, queued, start + 119).action == PollRun(by=start + 120)
    error = (
        f"never_started: its create failed at the server ({fault}), and the run run_1 stayed queued for 120 s"
    )
    cancelled = replace(
        state, cancel_error=error, cancel_reason=CancelReason.NEVER_STARTED, cancel_requested_at=start + 120
    )
    assert polled(state, queued, start + 120) == Decision(cancelled, CancelRun(), store=True)
    for other, run in (
        (replace(state, tool_rounds=1), queued),
        (replace(state, create_fault=None), queued),
        (state, RUNNING),
    ):
        assert polled(other, run, start + 120).action == PollRun(by=start + 600)

"""Runs taken over from another worker that the server does not have (A19): another project's key, or lost runs."""

from dataclasses import replace

import pytest

from askmill.worker.lifecycle.api_types import Run
from askmill.worker.lifecycle.decision import Action, Decision, PauseBatch, PollRun, SubmitOutputs, Wait
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import (
    Claimed,
    RequestFailed,
    RunCreated,
    RunPolled,
    TakenOver,
    ThreadCreated,
)
from askmill.worker.lifecycle.on_error import OTHER_PROJECT
from askmill.worker.lifecycle.state import JobState
from askmill.worker.lifecycle.transitions import advance
from askmill.worker.runtime.taken_over import TakenOverRuns
from tests.unit.lifecycle.states import CALLING_TOOLS, NOW, POLLING, RUN_NOT_FOUND, P

AFTER_GRACE = NOW + P.not_found_grace_s + 1


def after_404(taken_over: TakenOver | None, at: float = AFTER_GRACE) -> Action:
    """What follows once the server has answered nothing but 404 for so long."""
    state = replace(POLLING, not_found_since=NOW)
    return advance(state, RequestFailed(at, error=RUN_NOT_FOUND, taken_over=taken_over), P).action


def test_three_unknown_runs_beside_known_ones_are_another_project() -> None:
    """The batch pauses and says so; the row keeps its run, for a worker with the right key."""
    state = replace(POLLING, not_found_since=NOW)
    decision = advance(
        state, RequestFailed(AFTER_GRACE, error=RUN_NOT_FOUND, taken_over=TakenOver(3, False, False, True)), P
    )

    assert decision == Decision(state, PauseBatch(OTHER_PROJECT.format(3), wait_s=30.0))


@pytest.mark.parametrize(
    "taken_over",
    [
        None,  # a run that this worker created
        TakenOver(1, True, False, True),
        TakenOver(2, False, False, True),
        TakenOver(9, False, True, True),  # the server has others: this one is lost
        TakenOver(9, True, False, False),  # nothing to compare with: one row finds out
    ],
)
def test_a_lost_run_is_another_attempt(taken_over: TakenOver | None) -> None:
    """A single one, or one among others that are known."""
    assert isinstance(after_404(taken_over), Wait)


def test_the_rest_looks_again_with_a_backoff() -> None:
    """The whole decision while another row makes an attempt to compare with."""
    state = replace(POLLING, not_found_since=NOW)
    event = RequestFailed(
        AFTER_GRACE, jitter=1.0, error=RUN_NOT_FOUND, taken_over=TakenOver(3, False, False, False)
    )
    again = replace(state, failures=1, failing_since=AFTER_GRACE)
    assert advance(state, event, P) == Decision(again, PollRun(after_s=0.5))
    submitting = replace(event, request=RequestKind.SUBMIT)
    calling = replace(CALLING_TOOLS, not_found_since=NOW)
    assert advance(calling, submitting, P) == Decision(
        replace(calling, failures=1, failing_since=AFTER_GRACE), SubmitOutputs(after_s=0.5)
    )


def test_the_rest_waits_for_a_run_to_compare_with() -> None:
    """While one row makes another attempt the others look again, for two minutes at most."""
    rest = TakenOver(9, False, False, False)

    assert isinstance(after_404(rest), PollRun)
    assert isinstance(after_404(rest, NOW + 4 * P.not_found_grace_s), Wait)


def test_what_was_created_here_is_told_from_what_was_taken_over() -> None:
    """By the ids of threads and runs that this process has created, and by what the server answers."""
    runs, own, other = TakenOverRuns(), replace(POLLING, run_id="run_own"), replace(POLLING, run_id="run_2")
    runs.observe(ThreadCreated(NOW, thread_id="thread_own"), JobState())
    runs.observe(RunCreated(NOW, run=Run("run_own", "queued")), JobState(thread_id="thread_own"))

    assert runs.not_found(own) is None
    assert runs.not_found(JobState(thread_id="thread_own")) is None
    assert runs.not_found(JobState()) is None
    assert runs.not_found(other) == TakenOver(1, True, False, False)
    assert runs.not_found(other) == TakenOver(1, True, False, False)
    runs.observe(Claimed(NOW), other)
    runs.observe(RunPolled(NOW, run=Run("run_own", "completed")), own)
    assert runs.not_found(POLLING) == TakenOver(2, False, False, True)
    runs.observe(RunPolled(NOW, run=Run("run_3", "completed")), replace(POLLING, run_id="run_3"))
    assert runs.not_found(POLLING) == TakenOver(2, False, True, True)
    assert RequestFailed(NOW).request is RequestKind.READ

"""A run that the server shows alive is never bought again, and never given up unsaid (cases E1, E6, A4, A5, A20)."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import (
    Answer,
    ApiError,
    LookupKind,
    Run,
    RunLookup,
    ToolCall,
    ToolOutput,
)
from askmill.worker.lifecycle.decision import (
    CallTools,
    CancelRun,
    Decision,
    PollRun,
    ReadAnswer,
    RecoverRun,
    SubmitOutputs,
    Wait,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import (
    AnswerRead,
    CancelAccepted,
    LookupDone,
    OutputsSubmitted,
    RequestFailed,
    RunPolled,
    ToolsCalled,
)
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import ANSWER, NOW, POLLING, SENT, P, finish_of

RUNNING, QUEUED = Run("run_1", "in_progress"), Run("run_1", "queued")
REFUSED = replace(RUNNING, cancel_refusal="conflict: it is running")
STOPPING = replace(POLLING, cancel_reason=CancelReason.DEADLINE, cancel_requested_at=NOW)
CALL = ToolCall("call_1", "add", "{}")
ASKING = Run("run_1", "requires_action", tool_calls=(CALL,))


def test_a_refused_cancel_is_followed_to_the_runs_end_and_its_answer_kept() -> None:
    """Case E1: 30 s after the deadline the run is not replaced; it completes, and the row with it."""
    later = advance(STOPPING, CancelAccepted(NOW + 60, jitter=1.0, run=REFUSED), P)
    assert later.action == CancelRun(after_s=15.0)
    done = advance(later.state, CancelAccepted(NOW + 75, run=Run("run_1", "completed")), P)
    assert done.action == ReadAnswer()
    assert (
        finish_of(advance(done.state, AnswerRead(NOW + 76, answer=ANSWER), P)).status is JobStatus.COMPLETED
    )


def ends_uncancelled(state: JobState, run: Run, at: float, policy: RetryPolicy = P) -> Decision:
    """The decision after the last look at a run that the server does not end."""
    reading = advance(state, CancelAccepted(at, run=run), policy)
    assert (reading.action, reading.store) == (ReadAnswer(), True)
    return advance(reading.state, AnswerRead(at, answer=Answer("so far", messages=1)), policy)


@pytest.mark.parametrize("attempt", [1, 3])
def test_a_run_that_outlives_the_second_limit_ends_the_row_and_is_told(attempt: int) -> None:
    """Case E1: no attempt follows while the run lives; the row says the server's words, the run and that it may cost."""
    over = ends_uncancelled(replace(STOPPING, attempt=attempt), REFUSED, NOW + P.uncancelled_s)
    assert finish_of(over).error == (
        "deadline: the run took longer than it may; the server refused to cancel the run (conflict: it is running): "
        "run_1 may still be paid"
    )
    assert (finish_of(over).status, finish_of(over).answer) == (JobStatus.FAILED, "so far")
    assert over.uncancelled_run


@pytest.mark.parametrize("status", [404, 405, 500, None])
def test_a_cancel_refused_in_any_way_is_told_in_the_servers_words(status: int | None) -> None:
    """The words of the last refusal, whatever its status."""
    error = ApiError(status, code="odd", message="cannot")
    failed = advance(STOPPING, RequestFailed(NOW + 1, error=error, request=RequestKind.CANCEL), P)
    assert isinstance(failed.action, PollRun)
    polled = advance(failed.state, RunPolled(NOW + P.uncancelled_s, run=RUNNING), P)
    over = advance(polled.state, AnswerRead(NOW + P.uncancelled_s), P)
    assert "(odd: cannot): run_1 may still be paid" in (finish_of(over).error or "")


def test_a_run_that_stays_cancelling_is_told_as_such() -> None:
    """The server accepted the cancel, but has not carried it out."""
    over = ends_uncancelled(STOPPING, replace(RUNNING, status="cancelling"), NOW + P.uncancelled_s)
    assert "has not ended the run since its cancel, it is cancelling: run_1" in (finish_of(over).error or "")
    assert over.uncancelled_run


def test_a_users_cancel_waits_for_the_grace_alone() -> None:
    """The row ends `cancelled` after 30 s, and says that the run may still be paid."""
    stopping = replace(STOPPING, cancel_reason=CancelReason.USER)
    over = ends_uncancelled(stopping, REFUSED, NOW + P.cancel_grace_s)
    assert (finish_of(over).status, over.uncancelled_run) == (JobStatus.CANCELLED, True)
    assert "run_1 may still be paid" in (finish_of(over).error or "")


def test_a_run_of_an_unknown_status_is_followed_for_the_grace() -> None:
    """Nobody knows whether it lives: the row fails with that status, and no other run is made."""
    over = ends_uncancelled(STOPPING, replace(REFUSED, status="dreaming"), NOW + P.cancel_grace_s)
    assert (finish_of(over).status, over.uncancelled_run) == (JobStatus.FAILED, False)


# ── a create that failed, whose run is there but never starts (E6) ──

FAULTED = RequestFailed(
    NOW, error=ApiError(500, code="server_error", message="oh"), request=RequestKind.CREATE
)


def adopted() -> JobState:
    """A row whose create was answered with 500 and whose run was found queued."""
    lost = advance(replace(SENT, create_sent_at=NOW), FAULTED, P)
    found = LookupDone(NOW, lookup=RunLookup(LookupKind.RUN, QUEUED, complete_list=True))
    return advance(lost.state, found, P).state


def test_a_run_that_never_starts_after_a_failed_create_is_cancelled_early() -> None:
    """Case E6: 2 minutes instead of 10, and a new attempt that says why."""
    polled = advance(adopted(), RunPolled(NOW + 1, run=QUEUED), P)
    assert polled.action == PollRun(by=NOW + P.never_started_s)
    late = advance(polled.state, RunPolled(NOW + P.never_started_s, run=QUEUED), P)
    assert (late.action, late.state.cancel_reason) == (CancelRun(), CancelReason.NEVER_STARTED)
    ended = advance(late.state, CancelAccepted(NOW + 121, run=Run("run_1", "cancelled")), P)
    again = advance(ended.state, AnswerRead(NOW + 121), P)
    assert (again.retry_reason, again.state.attempt, again.uncancelled_run) == ("never_started", 2, False)
    assert "server_error: oh" in (again.state.past_attempts[0].error or "")


def test_a_queued_run_that_cannot_be_cancelled_is_replaced_and_counted() -> None:
    """Case E6 at a server that refuses the cancel as well: the only run that is replaced while it is listed."""
    late = advance(adopted(), RunPolled(NOW + P.never_started_s, run=QUEUED), P)
    over = ends_uncancelled(
        late.state, replace(QUEUED, cancel_refusal="no"), NOW + P.never_started_s + P.cancel_grace_s
    )
    assert (over.action, over.state.attempt, over.uncancelled_run) == (Wait(wait_s=0.75), 2, True)
    assert "run_1 may still be paid" in (over.state.past_attempts[0].error or "")


def test_a_run_that_starts_after_all_is_followed_as_any() -> None:
    """Its cancel was refused because it was about to start: nothing more is cancelled."""
    late = advance(adopted(), RunPolled(NOW + P.never_started_s, run=QUEUED), P)
    on = advance(late.state, CancelAccepted(NOW + 125, run=REFUSED), P)
    assert (on.state.cancel_reason, on.action) == (None, PollRun(by=NOW + 600.0))
    assert on.store


@pytest.mark.parametrize("error", [ApiError(None), ApiError(200, code="bad_reply")])
def test_a_queue_is_waited_for_after_a_lost_connection(error: ApiError) -> None:
    """Only a server's own error says that the run may never start."""
    lost = advance(SENT, replace(FAULTED, error=error), P)
    found = advance(lost.state, LookupDone(NOW, lookup=RunLookup(LookupKind.RUN, QUEUED)), P)
    assert isinstance(advance(found.state, RunPolled(NOW + 500, run=QUEUED), P).action, PollRun)


# ── functions: accepted outputs are neither made nor submitted again (A4, A5) ──


OUTPUTS = (ToolOutput("call_1", "42"),)


def submitting() -> JobState:
    """A run whose one call has been made, and whose output is out."""
    called = advance(POLLING, RunPolled(NOW, run=ASKING), P)
    assert called.action == CallTools(calls=(CALL,))
    submitted = advance(called.state, ToolsCalled(NOW, outputs=OUTPUTS), P)
    assert submitted.action == SubmitOutputs()
    return submitted.state


def answered() -> JobState:
    """The API has accepted the output."""
    return advance(submitting(), OutputsSubmitted(NOW, run=ASKING), P).state


def test_accepted_calls_that_are_shown_again_are_only_looked_at() -> None:
    """Case A4: for as long as the server lags, with growing waits, up to the deadline."""
    state, waits = answered(), []
    for at in (0.0, 2.0, 20.0, 100.0):
        looked = advance(state, RunPolled(NOW + at, jitter=1.0, run=ASKING), P)
        state = looked.state
        assert isinstance(looked.action, PollRun)
        waits.append(looked.action.after_s)
    assert waits == [1.0, 1.0, 5.0, 25.0]
    late = advance(state, RunPolled(NOW + 700, run=ASKING), P)
    assert late.action == PollRun(after_s=0.0)
    assert advance(late.state, RunPolled(NOW + 700, run=ASKING), P).action == CancelRun()


def test_only_calls_without_an_output_are_called() -> None:
    """Case A4: an old call is listed beside a new one."""
    new = ToolCall("call_2", "add", "{}")
    both = advance(answered(), RunPolled(NOW + 1, run=replace(ASKING, tool_calls=(CALL, new))), P)
    assert both.action == CallTools(calls=(new,))


def test_an_equal_call_is_new_once_the_run_has_moved_on() -> None:
    """Some servers number each round's calls from 0."""
    moved = advance(answered(), RunPolled(NOW + 1, run=RUNNING), P)
    lagging = advance(moved.state, RunPolled(NOW + 2, run=ASKING), P)
    assert isinstance(lagging.action, PollRun)
    assert advance(lagging.state, RunPolled(NOW + 12, run=ASKING), P).action == CallTools(calls=(CALL,))


def test_refused_outputs_are_not_made_again() -> None:
    """Case A4: the reply to their submission was lost, and a second one refused: the API has them."""
    error = ApiError(400, message='Runs in status "queued" do not accept tool outputs.')
    refused = advance(submitting(), RequestFailed(NOW + 1, error=error, request=RequestKind.SUBMIT), P)
    assert refused.action == PollRun(after_s=0.0)
    assert isinstance(advance(refused.state, RunPolled(NOW + 1, run=ASKING), P).action, PollRun)


def test_calls_of_a_new_response_are_new_even_if_they_are_equal() -> None:
    """Responses: each round is another response; beside a message an equal call is only repeated."""
    again = replace(ASKING, id="run_2")
    assert advance(answered(), RunPolled(NOW + 1, run=again), P).action == CallTools(calls=(CALL,))
    repeated = advance(answered(), RunPolled(NOW + 1, run=replace(again, message_with_calls=True)), P)
    assert (repeated.action, repeated.state.ended_run and repeated.state.ended_run.status) == (
        ReadAnswer(),
        "completed",
    )


def test_a_run_that_asks_for_nothing_is_looked_at_again() -> None:
    """Case A5: `required_action` is null for a moment; nothing is submitted."""
    empty = advance(POLLING, RunPolled(NOW, jitter=1.0, run=replace(ASKING, tool_calls=())), P)
    assert empty.action == PollRun(after_s=1.0)
    assert advance(empty.state, RunPolled(NOW + 1, run=ASKING), P).action == CallTools(calls=(CALL,))


# ── a lock without an id (A20) ──


def test_a_lock_that_names_no_run_is_searched_for_on_the_thread() -> None:
    """Case A20: the row's own run is found and followed; the row does not fail."""
    error = ApiError(400, message="Can't create a run while a run is active.")
    locked = advance(SENT, RequestFailed(NOW, error=error, request=RequestKind.CREATE), P)
    assert locked.action == RecoverRun()
    ours = LookupDone(NOW, lookup=RunLookup(LookupKind.RUN, RUNNING, complete_list=True))
    found = advance(locked.state, ours, P)
    assert (found.state.phase, found.state.run_id) == (Phase.POLLING, "run_1")
    foreign = advance(locked.state, LookupDone(NOW, lookup=RunLookup(LookupKind.NOTHING)), P)
    assert (foreign.state.phase, foreign.state.create_unconfirmed) == (Phase.NEW, False)


# ── a reply past its bounds (D11) ──

BOUND = ApiError(200, code="reply_too_large", message="more than 16 MiB (MAX_REPLY_BYTES)")


def test_a_poll_past_its_bounds_cancels_the_run_and_fails_the_row() -> None:
    """Case D11: the row names the bound; nothing is polled for an hour."""
    failed = advance(POLLING, RequestFailed(NOW, error=BOUND, request=RequestKind.READ), P)
    assert failed.action == CancelRun()
    over = advance(failed.state, RequestFailed(NOW, error=BOUND, request=RequestKind.CANCEL), P)
    assert (finish_of(over).status, over.uncancelled_run) == (JobStatus.FAILED, True)
    assert (finish_of(over).error or "").startswith("reply_too_large: more than 16 MiB (MAX_REPLY_BYTES)")


def test_a_create_past_its_bounds_is_counted_and_not_repeated() -> None:
    """Case D11: its run's id is unknown, and the next reply would be as large."""
    over = advance(SENT, RequestFailed(NOW, error=BOUND, request=RequestKind.CREATE), P)
    assert (finish_of(over).status, over.unknown_create) == (JobStatus.FAILED, True)


@pytest.mark.parametrize(("error", "after_s"), [(BOUND, 0.0), (ApiError(500), P.partial_s + 1)])
def test_an_answer_whose_steps_cannot_be_read_ends_the_row(error: ApiError, after_s: float) -> None:
    """The text that was read is the row's answer: at once past a bound, else after two minutes of refusals."""
    reading = replace(POLLING, phase=Phase.READING, ended_run=Run("run_1", "completed"))
    event = RequestFailed(NOW, error=error, request=RequestKind.READ, partial=AnswerRead(NOW, answer=ANSWER))
    decision = advance(reading, event, P)
    if after_s:
        assert decision.action == ReadAnswer(after_s=0.375)
        decision = advance(decision.state, replace(event, at=NOW + after_s), P)
    assert (finish_of(decision).status, finish_of(decision).answer) == (JobStatus.COMPLETED, "42")

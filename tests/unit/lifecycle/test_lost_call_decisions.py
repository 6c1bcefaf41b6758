"""What follows from a call of chat completions without an answer: the complete decision, number by number."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import Attempt, JobStatus, OnUnknown
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run
from askmill.worker.lifecycle.decision import Decision, Finish, ReleaseRow, Wait
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import AnswerRead, RequestFailed
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, KeptAnswer, Phase
from askmill.worker.lifecycle.transitions import advance

POLICY = RetryPolicy(stateless=True)
SENT = JobState(phase=Phase.CREATE_SENT, thread_id="b-1", create_sent_at=95.0, tool_rounds=2, follow_up=True)
LOST = ApiError(None, code="connection_lost", message="reset")
HALF = AnswerRead(100.0, answer=Answer("half", 1))
UNKNOWN_RUN = Run("", "unknown")


def failed(error: ApiError, partial: AnswerRead | None = None) -> RequestFailed:
    """A failed call at 100 s, whose backoff is its longest."""
    return RequestFailed(100.0, 1.0, error=error, request=RequestKind.CREATE, partial=partial)


def record(number: int, status: str, error: str) -> Attempt:
    """The record of an attempt that began when its call was sent."""
    times = {"started_at": 95.0, "finished_at": 100.0}
    return Attempt(number, "b-1", None, status, error, **times)


AGAIN = JobState(
    attempt=2,
    thread_id="b-1",
    tool_rounds=2,
    follow_up=True,
    past_attempts=(record(1, "unknown", "connection_lost: reset"),),
)


def test_a_lost_call_is_made_again_as_it_was() -> None:
    """On the same thread, behind the same rounds of functions, after the first backoff of attempts."""
    expected = Decision(
        AGAIN,
        Wait(wait_s=1.0),
        store=True,
        retry_reason="unknown_outcome",
        unknown_create=True,
        create_failed=True,
    )
    assert advance(SENT, failed(LOST), POLICY) == expected


def test_the_longest_part_of_an_answer_is_kept() -> None:
    """Of this call, or of an earlier one."""
    kept = KeptAnswer(Answer("much longer", 1))
    for before, after in ((None, KeptAnswer(Answer("half", 1))), (kept, kept)):
        decision = advance(replace(SENT, kept=before), failed(LOST, HALF), POLICY)
        assert decision.state.kept == after


def test_a_lost_continuation_is_asked_for_again_behind_the_first_half() -> None:
    """The part of it that arrived is not joined: the next call brings the same text."""
    first_half = KeptAnswer(Answer("the first half", 1), "max_completion_tokens")
    state = replace(SENT, kept=first_half, continuing=True)
    arrived = AnswerRead(100.0, answer=Answer("the first half and", 1))
    for error in (LOST, replace(LOST, began=True), ApiError(500, code="server_error", message="boom")):
        again = advance(state, failed(error, arrived), POLICY).state
        assert (again.attempt, again.continuing, again.kept) == (2, True, first_half)


def test_a_stream_that_began_and_ended_early_is_a_lost_call() -> None:
    """Its server works, so it is no failed create; what arrived is kept, whatever the code says."""
    kept = replace(AGAIN, kept=KeptAnswer(Answer("half", 1)))
    expected = Decision(
        kept, Wait(wait_s=1.0), store=True, retry_reason="unknown_outcome", unknown_create=True
    )
    assert advance(SENT, failed(replace(LOST, began=True), HALF), POLICY) == expected
    ended = ApiError(200, code="stream_ended", message="reset")
    decision = advance(SENT, failed(ended), POLICY)
    assert (decision.unknown_create, decision.create_failed) == (True, True)


def test_an_attempt_of_several_rounds_began_with_its_first_call() -> None:
    """Its record says so; a conversation's thread has no failed turn to delete, since its server has none."""
    decision = advance(replace(SENT, began_at=60.0, shared_thread=True), failed(LOST), POLICY)
    assert decision.state.past_attempts[0].started_at == 60.0
    assert not decision.state.delete_failed_turn


def test_the_backoff_counts_the_attempts_since_the_retry() -> None:
    """The third attempt, after an earlier result with two, waits as the first does."""
    state = replace(SENT, attempt=3, attempts_before_retry=2)
    assert advance(state, failed(LOST), POLICY).action == Wait(wait_s=1.0)
    assert advance(replace(SENT, attempt=2), failed(LOST), POLICY).action == Wait(wait_s=2.0)


@pytest.mark.parametrize("partial", [None, HALF])
@pytest.mark.parametrize(
    ("state", "policy", "finish"),
    [
        (
            replace(SENT, attempt=3),
            POLICY,
            Finish(JobStatus.FAILED, error="unknown_outcome: connection_lost: reset"),
        ),
        (
            SENT,
            replace(POLICY, on_unknown=OnUnknown.STOP),
            Finish(JobStatus.FAILED, error="unknown_outcome: connection_lost: reset"),
        ),
        (replace(SENT, cancel_reason=CancelReason.USER), POLICY, Finish(JobStatus.CANCELLED)),
    ],
)
def test_the_end_has_what_came_of_the_answer(
    state: JobState, policy: RetryPolicy, finish: Finish, partial: AnswerRead | None
) -> None:
    """The run is unknown, and counted; the attempt before the last makes another."""
    answer = Answer() if partial is None else partial.answer
    ended = replace(state, began_at=95.0, ended_run=UNKNOWN_RUN, answer=answer)
    text = answer.text if finish.status is JobStatus.FAILED else ""
    expected = Decision(ended, replace(finish, answer=text), unknown_create=True, create_failed=True)
    assert advance(state, failed(LOST, partial), policy) == expected
    if state.attempt == 3:
        assert advance(replace(state, attempt=2), failed(LOST), policy).state.attempt == 3


@pytest.mark.parametrize(
    ("code", "message", "most"),
    [(None, "boom", 12), ("internal_error", "boom", 12), ("500", "boom", 12), ("bad_template", "boom", 6)],
)
def test_an_error_of_the_server_is_met_again_and_again(code: str | None, message: str, most: int) -> None:
    """With backoff; then it costs the attempt. A word of the server's own ends the row, half as late."""
    error = ApiError(500, code=code, message=message)
    for failures, wait_s in ((0, 0.5), (2, 2.0)):
        state = replace(SENT, failures=failures, failing_since=90.0 if failures else None)
        since = 90.0 if failures else 100.0
        after = replace(state, phase=Phase.NEW, failures=failures + 1, failing_since=since)
        expected = Decision(after, Wait(wait_s=wait_s), create_failed=True)
        assert advance(state, failed(error), POLICY) == expected
    last = replace(SENT, failures=most - 2, failing_since=90.0)
    assert isinstance(advance(last, failed(error), POLICY).action, ReleaseRow)
    ended = advance(replace(last, failures=most - 1), failed(error), POLICY)
    if most == 6:  # the row's own fault: no other attempt
        run = Run("", "failed", error_code="bad_template", error_message="boom")
        state = replace(last, failures=5, phase=Phase.READING, began_at=95.0, ended_run=run, answer=Answer())
        assert ended == Decision(state, Finish(JobStatus.FAILED, error="bad_template: boom"))
        return
    words = "server_error: boom" if code else "server_error: boom (HTTP 500)"
    state = replace(AGAIN, past_attempts=(record(1, "failed", words),))
    retried = Decision(state, Wait(wait_s=1.0), store=True, retry_reason="server_error", create_failed=True)
    assert ended == retried


def test_half_of_an_odd_limit_is_rounded_down() -> None:
    """A word of the server's own is met twice where five errors without one are."""
    policy = replace(POLICY, server_failures=5)
    ended = advance(replace(SENT, failures=1), failed(ApiError(500, code="bad_template")), policy)
    assert isinstance(ended.action, Finish)


def test_a_busy_server_slows_everybody_down_for_a_second_at_most() -> None:
    """It asks to come back later, with an error after which the call may be made again."""
    error = ApiError(502, message="Please try again later")
    first = advance(SENT, failed(error), POLICY)
    assert (first.throttled_s, first.throttled_by) == (0.5, "http_502: Please try again later")
    third = advance(replace(SENT, failures=3), failed(error), POLICY)
    assert (third.throttled_s, third.action) == (1.0, Wait(wait_s=4.0))


@pytest.mark.parametrize(
    "error", [ApiError(500, message="boom", retry_after_s=4.0), ApiError(500, message="Try again in 4s")]
)
def test_a_failing_server_that_names_a_time_gets_it(error: ApiError) -> None:
    """The call is made again after that time, and new calls of all workers wait as long."""
    decision = advance(SENT, failed(error), POLICY)
    assert (decision.action, decision.throttled_s) == (Wait(wait_s=4.0), 4.0)
    assert decision.throttled_by == str(error)


def test_the_last_attempt_ends_with_the_servers_error() -> None:
    """As a run that has failed; nothing is unknown."""
    error = ApiError(500, code="server_error", message="boom")
    state = replace(SENT, attempt=3)
    run = Run("", "failed", error_code="server_error", error_message="boom")
    ended = replace(state, phase=Phase.READING, began_at=95.0, ended_run=run, answer=Answer())
    expected = Decision(ended, Finish(JobStatus.FAILED, error="server_error: boom"))
    assert advance(state, failed(error), POLICY) == expected

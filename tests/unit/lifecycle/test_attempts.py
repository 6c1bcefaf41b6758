"""The record of attempts: why each ended, what it cost, when the next begins, and what it inherits."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import Attempt, JobStatus, OnIncomplete, Usage
from askmill.worker.lifecycle.api_types import ApiError, LookupKind, Run, RunLookup
from askmill.worker.lifecycle.decision import CreateRun, PauseBatch, ReleaseRow, Wait
from askmill.worker.lifecycle.events import (
    AnswerRead,
    CancelRequested,
    Event,
    FailedTurnDeleted,
    LookupDone,
    RequestFailed,
)
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import ANSWER, NOW, POLLING, READING, RUN_NOT_FOUND, SENT, P, finish_of

NOTHING = LookupDone(NOW, jitter=1.0, lookup=RunLookup(LookupKind.NOTHING))
CANCELLED = Run("run_1", "cancelled")
CHECKING = replace(READING, phase=Phase.CHECKING_DUPLICATES, answer=ANSWER, create_repeated=True)
STOPPING = replace(POLLING, cancel_reason=CancelReason.DEADLINE, cancel_requested_at=NOW)
BUSY = RequestFailed(NOW, jitter=1.0, error=ApiError(503))
NOT_THERE = RequestFailed(NOW, jitter=1.0, error=RUN_NOT_FOUND)


@pytest.mark.parametrize(
    ("state", "run"),
    [
        (READING, Run("run_1", "cancelled", usage=Usage(7, 3))),
        (READING, Run("run_1", "incomplete", usage=Usage(7, 3))),
        (READING, Run("run_1", "failed", usage=Usage(7, 3))),
        (replace(READING, cancel_reason=CancelReason.USER), Run("run_1", "expired", usage=Usage(7, 3))),
    ],
)
def test_a_run_that_did_not_complete_is_recorded_as_it_ended(state: JobState, run: Run) -> None:
    """Its tokens count, however the row ends."""
    assert advance(replace(state, ended_run=run), AnswerRead(NOW), P).state.ended_run == run


@pytest.mark.parametrize("stop", [None, CancelReason.USER])
def test_a_run_that_is_gone_is_recorded_as_gone(stop: CancelReason | None) -> None:
    """It was paid for."""
    over = replace(POLLING, attempt=3, not_found_since=NOW - 30, cancel_reason=stop)

    assert advance(over, NOT_THERE, P).state.ended_run == Run("run_1", "gone")


def test_an_adopted_answer_that_is_gone_is_recorded_without_an_id() -> None:
    """None is made up."""
    adopted = replace(READING, run_id=None, ended_run=None, attempt=3, not_found_since=NOW - 30)

    assert advance(adopted, NOT_THERE, P).state.ended_run == Run("", "gone")


def test_a_conversation_deleted_at_the_api_costs_no_attempt() -> None:
    """Its dead turn cannot be cleared: after the grace the row fails, and no run is counted that was not made."""
    clearing = JobState(attempt=2, shared_thread=True, thread_id="thread_1", delete_failed_turn=True)
    first = advance(clearing, NOT_THERE, P)
    assert (first.action, first.state) == (
        Wait(wait_s=0.5),
        replace(clearing, failures=1, failing_since=NOW, not_found_since=NOW),
    )

    over = advance(replace(first.state, not_found_since=NOW - 30), NOT_THERE, P)
    finish = finish_of(over)
    assert (finish.status, finish.error) == (JobStatus.FAILED, f"thread_gone: {RUN_NOT_FOUND.message}")
    assert (over.state.attempt, over.state.past_attempts, over.state.ended_run) == (2, (), None)


def test_the_last_attempt_but_one_is_followed_by_the_last() -> None:
    """A run that is gone counts as one attempt."""
    again = advance(replace(POLLING, attempt=2, not_found_since=NOW - 30), NOT_THERE, P)

    assert (again.state.attempt, again.retry_reason) == (3, "run_gone")


@pytest.mark.parametrize(
    ("run", "error", "reason"),
    [
        (Run("run_1", "expired"), "expired", "expired"),
        (
            Run("run_1", "failed", error_code="server_error", error_message="a: b: c"),
            "server_error: a: b: c",
            "server_error",
        ),
    ],
)
def test_a_new_attempt_says_why_and_keeps_the_rows_own(run: Run, error: str, reason: str) -> None:
    """The record has the whole message, the counters the code; conversation and earlier attempts stay."""
    state = replace(READING, ended_run=run, attempt=2, attempts_before_retry=1, shared_thread=True)
    again = advance(state, AnswerRead(NOW), P)

    assert (again.retry_reason, again.state.past_attempts[-1].error) == (reason, error)
    assert (again.state.attempt, again.state.attempts_before_retry, again.state.shared_thread) == (3, 1, True)


def test_a_continued_attempt_records_why_it_was_cut() -> None:
    """The cut attempt's error is the limit that cut it."""
    cut = Run("run_1", "incomplete", incomplete_reason="max_completion_tokens")
    policy = RetryPolicy(on_incomplete=OnIncomplete.CONTINUE)
    again = advance(replace(READING, ended_run=cut), AnswerRead(NOW, answer=ANSWER), policy)

    assert again.state.past_attempts[-1].error == "max_completion_tokens"


def test_a_refusal_for_money_costs_no_attempt_and_pauses_with_the_apis_message() -> None:
    """Case A9: the attempt is recorded, against no limit; the reason is the API's message."""
    broke = Run("run_1", "failed", error_code="insufficient_quota", error_message="pay: now")
    decision = advance(replace(READING, ended_run=broke), AnswerRead(NOW), P)

    assert decision.action == PauseBatch(reason="insufficient_quota: pay: now")
    assert (decision.retry_reason, decision.state.attempt, decision.state.attempts_before_retry) == (
        "insufficient_quota",
        2,
        1,
    )
    assert decision.state.past_attempts[-1].error == "insufficient_quota: pay: now"


QUOTA = "You exceeded your current quota, please check your plan and billing details."
NO_MODEL = "The model 'gpt-9' does not exist"


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (
            Run("run_1", "failed", error_code="rate_limit_exceeded", error_message=QUOTA),
            f"rate_limit_exceeded: {QUOTA}",
        ),
        (Run("run_1", "failed", error_message="Insufficient Balance"), "failed: Insufficient Balance"),
        (
            Run("run_1", "failed", error_code="server_error", error_message=NO_MODEL),
            f"server_error: {NO_MODEL}",
        ),
        (Run("run_1", "expired", error_code="x", error_message=QUOTA), f"x: {QUOTA}"),
        (Run("run_1", "incomplete", incomplete_reason="budget_exceeded"), "budget_exceeded"),
    ],
)
@pytest.mark.parametrize("stop", [None, CancelReason.DEADLINE])
def test_messages_about_money_or_an_unknown_model_pause_whatever_the_code(
    run: Run, reason: str, stop: CancelReason | None
) -> None:
    """The last attempt too: it is kept, the limit moves on, nothing is marked failed."""
    decision = advance(replace(READING, ended_run=run, attempt=3, cancel_reason=stop), AnswerRead(NOW), P)

    assert decision.action == PauseBatch(reason=reason)
    assert (decision.state.attempt, decision.state.attempts_before_retry, decision.state.phase) == (
        4,
        1,
        Phase.NEW,
    )
    assert decision.state.past_attempts[-1].error == reason


def test_a_row_whose_own_model_is_unknown_fails_at_once() -> None:
    """`--override model`: one attempt, and the batch continues; a refusal for money still pauses it."""
    unknown = Run("run_1", "failed", error_code="server_error", error_message=NO_MODEL)
    own = RetryPolicy(row_overrides=frozenset({"model"}))
    finish = finish_of(advance(replace(READING, ended_run=unknown), AnswerRead(NOW), own))
    assert (finish.status, finish.error) == (JobStatus.FAILED, f"server_error: {NO_MODEL}")

    broke = replace(unknown, error_message=QUOTA)
    assert isinstance(advance(replace(READING, ended_run=broke), AnswerRead(NOW), own).action, PauseBatch)


def test_a_rate_limit_that_ends_a_run_is_another_attempt() -> None:
    """Waiting helps there (A11): the attempt begins, and new runs of all rows, when the error says."""
    limited = Run(
        "run_1", "failed", error_code="rate_limit_exceeded", error_message="Please try again in 20s."
    )
    decision = advance(replace(READING, ended_run=limited), AnswerRead(NOW, jitter=0.0), P)

    assert decision.action == ReleaseRow(wait_s=20.0)
    assert (decision.state.attempt, decision.throttled_s) == (2, 20.0)
    last = advance(replace(READING, ended_run=limited), AnswerRead(NOW), RetryPolicy(attempts=1))
    assert (finish_of(last).status, last.throttled_s) == (JobStatus.FAILED, 20.0)


def test_a_run_that_names_a_long_wait_pauses_its_batch_until_then() -> None:
    """Over ten minutes (A10): no attempt is used up, the run is kept in the row's record."""
    limited = Run("run_1", "failed", error_code="rate_limit_exceeded", error_message="Try again in 1h2m.")
    decision = advance(replace(READING, ended_run=limited), AnswerRead(NOW), RetryPolicy(attempts=1))

    assert isinstance(decision.action, PauseBatch)
    assert decision.action.resume_after_s == 3720.0
    assert [attempt.run_id for attempt in decision.state.past_attempts] == ["run_1"]


def test_a_run_that_asks_for_more_than_the_limit_fails_its_row_at_once() -> None:
    """`Requested` above `Limit` (A8): no wait and no attempt helps."""
    message = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 61337."
    limited = Run("run_1", "failed", error_code="rate_limit_exceeded", error_message=message)
    finish = finish_of(advance(replace(READING, ended_run=limited), AnswerRead(NOW), P))

    assert (finish.status, finish.error) == (JobStatus.FAILED, f"rate_limit_exceeded: {message}")


def test_an_incomplete_answer_is_kept_although_money_ended_it() -> None:
    """What was paid for is the row's; the next row meets the refusal."""
    cut = Run("run_1", "incomplete", incomplete_reason="budget_exceeded")
    finish = finish_of(advance(replace(READING, ended_run=cut), AnswerRead(NOW, answer=ANSWER), P))
    assert (finish.status, finish.answer) == (JobStatus.INCOMPLETE, "42")


def test_a_wait_of_exactly_the_slot_limit_keeps_the_slot() -> None:
    """Only longer ones give the slot back."""
    dead = replace(READING, ended_run=Run("run_1", "expired"))

    assert advance(dead, AnswerRead(NOW, jitter=1.0), RetryPolicy(attempt_base_s=5.0)).action == Wait(
        wait_s=5.0
    )


# ── a last look, and a cancelled run's grace, before a new attempt ──


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (replace(CHECKING, ended_run=Run("run_1", "expired")), LookupDone(NOW, jitter=1.0)),
        (replace(CHECKING, ended_run=Run("run_1", "expired"), failures=3), BUSY),
        (replace(STOPPING, phase=Phase.READING, ended_run=CANCELLED), AnswerRead(NOW + 30, jitter=1.0)),
    ],
)
def test_a_new_attempt_after_the_duplicate_check_is_timed_as_any(state: JobState, event: Event) -> None:
    """The attempt ends when it is given up, and the next waits as the policy and the draw say."""
    again = advance(state, event, P)

    assert again.action == Wait(wait_s=1.0)
    assert (again.state.attempt, again.state.past_attempts[-1].finished_at) == (2, event.at)


def test_the_duplicate_check_counts_its_own_failures() -> None:
    """Those of reading the answer are over."""
    checking = advance(replace(READING, create_repeated=True, failures=9), AnswerRead(NOW, answer=ANSWER), P)

    assert (checking.state.phase, checking.state.failures) == (Phase.CHECKING_DUPLICATES, 0)


@pytest.mark.parametrize(
    "state", [JobState(attempt=2), replace(SENT, cancel_reason=CancelReason.USER, create_unconfirmed=True)]
)
def test_a_cancelled_row_keeps_its_state(state: JobState) -> None:
    """Its earlier attempts and its thread are in the row."""
    dead = Attempt(number=1, thread_id="thread_0", run_id="run_0", status="expired")
    event = CancelRequested(NOW) if state.phase is Phase.NEW else NOTHING
    decision = advance(replace(state, past_attempts=(dead,)), event, P)

    assert finish_of(decision).status is JobStatus.CANCELLED
    assert decision.state == replace(state, past_attempts=(dead,))


def test_a_deleted_turn_is_deleted_once() -> None:
    """What is stored next says that nothing of the dead run is left."""
    decision = advance(
        JobState(shared_thread=True, thread_id="thread_1", delete_failed_turn=True), FailedTurnDeleted(NOW), P
    )

    assert isinstance(decision.action, CreateRun)
    assert decision.state.delete_failed_turn is False

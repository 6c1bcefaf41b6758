"""What follows the end of a run, or a look at one: the complete decision of rarer cases."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import BatchState, JobStatus, OnIncomplete, Step, Usage
from askmill.worker.lifecycle.api_types import Answer, LookupKind, Run, RunLookup, ToolCall
from askmill.worker.lifecycle.decision import (
    Action,
    CallTools,
    Decision,
    DeleteFailedTurn,
    Finish,
    PauseBatch,
    PollRun,
    ReadAnswer,
    RecoverSubmit,
    ReleaseRow,
    Reserve,
    Wait,
)
from askmill.worker.lifecycle.events import (
    AnswerRead,
    Claimed,
    CreateSkipped,
    LookupDone,
    RunCreated,
    RunPolled,
)
from askmill.worker.lifecycle.kept_answer import CONTINUE_PROMPT
from askmill.worker.lifecycle.on_batch_state import apply_batch_state
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, KeptAnswer, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import ANSWER, CALLING_TOOLS, NOW, POLLING, READING, SENT, P

CALLS = (ToolCall("call_1", "add", "{}"),)
FLEX = RetryPolicy(tier="flex")
HALF = Answer(
    text="half",
    messages=1,
    run_id="run_1",
    steps=(Step(run_id="run_1", attempt=1, type="message_creation", status="completed"),),
)


def read(state: JobState, answer: Answer = ANSWER, policy: RetryPolicy = P, at: float = NOW) -> Decision:
    """The decision once the answer of `state.ended_run` is read, with the longest backoff."""
    return advance(state, AnswerRead(at, jitter=1.0, answer=answer), policy)


# ── a run that the server does not end ──


@pytest.mark.parametrize(
    ("reason", "attempt", "status", "error"),
    [
        (CancelReason.USER, 1, JobStatus.CANCELLED, "cancelled"),
        (CancelReason.DEADLINE, 1, JobStatus.FAILED, "deadline: the run took longer than it may"),
        (CancelReason.NEVER_STARTED, 3, JobStatus.FAILED, "queued"),
    ],
)
def test_a_run_that_stays_alive_ends_its_row(
    reason: CancelReason, attempt: int, status: JobStatus, error: str
) -> None:
    """It may still be paid: the row names it, and is recorded with it."""
    alive = Run("run_1", "queued")
    state = replace(READING, ended_run=alive, cancel_reason=reason, attempt=attempt)
    decision = read(state, Answer())
    assert (decision.uncancelled_run, decision.state) == (True, replace(state, answer=Answer()))
    assert isinstance(decision.action, Finish)
    assert decision.action.status is status
    alive_still = "the server has not ended the run since its cancel, it is queued: run_1 may still be paid"
    assert decision.action.error == f"{error}; {alive_still}"


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_run_that_never_started_is_followed_by_another(attempt: int) -> None:
    """Up to the last attempt, though the server has not ended it."""
    state = replace(
        READING, ended_run=Run("run_1", "queued"), cancel_reason=CancelReason.NEVER_STARTED, attempt=attempt
    )
    decision = read(state, Answer())
    assert (decision.uncancelled_run, decision.state.attempt) == (True, attempt + 1)


# ── incomplete ──


def test_a_run_that_is_cut_off_for_lack_of_credit_pauses_the_batch() -> None:
    """Its code says so, whatever the reason is called; with a text it is kept as incomplete."""
    cut = Run("run_1", "incomplete", error_code="insufficient_quota", incomplete_reason="max_output_tokens")
    state = replace(READING, ended_run=cut, last_read=True)
    assert isinstance(read(state, Answer()).action, PauseBatch)
    assert read(state, HALF) == Decision(
        replace(state, answer=HALF), Finish(JobStatus.INCOMPLETE, error="max_output_tokens", answer="half")
    )


def test_a_continuation_of_a_chat_sends_what_was_written() -> None:
    """The message goes back verbatim, and asks for the rest; the steps are kept once."""
    message = {"role": "assistant", "content": "half"}
    policy = RetryPolicy(on_incomplete=OnIncomplete.CONTINUE, stateless=True)
    run = Run("run_1", "incomplete", incomplete_reason="max_completion_tokens", message=message)
    decision = read(replace(READING, ended_run=run, messages=({"role": "tool"},)), HALF, policy)
    assert decision.state.messages == (
        {"role": "tool"},
        message,
        {"role": "user", "content": CONTINUE_PROMPT},
    )
    assert decision.state.kept == KeptAnswer(replace(HALF, steps=()), "max_completion_tokens")
    assert decision.state.past_steps == HALF.steps


def test_a_continuation_keeps_what_has_no_text() -> None:
    """A file that was made before the limit belongs to the answer."""
    policy = RetryPolicy(on_incomplete=OnIncomplete.CONTINUE)
    run = Run("run_1", "incomplete", incomplete_reason="max_completion_tokens")
    made = Answer(files=({"file_id": "file-1", "name": "a.csv"},), run_id="run_1")
    kept = read(replace(READING, ended_run=run), made, policy).state.kept
    assert kept == KeptAnswer(made, "max_completion_tokens")


# ── no capacity ──


@pytest.mark.parametrize(
    ("policy", "action"),
    [
        (FLEX, ReleaseRow(wait_s=30.0)),
        (replace(FLEX, tier_fallback=True), Wait(wait_s=0.0)),
    ],
)
def test_a_run_that_ends_for_lack_of_capacity_counts_no_attempt(
    policy: RetryPolicy, action: ReleaseRow | Wait
) -> None:
    """The row may make as many as before; the record and its reason are kept."""
    run = Run("run_1", "failed", error_code="resource_unavailable", error_message="code: no room")
    state = replace(READING, ended_run=run, attempt=2, attempts_before_retry=1)
    decision = read(state, Answer(), policy)
    (record,) = decision.state.past_attempts
    assert record.error == "resource_unavailable: code: no room"
    assert (decision.state.attempt, decision.state.attempts_before_retry) == (3, 2)
    assert decision == Decision(
        decision.state,
        action,
        store=True,
        retry_reason="resource_unavailable",
        tier_fallback=policy.tier_fallback,
    )
    assert decision.state.tier_fallen_back is policy.tier_fallback


def test_another_attempt_does_not_begin_before_the_time_that_the_error_names() -> None:
    """New runs of all workers are held as after a 429; the row's conversation and messages stay."""
    limited = Run(
        "run_1",
        "failed",
        error_code="rate_limit_exceeded",
        error_message="Rate limit reached. Please try again in 20s.",
    )
    state = replace(READING, ended_run=limited, earlier_runs=("run_0",), messages=({"role": "tool"},))
    decision = read(state, Answer())
    words = "rate_limit_exceeded: Rate limit reached. Please try again in 20s."
    assert (decision.action, decision.throttled_s) == (ReleaseRow(wait_s=22.0), 20.0)
    assert decision.throttled_by == words
    assert (decision.state.earlier_runs, decision.state.messages) == (("run_0",), ({"role": "tool"},))


@pytest.mark.parametrize(("wait", "pauses"), [("600s", False), ("601s", True)])
def test_a_run_that_names_a_long_wait_pauses_the_batch(wait: str, pauses: bool) -> None:
    """Ten minutes are still waited for."""
    limited = Run("run_1", "failed", error_code="rate_limit_exceeded", error_message=f"Try again in {wait}.")
    action = read(replace(READING, ended_run=limited), Answer()).action
    assert isinstance(action, PauseBatch) is pauses


# ── failed ──


@pytest.mark.parametrize(("model", "pauses"), [("tiny", True), ("other", False), (None, False)])
def test_a_run_that_names_the_batchs_model_as_missing_pauses_the_batch(
    model: str | None, pauses: bool
) -> None:
    """Words that only say that something is not there are about the model that was asked for, if they name it."""
    run = Run(
        "run_1", "failed", error_code="bad_run", error_message="the weights of model tiny are not found"
    )
    decision = read(replace(READING, ended_run=run), Answer(), RetryPolicy(model=model))
    assert isinstance(decision.action, PauseBatch) is pauses


def test_a_run_whose_content_is_refused_ends_its_row() -> None:
    """Another attempt would meet the same filter."""
    run = Run("run_1", "failed", error_code="content_filter", error_message="no")
    state = replace(READING, ended_run=run)
    assert read(state, Answer()) == Decision(
        replace(state, answer=Answer()), Finish(JobStatus.FAILED, error="content_filter: no")
    )


def test_a_text_of_a_failed_run_is_kept_as_it_is() -> None:
    """It is incomplete only where the run says so."""
    run = Run("run_1", "failed", error_code="server_error", incomplete_reason="max_output_tokens")
    kept = read(replace(READING, ended_run=run), HALF).state.kept
    assert kept == KeptAnswer(replace(HALF, steps=()), None)


# ── a late message ──


def test_a_late_message_is_waited_for() -> None:
    """The run wrote tokens that no message shows: read again, and once more when the time is over."""
    state = replace(READING, ended_run=Run("run_1", "completed", usage=Usage(10, 5)))
    waiting = replace(state, unsettled_since=NOW)
    assert read(state, Answer()) == Decision(waiting, ReadAnswer(after_s=1.0))
    assert read(waiting, Answer(), at=NOW + P.late_message_s) == Decision(
        replace(waiting, last_read=True), ReadAnswer()
    )


@pytest.mark.parametrize(
    ("answer", "continuing", "late"),
    [
        (Answer(), False, True),
        (Answer(text="42"), False, False),
        (Answer(messages=1), False, False),
        (Answer(refusal=True), False, False),
        (Answer(files=({"file_id": "file-1"},)), False, False),
        (Answer(text="half"), True, True),
    ],
)
def test_a_message_is_late_that_shows_nothing_of_its_own(
    answer: Answer, continuing: bool, late: bool
) -> None:
    """What a continued answer shows is the part from before."""
    state = replace(READING, continuing=continuing, kept=KeptAnswer(HALF) if continuing else None)
    assert isinstance(read(state, answer).action, ReadAnswer) is late


# ── a reply that is the answer, a search, a poll, a pause ──


def test_a_chat_reply_ends_the_row() -> None:
    """Its attempt began when the call was sent."""
    run = Run("chatcmpl-1", "completed", usage=Usage(10, 5))
    event = RunCreated(NOW, run=run, answer=AnswerRead(NOW, answer=ANSWER))
    ended = replace(
        SENT,
        phase=Phase.READING,
        run_id="chatcmpl-1",
        began_at=SENT.create_sent_at,
        ended_run=run,
        answer=ANSWER,
    )
    assert advance(SENT, event, RetryPolicy(stateless=True)) == Decision(
        ended, Finish(JobStatus.COMPLETED, answer="42"), store=True
    )


def test_a_message_beside_calls_is_the_answer_once_they_are_answered() -> None:
    """A response may repeat them; after it has been at work again, equal calls are new ones."""
    run = Run("run_1", "requires_action", tool_calls=CALLS, message_with_calls=True)
    answered = replace(POLLING, answered_calls=CALLS, answered_run_id="run_1")
    assert advance(answered, RunPolled(NOW, run=run), P).action == ReadAnswer()
    moved_on = replace(answered, calls_are_new_at=NOW - 1)
    assert not isinstance(advance(moved_on, RunPolled(NOW, run=run), P).action, ReadAnswer)


def test_a_search_during_a_submit_names_no_duplicates() -> None:
    """Other runs on the thread are the conversation's; after a create they are this row's, and cancelled."""
    run, other = Run("run_1", "in_progress"), Run("run_2", "in_progress")
    lookup = RunLookup(LookupKind.RUN, run, duplicates=(other,))
    submitting = advance(CALLING_TOOLS, LookupDone(NOW, lookup=lookup), P)
    creating = advance(SENT, LookupDone(NOW, lookup=lookup), P)
    assert (submitting.duplicate_run_ids, creating.duplicate_run_ids) == ((), ("run_2",))


@pytest.mark.parametrize(("failures", "wait_s"), [(0, 0.5), (1, 0.5), (2, 1.0)])
def test_a_thread_that_another_run_locks_is_tried_again(failures: int, wait_s: float) -> None:
    """After a lock without a name, the search found no run of this row."""
    state = replace(SENT, create_sent_at=None, failures=failures)
    decision = advance(state, LookupDone(NOW, jitter=1.0), P)
    assert decision == Decision(replace(state, phase=Phase.NEW, not_found_since=None), Wait(wait_s=wait_s))


@pytest.mark.parametrize(
    ("age_s", "began_at"),
    [(0.5, NOW - 0.5), (-3.0, NOW), (700.0, NOW - 700), (798.0, NOW - 800), (797.9, NOW - 797.9)],
)
def test_a_run_that_seems_too_old_gets_its_age_from_the_api(age_s: float, began_at: float) -> None:
    """Before it is cancelled at its deadline, and only where the API's clock makes it more than 2 s younger."""
    state = replace(POLLING, began_at=NOW - 800)
    decision = advance(state, RunPolled(NOW, run=Run("run_1", "in_progress", age_s=age_s)), P)
    assert decision.state.began_at == began_at
    assert decision.state.began_at_corrected is (began_at != NOW - 800)


def test_the_age_is_asked_for_at_the_deadline() -> None:
    """Not a moment later: the next look would come too late."""
    state = replace(POLLING, began_at=NOW - 600)
    decision = advance(state, RunPolled(NOW, run=Run("run_1", "in_progress", age_s=5.0)), P)
    assert (decision.state.began_at, decision.state.overdue, decision.store) == (NOW - 5, False, True)


def test_a_run_at_work_has_settled() -> None:
    """What it showed for a while, such as calls that are answered, counts anew the next time."""
    decision = advance(
        replace(POLLING, unsettled_since=NOW - 3), RunPolled(NOW, run=Run("run_1", "in_progress")), P
    )
    assert decision.state == POLLING


@pytest.mark.parametrize(
    ("stateless", "calls", "phase", "action"),
    [
        (True, CALLS, Phase.NEW, CallTools(calls=CALLS)),
        (True, (), Phase.NEW, Reserve()),
        (False, CALLS, Phase.CALLING_TOOLS, RecoverSubmit()),
    ],
)
def test_a_claimed_row_makes_the_calls_that_no_server_keeps(
    stateless: bool, calls: tuple[ToolCall, ...], phase: Phase, action: Action
) -> None:
    """On chat completions a worker died between the reply and its functions; another API is asked first."""
    state = JobState(phase=phase, thread_id="thread_1", calls=calls)
    assert advance(state, Claimed(NOW), RetryPolicy(stateless=stateless)) == Decision(state, action)


def test_a_create_that_came_too_late_is_prepared_again() -> None:
    """A failed turn is deleted first; nothing was sent, so the row is at its beginning."""
    state = replace(SENT, shared_thread=True, delete_failed_turn=True)
    decision = advance(state, CreateSkipped(NOW), P)
    assert decision == Decision(replace(state, phase=Phase.NEW), DeleteFailedTurn())


@pytest.mark.parametrize("state", [BatchState.PAUSED, BatchState.CANCELLED])
def test_a_pause_counts_a_run_that_the_server_has_not_cancelled(state: BatchState) -> None:
    """The attempt that would follow is not made; that its run may still be paid is counted all the same."""
    decision = Decision(JobState(attempt=2), Wait(), uncancelled_run=True)
    assert apply_batch_state(decision, state, Claimed(NOW), P).uncancelled_run
    assert not apply_batch_state(
        replace(decision, uncancelled_run=False), state, Claimed(NOW), P
    ).uncancelled_run
    polling = Decision(POLLING, PollRun())
    assert not apply_batch_state(polling, BatchState.CANCELLED, Claimed(NOW), P).uncancelled_run
    assert apply_batch_state(Decision(JobState(), Reserve()), state, Claimed(NOW), P).unknown_create is False

"""One event at a time: functions, deadlines, cancels, the way to a run, errors, the next attempt."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus, OnIncomplete, Step, Usage
from askmill.worker.lifecycle.api_types import Answer, ApiError, LookupKind, Run, RunLookup
from askmill.worker.lifecycle.decision import (
    CallTools,
    CancelRun,
    CreateRun,
    CreateThread,
    DeleteFailedTurn,
    Finish,
    PauseBatch,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    ReleaseRow,
    SubmitOutputs,
    Wait,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import (
    AnswerRead,
    BudgetFull,
    CancelRequested,
    Claimed,
    FailedTurnDeleted,
    LookupDone,
    RequestFailed,
    Reserved,
    RunCreated,
    RunPolled,
    ThreadCreated,
    ToolsCalled,
)
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, KeptAnswer, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import (
    ANSWER,
    CALLING_TOOLS,
    ENDED,
    NO_REPLY,
    NOW,
    POLLING,
    READING,
    RUN_REQUIRING_ACTION,
    SENT,
    P,
    finish_of,
)

# ── functions ──


def test_outputs_without_a_reply_are_checked_before_they_are_submitted_again() -> None:
    """Lost, locked or throttled: check first where they may have arrived; submit again where they have not."""
    lost = advance(
        CALLING_TOOLS, RequestFailed(NOW, jitter=1.0, error=NO_REPLY, request=RequestKind.SUBMIT), P
    )
    assert (lost.action, lost.state.failures) == (RecoverSubmit(after_s=0.5), 1)
    lock = ApiError(400, code="conversation_locked")
    locked = advance(CALLING_TOOLS, RequestFailed(NOW, jitter=1.0, error=lock, request=RequestKind.SUBMIT), P)
    assert (locked.action, locked.state.failures) == (RecoverSubmit(after_s=0.5), 1)
    slow = advance(
        CALLING_TOOLS,
        RequestFailed(NOW, error=ApiError(429, retry_after_s=7.0), request=RequestKind.SUBMIT),
        P,
    )
    assert isinstance(slow.action, SubmitOutputs)
    assert 7.0 <= slow.action.after_s <= 7.7
    assert slow.throttled_s == 7.0

    nothing = LookupDone(NOW, jitter=1.0, lookup=RunLookup(LookupKind.NOTHING, run=RUN_REQUIRING_ACTION))
    assert advance(CALLING_TOOLS, nothing, P).action == SubmitOutputs(after_s=0.0)
    assert advance(replace(CALLING_TOOLS, failures=2), nothing, P).action == SubmitOutputs(after_s=2.0)
    arrived = advance(
        CALLING_TOOLS, LookupDone(NOW, lookup=RunLookup(LookupKind.RUN, run=Run("run_2", "in_progress"))), P
    )
    assert isinstance(arrived.action, PollRun)
    assert (arrived.state.run_id, arrived.state.tool_rounds, arrived.store) == ("run_2", 1, True)
    done = advance(CALLING_TOOLS, LookupDone(NOW, lookup=RunLookup(LookupKind.ANSWER)), P)
    assert isinstance(done.action, ReadAnswer)
    assert (done.state.phase, done.state.run_id, done.store) == (Phase.READING, None, True)


def test_outputs_are_stored_before_they_are_submitted() -> None:
    """A worker killed in between does not call the functions again."""
    called = advance(replace(POLLING, failures=3), ToolsCalled(NOW, outputs=CALLING_TOOLS.outputs), P)
    assert (called.action, called.store) == (SubmitOutputs(), True)
    assert (called.state.phase, called.state.outputs, called.state.failures) == (
        Phase.CALLING_TOOLS,
        CALLING_TOOLS.outputs,
        0,
    )
    assert isinstance(advance(called.state, Claimed(NOW), P).action, RecoverSubmit)


def test_outputs_refused_because_the_run_has_ended_end_nothing() -> None:
    """The run is polled, and its status decides."""
    text = 'Runs in status "expired" do not accept tool outputs.'
    late = advance(
        CALLING_TOOLS, RequestFailed(NOW, error=ApiError(400, message=text), request=RequestKind.SUBMIT), P
    )
    assert (late.action, late.state.phase, late.state.outputs) == (PollRun(after_s=0.0), Phase.POLLING, ())


def test_outputs_refused_for_what_they_are_end_the_run_and_fail_the_row() -> None:
    """The API's words are the row's error; the run is cancelled, so that it costs no more."""
    error = ApiError(400, code="string_too_long", message="too long", param="tool_outputs")
    refused = advance(
        CALLING_TOOLS, RequestFailed(NOW, error=replace(error, param="input"), request=RequestKind.SUBMIT), P
    )
    assert isinstance(refused.action, CancelRun)
    assert (refused.state.cancel_reason, refused.state.outputs) == (CancelReason.ROW, ())
    ended = replace(refused.state, phase=Phase.READING, ended_run=Run("run_1", "cancelled"))
    finish = finish_of(advance(ended, AnswerRead(NOW), P))
    assert (finish.status, finish.error) == (JobStatus.FAILED, "string_too_long: too long")


# ── deadlines and cancelling ──


@pytest.mark.parametrize(
    ("deadline_s", "lifetime_s", "due_s"),
    [(40.0, 99.0, 40.0), (None, 99.0, 159.0), (None, None, 600.0)],
)
def test_the_deadline_is_ours_or_the_apis_and_a_minute_or_ten_minutes(deadline_s, lifetime_s, due_s) -> None:
    """No poll is planned past it; after it there is one more, and a run still running is cancelled."""
    policy = RetryPolicy(deadline_s=deadline_s)
    state = replace(POLLING, began_at=NOW, lifetime_s=lifetime_s)
    running = Run("run_1", "in_progress")
    early = advance(state, RunPolled(NOW + due_s - 0.1, run=running), policy)
    assert early.action == PollRun(by=NOW + due_s)
    late = advance(state, RunPolled(NOW + due_s, run=running), policy)
    assert (late.action, late.state.cancel_reason) == (PollRun(after_s=0.0), None)
    over = advance(late.state, RunPolled(NOW + due_s + 1, run=running), policy)
    assert isinstance(over.action, CancelRun)
    assert (over.state.cancel_reason, over.state.cancel_requested_at) == (
        CancelReason.DEADLINE,
        NOW + due_s + 1,
    )


@pytest.mark.parametrize("status", ["in_progress", "requires_action"])
def test_a_run_is_not_older_than_its_api_says(status: str) -> None:
    """Redis' clock was set an hour ahead while no worker lived: the run goes on; once, whatever `Date` says then."""
    state = replace(POLLING, began_at=NOW - 3600, lifetime_s=600.0)
    young = Run("run_1", status, age_s=5.0)
    corrected = advance(state, RunPolled(NOW, run=young), P)
    assert (corrected.state.began_at, corrected.state.overdue, corrected.store) == (NOW - 5, False, True)
    assert not isinstance(corrected.action, CancelRun)

    later = advance(corrected.state, RunPolled(NOW + 700, run=young), P)
    assert (later.action, later.state.overdue) == (PollRun(after_s=0.0), True)
    assert isinstance(advance(later.state, RunPolled(NOW + 701, run=young), P).action, CancelRun)


@pytest.mark.parametrize("age_s", [None, 3599.0, 3601.0, 9e9])
def test_a_run_that_its_api_calls_as_old_is_cancelled(age_s: float | None) -> None:
    """Also where no reply has a `Date`, and where it has whole seconds only."""
    state = replace(POLLING, began_at=NOW - 3600)
    polled = advance(state, RunPolled(NOW, run=Run("run_1", "in_progress", age_s=age_s)), P)
    assert (polled.action, polled.state) == (PollRun(after_s=0.0), replace(state, overdue=True))


@pytest.mark.parametrize("seen", [Run("run_1", "in_progress"), Run("run_1", "requires_action")])
def test_a_run_found_ended_at_its_last_poll_is_read(seen: Run) -> None:
    """The machine slept, or the row was taken over: what has ended meanwhile is read, never cancelled."""
    asleep = advance(POLLING, RunPolled(NOW + 3600, run=seen), P)
    assert asleep.action == PollRun(after_s=0.0)
    assert advance(asleep.state, RunPolled(NOW + 3601, run=ENDED), P).action == ReadAnswer()
    taken = advance(asleep.state, Claimed(NOW + 7200), P)
    assert (taken.action, taken.state.overdue) == (PollRun(after_s=0.0), False)
    longer = advance(
        asleep.state, RunPolled(NOW + 3601, run=Run("run_1", "in_progress")), RetryPolicy(deadline_s=9e3)
    )
    assert (longer.action, longer.state.overdue) == (PollRun(by=NOW - 4 + 9e3), False)


@pytest.mark.parametrize(
    ("created_at", "expires_at"),
    [(None, NOW), (NOW, None), (None, None), (NOW, NOW), (NOW, NOW - 600), (NOW, 4e9), (0.0, 1.7e9)],
)
def test_an_implausible_lifetime_is_ignored(created_at, expires_at) -> None:
    """Missing, ended before it began, or decades long: then the default of ten minutes holds."""
    run = Run("run_1", "in_progress", created_at=created_at, expires_at=expires_at)
    assert run.lifetime_s is None
    assert advance(POLLING, RunPolled(NOW, run=run), P).action == PollRun(by=NOW - 4 + 600)


@pytest.mark.parametrize("servers_now", [0.0, NOW - 1020, NOW, NOW + 1020, 2e9])
def test_the_servers_clock_is_never_compared_with_ours(servers_now: float) -> None:
    """Case A3: a run that lives ten minutes by its clock has eleven minutes from when it was first seen."""
    run = Run("run_1", "in_progress", created_at=servers_now, expires_at=servers_now + 600)
    assert advance(SENT, RunCreated(NOW, run=run), P).action == PollRun(by=NOW + 660)


def test_a_run_that_is_to_end_is_polled_or_cancelled_again() -> None:
    """While `cancelling` it is polled, else cancelled again."""
    stopping = replace(POLLING, cancel_reason=CancelReason.DEADLINE, cancel_requested_at=NOW, attempt=3)
    running, ending = Run("run_1", "in_progress"), Run("run_1", "cancelling")
    assert advance(stopping, RunPolled(NOW + 1, jitter=1.0, run=running), P).action == CancelRun(after_s=1.0)
    assert advance(stopping, RunPolled(NOW + 1, jitter=1.0, run=ending), P).action == PollRun(after_s=1.0)
    asked = advance(replace(stopping, cancel_requested_at=None), RunPolled(NOW, run=running), P)
    assert (asked.action, asked.state.cancel_requested_at) == (CancelRun(), NOW)


def test_a_run_that_expired_while_we_cancelled_it_is_expired() -> None:
    """The API's word goes before ours."""
    state = replace(
        POLLING,
        cancel_reason=CancelReason.DEADLINE,
        attempt=3,
        phase=Phase.READING,
        ended_run=Run("run_1", "expired"),
    )
    assert finish_of(advance(state, AnswerRead(NOW), P)).status is JobStatus.EXPIRED


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (JobState(), Finish),
        (replace(SENT, phase=Phase.NEW, create_unconfirmed=True), RecoverRun),
        (SENT, RecoverRun),
        (POLLING, CancelRun),
        (replace(POLLING, cancel_reason=CancelReason.USER, cancel_requested_at=NOW), PollRun),
        (CALLING_TOOLS, CancelRun),
        (READING, ReadAnswer),
        (replace(READING, phase=Phase.CHECKING_DUPLICATES), RecoverRun),
    ],
)
def test_cancel_in_each_phase(state: JobState, action: type) -> None:
    """No run: the row ends. Perhaps a run: it is searched for. A run: it is cancelled. An ended run: it is read."""
    decision = advance(state, CancelRequested(NOW), P)

    assert isinstance(decision.action, action)
    if action is CancelRun:
        assert (decision.state.cancel_reason, decision.state.phase) == (CancelReason.USER, Phase.POLLING)
    if state.phase in {Phase.CREATE_SENT, Phase.NEW} and action is RecoverRun:
        assert (decision.state.cancel_reason, decision.state.phase) == (CancelReason.USER, Phase.CREATE_SENT)


# ── the way to a run ──


def test_a_conversations_failed_turn_is_deleted_first() -> None:
    """Its messages go, then the run is made on the same thread."""
    state = JobState(shared_thread=True, thread_id="thread_1", delete_failed_turn=True, follow_up=True)
    clear = advance(state, Reserved(NOW), P)
    assert isinstance(clear.action, DeleteFailedTurn)
    make = advance(clear.state, FailedTurnDeleted(NOW), P)
    assert isinstance(make.action, CreateRun)
    assert not make.state.delete_failed_turn
    assert isinstance(
        advance(JobState(delete_failed_turn=True, shared_thread=True), Reserved(NOW), P).action, CreateThread
    )


def test_the_thread_is_stored_with_the_create_that_follows() -> None:
    """One save says both: the thread, and that a run may be out."""
    made = advance(JobState(failures=4, failing_since=1.0), ThreadCreated(NOW, thread_id="thread_1"), P)
    assert (made.action, made.store) == (CreateRun(), True)
    state = made.state
    assert (state.thread_id, state.create_sent_at, state.phase) == ("thread_1", NOW, Phase.CREATE_SENT)
    assert (state.failures, state.failing_since) == (0, None)


def test_no_room_in_the_budget_waits_a_little() -> None:
    """The row is released, with jitter."""
    waits = [advance(JobState(), BudgetFull(NOW, jitter), P).action for jitter in (0.0, 1.0)]
    assert waits == [ReleaseRow(wait_s=1.0), ReleaseRow(wait_s=3.0)]


# ── faults on the way ──


def test_creates_that_fail_count_towards_pausing_the_batch() -> None:
    """Threads and runs that cannot be made do; reads do not."""
    assert advance(
        JobState(), RequestFailed(NOW, error=ApiError(500), request=RequestKind.THREAD), P
    ).create_failed
    unsent = advance(
        SENT, RequestFailed(NOW, error=ApiError(None, sent=False), request=RequestKind.CREATE), P
    )
    assert unsent.create_failed
    assert unsent.state.phase is Phase.NEW
    assert advance(SENT, RequestFailed(NOW, error=NO_REPLY, request=RequestKind.CREATE), P).create_failed
    assert not advance(POLLING, RequestFailed(NOW, error=NO_REPLY, request=RequestKind.READ), P).create_failed


def test_an_unreadable_run_is_given_up_an_hour_after_its_end_of_life() -> None:
    """Reads are repeated as long as the run may live, and an hour more; then the row fails."""
    error = RequestFailed(NOW + 3600, jitter=1.0, error=ApiError(503), request=RequestKind.READ)
    unseen = replace(POLLING, failing_since=NOW - 100)
    for state in (replace(unseen, began_at=NOW - 50, lifetime_s=50.0), replace(unseen, began_at=NOW)):
        assert advance(state, error, P).action == PollRun(after_s=0.5)
        over = finish_of(advance(state, replace(error, at=NOW + 3601), P))
        assert (over.status, over.error) == (JobStatus.FAILED, "unreadable: http_503")


def test_a_429_waits_as_the_api_says_or_longer_than_other_errors() -> None:
    """As Retry-After says, and jitter; without it, four times the usual. A long wait releases the slot."""
    told = advance(JobState(), RequestFailed(NOW, jitter=1.0, error=ApiError(429, retry_after_s=2.0)), P)
    assert (told.action, told.throttled_s) == (Wait(wait_s=2.2), 2.0)
    untold = advance(JobState(), RequestFailed(NOW, jitter=1.0, error=ApiError(429)), P)
    assert (untold.throttled_s, untold.state.failures) == (2.0, 1)
    long = advance(JobState(), RequestFailed(NOW, jitter=0.0, error=ApiError(429, retry_after_s=60)), P)
    assert long.action == ReleaseRow(wait_s=60.0)
    edge = advance(JobState(), RequestFailed(NOW, jitter=0.0, error=ApiError(429, retry_after_s=5.0)), P)
    assert edge.action == Wait(wait_s=5.0)
    refused = advance(
        SENT,
        RequestFailed(NOW, jitter=0.0, error=ApiError(429, retry_after_s=1.0), request=RequestKind.CREATE),
        P,
    )
    assert (refused.state.phase, refused.action) == (Phase.NEW, Wait(wait_s=1.0))


def test_a_refused_row_fails_with_the_apis_message() -> None:
    """Nothing of the batch is touched."""
    error = ApiError(400, code="invalid_prompt", message="no")
    finish = finish_of(advance(SENT, RequestFailed(NOW, error=error, request=RequestKind.CREATE), P))
    assert (finish.status, finish.error) == (JobStatus.FAILED, "invalid_prompt: no")


def test_a_refused_setting_pauses_the_batch_and_keeps_the_row() -> None:
    """The row is released unmarked; one whose run may exist is checked every 30 s."""
    key = ApiError(401, code="invalid_api_key", message="wrong")
    create = advance(SENT, RequestFailed(NOW, error=key, request=RequestKind.CREATE), P)
    assert create.action == PauseBatch(reason="invalid_api_key: wrong")
    assert (create.state.phase, create.state.create_unconfirmed) == (Phase.NEW, False)
    assert advance(
        replace(SENT, create_repeated=True), RequestFailed(NOW, error=key, request=RequestKind.CREATE), P
    ).state.create_unconfirmed
    assert (
        advance(JobState(), RequestFailed(NOW, error=key, request=RequestKind.THREAD), P).action.wait_s == 0.0
    )
    assert advance(POLLING, RequestFailed(NOW, error=key, request=RequestKind.READ), P).action.wait_s == 30.0


# ── the ledger ──


def test_the_next_attempt_of_a_row_has_a_fresh_thread_and_a_conversations_row_keeps_its_thread() -> None:
    """Nothing of the failed run reaches the model; its steps and tokens stay recorded."""
    step = Step(run_id="run_1", attempt=1, type="message", status="completed")
    dead = replace(READING, ended_run=Run("run_1", "failed", error_code="server_error", usage=Usage(7, 3)))
    dead = replace(
        dead,
        doubled_limits=("max_completion_tokens",),
        last_message_id_before="msg_0",
        attempts_before_retry=0,
    )
    event = AnswerRead(NOW, jitter=1.0, answer=Answer(steps=(step,)))
    again = advance(dead, event, P)
    state = again.state
    assert (again.action, again.store, again.retry_reason) == (Wait(wait_s=1.0), True, "server_error")
    assert (state.attempt, state.thread_id, state.run_id, state.follow_up) == (2, None, None, False)
    assert (state.phase, state.doubled_limits, state.past_steps) == (Phase.NEW, dead.doubled_limits, (step,))
    (past,) = state.past_attempts
    assert (past.number, past.thread_id, past.run_id, past.status) == (1, "thread_1", "run_1", "failed")
    assert (past.error, past.usage) == ("server_error", Usage(7, 3))
    assert (past.started_at, past.finished_at) == (NOW - 4, NOW)

    shared = advance(replace(dead, shared_thread=True), event, P).state
    assert (shared.thread_id, shared.follow_up, shared.delete_failed_turn, shared.last_message_id_before) == (
        "thread_1",
        True,
        True,
        "msg_0",
    )
    late = advance(
        replace(dead, attempt=9, attempts_before_retry=7), replace(event, jitter=0.9), RetryPolicy(attempts=4)
    )
    assert isinstance(late.action, Wait)
    longer = RetryPolicy(attempts=9, attempt_base_s=20.0)
    assert advance(dead, event, longer).action == ReleaseRow(wait_s=20.0)


def test_a_continued_answer_stays_on_the_thread_and_deletes_nothing() -> None:
    """The model continues from what it wrote so far, in a conversation too."""
    cut = Run("run_1", "incomplete", incomplete_reason="max_completion_tokens")
    policy = RetryPolicy(on_incomplete=OnIncomplete.CONTINUE)
    for shared in (False, True):
        state = replace(READING, ended_run=cut, shared_thread=shared)
        on = advance(state, AnswerRead(NOW, answer=replace(ANSWER, text="2")), policy)
        assert (on.action, on.store, on.retry_reason) == (Wait(), True, "max_completion_tokens")
        assert (on.state.thread_id, on.state.delete_failed_turn, on.state.follow_up) == (
            "thread_1",
            False,
            True,
        )
        kept = KeptAnswer(replace(ANSWER, text="2"), "max_completion_tokens")
        assert (on.state.continuing, on.state.kept) == (True, kept)


def test_a_failed_run_has_the_apis_message() -> None:
    """Code and message; without a code, its status."""
    for run, error in (
        (Run("run_1", "failed", error_code="invalid_prompt", error_message="no"), "invalid_prompt: no"),
        (Run("run_1", "failed"), "failed"),
    ):
        finish = finish_of(advance(replace(READING, ended_run=run), AnswerRead(NOW), P))
        assert (finish.status, finish.error) == (JobStatus.FAILED, error)


def test_the_state_is_stored_before_functions_are_called() -> None:
    """A worker killed by a function is found out: the round is stored before it is called."""
    asked = advance(POLLING, RunPolled(NOW, run=RUN_REQUIRING_ACTION), P)
    assert (asked.action, asked.store) == (CallTools(calls=RUN_REQUIRING_ACTION.tool_calls), True)

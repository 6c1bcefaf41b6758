"""Failures that last, one event at a time: 404s, reads that never succeed, delayed creates."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import Answer, ApiError, LookupKind, Run, RunLookup
from askmill.worker.lifecycle.decision import (
    Action,
    CancelRun,
    CreateRun,
    Finish,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    Reserve,
    SubmitOutputs,
    Wait,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import (
    AnswerRead,
    Claimed,
    CreateSkipped,
    LookupDone,
    RequestFailed,
    Reserved,
    RunPolled,
    ThreadCreated,
)
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import SEND_WITHIN_S, advance, in_time
from tests.unit.lifecycle.states import (
    ANSWER,
    CALLING_TOOLS,
    NO_REPLY,
    NOW,
    POLLING,
    READING,
    RUN_NOT_FOUND,
    SENT,
    P,
    finish_of,
)

CHECKING = replace(READING, phase=Phase.CHECKING_DUPLICATES, answer=ANSWER, create_repeated=True)
BUSY = ApiError(503)
NOTHING = RunLookup(LookupKind.NOTHING)
NO_ROUTE = ApiError(404, message="Not RunLookup")


def at(seconds: float, error: ApiError, on: RequestKind = RequestKind.READ) -> RequestFailed:
    return RequestFailed(NOW + seconds, jitter=1.0, error=error, request=on)


# ── 404 ──


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (POLLING, PollRun(after_s=1.0)),
        (READING, ReadAnswer(after_s=1.0)),
        (CALLING_TOOLS, RecoverSubmit(after_s=1.0)),
        (replace(SENT, create_sent_at=NOW - 99), RecoverRun(after_s=1.0)),
        (JobState(shared_thread=True, thread_id="thread_1", delete_failed_turn=True), Wait(wait_s=1.0)),
    ],
)
def test_a_404_after_an_outage_has_a_grace_of_its_own(state: JobState, again: Action) -> None:
    """A proxy that comes up answers 404 for a moment: no row of all in flight is given up, or asked again."""
    on = RequestKind.THREAD if state.phase is Phase.NEW else RequestKind.READ
    away = advance(state, at(0, ApiError(None, sent=False), on), P)
    up = advance(away.state, at(40, RUN_NOT_FOUND), P)

    assert up.action == again
    assert (up.state.not_found_since, up.state.failing_since) == (NOW + 40, NOW)
    assert up.state == replace(state, failures=2, failing_since=NOW, not_found_since=NOW + 40)


@pytest.mark.parametrize("state", [POLLING, READING, CALLING_TOOLS])
@pytest.mark.parametrize("error", [BUSY, ApiError(None), ApiError(429), ApiError(401)])
def test_any_other_error_restarts_the_grace(state: JobState, error: ApiError) -> None:
    """404s are believed when there is nothing else for 30 s, not when two of them stand 30 s apart."""
    missing = advance(state, at(0, RUN_NOT_FOUND), P).state
    other = advance(missing, at(1, error), P).state
    assert other.not_found_since is None

    assert advance(other, at(31, RUN_NOT_FOUND), P).retry_reason is None
    assert advance(missing, at(30, RUN_NOT_FOUND), P).retry_reason == "run_gone"


def test_a_run_that_is_seen_again_was_never_gone() -> None:
    """So is one whose row another worker takes: what the last one met says nothing about the server now."""
    missing = replace(POLLING, failures=1, failing_since=NOW, not_found_since=NOW)
    seen = advance(missing, RunPolled(NOW + 5, run=Run("run_1", "in_progress")), P)
    assert (seen.state.not_found_since, seen.state.failing_since) == (None, None)

    claimed = advance(missing, Claimed(NOW + 9_999), P)
    assert (claimed.state.not_found_since, claimed.state.failing_since) == (None, None)
    assert (
        advance(
            replace(CALLING_TOOLS, not_found_since=NOW), LookupDone(NOW + 5, lookup=NOTHING), P
        ).state.not_found_since
        is None
    )
    doubtful = JobState(thread_id="thread_1", create_unconfirmed=True, not_found_since=NOW)
    assert advance(doubtful, Claimed(NOW + 9_999), P).state.not_found_since is None
    clearing = JobState(
        shared_thread=True, delete_failed_turn=True, failures=5, failing_since=NOW, not_found_since=NOW
    )
    assert advance(clearing, Claimed(NOW + 9), P).state == clearing


def test_a_404_in_the_duplicate_check_drops_no_answer() -> None:
    """The answer is there and paid for: the check is given up after a few tries, the row is completed."""
    state = CHECKING
    for tries in range(P.attempts):
        decision = advance(state, at(30 * tries, RUN_NOT_FOUND), P)
        assert isinstance(decision.action, RecoverRun)
        state = decision.state

    end = advance(state, at(100, RUN_NOT_FOUND), P)
    assert (finish_of(end).status, finish_of(end).answer, end.retry_reason) == (
        JobStatus.COMPLETED,
        "42",
        None,
    )


# ── 404 while a create is unconfirmed ──


def test_a_404_in_the_search_for_a_lost_create_changes_no_state() -> None:
    """The thread is kept and searched again until the create's time limit and the grace are over."""
    lost = advance(SENT, at(0, NO_REPLY, RequestKind.CREATE), P).state
    first = advance(lost, at(1, RUN_NOT_FOUND), P)
    assert isinstance(first.action, RecoverRun)
    assert (first.state.phase, first.state.thread_id, first.state.failures) == (
        Phase.CREATE_SENT,
        "thread_1",
        2,
    )

    graceless = advance(first.state, at(32, RUN_NOT_FOUND), P)
    assert isinstance(graceless.action, RecoverRun), "the create may still be carried out"
    shown = LookupDone(NOW + 33, lookup=RunLookup(LookupKind.RUN, run=Run("run_1", "in_progress")))
    assert advance(graceless.state, shown, P).state.run_id == "run_1"


def test_a_server_that_lists_no_runs_gets_the_create_again_after_the_limit_and_it_is_counted() -> None:
    """404 to every search: after the time limit and the grace, one more search, then the create, counted."""
    missing = replace(SENT, failures=9, failing_since=NOW, not_found_since=NOW)
    over = advance(missing, at(56, NO_ROUTE), P)
    assert (over.action, over.state.create_unconfirmed, over.state.phase) == (Reserve(), True, Phase.NEW)
    assert over.state.thread_id == "thread_1"

    look = advance(over.state, Reserved(NOW + 57), P)
    assert look.action == RecoverRun()
    again = advance(look.state, at(58, NO_ROUTE), P)
    assert (again.action, again.unknown_create, again.store) == (CreateRun(), True, True)
    assert (again.state.create_repeated, again.state.create_sent_at) == (True, NOW + 58)
    assert (again.state.not_found_since, again.state.failing_since) == (None, None)


def test_one_404_in_the_last_search_does_not_allow_a_create() -> None:
    """Long after the limit too, as after a night: the grace comes first."""
    decision = advance(replace(SENT, create_unconfirmed=True, create_sent_at=NOW - 9_999), at(0, NO_ROUTE), P)

    assert (decision.action, decision.unknown_create) == (RecoverRun(after_s=0.5), False)
    stopping = replace(
        SENT, create_unconfirmed=True, cancel_reason=CancelReason.USER, not_found_since=NOW - 30
    )
    assert finish_of(advance(stopping, at(0, NO_ROUTE), P)).status is JobStatus.CANCELLED


def test_a_create_refused_for_its_thread_counts_as_one_that_failed() -> None:
    """A server whose threads vanish at once would be asked for new ones for ever: the batch pauses."""
    error = ApiError(404, message="No thread found with id 'thread_1'.")

    assert advance(SENT, at(0, error, RequestKind.CREATE), P).create_failed


# ── an end to reading ──

READS = [SENT, POLLING, READING, CALLING_TOOLS, replace(READING, run_id=None, began_at=None, ended_run=None)]


@pytest.mark.parametrize("state", READS)
@pytest.mark.parametrize(
    "error", [BUSY, ApiError(400, message="no"), ApiError(200, code="bad_reply"), ApiError(None)]
)
def test_what_cannot_be_read_for_an_hour_fails_the_row(state: JobState, error: ApiError) -> None:
    """Messages that no reading gets to: the row says why and the batch ends, instead of hanging for ever."""
    first = advance(state, at(0, error), P)
    assert (first.state.failing_since, isinstance(first.action, Finish)) == (NOW, False)
    still = advance(first.state, at(3600, error), P)
    assert not isinstance(still.action, Finish)

    over = finish_of(advance(still.state, at(3601, error), P))
    assert (over.status, over.error) == (JobStatus.FAILED, f"unreadable: {error}")


def test_outputs_that_never_arrive_fail_the_row() -> None:
    """Submitted, no reply, not found, again and again; or a stranger's lock: after an hour there is an end."""
    state, seconds = CALLING_TOOLS, 0.0
    while seconds <= 3600:
        lost = advance(state, at(seconds, NO_REPLY, RequestKind.SUBMIT), P)
        assert isinstance(lost.action, RecoverSubmit)
        nothing = advance(lost.state, LookupDone(NOW + seconds, lookup=NOTHING), P)
        assert isinstance(nothing.action, SubmitOutputs)
        state, seconds = nothing.state, seconds + 600

    lock = ApiError(400, code="conversation_locked")
    for error in (NO_REPLY, lock):
        over = advance(state, at(seconds, error, RequestKind.SUBMIT), P)
        assert (finish_of(over).error or "").startswith("unreadable: ")


@pytest.mark.parametrize("state", [POLLING, READING, CALLING_TOOLS])
def test_the_hour_begins_with_the_first_request_after_a_claim(state: JobState) -> None:
    """Runs left overnight are not given up at the first failure of the morning."""
    morning = advance(replace(state, failing_since=NOW), Claimed(NOW + 30_000), P).state
    decision = advance(morning, at(30_000, BUSY), P)

    assert not isinstance(decision.action, Finish)
    assert decision.state.failing_since == NOW + 30_000


def test_a_run_may_be_unreadable_as_long_as_it_lives() -> None:
    """One with a day to complete is not given up for an hour's outage."""
    state = replace(POLLING, failing_since=NOW, lifetime_s=86_400.0)

    assert isinstance(advance(state, at(80_000, BUSY), P).action, PollRun)


def test_failures_before_the_answer_do_not_count_for_reading_it() -> None:
    """An adopted answer's reading has its own hour; so has each create."""
    adopted = advance(
        replace(SENT, failures=4, failing_since=1.0), LookupDone(NOW, lookup=RunLookup(LookupKind.ANSWER)), P
    ).state
    assert (adopted.failures, adopted.failing_since) == (0, None)
    sent = advance(
        JobState(thread_id="thread_1", failing_since=1.0, not_found_since=1.0), Reserved(NOW), P
    ).state
    assert (sent.failing_since, sent.not_found_since) == (None, None)
    checked = advance(replace(CHECKING, failing_since=1.0), at(0, BUSY), P)
    assert isinstance(checked.action, RecoverRun)
    waiting = advance(JobState(failing_since=1.0), at(0, BUSY, RequestKind.THREAD), P)
    assert isinstance(waiting.action, Wait)


# ── functions ──


@pytest.mark.parametrize("error", [BUSY, ApiError(None), ApiError(429), ApiError(None, sent=False)])
def test_unconfirmed_outputs_are_checked_until_a_check_succeeds(error: ApiError) -> None:
    """On Responses a submission costs money: a failed check does not allow another one."""
    assert isinstance(advance(CALLING_TOOLS, at(0, error), P).action, RecoverSubmit)


def test_a_run_whose_outputs_were_refused_is_polled_from_then_on() -> None:
    """Its cancel may fail: there is nothing to submit any more."""
    refused = advance(CALLING_TOOLS, at(0, ApiError(422), RequestKind.SUBMIT), P)
    assert (type(refused.action), refused.state.phase) == (CancelRun, Phase.POLLING)

    assert isinstance(advance(refused.state, at(1, BUSY, RequestKind.CANCEL), P).action, PollRun)


# ── a delayed create ──


def test_a_create_is_in_time_for_two_seconds() -> None:
    """A lost reply is searched for from `create_sent_at` on: sent later, the search would be too short."""
    assert in_time(SENT, (SENT.create_sent_at or 0.0) + SEND_WITHIN_S)
    assert not in_time(SENT, (SENT.create_sent_at or 0.0) + SEND_WITHIN_S + 0.01)


def test_a_delayed_create_is_marked_again() -> None:
    """Nothing was sent: a new mark with its own time, stored first, where a pause or a cancel is seen again."""
    again = advance(SENT, CreateSkipped(NOW + 70), P)

    assert (again.action, again.store, again.unknown_create) == (CreateRun(), True, False)
    assert again.state == replace(SENT, create_sent_at=NOW + 70)


def test_a_delayed_repeat_is_searched_once_more() -> None:
    """The first create's run may have arrived meanwhile; it is counted as unknown once."""
    held = advance(replace(SENT, create_repeated=True), CreateSkipped(NOW + 70), P)
    assert (held.action, held.state.create_unconfirmed) == (RecoverRun(), True)

    again = advance(held.state, LookupDone(NOW + 71, lookup=NOTHING), P)
    assert (again.action, again.unknown_create) == (CreateRun(), False)


def test_a_thread_created_after_failures_resets_their_count() -> None:
    """Its tries are its own."""
    made = advance(
        JobState(failures=4, failing_since=1.0, not_found_since=1.0),
        ThreadCreated(NOW, thread_id="thread_1"),
        P,
    ).state

    assert (made.failures, made.failing_since, made.not_found_since) == (0, None, None)


def test_a_read_that_succeeds_resets_the_count() -> None:
    """What was met on the way to the answer is in no later attempt."""
    dead = replace(
        READING, failing_since=1.0, not_found_since=1.0, failures=7, ended_run=Run("run_1", "expired")
    )
    again = advance(dead, AnswerRead(NOW, answer=Answer()), P).state

    assert (again.attempt, again.failures, again.failing_since, again.not_found_since) == (2, 0, None, None)

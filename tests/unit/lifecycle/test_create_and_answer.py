"""One event at a time: answers, unconfirmed creates, runs that are gone, locked threads."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import Attempt, JobStatus, OnIncomplete, Step, Usage
from askmill.worker.lifecycle.api_types import Answer, ApiError, LookupKind, Run, RunLookup
from askmill.worker.lifecycle.decision import (
    CreateRun,
    Decision,
    Finish,
    PollRun,
    ReadAnswer,
    RecoverRun,
    ReleaseRow,
    Reserve,
    Wait,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import AnswerRead, Claimed, LookupDone, RequestFailed, Reserved
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import (
    ANSWER,
    ENDED,
    NO_REPLY,
    NOW,
    POLLING,
    READING,
    RUN_NOT_FOUND,
    SENT,
    P,
    finish_of,
)

# ── an answer ──


@pytest.mark.parametrize(
    ("answer", "schema_error", "status", "error"),
    [
        (ANSWER, None, JobStatus.COMPLETED, None),
        (Answer(), None, JobStatus.FAILED, "no_message"),
        (Answer(), "the answer is not JSON", JobStatus.FAILED, "no_message"),
        (replace(ANSWER, refusal=True), "the answer is not JSON", JobStatus.COMPLETED, "refusal"),
        (ANSWER, "a: 42 is not of type 'string'", JobStatus.FAILED, "schema: a: 42 is not of type 'string'"),
        (replace(ANSWER, note="files only: 1"), None, JobStatus.COMPLETED, "files only: 1"),
    ],
)
def test_a_completed_run_gives_the_row_its_status_and_error(answer, schema_error, status, error) -> None:
    """No message, a refusal, a missed schema, images only: each has its own status and words; text is kept."""
    waited = replace(READING, unsettled_since=NOW - P.late_message_s, last_read=True)
    decision = advance(waited, AnswerRead(NOW, answer=answer, schema_error=schema_error), P)
    finish = finish_of(decision)

    assert (finish.status, finish.error, finish.answer) == (status, error, answer.text)
    assert (decision.state.ended_run, decision.state.answer) == (ENDED, answer)


def test_an_adopted_answer_is_completed_without_a_run() -> None:
    """Responses: items are there, their response is not known."""
    adopting = LookupDone(NOW, lookup=RunLookup(LookupKind.ANSWER))
    decision = advance(replace(SENT, create_unconfirmed=True), adopting, P)
    assert isinstance(decision.action, ReadAnswer)
    assert (decision.state.phase, decision.state.create_unconfirmed, decision.store) == (
        Phase.READING,
        False,
        True,
    )

    finish = finish_of(advance(decision.state, AnswerRead(NOW, answer=replace(ANSWER, run_id=None)), P))
    assert (finish.status, finish.answer) == (JobStatus.COMPLETED, "42")


def test_a_repeated_create_is_checked_for_duplicates_at_the_end() -> None:
    """The first create's run, if it arrived late, is a duplicate and is cancelled."""
    step = Step(run_id="run_1", attempt=1, type="message", status="completed")
    answer = replace(ANSWER, steps=(step,))
    checking = advance(
        replace(READING, create_repeated=True), AnswerRead(NOW, answer=answer, schema_error="x"), P
    )
    assert isinstance(checking.action, RecoverRun)
    assert (checking.state.phase, checking.store, checking.state.failures) == (
        Phase.CHECKING_DUPLICATES,
        True,
        0,
    )

    late = Run("run_0", "in_progress")
    for found in (
        RunLookup(LookupKind.RUN, run=late, complete_list=True),
        RunLookup(LookupKind.RUN, run=ENDED, duplicates=(late,), complete_list=True),
    ):
        decision = advance(checking.state, LookupDone(NOW, lookup=found), P)
        assert decision.duplicate_run_ids == ("run_0",)
        assert finish_of(decision).error == "schema: x"
        assert finish_of(decision).answer == "42"
    alone = advance(
        checking.state, LookupDone(NOW, lookup=RunLookup(LookupKind.RUN, run=ENDED, complete_list=True)), P
    )
    assert alone.duplicate_run_ids == ()


@pytest.mark.parametrize("run", [Run("", "incomplete"), Run("items:conv_1", "requires_action")])
def test_a_rows_own_items_are_no_duplicate_run(run: Run) -> None:
    """Responses lists none: the lookup finds what the row's own response has left."""
    checking = replace(READING, phase=Phase.CHECKING_DUPLICATES, answer=ANSWER, create_repeated=True)
    for kind in (LookupKind.RUN, LookupKind.ANSWER):
        decision = advance(checking, LookupDone(NOW, lookup=RunLookup(kind, run=run)), P)
        assert decision.duplicate_run_ids == ()
        assert finish_of(decision).answer == "42"


def test_a_row_that_ends_with_an_unconfirmed_create_is_counted() -> None:
    """Cancelled, or unreadable for an hour, after a create without a reply: it may have cost money."""
    lost = advance(
        replace(SENT, create_sent_at=NOW), RequestFailed(NOW, error=NO_REPLY, request=RequestKind.CREATE), P
    ).state
    late = NOW + P.unreadable_s + P.create_limit_s + 1
    unreadable = advance(lost, RequestFailed(late, error=NO_REPLY, request=RequestKind.READ), P)
    assert (finish_of(unreadable).status, unreadable.unknown_create) == (JobStatus.FAILED, True)
    for listed in (True, False):
        nothing = LookupDone(late, lookup=RunLookup(LookupKind.NOTHING, complete_list=listed))
        cancelled = advance(replace(lost, cancel_reason=CancelReason.USER), nothing, P)
        assert (finish_of(cancelled).status, cancelled.unknown_create) == (JobStatus.CANCELLED, not listed)
    followed = replace(READING, failing_since=NOW)
    assert not advance(
        followed, RequestFailed(late, error=NO_REPLY, request=RequestKind.READ), P
    ).unknown_create


def test_a_run_with_usage_data_keeps_it_when_it_is_gone() -> None:
    """Its messages are gone before they were read; its cost is known."""
    ended = replace(ENDED, usage=Usage(100, 50))
    reading, missing = (
        replace(READING, ended_run=ended),
        ApiError(404, message="No thread found with id 'thread_1'."),
    )
    grace = advance(reading, RequestFailed(NOW, error=missing, request=RequestKind.READ), P).state
    given_up = advance(
        grace, RequestFailed(NOW + P.not_found_grace_s, error=missing, request=RequestKind.READ), P
    ).state
    assert [(one.status, one.usage) for one in given_up.past_attempts] == [("gone", Usage(100, 50))]


def test_the_duplicate_check_is_given_up_after_a_few_failures() -> None:
    """An answer that is there is not held back for ever by a check that cannot be made."""
    state, decision = (
        replace(READING, phase=Phase.CHECKING_DUPLICATES, answer=ANSWER, create_repeated=True),
        None,
    )
    for tries in range(P.attempts + 1):
        decision = advance(state, RequestFailed(NOW, error=NO_REPLY, request=RequestKind.READ), P)
        assert isinstance(decision.action, RecoverRun if tries < P.attempts else Finish)
        state = decision.state
    assert decision is not None
    assert finish_of(decision).answer == "42"


# ── an unconfirmed create ──


def test_a_lost_create_is_searched_until_its_time_limit_then_reserved_searched_and_repeated() -> None:
    """The wait ends with the limit; the repeat waits for the rate limits; one more search precedes it."""
    nothing = LookupDone(NOW, jitter=1.0, lookup=RunLookup(LookupKind.NOTHING))
    early = advance(SENT, nothing, P)
    assert early.action == RecoverRun(after_s=0.5)
    assert advance(replace(SENT, failures=16, create_sent_at=NOW - 58), nothing, P).action == RecoverRun(
        after_s=2.0
    )

    over = advance(replace(SENT, create_sent_at=NOW - 60, failures=9, failing_since=1.0), nothing, P)
    assert over.action == Reserve()
    assert (
        over.state.phase,
        over.state.create_unconfirmed,
        over.state.failures,
        over.state.failing_since,
    ) == (
        Phase.NEW,
        True,
        0,
        None,
    )
    look = advance(over.state, Reserved(NOW), P)
    assert (look.action, look.state.phase) == (RecoverRun(), Phase.CREATE_SENT)
    again = advance(replace(look.state, failures=3, failing_since=1.0), nothing, P)
    assert isinstance(again.action, CreateRun)
    assert (again.store, again.unknown_create) == (True, True)
    state = again.state
    assert (state.phase, state.create_sent_at, state.create_unconfirmed, state.create_repeated) == (
        Phase.CREATE_SENT,
        NOW,
        False,
        True,
    )
    assert (state.failures, state.failing_since) == (0, None)


@pytest.mark.parametrize(("repeated", "listed"), [(True, False), (False, True)])
def test_unknown_creates_are_counted_once_and_only_where_nothing_lists_runs(repeated, listed) -> None:
    """A complete list without the run proves that there is none; a second repeat is the same unknown create."""
    nothing = LookupDone(NOW, lookup=RunLookup(LookupKind.NOTHING, complete_list=listed))
    decision = advance(replace(SENT, create_unconfirmed=True, create_repeated=repeated), nothing, P)

    assert isinstance(decision.action, CreateRun)
    assert not decision.unknown_create


@pytest.mark.parametrize("sent_at", [NOW - 60, NOW - 59])
def test_a_cancelled_row_waits_for_an_unconfirmed_create_no_longer_than_it_may_take(sent_at) -> None:
    """Before the limit it searches on; then the row is cancelled. Already unconfirmed, it is cancelled at once."""
    nothing = LookupDone(NOW, lookup=RunLookup(LookupKind.NOTHING))
    stopping = replace(SENT, cancel_reason=CancelReason.USER, create_sent_at=sent_at)
    decision = advance(stopping, nothing, P)

    assert isinstance(decision.action, Finish if sent_at == NOW - 60 else RecoverRun)
    assert (
        finish_of(advance(replace(stopping, create_unconfirmed=True), nothing, P)).status
        is JobStatus.CANCELLED
    )


def test_a_found_run_is_polled_and_its_duplicates_are_cancelled() -> None:
    """Of several runs of one attempt one is polled; the others are duplicates."""
    late = Run("run_2", "queued")
    found = RunLookup(LookupKind.RUN, run=Run("run_1", "in_progress"), duplicates=(late,))
    decision = advance(
        replace(SENT, create_unconfirmed=True, failures=2, failing_since=1.0, locked_since=1.0),
        LookupDone(NOW, lookup=found),
        P,
    )

    assert isinstance(decision.action, PollRun)
    assert (decision.duplicate_run_ids, decision.store) == (("run_2",), True)
    state = decision.state
    assert (state.phase, state.run_id, state.began_at) == (Phase.POLLING, "run_1", NOW)
    assert (state.create_unconfirmed, state.failures, state.failing_since, state.locked_since) == (
        False,
        0,
        None,
        None,
    )


# ── gone ──


def test_a_run_gone_for_30_s_is_gone() -> None:
    """404 has a grace of 30 s, counted from the first; a row of its last attempt fails, else it is asked again."""
    first = advance(POLLING, RequestFailed(NOW, error=RUN_NOT_FOUND, request=RequestKind.READ), P)
    assert isinstance(first.action, PollRun)
    assert (first.state.failing_since, first.state.failures) == (NOW, 1)
    still = advance(first.state, RequestFailed(NOW + 29.9, error=RUN_NOT_FOUND, request=RequestKind.READ), P)
    assert isinstance(still.action, PollRun)

    gone = RequestFailed(NOW + 30, error=RUN_NOT_FOUND, request=RequestKind.READ)
    again = advance(still.state, gone, P)
    assert (again.retry_reason, again.state.attempt, again.store) == ("run_gone", 2, True)
    assert again.state.past_attempts[0].status == "gone"
    finish = finish_of(advance(replace(still.state, attempt=3), gone, P))
    assert finish.status is JobStatus.FAILED
    assert (finish.error or "").startswith("run_gone")
    cancelled = finish_of(advance(replace(still.state, cancel_reason=CancelReason.USER), gone, P))
    assert cancelled.status is JobStatus.CANCELLED


def test_a_thread_gone_before_the_run_is_created_again() -> None:
    """A single row gets another thread, a few times; a conversation has lost its turns and fails."""
    error = RequestFailed(
        NOW, error=ApiError(404, message="No thread found with id 'thread_1'."), request=RequestKind.CREATE
    )
    again = advance(replace(SENT, create_unconfirmed=True), error, P)
    assert isinstance(again.action, Wait)
    assert (again.state.phase, again.state.thread_id, again.state.create_unconfirmed) == (
        Phase.NEW,
        None,
        False,
    )
    assert again.state.failures == 1

    for state in (replace(SENT, shared_thread=True), replace(SENT, failures=3)):
        assert (finish_of(advance(state, error, P)).error or "").startswith("thread_gone: No thread")


# ── locks ──


def test_a_lock_that_names_a_run_of_an_unshared_thread_is_ours() -> None:
    """It is followed from now on, and stored at once."""
    busy = ApiError(400, message="Thread thread_1 already has an active run run_9.")
    ours = advance(replace(SENT, failures=2), RequestFailed(NOW, error=busy, request=RequestKind.CREATE), P)
    assert ours.action == PollRun(after_s=0.0)
    assert (ours.state.run_id, ours.state.phase, ours.state.began_at) == ("run_9", Phase.POLLING, NOW)
    assert (ours.store, ours.state.failures) == (True, 0)

    stranger = advance(
        replace(SENT, shared_thread=True), RequestFailed(NOW, error=busy, request=RequestKind.CREATE), P
    )
    assert isinstance(stranger.action, Wait)
    assert (stranger.state.phase, stranger.state.locked_since) == (Phase.NEW, NOW)


@pytest.mark.parametrize(("deadline_s", "most_s"), [(None, 600.0), (40.0, 40.0)])
def test_a_foreign_lock_is_waited_for_within_the_deadline(deadline_s, most_s) -> None:
    """After each lock the thread is searched once; waits grow, a long one gives the slot back; in the end the row
    fails with the reason."""
    lock = ApiError(400, code="conversation_locked")
    policy = RetryPolicy(deadline_s=deadline_s)
    locked = RequestFailed(NOW + most_s, jitter=1.0, error=lock, request=RequestKind.CREATE)

    def after_search(failures: int) -> Decision:
        searching = advance(replace(SENT, locked_since=NOW, failures=failures), locked, policy)
        assert searching.action == RecoverRun()
        return advance(searching.state, LookupDone(NOW + most_s, jitter=1.0), policy)

    waiting = after_search(1)
    assert waiting.action == Wait(wait_s=1.0)
    assert (waiting.state.phase, waiting.state.failures, waiting.state.locked_since) == (Phase.NEW, 2, NOW)
    assert isinstance(after_search(6).action, ReleaseRow)

    over = advance(replace(SENT, locked_since=NOW), replace(locked, at=NOW + most_s + 1), policy)
    assert finish_of(over).error == "deadline: the thread stayed locked"


def test_a_lock_met_by_a_repeated_create_belongs_to_the_first_create() -> None:
    """The row has a run: search the thread for it, do not create again."""
    lock = RequestFailed(
        NOW, jitter=1.0, error=ApiError(400, code="conversation_locked"), request=RequestKind.CREATE
    )
    decision = advance(replace(SENT, create_repeated=True), lock, P)

    assert decision.action == RecoverRun(after_s=0.5)
    assert (decision.state.phase, decision.state.locked_since) == (Phase.CREATE_SENT, NOW)


@pytest.mark.parametrize("status", ["cancelled", "failed", "expired", "incomplete"])
def test_a_row_that_the_user_cancelled_is_cancelled_unless_it_completed(status: str) -> None:
    """However the run ended when it was asked to, nothing is asked again."""
    state = replace(
        READING, cancel_reason=CancelReason.USER, ended_run=Run("run_1", status, error_code="server_error")
    )

    assert finish_of(advance(state, AnswerRead(NOW), P)).status is JobStatus.CANCELLED


def test_an_incomplete_run_without_a_reason_says_incomplete() -> None:
    """Some servers leave the reason out."""
    state = replace(READING, ended_run=Run("run_1", "incomplete"))

    assert finish_of(advance(state, AnswerRead(NOW, answer=ANSWER), P)).error == "incomplete"


def test_an_answer_is_read_as_often_as_it_takes() -> None:
    """A paid answer is not given up for a few failed reads."""
    decision = advance(
        replace(READING, failures=9), RequestFailed(NOW, error=NO_REPLY, request=RequestKind.READ), P
    )

    assert isinstance(decision.action, ReadAnswer)


def test_an_earlier_attempts_run_that_still_locks_the_thread_is_waited_for() -> None:
    """It has been given up: its answer is not taken for the new attempt's."""
    dead = Attempt(number=1, thread_id="thread_1", run_id="run_9", status="in_progress")
    busy = ApiError(400, message="Thread thread_1 already has an active run run_9.")
    decision = advance(
        replace(SENT, past_attempts=(dead,)), RequestFailed(NOW, error=busy, request=RequestKind.CREATE), P
    )

    assert isinstance(decision.action, Wait)
    assert decision.state.run_id is None


@pytest.mark.parametrize(
    ("state", "action"),
    [(JobState(), Reserve), (SENT, RecoverRun), (POLLING, PollRun), (READING, ReadAnswer)],
)
def test_the_next_worker_continues_where_the_last_one_was(state: JobState, action: type) -> None:
    """A run that may exist is searched for, one that exists is polled, one that has ended is read."""
    assert isinstance(advance(state, Claimed(NOW), P).action, action)


@pytest.mark.parametrize("limit", ["max_completion_tokens", "max_prompt_tokens"])
def test_only_the_limit_that_was_reached_can_be_raised(limit: str) -> None:
    """A profile that limits the other tokens has nothing to double."""
    state = replace(READING, ended_run=Run("run_1", "incomplete", incomplete_reason=limit))
    other = {"prompt_limit": 256} if limit == "max_completion_tokens" else {"completion_limit": 256}
    policy = RetryPolicy(on_incomplete=OnIncomplete.RAISE_LIMIT, **other)

    assert finish_of(advance(state, AnswerRead(NOW, answer=ANSWER), policy)).status is JobStatus.INCOMPLETE

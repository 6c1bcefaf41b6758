"""Corners that random histories seldom reach, one event at a time: functions, deadlines, faults, the ledger."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus, OnIncomplete, Step, Usage
from askmill.worker.lifecycle.api_types import Answer, ApiFault, Found, FoundKind, Run
from askmill.worker.lifecycle.retry import On, RetryPolicy
from askmill.worker.lifecycle.state import (
    AnswerRead,
    CallTools,
    CancelAsked,
    CancelRun,
    Claimed,
    ClearTurn,
    Faulted,
    FindRun,
    FindSubmitted,
    Finish,
    GiveBack,
    Known,
    Look,
    Looked,
    MakeRun,
    MakeThread,
    NoRoom,
    PauseBatch,
    Phase,
    ReadAnswer,
    Reserved,
    RunSeen,
    Stop,
    Submit,
    ThreadMade,
    ToolsCalled,
    TurnCleared,
    Wait,
)
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.lifecycle_moments import (
    ACTING,
    ENDED,
    FOLLOWING,
    LOST,
    NOW,
    READING,
    SAID,
    SENT,
    WAITING,
    P,
    finish_of,
)

# ── functions ──


def test_outputs_whose_submission_got_no_reply_are_looked_for_before_they_are_sent_again() -> None:
    """Lost, locked or throttled: look first where they may have arrived; submit again where they have not."""
    lost = advance(ACTING, Faulted(NOW, draw=1.0, fault=LOST, on=On.SUBMIT), P)
    assert (lost.action, lost.known.tries) == (FindSubmitted(after_s=0.5), 1)
    lock = ApiFault(400, code="conversation_locked")
    locked = advance(ACTING, Faulted(NOW, draw=1.0, fault=lock, on=On.SUBMIT), P)
    assert (locked.action, locked.known.tries) == (FindSubmitted(after_s=0.5), 1)
    slow = advance(ACTING, Faulted(NOW, fault=ApiFault(429, retry_after_s=7.0), on=On.SUBMIT), P)
    assert isinstance(slow.action, Submit)
    assert 7.0 <= slow.action.after_s <= 7.7
    assert slow.throttled_s == 7.0

    nothing = Looked(NOW, draw=1.0, found=Found(FoundKind.NOTHING, run=WAITING))
    assert advance(ACTING, nothing, P).action == Submit(after_s=0.0)
    assert advance(replace(ACTING, tries=2), nothing, P).action == Submit(after_s=2.0)
    arrived = advance(ACTING, Looked(NOW, found=Found(FoundKind.RUN, run=Run("run_2", "in_progress"))), P)
    assert isinstance(arrived.action, Look)
    assert (arrived.known.run_id, arrived.known.rounds, arrived.store) == ("run_2", 1, True)
    done = advance(ACTING, Looked(NOW, found=Found(FoundKind.ANSWER)), P)
    assert isinstance(done.action, ReadAnswer)
    assert (done.known.phase, done.known.run_id, done.store) == (Phase.READ, None, True)


def test_outputs_are_stored_before_they_are_submitted() -> None:
    """A worker killed in between does not call the functions again."""
    called = advance(replace(FOLLOWING, tries=3), ToolsCalled(NOW, outputs=ACTING.outputs), P)
    assert (called.action, called.store) == (Submit(), True)
    assert (called.known.phase, called.known.outputs, called.known.tries) == (Phase.ACT, ACTING.outputs, 0)
    assert isinstance(advance(called.known, Claimed(NOW), P).action, FindSubmitted)


def test_outputs_refused_because_the_run_has_ended_end_nothing() -> None:
    """The run is looked at: what it says decides."""
    text = 'Runs in status "expired" do not accept tool outputs.'
    late = advance(ACTING, Faulted(NOW, fault=ApiFault(400, message=text), on=On.SUBMIT), P)
    assert (late.action, late.known.phase, late.known.outputs) == (Look(after_s=0.0), Phase.FOLLOW, ())


def test_outputs_refused_for_what_they_are_end_the_run_and_fail_the_row() -> None:
    """The API's words are the row's error; the run is cancelled, so that it costs no more."""
    fault = ApiFault(400, code="string_too_long", message="too long", param="tool_outputs")
    refused = advance(ACTING, Faulted(NOW, fault=replace(fault, param="input"), on=On.SUBMIT), P)
    assert isinstance(refused.action, CancelRun)
    assert (refused.known.stop, refused.known.outputs) == (Stop.ROW, ())
    ended = replace(refused.known, phase=Phase.READ, ended=Run("run_1", "cancelled"))
    finish = finish_of(advance(ended, AnswerRead(NOW), P))
    assert (finish.status, finish.error) == (JobStatus.FAILED, "string_too_long: too long")


# ── deadlines and cancelling ──


@pytest.mark.parametrize(
    ("deadline_s", "lifetime_s", "due_s"),
    [(40.0, 99.0, 40.0), (None, 99.0, 159.0), (None, None, 600.0)],
)
def test_the_deadline_is_ours_or_the_apis_and_a_minute_or_ten_minutes(deadline_s, lifetime_s, due_s) -> None:
    """Looks go no further than it; past it there is one more, and what still runs then is asked to end."""
    policy = RetryPolicy(deadline_s=deadline_s)
    known = replace(FOLLOWING, began_at=NOW, lifetime_s=lifetime_s)
    running = Run("run_1", "in_progress")
    early = advance(known, RunSeen(NOW + due_s - 0.1, run=running), policy)
    assert early.action == Look(by=NOW + due_s)
    late = advance(known, RunSeen(NOW + due_s, run=running), policy)
    assert (late.action, late.known.stop) == (Look(after_s=0.0), None)
    over = advance(late.known, RunSeen(NOW + due_s + 1, run=running), policy)
    assert isinstance(over.action, CancelRun)
    assert (over.known.stop, over.known.stopped_at) == (Stop.DEADLINE, NOW + due_s + 1)


@pytest.mark.parametrize("seen", [Run("run_1", "in_progress"), Run("run_1", "requires_action")])
def test_a_run_found_ended_at_its_last_look_is_read(seen: Run) -> None:
    """The machine slept, or the row was taken over: what has ended meanwhile is read, never cancelled."""
    asleep = advance(FOLLOWING, RunSeen(NOW + 3600, run=seen), P)
    assert asleep.action == Look(after_s=0.0)
    assert advance(asleep.known, RunSeen(NOW + 3601, run=ENDED), P).action == ReadAnswer()
    taken = advance(asleep.known, Claimed(NOW + 7200), P)
    assert (taken.action, taken.known.overdue) == (Look(after_s=0.0), False)
    longer = advance(
        asleep.known, RunSeen(NOW + 3601, run=Run("run_1", "in_progress")), RetryPolicy(deadline_s=9e3)
    )
    assert (longer.action, longer.known.overdue) == (Look(by=NOW - 4 + 9e3), False)


@pytest.mark.parametrize(
    ("created_at", "expires_at"),
    [(None, NOW), (NOW, None), (None, None), (NOW, NOW), (NOW, NOW - 600), (NOW, 4e9), (0.0, 1.7e9)],
)
def test_a_lifetime_that_cannot_be_meant_is_none(created_at, expires_at) -> None:
    """Missing, ended before it began, or decades long: then the default of ten minutes holds."""
    run = Run("run_1", "in_progress", created_at=created_at, expires_at=expires_at)
    assert run.lifetime_s is None
    assert advance(FOLLOWING, RunSeen(NOW, run=run), P).action == Look(by=NOW - 4 + 600)


@pytest.mark.parametrize("servers_now", [0.0, NOW - 1020, NOW, NOW + 1020, 2e9])
def test_the_servers_clock_is_never_compared_with_ours(servers_now: float) -> None:
    """Whatever it says the time is, a run that lives ten minutes by it has eleven minutes from when we saw it."""
    run = Run("run_1", "in_progress", created_at=servers_now, expires_at=servers_now + 600)
    assert advance(SENT, RunSeen(NOW, run=run), P).action == Look(by=NOW + 660)


def test_a_run_that_does_not_end_when_cancelled_is_left_after_a_short_grace() -> None:
    """While `cancelling` it is looked at, else asked again; after 30 s the row is decided without it."""
    stopping = replace(FOLLOWING, stop=Stop.DEADLINE, stopped_at=NOW, attempt=3)
    running, ending = Run("run_1", "in_progress"), Run("run_1", "cancelling")
    assert advance(stopping, RunSeen(NOW + 1, draw=1.0, run=running), P).action == CancelRun(after_s=1.0)
    assert advance(stopping, RunSeen(NOW + 1, draw=1.0, run=ending), P).action == Look(after_s=1.0)
    over = finish_of(advance(stopping, RunSeen(NOW + 30, run=running), P))
    assert (over.status, (over.error or "").split(":")[0]) == (JobStatus.FAILED, "deadline")
    asked = advance(replace(stopping, stopped_at=None), RunSeen(NOW, run=running), P)
    assert (asked.action, asked.known.stopped_at) == (CancelRun(), NOW)


def test_a_run_that_expired_while_we_cancelled_it_is_expired() -> None:
    """The API's word goes before ours."""
    known = replace(FOLLOWING, stop=Stop.DEADLINE, attempt=3, phase=Phase.READ, ended=Run("run_1", "expired"))
    assert finish_of(advance(known, AnswerRead(NOW), P)).status is JobStatus.EXPIRED


@pytest.mark.parametrize(
    ("known", "action"),
    [
        (Known(), Finish),
        (replace(SENT, phase=Phase.NEW, doubt=True), FindRun),
        (SENT, FindRun),
        (FOLLOWING, CancelRun),
        (replace(FOLLOWING, stop=Stop.USER, stopped_at=NOW), Look),
        (ACTING, CancelRun),
        (READING, ReadAnswer),
        (replace(READING, phase=Phase.CHECK), FindRun),
    ],
)
def test_cancel_in_each_phase(known: Known, action: type) -> None:
    """Nothing made: it ends. Perhaps made: it is looked for. Made: it is ended. Answered: it is read."""
    decision = advance(known, CancelAsked(NOW), P)

    assert isinstance(decision.action, action)
    if action is CancelRun:
        assert (decision.known.stop, decision.known.phase) == (Stop.USER, Phase.FOLLOW)
    if known.phase in {Phase.SENT, Phase.NEW} and action is FindRun:
        assert (decision.known.stop, decision.known.phase) == (Stop.USER, Phase.SENT)


# ── the way to a run ──


def test_a_conversations_dead_turn_is_cleared_first() -> None:
    """Its messages go, then the run is made on the same thread."""
    known = Known(shared=True, thread_id="thread_1", clear=True, follow_up=True)
    clear = advance(known, Reserved(NOW), P)
    assert isinstance(clear.action, ClearTurn)
    make = advance(clear.known, TurnCleared(NOW), P)
    assert isinstance(make.action, MakeRun)
    assert not make.known.clear
    assert isinstance(advance(Known(clear=True, shared=True), Reserved(NOW), P).action, MakeThread)


def test_the_thread_is_stored_with_the_create_that_follows() -> None:
    """One save says both: the thread, and that a run may be out."""
    made = advance(Known(tries=4, since=1.0), ThreadMade(NOW, thread_id="thread_1"), P)
    assert (made.action, made.store) == (MakeRun(), True)
    known = made.known
    assert (known.thread_id, known.sent_at, known.phase) == ("thread_1", NOW, Phase.SENT)
    assert (known.tries, known.since) == (0, None)


def test_no_room_in_the_budget_waits_a_little() -> None:
    """The row is given back, and not in step with its neighbours."""
    waits = [advance(Known(), NoRoom(NOW, draw), P).action for draw in (0.0, 1.0)]
    assert waits == [GiveBack(wait_s=1.0), GiveBack(wait_s=3.0)]


# ── faults on the way ──


def test_creates_that_fail_count_towards_pausing_the_batch() -> None:
    """Threads and runs that cannot be made do; reads do not."""
    assert advance(Known(), Faulted(NOW, fault=ApiFault(500), on=On.THREAD), P).create_failed
    unsent = advance(SENT, Faulted(NOW, fault=ApiFault(None, sent=False), on=On.CREATE), P)
    assert unsent.create_failed
    assert unsent.known.phase is Phase.NEW
    assert advance(SENT, Faulted(NOW, fault=LOST, on=On.CREATE), P).create_failed
    assert not advance(FOLLOWING, Faulted(NOW, fault=LOST, on=On.READ), P).create_failed


def test_an_unreadable_run_is_given_up_an_hour_after_its_end_of_life() -> None:
    """Reads are repeated as long as the run may live, and an hour more; then the row fails."""
    fault = Faulted(NOW + 3600, draw=1.0, fault=ApiFault(503), on=On.READ)
    unseen = replace(FOLLOWING, since=NOW - 100)
    for known in (replace(unseen, began_at=NOW - 50, lifetime_s=50.0), replace(unseen, began_at=NOW)):
        assert advance(known, fault, P).action == Look(after_s=0.5)
        over = finish_of(advance(known, replace(fault, at=NOW + 3601), P))
        assert (over.status, over.error) == (JobStatus.FAILED, "unreadable: http_503")


def test_a_429_waits_as_told_or_longer_than_other_faults() -> None:
    """As told, and a little jitter; untold, four times the usual. A long wait gives the slot back."""
    told = advance(Known(), Faulted(NOW, draw=1.0, fault=ApiFault(429, retry_after_s=2.0)), P)
    assert (told.action, told.throttled_s) == (Wait(wait_s=2.2), 2.0)
    untold = advance(Known(), Faulted(NOW, draw=1.0, fault=ApiFault(429)), P)
    assert (untold.throttled_s, untold.known.tries) == (2.0, 1)
    long = advance(Known(), Faulted(NOW, draw=0.0, fault=ApiFault(429, retry_after_s=60)), P)
    assert long.action == GiveBack(wait_s=60.0)
    edge = advance(Known(), Faulted(NOW, draw=0.0, fault=ApiFault(429, retry_after_s=5.0)), P)
    assert edge.action == Wait(wait_s=5.0)
    refused = advance(SENT, Faulted(NOW, draw=0.0, fault=ApiFault(429, retry_after_s=1.0), on=On.CREATE), P)
    assert (refused.known.phase, refused.action) == (Phase.NEW, Wait(wait_s=1.0))


def test_a_refused_row_fails_with_the_apis_words() -> None:
    """Nothing of the batch is touched."""
    fault = ApiFault(400, code="invalid_prompt", message="no")
    finish = finish_of(advance(SENT, Faulted(NOW, fault=fault, on=On.CREATE), P))
    assert (finish.status, finish.error) == (JobStatus.FAILED, "invalid_prompt: no")


def test_a_refused_setting_pauses_the_batch_and_keeps_the_row() -> None:
    """The row goes back unmarked; one whose run may be out is looked at now and then."""
    key = ApiFault(401, code="invalid_api_key", message="wrong")
    create = advance(SENT, Faulted(NOW, fault=key, on=On.CREATE), P)
    assert create.action == PauseBatch(reason="invalid_api_key: wrong")
    assert (create.known.phase, create.known.doubt) == (Phase.NEW, False)
    assert advance(replace(SENT, repeated=True), Faulted(NOW, fault=key, on=On.CREATE), P).known.doubt
    assert advance(Known(), Faulted(NOW, fault=key, on=On.THREAD), P).action.wait_s == 0.0
    assert advance(FOLLOWING, Faulted(NOW, fault=key, on=On.READ), P).action.wait_s == 30.0


# ── the ledger ──


def test_the_next_attempt_of_a_single_row_starts_afresh_and_a_conversations_on_its_thread() -> None:
    """Nothing of the dead run reaches the model; its steps and tokens stay in the ledger."""
    step = Step(run_id="run_1", attempt=1, type="message", status="completed")
    dead = replace(READING, ended=Run("run_1", "failed", error_code="server_error", usage=Usage(7, 3)))
    dead = replace(dead, doubled=("max_completion_tokens",), anchor="msg_0", base=0)
    event = AnswerRead(NOW, draw=1.0, answer=Answer(steps=(step,)))
    again = advance(dead, event, P)
    known = again.known
    assert (again.action, again.store, again.retried) == (Wait(wait_s=1.0), True, "server_error")
    assert (known.attempt, known.thread_id, known.run_id, known.follow_up) == (2, None, None, False)
    assert (known.phase, known.doubled, known.steps) == (Phase.NEW, dead.doubled, (step,))
    (past,) = known.past
    assert (past.number, past.thread_id, past.run_id, past.status) == (1, "thread_1", "run_1", "failed")
    assert (past.error, past.usage) == ("server_error", Usage(7, 3))
    assert (past.started_at, past.finished_at) == (NOW - 4, NOW)

    shared = advance(replace(dead, shared=True), event, P).known
    assert (shared.thread_id, shared.follow_up, shared.clear, shared.anchor) == (
        "thread_1",
        True,
        True,
        "msg_0",
    )
    late = advance(replace(dead, attempt=9, base=7), replace(event, draw=0.9), RetryPolicy(attempts=4))
    assert isinstance(late.action, Wait)
    longer = RetryPolicy(attempts=9, attempt_base_s=20.0)
    assert advance(dead, event, longer).action == GiveBack(wait_s=20.0)


def test_going_on_stays_on_the_thread_and_clears_nothing() -> None:
    """What the model wrote so far is what it goes on from, in a conversation too."""
    cut = Run("run_1", "incomplete", incomplete_reason="max_completion_tokens")
    policy = RetryPolicy(on_incomplete=OnIncomplete.CONTINUE)
    for shared in (False, True):
        known = replace(READING, ended=cut, shared=shared, pieces=("4",))
        on = advance(known, AnswerRead(NOW, answer=replace(SAID, text="2")), policy)
        assert (on.action, on.store, on.retried) == (Wait(), True, "max_completion_tokens")
        assert (on.known.thread_id, on.known.clear, on.known.follow_up) == ("thread_1", False, True)
        assert (on.known.going_on, on.known.pieces) == (True, ("4", "2"))


def test_a_failed_run_says_why_in_the_apis_words() -> None:
    """Code and message; without a code, its status."""
    for run, error in (
        (Run("run_1", "failed", error_code="invalid_prompt", error_message="no"), "invalid_prompt: no"),
        (Run("run_1", "failed"), "failed"),
    ):
        finish = finish_of(advance(replace(READING, ended=run), AnswerRead(NOW), P))
        assert (finish.status, finish.error) == (JobStatus.FAILED, error)


def test_functions_are_called_and_what_is_known_is_stored_first() -> None:
    """A worker killed by a function is found out: the round is stored before it is called."""
    asked = advance(FOLLOWING, RunSeen(NOW, run=WAITING), P)
    assert (asked.action, asked.store) == (CallTools(calls=WAITING.tool_calls), True)

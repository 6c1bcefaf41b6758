"""What trouble that lasts makes of a row, one event at a time: 404s, reads that never succeed, creates held up."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import Answer, ApiFault, Found, FoundKind, Run
from askmill.worker.lifecycle.retry import On
from askmill.worker.lifecycle.state import (
    Action,
    AnswerRead,
    CancelRun,
    Claimed,
    Faulted,
    FindRun,
    FindSubmitted,
    Finish,
    Known,
    Look,
    Looked,
    MakeRun,
    NotSent,
    Phase,
    ReadAnswer,
    Reserve,
    Reserved,
    RunSeen,
    Stop,
    Submit,
    ThreadMade,
    Wait,
)
from askmill.worker.lifecycle.transitions import SEND_WITHIN_S, advance, in_time
from tests.unit.lifecycle.lifecycle_moments import (
    ACTING,
    FOLLOWING,
    GONE,
    LOST,
    NOW,
    READING,
    SAID,
    SENT,
    P,
    finish_of,
)

CHECKING = replace(READING, phase=Phase.CHECK, answer=SAID, repeated=True)
BUSY = ApiFault(503)
NOTHING = Found(FoundKind.NOTHING)
NO_ROUTE = ApiFault(404, message="Not Found")


def at(seconds: float, fault: ApiFault, on: On = On.READ) -> Faulted:
    return Faulted(NOW + seconds, draw=1.0, fault=fault, on=on)


# ── 404 ──


@pytest.mark.parametrize(
    ("known", "again"),
    [
        (FOLLOWING, Look(after_s=1.0)),
        (READING, ReadAnswer(after_s=1.0)),
        (ACTING, FindSubmitted(after_s=1.0)),
        (replace(SENT, sent_at=NOW - 99), FindRun(after_s=1.0)),
        (Known(shared=True, thread_id="thread_1", clear=True), Wait(wait_s=1.0)),
    ],
)
def test_a_404_after_an_outage_has_a_grace_of_its_own(known: Known, again: Action) -> None:
    """A proxy that comes up answers 404 for a moment: no row of all in flight is given up, or asked again."""
    on = On.THREAD if known.phase is Phase.NEW else On.READ
    away = advance(known, at(0, ApiFault(None, sent=False), on), P)
    up = advance(away.known, at(40, GONE), P)

    assert up.action == again
    assert (up.known.gone_since, up.known.since) == (NOW + 40, NOW)
    assert up.known == replace(known, tries=2, since=NOW, gone_since=NOW + 40)


@pytest.mark.parametrize("known", [FOLLOWING, READING, ACTING])
@pytest.mark.parametrize("fault", [BUSY, ApiFault(None), ApiFault(429), ApiFault(401)])
def test_any_other_fault_begins_the_grace_anew(known: Known, fault: ApiFault) -> None:
    """404s are believed when there is nothing else for 30 s, not when two of them stand 30 s apart."""
    missing = advance(known, at(0, GONE), P).known
    other = advance(missing, at(1, fault), P).known
    assert other.gone_since is None

    assert advance(other, at(31, GONE), P).retried is None
    assert advance(missing, at(30, GONE), P).retried == "run_gone"


def test_a_run_that_is_seen_again_was_never_gone() -> None:
    """So is one whose row another worker takes: what the last one met says nothing about the server now."""
    missing = replace(FOLLOWING, tries=1, since=NOW, gone_since=NOW)
    seen = advance(missing, RunSeen(NOW + 5, run=Run("run_1", "in_progress")), P)
    assert (seen.known.gone_since, seen.known.since) == (None, None)

    claimed = advance(missing, Claimed(NOW + 9_999), P)
    assert (claimed.known.gone_since, claimed.known.since) == (None, None)
    assert (
        advance(replace(ACTING, gone_since=NOW), Looked(NOW + 5, found=NOTHING), P).known.gone_since is None
    )
    doubtful = Known(thread_id="thread_1", doubt=True, gone_since=NOW)
    assert advance(doubtful, Claimed(NOW + 9_999), P).known.gone_since is None
    clearing = Known(shared=True, clear=True, tries=5, since=NOW, gone_since=NOW)
    assert advance(clearing, Claimed(NOW + 9), P).known == clearing


def test_a_404_on_the_last_look_throws_no_answer_away() -> None:
    """The answer is there and paid for: the check is given up after a few tries, the row is completed."""
    known = CHECKING
    for tries in range(P.attempts):
        decision = advance(known, at(30 * tries, GONE), P)
        assert isinstance(decision.action, FindRun)
        known = decision.known

    end = advance(known, at(100, GONE), P)
    assert (finish_of(end).status, finish_of(end).answer, end.retried) == (JobStatus.COMPLETED, "42", None)


# ── 404 while a create is in doubt ──


def test_a_404_on_the_look_for_a_lost_create_forgets_nothing() -> None:
    """The thread is kept, and looked at again until the create's time limit and the grace are over."""
    lost = advance(SENT, at(0, LOST, On.CREATE), P).known
    first = advance(lost, at(1, GONE), P)
    assert isinstance(first.action, FindRun)
    assert (first.known.phase, first.known.thread_id, first.known.tries) == (Phase.SENT, "thread_1", 2)

    graceless = advance(first.known, at(32, GONE), P)
    assert isinstance(graceless.action, FindRun), "the create may still be carried out"
    shown = Looked(NOW + 33, found=Found(FoundKind.RUN, run=Run("run_1", "in_progress")))
    assert advance(graceless.known, shown, P).known.run_id == "run_1"


def test_a_server_that_shows_no_runs_is_asked_again_after_the_limit_and_counted() -> None:
    """404 to every look: when the time limit and the grace are over, one more look, then the create, counted."""
    missing = replace(SENT, tries=9, since=NOW, gone_since=NOW)
    over = advance(missing, at(56, NO_ROUTE), P)
    assert (over.action, over.known.doubt, over.known.phase) == (Reserve(), True, Phase.NEW)
    assert over.known.thread_id == "thread_1"

    look = advance(over.known, Reserved(NOW + 57), P)
    assert look.action == FindRun()
    again = advance(look.known, at(58, NO_ROUTE), P)
    assert (again.action, again.unknown_create, again.store) == (MakeRun(), True, True)
    assert (again.known.repeated, again.known.sent_at) == (True, NOW + 58)
    assert (again.known.gone_since, again.known.since) == (None, None)


def test_one_404_at_the_last_look_is_no_leave_to_create() -> None:
    """Long after the limit too, as after a night: the grace comes first."""
    decision = advance(replace(SENT, doubt=True, sent_at=NOW - 9_999), at(0, NO_ROUTE), P)

    assert (decision.action, decision.unknown_create) == (FindRun(after_s=0.5), False)
    stopping = replace(SENT, doubt=True, stop=Stop.USER, gone_since=NOW - 30)
    assert finish_of(advance(stopping, at(0, NO_ROUTE), P)).status is JobStatus.CANCELLED


def test_a_create_refused_for_its_thread_counts_as_one_that_failed() -> None:
    """A server whose threads vanish at once would be asked for new ones for ever: the batch pauses."""
    fault = ApiFault(404, message="No thread found with id 'thread_1'.")

    assert advance(SENT, at(0, fault, On.CREATE), P).create_failed


# ── an end to reading ──

READS = [SENT, FOLLOWING, READING, ACTING, replace(READING, run_id=None, began_at=None, ended=None)]


@pytest.mark.parametrize("known", READS)
@pytest.mark.parametrize(
    "fault", [BUSY, ApiFault(400, message="no"), ApiFault(200, code="bad_reply"), ApiFault(None)]
)
def test_what_cannot_be_read_for_an_hour_fails_the_row(known: Known, fault: ApiFault) -> None:
    """Messages that no reading gets to: the row says why and the batch ends, instead of hanging for ever."""
    first = advance(known, at(0, fault), P)
    assert (first.known.since, isinstance(first.action, Finish)) == (NOW, False)
    still = advance(first.known, at(3600, fault), P)
    assert not isinstance(still.action, Finish)

    over = finish_of(advance(still.known, at(3601, fault), P))
    assert (over.status, over.error) == (JobStatus.FAILED, f"unreadable: {fault}")


def test_outputs_that_never_arrive_fail_the_row() -> None:
    """Submitted, no reply, not found, again and again; or a stranger's lock: after an hour there is an end."""
    known, seconds = ACTING, 0.0
    while seconds <= 3600:
        lost = advance(known, at(seconds, LOST, On.SUBMIT), P)
        assert isinstance(lost.action, FindSubmitted)
        nothing = advance(lost.known, Looked(NOW + seconds, found=NOTHING), P)
        assert isinstance(nothing.action, Submit)
        known, seconds = nothing.known, seconds + 600

    lock = ApiFault(400, code="conversation_locked")
    for fault in (LOST, lock):
        over = advance(known, at(seconds, fault, On.SUBMIT), P)
        assert (finish_of(over).error or "").startswith("unreadable: ")


@pytest.mark.parametrize("known", [FOLLOWING, READING, ACTING])
def test_the_hour_begins_when_somebody_looks(known: Known) -> None:
    """Runs left overnight are not given up at the first fault of the morning."""
    morning = advance(replace(known, since=NOW), Claimed(NOW + 30_000), P).known
    decision = advance(morning, at(30_000, BUSY), P)

    assert not isinstance(decision.action, Finish)
    assert decision.known.since == NOW + 30_000


def test_a_run_may_be_unreadable_as_long_as_it_lives() -> None:
    """One with a day to complete is not given up for an hour's outage."""
    known = replace(FOLLOWING, since=NOW, lifetime_s=86_400.0)

    assert isinstance(advance(known, at(80_000, BUSY), P).action, Look)


def test_faults_before_the_answer_are_not_the_answers() -> None:
    """An adopted answer's reading has its own hour; so has each create."""
    adopted = advance(replace(SENT, tries=4, since=1.0), Looked(NOW, found=Found(FoundKind.ANSWER)), P).known
    assert (adopted.tries, adopted.since) == (0, None)
    sent = advance(Known(thread_id="thread_1", since=1.0, gone_since=1.0), Reserved(NOW), P).known
    assert (sent.since, sent.gone_since) == (None, None)
    checked = advance(replace(CHECKING, since=1.0), at(0, BUSY), P)
    assert isinstance(checked.action, FindRun)
    waiting = advance(Known(since=1.0), at(0, BUSY, On.THREAD), P)
    assert isinstance(waiting.action, Wait)


# ── functions ──


@pytest.mark.parametrize("fault", [BUSY, ApiFault(None), ApiFault(429), ApiFault(None, sent=False)])
def test_outputs_in_doubt_are_looked_for_until_a_look_succeeds(fault: ApiFault) -> None:
    """On Responses their submission is paid for: a look that failed is no leave to submit again."""
    assert isinstance(advance(ACTING, at(0, fault), P).action, FindSubmitted)


def test_a_run_whose_outputs_were_refused_is_looked_at_from_then_on() -> None:
    """Its cancel may fail: there is nothing to submit any more."""
    refused = advance(ACTING, at(0, ApiFault(422), On.SUBMIT), P)
    assert (type(refused.action), refused.known.phase) == (CancelRun, Phase.FOLLOW)

    assert isinstance(advance(refused.known, at(1, BUSY, On.CANCEL), P).action, Look)


# ── a create held up ──


def test_a_create_is_in_time_for_two_seconds() -> None:
    """Its lost reply is looked for from `sent_at` on: later, that would be too short."""
    assert in_time(SENT, (SENT.sent_at or 0.0) + SEND_WITHIN_S)
    assert not in_time(SENT, (SENT.sent_at or 0.0) + SEND_WITHIN_S + 0.01)


def test_a_create_held_up_is_marked_anew() -> None:
    """Nothing was sent: a new mark with its own time, stored first, where a pause or a cancel is seen again."""
    again = advance(SENT, NotSent(NOW + 70), P)

    assert (again.action, again.store, again.unknown_create) == (MakeRun(), True, False)
    assert again.known == replace(SENT, sent_at=NOW + 70)


def test_a_repeat_held_up_is_looked_for_once_more() -> None:
    """The first create's run may have come meanwhile; it is counted as unknown once."""
    held = advance(replace(SENT, repeated=True), NotSent(NOW + 70), P)
    assert (held.action, held.known.doubt) == (FindRun(), True)

    again = advance(held.known, Looked(NOW + 71, found=NOTHING), P)
    assert (again.action, again.unknown_create) == (MakeRun(), False)


def test_a_thread_made_after_faults_starts_the_create_afresh() -> None:
    """Its tries are its own."""
    made = advance(Known(tries=4, since=1.0, gone_since=1.0), ThreadMade(NOW, thread_id="thread_1"), P).known

    assert (made.tries, made.since, made.gone_since) == (0, None, None)


def test_a_read_that_succeeds_ends_the_count() -> None:
    """What was met on the way to the answer is in no later attempt."""
    dead = replace(READING, since=1.0, gone_since=1.0, tries=7, ended=Run("run_1", "expired"))
    again = advance(dead, AnswerRead(NOW, answer=Answer()), P).known

    assert (again.attempt, again.tries, again.since, again.gone_since) == (2, 0, None, None)

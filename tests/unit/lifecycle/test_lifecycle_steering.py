"""What a paused or cancelled batch makes of each decision: nothing is begun, nothing that exists is lost."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import BatchState, JobStatus
from askmill.worker.lifecycle.api_types import Found, FoundKind, Run
from askmill.worker.lifecycle.on_batch_state import begins, redirected, unsent
from askmill.worker.lifecycle.state import (
    Action,
    CancelRun,
    Claimed,
    ClearTurn,
    Decision,
    FindRun,
    Finish,
    GiveBack,
    Known,
    Look,
    Looked,
    MakeRun,
    MakeThread,
    PauseAsked,
    Phase,
    ReadAnswer,
    Reserve,
    Reserved,
    Stop,
    Submit,
    Wait,
)
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.lifecycle_moments import ACTING, FOLLOWING, NOW, READING, SENT, P

PAUSED, CANCELLED, RUNNING = BatchState.PAUSED, BatchState.CANCELLED, BatchState.RUNNING
CASES = [
    (PAUSED, Known(), Reserve(), GiveBack),
    (PAUSED, Known(), MakeThread(), GiveBack),
    (PAUSED, Known(), ClearTurn(), GiveBack),
    (PAUSED, SENT, MakeRun(), GiveBack),
    (PAUSED, Known(), Wait(1.0), GiveBack),
    (PAUSED, Known(), Finish(JobStatus.FAILED), Finish),
    (PAUSED, FOLLOWING, Wait(1.0), Wait),
    (PAUSED, FOLLOWING, Look(), Look),
    (PAUSED, ACTING, Submit(), Submit),
    (PAUSED, SENT, FindRun(), FindRun),
    (PAUSED, replace(SENT, phase=Phase.NEW, doubt=True), Reserve(), FindRun),
    (PAUSED, replace(SENT, phase=Phase.NEW, doubt=True), Wait(1.0), GiveBack),
    (PAUSED, replace(SENT, repeated=True), MakeRun(), GiveBack),
    (CANCELLED, Known(), Reserve(), Finish),
    (CANCELLED, SENT, MakeRun(), Finish),
    (CANCELLED, replace(SENT, repeated=True), MakeRun(), FindRun),
    (CANCELLED, Known(), Wait(1.0), Finish),
    (CANCELLED, FOLLOWING, Look(), CancelRun),
    (CANCELLED, replace(FOLLOWING, stop=Stop.DEADLINE), Look(), Look),
    (CANCELLED, READING, ReadAnswer(), ReadAnswer),
    (CANCELLED, ACTING, Submit(), Submit),
    *[(RUNNING, SENT, action, type(action)) for action in (MakeRun(), Reserve(), Look(), Wait(1.0))],
]


@pytest.mark.parametrize(("state", "known", "action", "then"), CASES)
def test_state_and_decision(state: BatchState, known: Known, action: Action, then: type) -> None:
    """A decision that begins something is not carried out; one about what exists is, or ends it."""
    assert isinstance(redirected(Decision(known, action), state, Claimed(NOW), P).action, then)


@pytest.mark.parametrize("repeated", [False, True])
def test_a_create_not_sent_leaves_no_doubt_but_an_earlier_one_does(repeated: bool) -> None:
    """There is no run to look for, unless this create was a repeat of one that may have been carried out."""
    known = replace(SENT, repeated=repeated)

    assert unsent(Decision(known, MakeRun())) == replace(known, phase=Phase.NEW, doubt=repeated)
    counted = Decision(known, MakeRun(), unknown_create=True)
    assert unsent(counted) == replace(known, phase=Phase.NEW, doubt=repeated, repeated=False)
    assert unsent(Decision(known, FindRun())) == known
    assert begins(Decision(known, MakeRun()))


def test_a_row_in_doubt_of_a_paused_batch_is_looked_for_and_not_asked_again() -> None:
    """Each time it is fed there is one look; a run that has landed is followed, else the row rests for 30 s."""
    rests = replace(SENT, phase=Phase.NEW, doubt=True, sent_at=NOW - 60)
    claimed = redirected(advance(rests, Claimed(NOW), P), PAUSED, Claimed(NOW), P)
    assert (claimed.action, claimed.known) == (FindRun(), replace(rests, phase=Phase.SENT))

    landed = Looked(NOW, found=Found(FoundKind.RUN, run=Run("run_1", "in_progress")))
    found = redirected(advance(claimed.known, landed, P), PAUSED, Claimed(NOW), P)
    assert (type(found.action), found.known.run_id, found.store) == (Look, "run_1", True)

    nothing = advance(claimed.known, Looked(NOW, found=Found(FoundKind.NOTHING)), P)
    again = redirected(nothing, PAUSED, Claimed(NOW), P)
    assert (again.action, again.known.phase, again.known.doubt) == (GiveBack(wait_s=30.0), Phase.NEW, True)


def test_a_repeat_that_a_pause_kept_back_is_counted_when_it_is_sent() -> None:
    """`unknown_creates` tells of creates that were really repeated: not before, and once."""
    nothing = Looked(NOW, found=Found(FoundKind.NOTHING))
    first = advance(replace(SENT, doubt=True), nothing, P)
    assert first.unknown_create
    kept = redirected(first, PAUSED, Claimed(NOW), P)
    assert not kept.unknown_create

    looking = advance(kept.known, Reserved(NOW), P)
    sent = advance(looking.known, nothing, P)
    assert (type(sent.action), sent.unknown_create, sent.known.repeated) == (MakeRun, True, True)


@pytest.mark.parametrize(
    ("known", "action"),
    [
        (Known(), GiveBack(wait_s=0.0)),
        (replace(SENT, phase=Phase.NEW, doubt=True), GiveBack(wait_s=30.0)),
        (replace(SENT, doubt=True), GiveBack(wait_s=30.0)),
        (SENT, FindRun()),
        (FOLLOWING, Look(after_s=0.0)),
        (READING, ReadAnswer()),
    ],
)
def test_pause_in_each_phase(known: Known, action: Action) -> None:
    """What is not paid for goes back, what may be is looked at later, what is goes on; nothing is forgotten."""
    decision = advance(known, PauseAsked(NOW), P)

    assert (decision.action, decision.known) == (action, known)


def test_a_run_that_a_cancel_ends_is_ended_from_now_on() -> None:
    """Its grace counts from the moment the cancel was noticed."""
    decision = redirected(Decision(FOLLOWING, Look()), CANCELLED, Claimed(NOW + 7), P)

    assert (decision.known.stop, decision.known.stopped_at) == (Stop.USER, NOW + 7)

"""What a paused or cancelled batch makes of each decision: nothing is begun, nothing that exists is lost."""

from dataclasses import replace

import pytest

from jobs.models import BatchState
from tests.unit.lifecycle_moments import ACTING, FOLLOWING, NOW, READING, SENT, P
from worker.known import (
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
    MakeRun,
    MakeThread,
    Phase,
    ReadAnswer,
    Reserve,
    Stop,
    Submit,
    Wait,
)
from worker.steering import begins, redirected, unsent

PAUSED, CANCELLED, RUNNING = BatchState.PAUSED, BatchState.CANCELLED, BatchState.RUNNING
CASES = [
    (PAUSED, Known(), Reserve(), GiveBack),
    (PAUSED, Known(), MakeThread(), GiveBack),
    (PAUSED, Known(), ClearTurn(), GiveBack),
    (PAUSED, SENT, MakeRun(), GiveBack),
    (PAUSED, Known(), Wait(1.0), GiveBack),
    (PAUSED, Known(), Finish(), Finish),
    (PAUSED, FOLLOWING, Wait(1.0), Wait),
    (PAUSED, FOLLOWING, Look(), Look),
    (PAUSED, ACTING, Submit(), Submit),
    (PAUSED, SENT, FindRun(), FindRun),
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
    assert unsent(Decision(known, FindRun())) == known
    assert begins(Decision(known, MakeRun()))

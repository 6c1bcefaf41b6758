"""How a paused or cancelled batch changes each decision: no run is started, none that exists is lost."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import BatchState, JobStatus
from askmill.worker.lifecycle.api_types import LookupKind, Run, RunLookup
from askmill.worker.lifecycle.decision import (
    Action,
    CancelRun,
    CreateRun,
    CreateThread,
    Decision,
    DeleteFailedTurn,
    Finish,
    PollRun,
    ReadAnswer,
    RecoverRun,
    ReleaseRow,
    Reserve,
    SubmitOutputs,
    Wait,
    without_create,
)
from askmill.worker.lifecycle.events import Claimed, LookupDone, PauseRequested, Reserved
from askmill.worker.lifecycle.on_batch_state import apply_batch_state, starts_run
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import CALLING_TOOLS, NOW, POLLING, READING, SENT, P

PAUSED, CANCELLED, RUNNING = BatchState.PAUSED, BatchState.CANCELLED, BatchState.RUNNING
CASES = [
    (PAUSED, JobState(), Reserve(), ReleaseRow),
    (PAUSED, JobState(), CreateThread(), ReleaseRow),
    (PAUSED, JobState(), DeleteFailedTurn(), ReleaseRow),
    (PAUSED, SENT, CreateRun(), ReleaseRow),
    (PAUSED, JobState(), Wait(1.0), ReleaseRow),
    (PAUSED, JobState(), Finish(JobStatus.FAILED), Finish),
    (PAUSED, POLLING, Wait(1.0), Wait),
    (PAUSED, POLLING, PollRun(), PollRun),
    (PAUSED, CALLING_TOOLS, SubmitOutputs(), SubmitOutputs),
    (PAUSED, SENT, RecoverRun(), RecoverRun),
    (PAUSED, replace(SENT, phase=Phase.NEW, create_unconfirmed=True), Reserve(), RecoverRun),
    (PAUSED, replace(SENT, phase=Phase.NEW, create_unconfirmed=True), Wait(1.0), ReleaseRow),
    (PAUSED, replace(SENT, create_repeated=True), CreateRun(), ReleaseRow),
    (CANCELLED, JobState(), Reserve(), Finish),
    (CANCELLED, SENT, CreateRun(), Finish),
    (CANCELLED, replace(SENT, create_repeated=True), CreateRun(), RecoverRun),
    (CANCELLED, JobState(), Wait(1.0), Finish),
    (CANCELLED, POLLING, PollRun(), CancelRun),
    (CANCELLED, replace(POLLING, cancel_reason=CancelReason.DEADLINE), PollRun(), PollRun),
    (CANCELLED, READING, ReadAnswer(), ReadAnswer),
    (CANCELLED, CALLING_TOOLS, SubmitOutputs(), SubmitOutputs),
    *[(RUNNING, SENT, action, type(action)) for action in (CreateRun(), Reserve(), PollRun(), Wait(1.0))],
]


@pytest.mark.parametrize(("batch_state", "state", "action", "then"), CASES)
def test_batch_state_and_decision(
    batch_state: BatchState, state: JobState, action: Action, then: type
) -> None:
    """A decision that begins something is not carried out; one about what exists is, or ends it."""
    assert isinstance(apply_batch_state(Decision(state, action), batch_state, Claimed(NOW), P).action, then)


@pytest.mark.parametrize("repeated", [False, True])
def test_an_unsent_create_is_confirmed_absent_but_an_earlier_one_is_not(repeated: bool) -> None:
    """There is no run to search for, unless this create repeats one that may have been carried out."""
    state = replace(SENT, create_repeated=repeated)

    assert without_create(Decision(state, CreateRun())) == replace(
        state, phase=Phase.NEW, create_unconfirmed=repeated
    )
    counted = Decision(state, CreateRun(), unknown_create=True)
    assert without_create(counted) == replace(
        state, phase=Phase.NEW, create_unconfirmed=repeated, create_repeated=False
    )
    assert without_create(Decision(state, RecoverRun())) == state
    assert starts_run(Decision(state, CreateRun()))


def test_an_unconfirmed_create_of_a_paused_batch_is_searched_and_not_repeated() -> None:
    """Each dispatch makes one search; a run that has arrived is polled, else the row waits for 30 s."""
    rests = replace(SENT, phase=Phase.NEW, create_unconfirmed=True, create_sent_at=NOW - 60)
    claimed = apply_batch_state(advance(rests, Claimed(NOW), P), PAUSED, Claimed(NOW), P)
    assert (claimed.action, claimed.state) == (RecoverRun(), replace(rests, phase=Phase.CREATE_SENT))

    landed = LookupDone(NOW, lookup=RunLookup(LookupKind.RUN, run=Run("run_1", "in_progress")))
    found = apply_batch_state(advance(claimed.state, landed, P), PAUSED, Claimed(NOW), P)
    assert (type(found.action), found.state.run_id, found.store) == (PollRun, "run_1", True)

    nothing = advance(claimed.state, LookupDone(NOW, lookup=RunLookup(LookupKind.NOTHING)), P)
    again = apply_batch_state(nothing, PAUSED, Claimed(NOW), P)
    assert (again.action, again.state.phase, again.state.create_unconfirmed) == (
        ReleaseRow(wait_s=30.0),
        Phase.NEW,
        True,
    )


def test_a_repeat_that_a_pause_prevented_is_counted_when_it_is_sent() -> None:
    """`unknown_creates` counts creates that were repeated: not before, and once."""
    nothing = LookupDone(NOW, lookup=RunLookup(LookupKind.NOTHING))
    first = advance(replace(SENT, create_unconfirmed=True), nothing, P)
    assert first.unknown_create
    kept = apply_batch_state(first, PAUSED, Claimed(NOW), P)
    assert not kept.unknown_create

    looking = advance(kept.state, Reserved(NOW), P)
    sent = advance(looking.state, nothing, P)
    assert (type(sent.action), sent.unknown_create, sent.state.create_repeated) == (CreateRun, True, True)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (JobState(), ReleaseRow(wait_s=0.0)),
        (replace(SENT, phase=Phase.NEW, create_unconfirmed=True), ReleaseRow(wait_s=30.0)),
        (replace(SENT, create_unconfirmed=True), ReleaseRow(wait_s=30.0)),
        (SENT, RecoverRun()),
        (POLLING, PollRun(after_s=0.0)),
        (READING, ReadAnswer()),
    ],
)
def test_pause_in_each_phase(state: JobState, action: Action) -> None:
    """Without a run the row is released; a run that may exist is searched for later; one that exists is polled."""
    decision = advance(state, PauseRequested(NOW), P)

    assert (decision.action, decision.state) == (action, state)


def test_a_run_cancelled_by_the_user_has_its_grace_from_now_on() -> None:
    """Its grace counts from the moment the cancel was noticed."""
    decision = apply_batch_state(Decision(POLLING, PollRun()), CANCELLED, Claimed(NOW + 7), P)

    assert (decision.state.cancel_reason, decision.state.cancel_requested_at) == (CancelReason.USER, NOW + 7)

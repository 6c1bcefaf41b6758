"""A row's state in the store: the first state at the claim, JSON, the next turn, and whose run it is."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.model.models import JobStatus, Result
from askmill.jobs.store.views import RowDetail, RowView
from askmill.worker.execution.stored_state import (
    RUNS_KEPT,
    STATE_JSON,
    belongs_to,
    initial_state,
    turn_for_next_row,
)
from askmill.worker.lifecycle.state import JobState, Phase
from tests.unit.execution.rows import EARLIER_RESULT, FAILED_ATTEMPT, STEP, batch_of, claim_of
from tests.unit.lifecycle.states import ANSWER, CALLING_TOOLS, POLLING, READING, SENT

# ── at the claim ──


def test_a_new_row_starts_from_the_defaults() -> None:
    """Its first attempt, on a thread of its own that does not exist yet."""
    assert initial_state(claim_of(), batch_of()) == JobState()


def test_a_row_released_by_another_worker_continues_from_its_state() -> None:
    """Whatever else the claim contains."""
    claim = claim_of(
        state=STATE_JSON.dump_json(POLLING), previous_turn=b'{"thread_id": "t"}', previous=EARLIER_RESULT
    )

    assert initial_state(claim, batch_of()) == POLLING


@pytest.mark.parametrize(("cell", "shared"), [("anna", True), ("  ", False)])
def test_a_row_with_a_conversation_shares_its_thread(cell: str, shared: bool) -> None:
    """A blank cell is a conversation of its own."""
    assert initial_state(claim_of("q", cell), batch_of()).shared_thread is shared


def test_a_later_turn_continues_behind_the_last_one() -> None:
    """On its thread, behind its last message; the question is sent with the run."""
    previous_turn = b'{"thread_id": "t", "last_message_id": "m"}'
    state = initial_state(claim_of("q", "anna", previous_turn=previous_turn), batch_of())

    assert state == JobState(shared_thread=True, thread_id="t", last_message_id_before="m", follow_up=True)


@pytest.mark.parametrize("previous_turn", [None, b'{"thread_id": "t", "last_message_id": null}'])
def test_a_retried_row_counts_on_and_clears_a_shared_thread(previous_turn: bytes | None) -> None:
    """Its limit counts from here, the attempts go on; only a thread that existed has a turn to delete."""
    claim = claim_of("q", "anna", previous_turn=previous_turn, previous=EARLIER_RESULT)
    state = initial_state(claim, batch_of())

    assert (state.attempt, state.attempts_before_retry) == (2, 1)
    assert (state.past_attempts, state.past_steps) == ((FAILED_ATTEMPT,), (STEP,))
    assert state.delete_failed_turn is (previous_turn is not None)
    alone = claim_of("q", "", previous_turn=previous_turn, previous=EARLIER_RESULT)
    assert not initial_state(alone, batch_of()).delete_failed_turn


def test_a_retried_row_that_never_had_a_run_starts_from_the_defaults() -> None:
    """There are no attempts to count on from."""
    assert initial_state(claim_of(previous=Result(1, JobStatus.CANCELLED)), batch_of()) == JobState()


def test_an_unknown_phase_is_an_error() -> None:
    """A state of another version of askmill is refused; a fresh start would pay twice."""
    with pytest.raises(ValueError, match="phase"):
        initial_state(claim_of(state=b'{"phase": "dreaming"}'), batch_of())
    assert {phase.value for phase in Phase} == {
        "new",
        "create_sent",
        "polling",
        "calling_tools",
        "reading",
        "checking_duplicates",
    }


# ── JSON ──


@given(
    st.sampled_from(
        [
            JobState(),
            SENT,
            POLLING,
            CALLING_TOOLS,
            READING,
            replace(READING, past_attempts=(FAILED_ATTEMPT,), past_steps=(STEP,)),
        ]
    )
)
def test_a_state_survives_being_stored(state: JobState) -> None:
    """Also without the fields that have their defaults."""
    assert STATE_JSON.validate_json(STATE_JSON.dump_json(state, exclude_defaults=True)) == state


# ── the next turn ──


@pytest.mark.parametrize(
    ("state", "turn"),
    [
        (
            replace(READING, shared_thread=True, answer=replace(ANSWER, last_message_id="m")),
            ("thread_1", "m", ["run_1"]),
        ),
        (replace(READING, shared_thread=True, run_id=None), ("thread_1", None, [])),
        (JobState(shared_thread=True), None),
        (READING, None),
    ],
)
def test_a_turn_passes_on_its_thread_last_message_and_runs(state: JobState, turn: object) -> None:
    """A row outside a conversation passes nothing on."""
    stored = turn_for_next_row(state)

    assert (stored and tuple(orjson.loads(stored).values())) == turn


def test_a_turn_knows_the_last_runs_before_it() -> None:
    """On an API without metadata those are not taken for its own; a long conversation drops the oldest."""
    state = replace(
        READING,
        shared_thread=True,
        past_attempts=(replace(FAILED_ATTEMPT, run_id="run_0"),),
        earlier_runs=("run_e",),
    )
    claim = claim_of("q", "anna", previous_turn=turn_for_next_row(state))
    later = initial_state(claim, batch_of())
    assert later.earlier_runs == ("run_e", "run_0", "run_1")
    assert later.known_run_ids == {"run_e", "run_0", "run_1"}

    old = replace(state, earlier_runs=tuple(f"run_{n}" for n in range(10, 99)))
    claim = claim_of("q", "anna", previous_turn=turn_for_next_row(old))
    last = initial_state(claim, batch_of()).earlier_runs
    assert (len(last), last[-3:]) == (RUNS_KEPT, ("run_98", "run_0", "run_1"))


# ── whose run it is ──


@pytest.mark.parametrize(
    ("state", "attempt", "ours"),
    [
        (replace(POLLING, run_id="run_9"), 1, True),
        (replace(POLLING, past_attempts=(replace(FAILED_ATTEMPT, run_id="run_9"),)), 1, True),
        (SENT, 1, True),
        (SENT, 2, False),
        (POLLING, 1, False),
        (None, 1, False),
    ],
)
def test_a_late_run_belongs_to_the_row_while_it_follows_or_will_find_it(
    state: JobState | None, attempt: int, ours: bool
) -> None:
    """Any other run is a duplicate, and cancelled."""
    stored = None if state is None else STATE_JSON.dump_json(state)
    detail = RowDetail(RowView(4, [], JobStatus.RUNNING, None), stored, None, None, 0)

    assert belongs_to(detail, "run_9", attempt) is ours

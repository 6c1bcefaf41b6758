"""Properties of the lifecycle over random histories: errors of every kind, kills, pauses, cancels at any time."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askmill.jobs.model.models import FINISHED, BatchState, JobStatus, OnIncomplete
from askmill.worker.lifecycle.retry import RetryPolicy
from tests.unit.lifecycle.simulation import CALLS, FAULTS, LOST, Simulation
from tests.unit.lifecycle.states import REFUSED_RUNS

ENDINGS = (
    "completed",
    "expired",
    "failed:server_error",
    "failed:rate_limit_exceeded",
    "failed:other",
    "incomplete:max_completion_tokens",
    "incomplete:max_prompt_tokens",
    "incomplete:content_filter",
    "cancelled",
    "requires_action",
    "lagging",
    "late_message",
    "too_late",
    "stuck",
    "gone",
    "odd",
)
scripts = st.lists(
    st.sampled_from(["ok", "ok", "ok", "kill", "late", "asleep", "pause", "cancel", *FAULTS, *LOST]),
    max_size=40,
).map(deque)
outcomes = st.lists(st.sampled_from(ENDINGS), min_size=1, max_size=4).map(tuple)
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 4),
    deadline_s=st.one_of(st.none(), st.just(40.0)),
    on_incomplete=st.sampled_from(OnIncomplete),
    completion_limit=st.one_of(st.none(), st.just(256)),
    prompt_limit=st.one_of(st.none(), st.just(256)),
)
worlds = st.builds(
    Simulation,
    script=scripts,
    outcomes=outcomes,
    policy=policies,
    run_s=st.sampled_from([0.0, 3.0, 30.0, 90.0]),
    refuses_cancels=st.booleans(),
)


def it_ends(world: Simulation) -> None:
    """Whatever the API does, a row ends, in a documented status."""
    assert world.finish is not None
    assert world.finish.status in FINISHED


def no_attempt_is_paid_for_twice(world: Simulation) -> None:
    """An attempt has one run: after a kill, after a lost reply, and when a create arrives late."""
    for attempt in set(world.attempts_of.values()):
        assert world.runs_of_attempt(attempt) == 1


def attempts_keep_their_limit_and_are_all_counted(world: Simulation) -> None:
    """No more runs than `--attempts`, and every run is recorded."""
    assert len(world.runs) <= world.policy.attempts
    ledger = [attempt.run_id for attempt in world.recorded]
    assert set(world.runs) == set(ledger)
    assert len(set(ledger)) == len(ledger)
    assert [attempt.number for attempt in world.state.past_attempts] == list(range(1, world.state.attempt))


def a_completed_answer_is_never_dropped(world: Simulation) -> None:
    """If the last run completed, the row is completed, with its answer: even when it was being cancelled."""
    last = world.state.run_id
    if last in world.runs and world.status_of(last) == "completed":
        assert world.finish is not None
        assert world.finish.status is JobStatus.COMPLETED
        assert world.finish.answer.endswith("42")


def nothing_is_sent_while_paused_or_cancelled(world: Simulation) -> None:
    """No create is sent once the batch is paused or cancelled."""
    assert not world.sent_while.get(BatchState.PAUSED)
    assert not world.sent_while.get(BatchState.CANCELLED)


def functions_keep_their_limit_and_answer_together(world: Simulation) -> None:
    """All outputs of a round come in one submission; rounds hold their limit."""
    assert all(count == len(CALLS) for _, count in world.submitted)
    assert world.state.tool_rounds <= world.policy.tool_rounds


def a_row_is_cancelled_only_by_a_cancel(world: Simulation) -> None:
    """By the user, or at the API."""
    assert world.finish is not None
    if world.finish.status is JobStatus.CANCELLED:
        assert world.batch_state is BatchState.CANCELLED or "cancelled" in world.outcomes


def a_run_is_polled_before_its_deadline_ends_it(world: Simulation) -> None:
    """After the deadline, however late: the run may have ended while the machine slept."""
    for deadline_at, last_active_poll_at in world.cancelled_late:
        assert last_active_poll_at is not None
        assert last_active_poll_at >= deadline_at


def a_run_that_is_alive_is_never_replaced(world: Simulation) -> None:
    """Not by a new attempt, although the API refuses to cancel it (case E1)."""
    assert not world.replaced_alive


def no_text_is_dropped(world: Simulation) -> None:
    """If any run that the row followed wrote something, the row's answer has text (case A12)."""
    wrote = {"completed", "incomplete"}
    texts = [attempt for attempt in world.recorded if attempt.status in wrote]
    if texts and "late_message" not in world.outcomes:
        assert world.finish is not None
        assert world.finish.answer


PROMISES = (
    it_ends,
    no_attempt_is_paid_for_twice,
    attempts_keep_their_limit_and_are_all_counted,
    a_completed_answer_is_never_dropped,
    nothing_is_sent_while_paused_or_cancelled,
    functions_keep_their_limit_and_answer_together,
    a_row_is_cancelled_only_by_a_cancel,
    a_run_is_polled_before_its_deadline_ends_it,
    a_run_that_is_alive_is_never_replaced,
    no_text_is_dropped,
)


def keep_every_promise(world: Simulation) -> None:
    world.play()
    for promise in PROMISES:
        promise(world)


@settings(max_examples=300, deadline=None)
@given(worlds)
def test_every_promise_holds_in_every_history(world: Simulation) -> None:
    """All of PROMISES, in hundreds of histories of errors, kills, pauses and cancels."""
    keep_every_promise(world)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(worlds)
def test_every_promise_holds_in_ten_thousand_histories(world: Simulation) -> None:
    """The same, at length."""
    keep_every_promise(world)


@pytest.mark.parametrize("rounds", [1, 5])
def test_functions_are_called_no_more_than_the_limit(rounds: int) -> None:
    """A model that asks for functions without end is stopped, and the row's error says so."""
    world = Simulation(deque(), outcomes=("always_acting",), policy=RetryPolicy(tool_rounds=rounds)).play()

    assert world.finish is not None
    assert world.finish.error is not None
    assert world.finish.error.startswith("tool_rounds")
    assert world.state.tool_rounds == rounds


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Simulation,
        script=scripts,
        outcomes=st.lists(st.sampled_from([*REFUSED_RUNS, *ENDINGS[:4]]), min_size=1, max_size=4).map(
            lambda endings: (*endings, "completed")
        ),
        policy=policies,
        goes_on=st.just(True),
    )
)
def test_runs_refused_for_money_or_model_pause_and_count_against_no_limit(world: Simulation) -> None:
    """Such a run pauses the batch: nothing is sent before `resume`, and the row's attempts are not used up."""
    world.play()

    refused = [
        name for name, run in world.runs.items() if run["ends"] in REFUSED_RUNS and not run["cancelled"]
    ]
    it_ends(world)
    no_attempt_is_paid_for_twice(world)
    nothing_is_sent_while_paused_or_cancelled(world)
    assert not world.finish or not (world.finish.error or "").startswith("rate_limit_exceeded: You exceeded")
    assert len(world.runs) - len(refused) <= world.policy.attempts
    assert {attempt.run_id for attempt in world.recorded if attempt.run_id} == set(world.runs)

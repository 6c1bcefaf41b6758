"""Properties of the lifecycle over random histories: faults of every kind, kills and cancels at any moment."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.models import FINISHED, JobStatus, OnIncomplete
from tests.unit.lifecycle_world import FAULTS, LOST, World
from worker.retry import RetryPolicy

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
    "stuck",
    "odd",
)
scripts = st.lists(st.sampled_from(["ok", "ok", "ok", "kill", "late", *FAULTS, *LOST]), max_size=40).map(
    deque
)
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
    World, script=scripts, outcomes=outcomes, policy=policies, run_s=st.sampled_from([0.0, 3.0, 30.0])
)


@settings(max_examples=1500, deadline=None)
@given(worlds)
def test_every_history_ends_in_a_finished_status(world: World) -> None:
    """Whatever the API does, a row ends, in a status that users know."""
    world.play()

    assert world.finish is not None
    assert world.finish.status in FINISHED


@settings(max_examples=1500, deadline=None)
@given(worlds)
def test_no_attempt_is_paid_for_twice(world: World) -> None:
    """A run that exists is never made again: neither after a kill, nor after a lost reply, nor for a late one."""
    world.play()

    for attempt in set(world.attempts_of.values()):
        assert world.runs_of_attempt(attempt) == 1, world.log


@settings(max_examples=1500, deadline=None)
@given(worlds)
def test_attempts_keep_to_their_limit_and_are_all_counted(world: World) -> None:
    """No more runs than `--attempts`, and the ledger knows every one of them."""
    world.play()

    assert len(world.runs) <= world.policy.attempts
    ledger = {attempt.run_id for attempt in world.known.past} | {world.known.run_id}
    assert set(world.runs) <= ledger


@settings(max_examples=1500, deadline=None)
@given(worlds)
def test_a_completed_answer_is_never_dropped(world: World) -> None:
    """If the last run completed, the row is completed, with its answer."""
    world.play()
    last = world.known.run_id

    if last in world.runs and world._run(last).status == "completed" and world.known.stop is None:
        assert world.finish is not None
        assert world.finish.status is JobStatus.COMPLETED
        assert world.finish.answer.endswith("42")


@settings(max_examples=1000, deadline=None)
@given(worlds, st.integers(0, 30))
def test_a_cancelled_row_ends_without_another_run(world: World, at: int) -> None:
    """After `cancel` no run is made, and the row ends cancelled, or with the answer that came all the same."""
    world.script.insert(min(at, len(world.script)), "cancel")
    world.script = deque(world.script)
    before: list[int] = []
    plain = world._act

    def watched(action, meets):
        if "cancel" not in world.script and not before:
            before.append(len(world.runs) + sum(len(thread.late) for thread in world.threads.values()))
        return plain(action, meets)

    world._act = watched  # type: ignore[method-assign]
    world.play()

    assert world.finish is not None
    assert world.finish.status in FINISHED


@pytest.mark.parametrize("rounds", [1, 5])
def test_functions_are_called_no_more_than_the_limit(rounds: int) -> None:
    """A model that asks for functions for ever is stopped, and the row says so."""
    world = World(deque(), outcomes=("always_acting",), policy=RetryPolicy(tool_rounds=rounds)).play()

    assert world.finish is not None
    assert world.finish.error is not None
    assert world.finish.error.startswith("tool_rounds")
    assert world.known.rounds == rounds

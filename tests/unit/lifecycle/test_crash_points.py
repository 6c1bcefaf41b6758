"""A worker killed at every point between two effects of a row's history: the promises hold at each.

effects   request to the API ─▶ [kill] ─▶ state stored from its reply ─▶ [kill] ─▶ next request

The histories are enumerated, in virtual time: each outcome, each step, both points, once, twice, and after each
error of an earlier step. Random kills of real processes (tests/chaos) seldom reach these points.
"""

from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice, product

import pytest

from askmill.jobs.model.models import OnIncomplete
from askmill.worker.execution.stored_state import initial_state, turn_for_next_row
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState
from tests.unit.execution.rows import batch_of, claim_of
from tests.unit.lifecycle.simulation import Simulation
from tests.unit.lifecycle.test_properties import PROMISES, a_row_is_cancelled_only_by_a_cancel, it_ends

KILLS = ("kill", "kill_unstored")
LOSSES = ("forget_1", "forget_2", "forget_3")
OUTCOMES = (
    ("completed",),
    ("failed:server_error", "completed"),
    ("expired", "completed"),
    ("incomplete:max_completion_tokens", "completed"),
    ("requires_action",),
    ("always_acting",),
    ("too_late", "completed"),
    ("stuck",),
    ("cancelled",),
    ("odd", "completed"),
)
POLICIES = {
    OnIncomplete.KEEP: RetryPolicy(tool_rounds=2, deadline_s=20),
    OnIncomplete.CONTINUE: RetryPolicy(tool_rounds=2, deadline_s=20, on_incomplete=OnIncomplete.CONTINUE),
}
FAULTY = ("429", "timeout", "drop_after", "late", "asleep")
"""Refused; not carried out; reply lost; carried out 20 s later; the machine asleep for an hour at the reply."""
ODD_TIMES = (("held",), ("404",), ("503", "away", "404"), ("drop_after", "404"), ("late", "404"))
"""Delayed for a minute; a single 404 of a starting server: alone, after an outage, after a lost create."""
SAMPLED = 23
"""The default run plays one history of so many."""
KEPT_PROMISES = tuple(promise for promise in PROMISES if promise is not a_row_is_cancelled_only_by_a_cancel)
"""Why a worker has cancelled a run may be forgotten."""
Script = tuple[str, ...]


def no_existing_run_is_given_up(world: Simulation) -> None:
    """A single 404 is not believed, whatever came before it."""
    assert "gone" not in {attempt.status for attempt in world.recorded}


def _unharmed_steps(outcomes: Script, policy: RetryPolicy) -> int:
    return Simulation(deque(), outcomes=outcomes, policy=policy).play().steps


def _scripts(steps: int) -> Iterator[Script]:
    """One kill; two; a kill in the step of an error or in a later one."""
    ok = ("ok",)
    for at, kill in product(range(steps), KILLS):
        yield ok * at + (kill,)
        for more, second in product(range(3), KILLS):
            yield ok * at + (kill,) + ok * more + (second,)
    for at, error, after, kill in product(range(steps), FAULTY, range(3), KILLS):
        yield ok * at + (error,) + ok * after + (kill,)
    for at, faults, kill in product(range(steps), ODD_TIMES, ((), (KILLS[0],))):
        yield ok * at + faults + kill


@pytest.mark.parametrize("every", [SAMPLED, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("on_incomplete", POLICIES)
def test_a_kill_between_any_two_effects_breaks_no_promise(
    on_incomplete: OnIncomplete, every: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One end, no attempt paid for twice, each run recorded, no completed answer dropped. All histories are `long`."""
    policy, tried = POLICIES[on_incomplete], 0
    for outcomes in OUTCOMES:
        for script in islice(_scripts(_unharmed_steps(outcomes, policy)), 0, None, every):
            world = Simulation(deque(script), outcomes=outcomes, policy=policy).play()
            tried += 1
            for promise in (*PROMISES, no_existing_run_is_given_up):
                promise(world)
    with capsys.disabled():
        print(f"\n{tried} histories with kills, on_incomplete={on_incomplete}")
    assert tried > 1_000 // every


@pytest.mark.parametrize("every", [2 * SAMPLED + 1, pytest.param(1, marks=pytest.mark.long)])
def test_a_store_that_forgets_costs_a_run_only_where_it_forgets_a_mark(
    every: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redis loses its last 1 to 3 states and the worker dies with it, at every point, once and after every error.

    With its mark in the store no run is bought again: what durability `disk` and `replica` promise. Each mark that
    is forgotten, as with `process`, costs one run at most, and the row ends all the same.
    """
    policy, tried, forgetful, twice = POLICIES[OnIncomplete.KEEP], 0, 0, 0
    for outcomes in OUTCOMES:
        for script in islice(_forgetful_scripts(_unharmed_steps(outcomes, policy)), 0, None, every):
            world = Simulation(deque(script), outcomes=outcomes, policy=policy).play()
            tried += 1
            if not world.forgotten_marks:
                for promise in KEPT_PROMISES:
                    promise(world)
                continue
            forgetful += 1
            it_ends(world)
            for attempt in set(world.attempts_of.values()):
                again = world.runs_of_attempt(attempt) - 1
                assert again <= world.forgotten_marks.count(attempt), world.log
                twice += again
    with capsys.disabled():
        print(f"\n{tried} histories with a loss, {forgetful} of a mark, {twice} runs bought again")
    assert 0 < twice <= forgetful < tried


def _forgetful_scripts(steps: int) -> Iterator[Script]:
    """One loss; one in the step of an error or in a later one; a second one."""
    ok = ("ok",)
    for at, loss in product(range(steps), LOSSES):
        yield ok * at + (loss,)
        for more, second in product(range(3), LOSSES):
            yield ok * at + (loss,) + ok * more + (second,)
    for at, error, after, loss in product(range(steps), FAULTY, range(3), LOSSES):
        yield ok * at + (error,) + ok * after + (loss,)


def _second_turn() -> JobState:
    """The first state of a conversation's second row, after the first row has ended."""
    first = Simulation(deque(), state=JobState(shared_thread=True)).play()
    return initial_state(claim_of("q", "anna", previous_turn=turn_for_next_row(first.state)), batch_of())


def test_a_later_turn_never_takes_an_earlier_ones_run_for_its_own() -> None:
    """On a server without metadata, killed at any point: the row's run was created for it."""
    state = _second_turn()
    earlier = tuple(state.known_run_ids)
    turn = partial(
        Simulation, policy=POLICIES[OnIncomplete.KEEP], state=state, earlier=earlier, nameless=True
    )
    assert earlier
    for outcomes in OUTCOMES:
        for at, kill in product(range(turn(deque(), outcomes).play().steps), KILLS):
            world = turn(deque(("ok",) * at + (kill,)), outcomes).play()
            for promise in PROMISES:
                promise(world)

"""The estimate of Redis' clock: slow replies do not spoil it, and a step of it moves no job's time."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.worker.execution.shard_state_json import TIME_FIELDS as SHARD_TIME_FIELDS
from askmill.worker.execution.shard_state_json import shard_from_json, shard_to_json
from askmill.worker.execution.stored_state import STATE_JSON, TIME_FIELDS, from_store, state_to_json
from askmill.worker.lifecycle.shard_state import ShardState
from askmill.worker.lifecycle.state import JobState
from askmill.worker.runtime.redis_clock import RedisClock
from tests.unit.lifecycle.states import NOW, POLLING

UNIX = 1_700_000_000.0


def reply(
    clock: RedisClock, at_s: float, ahead_s: float, there_s: float = 0.0005, back_s: float = 0.0005
) -> float:
    """Learn from a heartbeat sent at `at_s`; Redis' clock is `ahead_s` of the elapsed clock."""
    redis_ms = int((at_s + there_s + ahead_s) * 1000)
    return clock.learn(at_s, at_s + there_s + back_s, redis_ms / 1000)


def test_a_slow_reply_does_not_change_the_estimate() -> None:
    """Case C7: 8 s on the way back, whose middle is 4 s wrong: the bounds of quick replies stay."""
    clock = RedisClock()
    reply(clock, 100, UNIX)
    before_s = clock.ahead_s
    assert reply(clock, 103, UNIX, back_s=8.0) == 0
    assert clock.ahead_s == pytest.approx(before_s, abs=0.01)
    assert clock.uncertainty_s < 0.05


def test_the_first_reply_may_be_slow() -> None:
    """The uncertainty says so, and the next quick reply corrects it."""
    clock = RedisClock()
    assert clock.uncertainty_s == float("inf")
    reply(clock, 100, UNIX, back_s=8.0)
    assert clock.uncertainty_s > 3
    reply(clock, 109, UNIX)
    assert clock.uncertainty_s < 0.05
    assert clock.ahead_s == pytest.approx(UNIX, abs=0.05)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0.1, 4)), min_size=1, max_size=40),
    st.floats(-0.0004, 0.0004),
)
def test_no_step_is_detected_where_there_is_none(trips: list[tuple[float, ...]], drift: float) -> None:
    """Round trips of up to ten seconds and clocks that drift apart: the truth stays within the bounds."""
    clock, at_s = RedisClock(), 0.0
    for there_s, back_s, rest_s in trips:
        ahead_s = UNIX + drift * at_s
        assert reply(clock, at_s, ahead_s, there_s, back_s) == 0
        assert abs(clock.redis_ahead_s - ahead_s) <= clock.uncertainty_s + 0.02
        at_s += there_s + back_s + rest_s


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 2.0, -2.0])
def test_a_step_of_redis_is_noticed_and_moves_no_job(step_s: float) -> None:
    """Jobs' time goes on evenly; what is stored from now on is by the new time."""
    clock = RedisClock()
    reply(clock, 100, UNIX)
    before_s = clock.ahead_s
    assert reply(clock, 103, UNIX + step_s) == pytest.approx(step_s, abs=0.05)
    assert clock.ahead_s == pytest.approx(before_s, abs=0.05)
    assert clock.redis_ahead_s == pytest.approx(UNIX + step_s, abs=0.05)
    assert reply(clock, 106, UNIX + step_s) == 0


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_deadline_keeps_its_length_over_a_step_and_a_new_claim(step_s: float) -> None:
    """Stored before the step or after it: a run of 4 s is 4 s old."""
    clock = RedisClock()
    reply(clock, 100, UNIX)
    now_s = 103 + clock.ahead_s
    young = replace(POLLING, create_sent_at=now_s - 5, began_at=now_s - 4)
    before = STATE_JSON.validate_json(state_to_json(young, clock))
    reply(clock, 103, UNIX + step_s)
    after = STATE_JSON.validate_json(state_to_json(young, clock))
    assert after.began_at == pytest.approx(now_s - 4 + step_s, abs=0.05)
    assert from_store(after, clock, now_s).began_at == pytest.approx(now_s - 4, abs=0.05)
    taken = from_store(before, clock, now_s)
    assert taken.began_at == pytest.approx(now_s - 4, abs=0.05)


@given(
    st.lists(st.sampled_from([-3600.0, -5.0, 5.0, 3600.0]), max_size=5), st.integers(0, 5), st.floats(0, 7200)
)
def test_after_any_steps_no_stored_time_seems_older_than_it_is(
    steps: list[float], stored_after: int, age_s: float
) -> None:
    """Stored between any two steps, its age is right, or too small."""
    clock, at_s, ahead_s = RedisClock(), 100.0, UNIX
    reply(clock, at_s, ahead_s)
    began_s = at_s + clock.ahead_s - age_s
    stored = clock.to_redis(began_s)
    for number, step_s in enumerate(steps, 1):
        at_s, ahead_s = at_s + 3, ahead_s + step_s
        reply(clock, at_s, ahead_s)
        if number <= stored_after:
            stored = clock.to_redis(began_s)
    now_s = at_s + clock.ahead_s
    assert began_s - 0.1 <= clock.from_redis(stored, now_s) <= now_s + 0.1


@given(
    st.lists(st.sampled_from([-3600.0, -40.0, -5.0, 5.0, 40.0, 3600.0]), min_size=1, max_size=5),
    st.integers(0, 4),
    st.floats(0, 7200),
)
def test_a_worker_that_starts_after_steps_takes_no_stored_time_for_older(
    steps: list[float], stored_after: int, age_s: float
) -> None:
    """Another worker stored the time before, between or after steps that it noticed: the age is right, or too small."""
    at_s, ahead_s = 100.0, UNIX
    stored, noticed = at_s + ahead_s - age_s, list[tuple[float, float]]()
    for number, step_s in enumerate(steps, 1):
        at_s, ahead_s, age_s = at_s + 3, ahead_s + step_s, age_s + 3
        noticed.append((at_s + ahead_s, step_s))
        if number <= stored_after:
            stored = at_s + ahead_s - age_s
    clock = RedisClock()
    reply(clock, at_s + 1, ahead_s)
    clock.remember(noticed)
    now_s = at_s + 1 + clock.ahead_s
    assert now_s - age_s - 1.1 <= clock.from_redis(stored, now_s) <= now_s + 0.1


def test_a_worker_that_starts_after_one_step_knows_the_age_of_what_was_stored_before_it() -> None:
    """A create was sent 10 s ago, and Redis' clock has stepped an hour ahead since: it is 10 s old, not an hour."""
    clock = RedisClock()
    reply(clock, 100, UNIX + 3600)
    clock.remember([(97 + UNIX + 3600, 3600.0)])
    sent_s = 90 + UNIX
    now_s = 100 + clock.ahead_s
    assert now_s - clock.from_redis(sent_s, now_s) == pytest.approx(10, abs=0.1)


def test_nothing_is_rewritten_where_redis_has_not_stepped() -> None:
    """To the last digit: a row that is released again and again keeps its times."""
    clock = RedisClock()
    reply(clock, 100, UNIX)
    assert STATE_JSON.validate_json(state_to_json(POLLING, clock)) == POLLING
    assert from_store(POLLING, clock, NOW) == POLLING


def test_every_time_of_a_state_is_converted() -> None:
    """Every field of JobState that is a point in time is in the list; a duration is not."""
    named = {
        field.name for field in fields(JobState) if field.name.endswith("_at") or field.name.endswith("since")
    }
    assert set(TIME_FIELDS) == named


def test_every_time_of_a_shard_s_state_is_converted() -> None:
    """The same of ShardState; `expires_at` lies ahead, and is converted apart."""
    named = {
        field.name
        for field in fields(ShardState)
        if field.name.endswith("_at") or field.name.endswith("since")
    }
    assert {*SHARD_TIME_FIELDS, "expires_at"} == named
    clock, state = RedisClock(), ShardState(sent_at=UNIX, expires_at=UNIX + 86_400)
    assert shard_from_json(shard_to_json(state, clock), clock, UNIX + 5) == state

"""When to poll a run: few polls, none too late (worker/lifecycle/polling.py)."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askmill.worker.lifecycle.polling import (
    DELAY_WORTH,
    FIRST_POLL_S,
    LONGEST_INTERVAL_S,
    MOST_PLACES,
    SCOUTS,
    THRIFTY_WORTH,
    WATCHER,
    RunTimes,
    ended_between,
    estimated,
)
from benchmarks.polling import SCENES, SHAPES, Draw, askmill

seconds = st.floats(0, 5000, allow_nan=False)
intervals = st.lists(st.tuples(seconds, seconds).map(sorted), max_size=20)


def _taught(ended: list[list[float]]) -> RunTimes:
    times = RunTimes()
    for low, high in ended:
        times.next_poll_s(high, low / 2)
        times.ended(low / 2, low, high)
    return times


@settings(max_examples=40, deadline=None)
@given(intervals, seconds, st.floats(0, 1), st.none() | st.floats(0, 500))
def test_every_wait_is_finite_and_ends_in_a_poll(
    ended: list[list[float]], age_s: float, share: float, hint_s: float | None
) -> None:
    """Whatever was observed: each run is polled in the end, and never waits past four times the longest known."""
    times, seen_s = _taught(ended), age_s * share
    longest = max([high for _, high in ended], default=0.0)
    bound_s = max(5 * longest, 1.2 * age_s, age_s + LONGEST_INTERVAL_S) + 1
    for _ in range(3):
        wait_s = times.next_poll_s(age_s, seen_s, hint_s)
        assert wait_s >= 0
        age_s += wait_s
        assert age_s <= bound_s
        if wait_s == 0:
            return
    pytest.fail("the run is never polled")


@settings(max_examples=40, deadline=None)
@given(intervals, st.lists(seconds, min_size=2, max_size=10).map(sorted))
def test_the_next_poll_never_comes_earlier_for_a_run_seen_later(
    ended: list[list[float]], seen: list[float]
) -> None:
    """Of two running runs, the one seen at the higher age is not polled sooner."""
    times = _taught(ended)
    nexts = [seen_s + times.next_poll_s(seen_s, seen_s) for seen_s in seen] if ended else []
    assert nexts == sorted(nexts)
    assert all(at >= seen_s for at, seen_s in zip(nexts, seen, strict=False))


def test_a_poll_follows_a_poll_only_after_a_while() -> None:
    """A run just seen running is not polled again at once."""
    times = _taught([[9.9, 10.0]] * 20)
    assert times.next_poll_s(10.1, 10.1) > 0.05


def test_of_many_runs_of_one_age_a_few_are_polled_for_all() -> None:
    """Before a run has ended, two are polled at an age and the others wait for their result."""
    times = RunTimes()
    polls = [times.next_poll_s(FIRST_POLL_S) == 0 for _ in range(50)]
    assert sum(polls) == SCOUTS


def test_a_servers_hint_counts_until_a_run_has_ended() -> None:
    """`openai-poll-after-ms` decides until the batch has shown run times."""
    assert RunTimes().next_poll_s(0.0, 0.0, 7.0) == pytest.approx(7.0)


def test_runs_of_one_length_are_polled_once_at_their_end() -> None:
    """Thirty runs of 30 s: the next is polled within 3 % after its end, and not before."""
    times = _taught([[29.9, 30.1]] * 30)
    assert 29.9 <= times.next_poll_s(0.0) <= 30.9


@pytest.mark.parametrize(
    ("reported_s", "expected"), [(None, (20.0, 32.0)), (30.0, (29.0, 31.0)), (50.0, (20.0, 32.0))]
)
def test_reported_whole_seconds_narrow_the_bounds_of_polls(
    reported_s: float | None, expected: tuple[float, float]
) -> None:
    """A server's times are used where they agree with the polls, and ignored where they do not."""
    assert ended_between(20.0, 32.0, reported_s) == expected


reports = st.lists(st.tuples(seconds, seconds, st.booleans()), max_size=60)


def _observed(observed: list[tuple[float, float, bool]]) -> RunTimes:
    """Runs seen running at the smaller age; at the greater one still running, or ended."""
    times = RunTimes()
    for one, other, ended in observed:
        seen_s, age_s = sorted((one, other))
        times.running(0.0, seen_s)
        if ended:
            times.ended(seen_s, seen_s, age_s)
        else:
            times.running(seen_s, age_s)
        times.next_poll_s(age_s)
    return times


@settings(max_examples=60, deadline=None)
@given(reports)
def test_every_run_that_entered_a_bin_has_left_it(observed: list[tuple[float, float, bool]]) -> None:
    """Whoever is no longer followed, ended or handed away, is at no age: nothing has to be taken back."""
    times = _observed(observed)
    assert sum(times._entered.values()) == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(reports.filter(lambda runs: any(ended for *_, ended in runs)))
def test_the_estimated_shares_are_probabilities(observed: list[tuple[float, float, bool]]) -> None:
    """Each is between none and all, together they are no more than all, and some may always outlive them."""
    times = _observed(observed)
    mass, hazard = estimated(times._ended, times._entered)
    assert all(-1e-9 <= share <= 1 for share in mass.values())
    assert 0 < sum(mass.values()) <= 1 + 1e-9
    assert 0 < hazard < inf


@settings(max_examples=30, deadline=None)
@given(reports)
def test_a_plan_is_sorted_and_bounded(observed: list[tuple[float, float, bool]]) -> None:
    """Its polls are in order, and no more than there are places."""
    plan = _observed(observed)._plan
    assert list(plan) == sorted(set(plan))
    assert len(plan) <= MOST_PLACES + 1


def test_runs_still_running_delay_the_polls_of_a_wave() -> None:
    """Of 500 runs started at once the fastest has ended: the others are polled later."""
    plans = []
    for others in (0, 500):
        times = RunTimes()
        for _ in range(others):
            times.running(0.0, 8.1)
        times.ended(7.5, 7.5, 8.1)
        times.next_poll_s(8.1, 8.1)
        plans.append([at for at in times._plan if 8.2 < at < 16.0])
    assert len(plans[1]) < len(plans[0]) / 2


def test_a_few_ends_beyond_the_plan_require_a_new_plan() -> None:
    """After 200 short runs, five long ones that end at last are enough for a new plan."""
    times = _taught([[4.9, 5.0]] * 200)
    times.next_poll_s(0.0)
    for _ in range(100):
        times.running(0.0, 50.0)
    times.next_poll_s(50.0, 50.0)
    before = times._plan
    for _ in range(5):
        times.ended(50.0, 52.0, 52.5)
    times.next_poll_s(52.5, 50.0)
    assert times._plan != before


def test_of_many_waiting_runs_one_in_fifty_is_polled() -> None:
    """Two scouts of a thousand may both be slow by chance: the more wait, the more are polled."""
    times = RunTimes()
    for _ in range(SCOUTS):
        assert times.next_poll_s(10.0, 9.0) == 0
    assert sum(times.next_poll_s(10.5) == 0 for _ in range(1000)) == 1000 // WATCHER


LOGNORMAL = "lognormal, median 30 s, sigma 0.5"


@pytest.mark.parametrize(
    ("batch", "shape", "worth", "polls", "delay"),
    [
        ("20 waves", "fixed 30 s", DELAY_WORTH, 1.3, 0.01),
        ("1 wave", "fixed 28 s", DELAY_WORTH, 2.0, 0.09),
        ("1 wave", LOGNORMAL, DELAY_WORTH, 7.4, 0.055),
        ("1 small", LOGNORMAL, DELAY_WORTH, 9.0, 0.07),
        ("1 wave", LOGNORMAL, THRIFTY_WORTH, 4.1, 0.11),
        ("20 waves", "shift, 20 s to 60 s in mid-batch", DELAY_WORTH, 6.6, 0.04),
        *(
            pytest.param(*scene, marks=pytest.mark.long)
            for scene in (
                ("2 waves", "fixed 28 s", DELAY_WORTH, 2.0, 0.09),
                ("20 waves", LOGNORMAL, DELAY_WORTH, 7.4, 0.055),
                ("2 waves", LOGNORMAL, DELAY_WORTH, 7.4, 0.055),
                ("20 waves", LOGNORMAL, THRIFTY_WORTH, 4.1, 0.11),
                ("1 wave", "bimodal, 5 s and 60 s", DELAY_WORTH, 6.5, 0.08),
            )
        ),
    ],
)
def test_a_batch_needs_few_polls(batch: str, shape: str, worth: float, polls: float, delay: float) -> None:
    """Polls a run and the median delay, in simulated batches of one wave or many, first runs included."""
    jitter: Draw = SHAPES[shape]
    cost = askmill(jitter, worth, SCENES[batch])
    assert cost.polls <= polls
    assert cost.delay_median <= delay

"""When to look again: few looks, none pointless, none missing (worker/polling.py)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.polling import SHAPES, Draw, ours
from worker.polling import FIRST_LOOK_S, LONGEST_BLIND_S, SCOUTS, THRIFTY_WORTH, RunTimes, ended_between

seconds = st.floats(0, 5000, allow_nan=False)
intervals = st.lists(st.tuples(seconds, seconds).map(sorted), max_size=20)


def _taught(ended: list[list[float]]) -> RunTimes:
    times = RunTimes()
    for low, high in ended:
        times.add(low, high)
    return times


@settings(max_examples=40, deadline=None)
@given(intervals, seconds, st.floats(0, 1), st.none() | st.floats(0, 500))
def test_every_wait_is_finite_and_ends_in_a_look(
    ended: list[list[float]], age_s: float, share: float, hint_s: float | None
) -> None:
    """Whatever was learnt: who waits as told looks in the end, and never waits past four times all known."""
    times, seen_s = _taught(ended), age_s * share
    longest = max([high for _, high in ended], default=0.0)
    bound_s = max(5 * longest, 1.2 * age_s, age_s + LONGEST_BLIND_S) + 1
    for _ in range(3):
        wait_s = times.next_look_s(age_s, seen_s, hint_s)
        assert wait_s >= 0
        age_s += wait_s
        assert age_s <= bound_s
        if wait_s == 0:
            return
    pytest.fail("it never looked")


@settings(max_examples=40, deadline=None)
@given(intervals, st.lists(seconds, min_size=2, max_size=10).map(sorted))
def test_the_next_look_never_comes_earlier_for_a_run_seen_later(
    ended: list[list[float]], seen: list[float]
) -> None:
    """Of two runs that were both seen running, the one seen at the higher age is not looked at sooner."""
    times = _taught(ended)
    nexts = [seen_s + times.next_look_s(seen_s, seen_s) for seen_s in seen] if ended else []
    assert nexts == sorted(nexts)
    assert all(at >= seen_s for at, seen_s in zip(nexts, seen, strict=False))


def test_a_look_follows_a_look_only_after_a_while() -> None:
    """A run just seen running is not looked at again at once."""
    times = _taught([[9.9, 10.0]] * 20)
    assert times.next_look_s(10.1, 10.1) > 0.05


def test_of_many_runs_of_one_age_a_few_look_for_all() -> None:
    """Before anything is known, three look at an age and the others wait for news."""
    times = RunTimes()
    looks = [times.next_look_s(FIRST_LOOK_S) == 0 for _ in range(50)]
    assert sum(looks) == SCOUTS


def test_a_servers_hint_is_not_undercut_while_nothing_is_known() -> None:
    """`openai-poll-after-ms` decides until the batch has shown run times."""
    assert RunTimes().next_look_s(0.0, 0.0, 7.0) == pytest.approx(7.0)


def test_runs_of_one_length_are_looked_at_once_at_their_end() -> None:
    """Thirty runs of 30 s: the next is looked at within 3 % behind its end, and not before."""
    times = _taught([[29.9, 30.1]] * 30)
    assert 29.9 <= times.next_look_s(0.0) <= 30.9


@pytest.mark.parametrize(
    ("told_s", "expected"), [(None, (20.0, 32.0)), (30.0, (29.0, 31.0)), (50.0, (20.0, 32.0))]
)
def test_whole_seconds_narrow_what_looks_have_shown(
    told_s: float | None, expected: tuple[float, float]
) -> None:
    """A server's times help where they agree with our looks, and are passed over where they do not."""
    assert ended_between(20.0, 32.0, told_s) == expected


@pytest.mark.parametrize(
    ("shape", "worth", "looks", "delay"),
    [
        ("fixed 30 s", None, 1.3, 0.01),
        ("lognormal, median 30 s, sigma 0.5", None, 7.1, 0.055),
        ("lognormal, median 30 s, sigma 0.5", THRIFTY_WORTH, 4.05, 0.105),
        ("shift, 20 s to 60 s in mid-batch", None, 7.5, 0.04),
    ],
)
def test_the_looks_of_a_batch_stay_few(shape: str, worth: float | None, looks: float, delay: float) -> None:
    """Looks a run and the median delay of a simulated batch of 2,000, the first runs included."""
    draw: Draw = SHAPES[shape]
    seen = ours(draw) if worth is None else ours(draw, worth)
    assert seen.looks <= looks
    assert seen.delay_median <= delay

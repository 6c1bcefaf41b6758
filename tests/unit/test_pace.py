"""The estimated time left contains the actual time left, in simulated batches of many kinds."""

import heapq
import random
from collections import Counter

import pytest

from askmill.jobs.store.eta import BUCKET_S, BUCKETS, TimeLeft, time_left

TRIALS = 300
MIN_COVERAGE = 0.85
"""Minimum share of ends within the estimated range; 0.88 to 0.96 when this was written."""


def _ends(rows: int, slots: int, median_s: float, sigma: float, chance: random.Random) -> list[float]:
    """When each row ends, with `slots` runs at a time and lognormal run times."""
    free = [0.0] * slots
    ends = []
    for _ in range(rows):
        ends.append(heapq.heappop(free) + median_s * chance.lognormvariate(0, sigma))
        heapq.heappush(free, ends[-1])
    return sorted(ends)


def _estimate(ends: list[float], slots: int, now_s: float) -> TimeLeft:
    """The estimate at `now_s`, from the counts that the store keeps."""
    done = [end for end in ends if end <= now_s]
    oldest = int(now_s / BUCKET_S) - BUCKETS + 1
    pieces = Counter(int(end / BUCKET_S) for end in done)
    recent = sum(count for piece, count in pieces.items() if piece >= oldest)
    rows_per_s = recent / max(now_s - max(0, oldest * BUCKET_S), 1.0)
    whole = [pieces[piece] for piece in range(max(oldest, 1), int(now_s / BUCKET_S))]
    return time_left(len(ends) - len(done), min(slots, len(ends)), rows_per_s, whole)


@pytest.mark.parametrize(
    "share",
    [0.05, 0.5, 0.99, *(pytest.param(share, marks=pytest.mark.long) for share in (0.1, 0.3, 0.8, 0.95))],
)
def test_the_end_is_nearly_always_within_the_estimated_range(share: float) -> None:
    """Early and late in short and long batches, with narrow and wide run times."""
    chance = random.Random(7)
    within = 0
    for _ in range(TRIALS):
        rows, slots = chance.choice([100, 300, 1000, 3000]), chance.choice([5, 20, 100])
        ends = _ends(rows, slots, chance.choice([2, 10, 40]), chance.choice([0.2, 0.5, 0.8]), chance)
        now_s = ends[int(share * rows) - 1] + 0.01
        low_s, high_s = _estimate(ends, slots, now_s)
        within += low_s <= ends[-1] - now_s <= high_s

    assert within / TRIALS > MIN_COVERAGE


def test_a_steady_pace_makes_a_narrow_range() -> None:
    """5 minutes at a row per second, an hour left: within a quarter."""
    low_s, high_s = time_left(3600, 10, 1.0, [10] * 29)

    assert 3600 * 0.75 < low_s < 3600 < high_s < 3600 * 1.25


def test_an_unsteady_pace_makes_a_wide_one() -> None:
    """The same mean, but no row ends in half of the intervals: the range is wider."""
    steady, unsteady = time_left(600, 10, 1.0, [10] * 20), time_left(600, 10, 1.0, [0, 20] * 10)

    assert unsteady.low_s < steady.low_s
    assert unsteady.high_s > steady.high_s

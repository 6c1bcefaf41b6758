"""The time left that is told holds what it says: batches of many kinds are played to their end beside it."""

import heapq
import random
from collections import Counter

import pytest

from askmill.jobs.store.eta import PIECE_S, PIECES, TimeLeft, time_left

TRIALS = 300
TOLD = 0.85
"""The share of ends within the range, at the least; 0.88 to 0.96 when this was written."""


def _ends(rows: int, slots: int, median_s: float, sigma: float, chance: random.Random) -> list[float]:
    """When each row ends, `slots` runs at a time, run times spread as the APIs' are."""
    free = [0.0] * slots
    ends = []
    for _ in range(rows):
        ends.append(heapq.heappop(free) + median_s * chance.lognormvariate(0, sigma))
        heapq.heappush(free, ends[-1])
    return sorted(ends)


def _told(ends: list[float], slots: int, now_s: float) -> TimeLeft:
    """What a look at `now_s` says, counting as the store does."""
    done = [end for end in ends if end <= now_s]
    oldest = int(now_s / PIECE_S) - PIECES + 1
    pieces = Counter(int(end / PIECE_S) for end in done)
    recent = sum(count for piece, count in pieces.items() if piece >= oldest)
    rows_per_s = recent / max(now_s - max(0, oldest * PIECE_S), 1.0)
    whole = [pieces[piece] for piece in range(max(oldest, 1), int(now_s / PIECE_S))]
    return time_left(len(ends) - len(done), min(slots, len(ends)), rows_per_s, whole)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5, 0.8, 0.95, 0.99])
def test_the_end_is_nearly_always_within_what_was_told(share: float) -> None:
    """Early and late in a batch, for short and long ones, steady and wild run times."""
    chance = random.Random(7)
    within = 0
    for _ in range(TRIALS):
        rows, slots = chance.choice([100, 300, 1000, 3000]), chance.choice([5, 20, 100])
        ends = _ends(rows, slots, chance.choice([2, 10, 40]), chance.choice([0.2, 0.5, 0.8]), chance)
        now_s = ends[int(share * rows) - 1] + 0.01
        low_s, high_s = _told(ends, slots, now_s)
        within += low_s <= ends[-1] - now_s <= high_s

    assert within / TRIALS > TOLD


def test_a_steady_pace_makes_a_narrow_range() -> None:
    """5 minutes at a row a second, an hour to go: within a quarter."""
    low_s, high_s = time_left(3600, 10, 1.0, [10] * 29)

    assert 3600 * 0.75 < low_s < 3600 < high_s < 3600 * 1.25


def test_an_unsteady_pace_makes_a_wide_one() -> None:
    """The same mean, half of the time nothing: nobody knows as well."""
    steady, unsteady = time_left(600, 10, 1.0, [10] * 20), time_left(600, 10, 1.0, [0, 20] * 10)

    assert unsteady.low_s < steady.low_s
    assert unsteady.high_s > steady.high_s

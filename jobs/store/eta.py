"""How long a batch will still take, as a range: from the pace of its last minutes, and how that varied.

rows finished in each 10 s of the last 5 minutes ─▶ mean ± 2 standard errors ─▶ rows left / pace
rows under way / pace = the time of a run (Little's law) ─▶ the slowest of the last takes longer
"""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import NamedTuple

PIECE_S = 10
"""The store counts finished rows by tens of seconds (jobs/store/lua/finish.lua)."""
PIECES = 30
FEWEST = 3
"""With fewer pieces nobody knows how the pace varies: `UNKNOWN` to the fast side, half of it to the slow."""
UNKNOWN = 4.0
SLOWEST = 3.0
"""The last of many runs takes longer than most: so many times the mean."""
SPREADS = 2.0
"""Standard errors to each side."""


class TimeLeft(NamedTuple):
    """Seconds. Nine times in ten the end is between (tests/unit/test_pace.py plays it through)."""

    low_s: float
    high_s: float


def time_left(left: int, at_once: int, rows_per_s: float, pieces: Sequence[int]) -> TimeLeft:
    """For `left` unfinished rows, `at_once` of the batch at most under way at a time.

    `rows_per_s` is above 0; `pieces`: rows finished in each whole piece, oldest first.
    """
    last_s = SLOWEST * at_once / rows_per_s
    if len(pieces) < FEWEST or not sum(pieces):
        return TimeLeft(left / rows_per_s / UNKNOWN, left / rows_per_s * UNKNOWN / 2 + last_s)
    mean = fmean(pieces)
    # Chance alone makes counts vary by their square root, however alike a few of them are.
    varies = max(stdev(pieces), sqrt(mean))
    spread = SPREADS * varies * sqrt(1 / len(pieces) + mean / left)
    slowest = max(mean - spread, mean / UNKNOWN)
    return TimeLeft(left / (mean + spread) * PIECE_S, left / slowest * PIECE_S + last_s)

"""Estimate of the time that a batch still takes, as a range, from the throughput of its last minutes.

rows finished in each 10 s of the last 5 minutes ─▶ mean ± 2 standard errors ─▶ rows left / throughput
rows in flight / throughput = duration of a run (Little's law) ─▶ the slowest of the last runs takes longer
"""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import NamedTuple

BUCKET_S = 10
"""Length of a bucket: the store counts finished rows by tens of seconds (jobs/store/lua/finish.lua)."""
BUCKETS = 30
"""Buckets that count."""
_FEWEST_BUCKETS = 3
"""With fewer buckets the variation is unknown: the range is `_UNKNOWN` times faster to half of it slower."""
_UNKNOWN = 4.0
_SLOWEST = 3.0
"""The last of many runs takes longer than most: so many times the mean."""
_STANDARD_ERRORS = 2.0
"""To each side."""


class TimeLeft(NamedTuple):
    """A range in seconds. Nine times in ten the end lies in it (simulated in tests/unit/test_pace.py)."""

    low_s: float
    high_s: float


def time_left(left: int, at_once: int, rows_per_s: float, pieces: Sequence[int]) -> TimeLeft:
    """Estimate the time for the unfinished rows.

    Args:
        left: unfinished rows.
        at_once: rows of the batch in flight at most.
        rows_per_s: above 0.
        pieces: rows finished in each whole bucket, oldest first.
    """
    last_run_s = _SLOWEST * at_once / rows_per_s
    if len(pieces) < _FEWEST_BUCKETS or not sum(pieces):
        return TimeLeft(left / rows_per_s / _UNKNOWN, left / rows_per_s * _UNKNOWN / 2 + last_run_s)
    mean = fmean(pieces)
    # Counts vary by their square root by chance alone, however alike a few of them are.
    deviation = max(stdev(pieces), sqrt(mean))
    spread = _STANDARD_ERRORS * deviation * sqrt(1 / len(pieces) + mean / left)
    slowest = max(mean - spread, mean / _UNKNOWN)
    return TimeLeft(left / (mean + spread) * BUCKET_S, left / slowest * BUCKET_S + last_run_s)

"""A pilot: a few rows are really asked, and what they took says what all will take."""

from collections.abc import Sequence
from math import ceil, floor, sqrt
from statistics import fmean, stdev
from typing import NamedTuple

from askmill.jobs.model.errors import UsageError
from askmill.jobs.openai_client.pricing import Estimate

SPREADS = 2.0
"""So many standard errors to each side: about 95 % of the time the truth is between."""


class Taken(NamedTuple):
    """What one row took: tokens, and USD where the price is known."""

    prompt: int
    completion: int
    cost_usd: float | None


def extrapolated(rows: int, sample: Sequence[Taken]) -> Estimate:
    """The estimate for `rows` rows like those of the sample. Raises UsageError for an empty one."""
    if not sample:
        raise UsageError("No row of the pilot was answered, so it says nothing; `askmill show 1` says why.")
    prompt = fmean(taken.prompt for taken in sample)
    low, high = _range(rows, [float(taken.completion) for taken in sample])
    costs = [taken.cost_usd for taken in sample if taken.cost_usd is not None]
    low_usd, high_usd = _range(rows, costs) if len(costs) == len(sample) else (None, None)
    return Estimate(rows, round(rows * prompt), floor(low), ceil(high), low_usd, high_usd)


def _range(rows: int, values: Sequence[float]) -> tuple[float, float]:
    """The sum over all rows; one value alone says only its order of magnitude."""
    mean, number = fmean(values), len(values)
    if number == 1:
        return rows * mean / 2, rows * mean * 2
    spread = SPREADS * rows * stdev(values) * sqrt(1 / number + 1 / rows)
    return max(0.0, rows * mean - spread), rows * mean + spread

"""Extrapolates the cost of a batch from a pilot: a sample of rows that was really asked."""

from collections.abc import Sequence
from math import ceil, floor, sqrt
from statistics import fmean, stdev
from typing import NamedTuple

from askmill.jobs.model.errors import UsageError
from askmill.jobs.openai_client.pricing import Estimate

STANDARD_ERRORS = 2.0
"""Half the width of the range: a confidence interval of about 95 %."""


class RowUsage(NamedTuple):
    """The usage of one row: tokens, and USD if the price is known."""

    prompt: int
    completion: int
    cost_usd: float | None


def extrapolate(rows: int, sample: Sequence[RowUsage]) -> Estimate:
    """The estimate for `rows` rows like those of the sample. Raises UsageError if the sample is empty."""
    if not sample:
        raise UsageError(
            "No row of the pilot was answered, so there is no estimate; `askmill show 1` says why."
        )
    prompt = fmean(row.prompt for row in sample)
    low, high = _range(rows, [float(row.completion) for row in sample])
    costs = [row.cost_usd for row in sample if row.cost_usd is not None]
    low_usd, high_usd = _range(rows, costs) if len(costs) == len(sample) else (None, None)
    return Estimate(rows, round(rows * prompt), floor(low), ceil(high), low_usd, high_usd)


def _range(rows: int, values: Sequence[float]) -> tuple[float, float]:
    """The range of the sum over all rows. A single value gives only half to double its multiple."""
    mean, count = fmean(values), len(values)
    if count == 1:
        return rows * mean / 2, rows * mean * 2
    margin = STANDARD_ERRORS * rows * stdev(values) * sqrt(1 / count + 1 / rows)
    return max(0.0, rows * mean - margin), rows * mean + margin

"""Random accidents, in short; the long form is `python -m benchmarks.chaos`."""

import os
from pathlib import Path

import pytest

from askmill.jobs.model.models import Api
from tests.chaos.driver import Chaos
from tests.stack import Stack

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_random_accidents_lose_no_row_and_pay_none_twice(tmp_path: Path, api: Api) -> None:
    """Two rounds of ten accidents each. `CHAOS_SEED` selects others."""
    with Stack(tmp_path, api=api) as stack:
        chaos = Chaos(stack, SEED)
        for _ in range(2):
            await chaos.round(rows=60, accidents=10)
        totals = chaos.totals.to_json()

    assert (totals["lost"], totals["paid_twice"], totals["faults"]) == (0, 0, []), totals
    assert totals["slowest_recovery_s"] <= 30

"""Random accidents, a short form; the long one is `python -m benchmarks.chaos`."""

import os
from pathlib import Path

import pytest

from askmill.jobs.model.models import Api
from tests.chaos.driver import Chaos
from tests.stack import Stack

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_random_accidents_lose_no_row_and_pay_none_twice(tmp_path: Path, api: Api) -> None:
    """Two rounds of ten accidents each; `CHAOS_SEED` chooses others."""
    with Stack(tmp_path, api=api) as mill:
        chaos = Chaos(mill, SEED)
        for _ in range(2):
            await chaos.round(rows=60, accidents=10)
        told = chaos.totals.told()

    assert (told["lost"], told["paid_twice"], told["faults"]) == (0, 0, []), told
    assert told["slowest_recovery_s"] <= 30

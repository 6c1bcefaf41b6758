"""Random accidents, in short; the long form is `python -m benchmarks.chaos`."""

import os
from pathlib import Path

import pytest

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.views import RowView
from tests.chaos.driver import Chaos
from tests.chaos.endings import Cost, Ending, run_cost
from tests.helpers.batches import make_result
from tests.stack import Stack

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
async def test_random_accidents_lose_no_row_and_pay_none_twice(tmp_path: Path, api: Api) -> None:
    """Two rounds of ten accidents each. `CHAOS_SEED` selects others."""
    with Stack(tmp_path, api=api) as stack:
        chaos = Chaos(stack, SEED)
        for _ in range(2):
            await chaos.round(rows=60, accidents=10)
        totals = chaos.totals.to_json()

    assert (totals["lost"], totals["paid_twice"], totals["faults"]) == (0, 0, []), totals
    assert totals["slowest_recovery_s"] <= 30


def test_a_call_that_no_attempt_counts_is_found() -> None:
    """The check of the rounds on chat: a call more than attempts, one made again uncounted, more lost than in flight."""
    completed, refused = (
        ("completed", JobStatus.COMPLETED, 1),
        ("failed(invalid_prompt)", JobStatus.FAILED, 0),
    )

    def cost(ending: Ending, calls: int, attempts: int, unknown: int, at_risk: float = 10) -> Cost:
        row = RowView(1, [], ending[1], pack_result(make_result(1, attempts_made=attempts)))
        return run_cost("chat", [(row, ending, calls)], 0, unknown, at_risk)

    assert cost(completed, 1, 1, 0) == Cost(runs=1)
    assert cost(completed, 2, 2, 1) == Cost(runs=2, resent=1)
    assert cost(refused, 1, 0, 0) == Cost(runs=1)
    assert (bought := cost(completed, 2, 1, 1)).paid_twice == len(bought.faults) == 1
    assert cost(completed, 2, 2, 0).faults == ["1 calls made again, 0 counted"]
    assert cost(completed, 1, 2, 1, at_risk=0).faults == ["1 calls unknown, 0 were in flight"]

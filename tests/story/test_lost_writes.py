"""A Redis that goes back in time under living workers: nothing is lost, hangs or is paid twice (cases D1, D3, D4)."""

from pathlib import Path

import pytest

from askmill.jobs.model.models import Api, JobStatus
from tests.chaos.support import questions_lasting, wait_for_finished
from tests.helpers.power_loss import PowerLoss
from tests.stack import QUICK, Stack

ROWS = 300


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_redis_that_loses_its_last_second_costs_nothing(tmp_path: Path, api: Api) -> None:
    """Two workers live on; each row ends, with one run at the server, and `status` counts what was repaired."""
    with Stack(tmp_path, api) as stack, PowerLoss(stack) as power:
        for _ in range(2):
            stack.worker(40, QUICK)
        batch = await stack.submit(questions_lasting(1.0, ROWS))
        wait_for_finished(stack, batch, ROWS // 3)
        assert power.cut(1.0) > 0
        try:
            status = await stack.wait_for(batch, timeout_s=20)
        finally:
            view = (await stack.status(batch)).to_json()
            runs = stack.stats()["runs_by_job"]
            print(api, view["counts"], "twice:", sum(n > 1 for n in runs.values()), view)
        assert status.counts.by_status[JobStatus.COMPLETED] == ROWS
        assert {row: runs for row, runs in stack.stats()["runs_by_job"].items() if runs != 1} == {}
        assert status.counts.totals["recovered_writes"] > 0
        assert status.counts.totals["runs"] == ROWS

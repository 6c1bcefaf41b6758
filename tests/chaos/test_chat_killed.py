"""Chat completions under kill -9: nothing can be looked up, so the promise is a count."""

from pathlib import Path

import pytest

from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.profile import Profile
from tests.chaos.support import counter
from tests.stack import QUICK, Stack
from tests.support import wait_until, wait_until_async

ROWS, IN_FLIGHT = 2000, 50


@pytest.mark.chaos
async def test_kill_at_half_of_2000_rows_loses_none_and_counts_what_is_asked_again(tmp_path: Path) -> None:
    """0 rows lost; at most 50 calls made again, each counted before; no answered row is asked again."""
    with Stack(tmp_path, api="chat") as stack:
        questions = [f"[emulate: completed after=0.3] What is {n} + 1?" for n in range(ROWS)]
        worker = stack.worker(concurrency=IN_FLIGHT, times=QUICK)
        batch = await stack.submit(questions, Profile(model="local-7b"))

        async def half_done() -> bool:
            return (await stack.status(batch)).counts.by_status[JobStatus.COMPLETED] >= ROWS // 2

        await wait_until_async(half_done, "half is answered", timeout_s=120)
        wait_until(lambda: stack.stats()["runs_active"] >= IN_FLIGHT // 2, "calls are in flight")
        worker.kill()
        stack.worker(concurrency=IN_FLIGHT, times=QUICK)
        view = await stack.wait_for(batch, timeout_s=180)
        rows = await stack.rows(batch)
        calls = stack.stats()["runs_by_job"]
        unknown = counter(stack, batch, "unknown_creates")

    made_again = sum(calls.values()) - ROWS
    print(f"\n{made_again} calls made again, {unknown} counted")
    assert view.counts.by_status[JobStatus.COMPLETED] == len(rows) == ROWS
    assert 0 < made_again <= unknown <= IN_FLIGHT
    lost = {
        row.row: row.result.attempt_count - 1 for row in rows if row.result and row.result.attempt_count > 1
    }
    assert sum(lost.values()) == unknown
    assert {row for row in range(1, ROWS + 1) if calls[f"{batch}:{row}"] > 1} <= set(lost)

"""A fifth of all requests and of all runs fail, in every way at once: each row ends correctly and is paid once."""

import pytest
import pytest_asyncio

from askmill.jobs.model.models import Api
from tests.helpers.faulty_batch import (
    KINDS,
    OUTCOMES,
    FaultPlan,
    FinishedBatch,
    find_violations,
    gsm8k,
    run_batch,
)

ROWS = 150
FAULTS = FaultPlan(http=0.2, outcomes=0.2, create_limit_s=1.0)
pytestmark = pytest.mark.shared


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["assistants", "responses"])
async def faulty_batch(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> FinishedBatch:
    """The first questions of GSM8K on each API, with all faults."""
    api: Api = request.param
    return await run_batch(tmp_path_factory.mktemp("faulty"), api, gsm8k(ROWS), FAULTS)


def test_every_row_has_the_status_of_its_runs(faulty_batch: FinishedBatch) -> None:
    """Statuses, errors and attempts match the runs at the server; each row's log has them in order."""
    assert find_violations(faulty_batch, gsm8k(ROWS)) == []


def test_every_paid_run_is_recorded(faulty_batch: FinishedBatch) -> None:
    """Assistants: the server has exactly the recorded attempts. Responses: any other is an unknown create.

    `status` counts each attempt's run, also one whose answer was found on its conversation.
    """
    attempts = sum(result.attempt_count for result in faulty_batch.results)
    assert faulty_batch.status.counts.totals["runs"] == attempts
    if faulty_batch.api == "assistants":
        assert (faulty_batch.extra_runs, faulty_batch.unknown_creates) == ({}, 0)
    assert sum(faulty_batch.extra_runs.values()) <= faulty_batch.unknown_creates


def test_every_fault_and_every_outcome_occurred(faulty_batch: FinishedBatch) -> None:
    """The test has no gap: each kind of fault and each outcome occurred at least once."""
    faults = {line["fault"] for lines in faulty_batch.logs.values() for line in lines if "fault" in line}
    runs = {(run["status"], _reason(run)) for run in faulty_batch.runs.values()}

    for text in ("exceeded the rate limit", "had an error while", "currently overloaded", "connection_lost"):
        assert any(text in fault for fault in faults), text
    assert len(runs) == 1 + len(OUTCOMES[faulty_batch.api])
    assert set(KINDS) == set(FAULTS.kinds)


def _reason(run: dict[str, object]) -> object:
    for name in ("last_error", "error", "incomplete_details"):
        details = run.get(name)
        if isinstance(details, dict):
            return details.get("code") or details.get("reason")
    return None

"""A fifth of all requests and of all runs go wrong, in every way at once: each row ends as it must, paid once."""

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
SCENE = FaultPlan(http=0.2, outcomes=0.2, create_limit_s=1.0)
pytestmark = pytest.mark.shared


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["assistants", "responses"])
async def amid_faults(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> FinishedBatch:
    """The first questions of GSM8K, asked over each API amid all faults."""
    api: Api = request.param
    return await run_batch(tmp_path_factory.mktemp("faulty"), api, gsm8k(ROWS), SCENE)


def test_every_row_has_the_status_that_its_runs_ask_for(amid_faults: FinishedBatch) -> None:
    """Statuses, errors and attempts are those of the runs at the server; each row's log tells them in order."""
    assert find_violations(amid_faults, gsm8k(ROWS)) == []


def test_no_run_is_paid_for_that_is_not_recorded(amid_faults: FinishedBatch) -> None:
    """Assistants: the server made exactly the attempts recorded. Responses: any other is an unknown create."""
    if amid_faults.api == "assistants":
        assert (amid_faults.extra_runs, amid_faults.unknown_creates) == ({}, 0)
    assert sum(amid_faults.extra_runs.values()) <= amid_faults.unknown_creates


def test_all_that_can_go_wrong_went_wrong(amid_faults: FinishedBatch) -> None:
    """The scene was not played by halves: every kind of fault, and every ending, was met."""
    met = {line["fault"] for lines in amid_faults.logs.values() for line in lines if "fault" in line}
    runs = {(run["status"], _reason(run)) for run in amid_faults.runs.values()}

    for words in ("exceeded the rate limit", "had an error while", "currently overloaded", "connection_lost"):
        assert any(words in fault for fault in met), words
    assert len(runs) == 1 + len(OUTCOMES[amid_faults.api])
    assert set(KINDS) == set(SCENE.kinds)


def _reason(run: dict[str, object]) -> object:
    for name in ("last_error", "error", "incomplete_details"):
        about = run.get(name)
        if isinstance(about, dict):
            return about.get("code") or about.get("reason")
    return None

"""Whose fault a refusal is whose words do not say: the complete decision of each case."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus, Refusals
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.decision import Action, Decision, Finish, PauseBatch, ReleaseRow
from askmill.worker.lifecycle.events import RefusalRecorded
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import NOW, SENT, P

UNCLEAR = ApiError(400, code="bad_request", message="no", request="POST /runs")
FORBIDDEN = ApiError(403, message="no")
STATE = replace(SENT, failures=2)
FAILED = Finish(JobStatus.FAILED, error="bad_request: no")
WAITS = ReleaseRow(wait_s=2.0)
ONE = "refused for row 7"
THREE = "refused for rows 5, 6 and 7 in the same way"


@pytest.mark.parametrize(
    ("refusals", "action"),
    [
        (Refusals(accepted_since=True, refused_alone=9, other_rows=9, rows=(7,)), FAILED),
        (Refusals(ever_accepted=True, rows=(5, 6, 7)), FAILED),
        (Refusals(rows=(7,)), FAILED),
        (Refusals(rows=()), FAILED),
        (Refusals(other_rows=-1, rows=(7,)), FAILED),
        (Refusals(rows=(5, 6, 7)), PauseBatch(f"bad_request: no (POST /runs), {THREE}")),
        (
            Refusals(rows=(6, 7)),
            PauseBatch("bad_request: no (POST /runs), refused for rows 6 and 7 in the same way"),
        ),
        (Refusals(other_rows=1, rows=(7,)), WAITS),
        (Refusals(other_rows=1, ever_accepted=True, rows=(7,)), WAITS),
        (Refusals(other_rows=1, refused_alone=4, rows=(5, 6, 7)), WAITS),
        (
            Refusals(other_rows=1, refused_alone=5, rows=(5, 6, 7)),
            PauseBatch(f"bad_request: no (POST /runs), {THREE}"),
        ),
        (
            Refusals(other_rows=1, refused_alone=6, rows=(7,)),
            PauseBatch(f"bad_request: no (POST /runs), {ONE}"),
        ),
    ],
)
def test_the_other_rows_decide(refusals: Refusals, action: Action) -> None:
    """The row fails, the batch pauses, or the row waits behind the others."""
    decision = advance(STATE, RefusalRecorded(NOW, jitter=1.0, error=UNCLEAR, refusals=refusals), P)
    assert decision == Decision(STATE, action)


def test_no_row_alone_fails_for_a_key_that_may_not() -> None:
    """A 403 to the only row pauses its batch; and a pause names the last five rows of many."""
    for rows, named in (
        ((7,), ONE),
        (tuple(range(1, 8)), "refused for rows 3, 4, 5, 6 and 7 in the same way"),
    ):
        event = RefusalRecorded(NOW, error=FORBIDDEN, refusals=Refusals(rows=rows))
        assert advance(STATE, event, P) == Decision(STATE, PauseBatch(f"http_403: no, {named}"))

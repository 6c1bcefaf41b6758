"""What machines do, one accident each: no row is lost, none hangs, none is paid twice (cases D1 to D6, D8, D14)."""

from random import Random

import pytest

from askmill.jobs.model.models import Api
from tests.chaos.accidents import ACCIDENTS
from tests.chaos.measurement import measure

ROWS, SLOTS, SEED = 90, 30, 19
STALL_S = 30.0


@pytest.mark.parametrize("api", ["assistants", "responses"])
@pytest.mark.parametrize(
    "name",
    [name for name, accident in ACCIDENTS.items() if accident.promised],
)
async def test_an_accident_of_a_machine_costs_neither_a_row_nor_a_run(name: str, api: Api) -> None:
    """Half-way through a batch; the accidents are described in tests/chaos/accidents.py."""
    accident = ACCIDENTS[name]
    if accident.missing:
        pytest.skip(f"{accident.missing} is not available here")
    with accident.stack(api, SLOTS) as stack:
        outcome = await measure(accident, stack, Random(SEED), ROWS, STALL_S)

    assert (outcome.lost, outcome.hung) == (0, 0), outcome
    assert outcome.paid_twice <= (outcome.late if accident.may_be_late else 0), outcome

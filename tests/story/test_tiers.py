"""Flex without capacity, with a worker and an emulator that refuses the tier: it waits for itself alone, or falls back."""

from pathlib import Path

import pytest

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.model.profile import Profile
from tests.stack import Stack
from tests.support import wait_until_async

QUESTIONS = ["What is 1 + 1?", "What is 2 + 2?"]
FLEX, STANDARD = Profile(model="gpt-5-mini", service_tier="flex"), Profile(model="gpt-5-mini")
NO_CAPACITY = "[tiers]\nflex_429 = 1.0\n"


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_flex_without_capacity(tmp_path: Path, api: Api) -> None:
    """A batch in flex waits, and says so; another one is answered meanwhile, and one with the fallback at once.

    With capacity again the first is answered in its tier: no attempt, no row and no money was lost to the wait.
    """
    with Stack(tmp_path, api, scenario=NO_CAPACITY) as stack:
        stack.worker(10)
        waiting = await stack.submit(QUESTIONS, FLEX)

        async def is_refused() -> bool:
            return (await stack.status(waiting)).batch.last_fault is not None

        await wait_until_async(is_refused, "flex is refused")

        standard = await stack.wait_for(await stack.submit(QUESTIONS, STANDARD))
        falling = await stack.submit(QUESTIONS, FLEX, tier_fallback="standard")
        fallen = await stack.wait_for(falling)
        held = await stack.status(waiting)

        for view in (standard, fallen):
            assert view.counts.by_status[JobStatus.COMPLETED] == len(QUESTIONS)
            assert view.waiting is None, "no other batch waits"
            assert not view.counts.totals.get("throttled")
        assert fallen.to_json()["tier_fallbacks"] == len(QUESTIONS)
        assert await tiers_of(stack, falling) == ["default"] * len(QUESTIONS)
        assert held.counts.unfinished == len(QUESTIONS)
        assert held.batch.last_fault is not None
        assert "Resource Unavailable" in held.batch.last_fault.words

        stack.scenario("")
        served = await stack.wait_for(waiting)
        tiers = await tiers_of(stack, waiting)
    assert served.counts.by_status[JobStatus.COMPLETED] == len(QUESTIONS)
    assert served.counts.totals["runs"] == len(QUESTIONS)
    assert not served.counts.totals.get("unknown_creates")
    assert tiers == ["flex"] * len(QUESTIONS)


async def tiers_of(stack: Stack, batch: str) -> list[str | None]:
    """The tier of each attempt, row by row."""
    results = [row.result for row in await stack.rows(batch)]
    return [attempt.tier for result in results if result for attempt in result.attempts]

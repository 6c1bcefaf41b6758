"""Which rows may be in a risky step together, and which run alone."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from askmill.worker.runtime.crash_isolation import CrashIsolation


async def _run_all(steps: Sequence[tuple[bool, int]]) -> None:
    """Each row enters once, stays some turns of the loop, and leaves; raises when a suspect was not alone."""
    isolation, inside = CrashIsolation(), list[bool]()

    async def one(alone: bool, turns: int) -> None:
        async with isolation.section(alone=alone):
            inside.append(alone)
            assert len(inside) == 1 or not any(inside)
            for _ in range(turns):
                await asyncio.sleep(0)
            inside.remove(alone)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for alone, turns in steps:
            group.create_task(one(alone, turns), name="one")
            if turns % 2:
                await asyncio.sleep(0)
    assert (isolation.inside, isolation.suspects) == (0, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12))
def test_a_suspect_is_always_alone_and_every_row_gets_through(steps: list[tuple[bool, int]]) -> None:
    """In any order of arrival: no suspect beside another row, no deadlock, nothing left behind."""
    asyncio.run(_run_all(steps))


async def test_a_suspect_that_is_cancelled_while_it_waits_blocks_no_row() -> None:
    """The other rows enter as before."""
    isolation = CrashIsolation()
    async with isolation.section(alone=False):
        waiting = asyncio.create_task(_enter(isolation), name="suspect")
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(5), isolation.section(alone=False):
            assert isolation.suspects == 0


async def _enter(isolation: CrashIsolation) -> None:
    async with isolation.section(alone=True):
        raise AssertionError("it entered beside another row")

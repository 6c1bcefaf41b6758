"""Who may be at a dangerous step together, and who goes alone."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from askmill.worker.runtime.crash_isolation import CrashIsolation


async def _all_through(steps: Sequence[tuple[bool, int]]) -> None:
    """Everybody enters once, stays some turns of the loop, and leaves; raises when a suspect had company."""
    danger, inside = CrashIsolation(), list[bool]()

    async def one(alone: bool, turns: int) -> None:
        async with danger.section(alone=alone):
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
    assert (danger.inside, danger.suspects) == (0, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12))
def test_a_suspect_is_always_alone_and_everybody_gets_through(steps: list[tuple[bool, int]]) -> None:
    """In any order of arrivals: no suspect beside anybody, no deadlock, nothing left behind."""
    asyncio.run(_all_through(steps))


async def test_a_suspect_that_is_cancelled_while_it_waits_blocks_nobody() -> None:
    """The end of its worker's patience is not the end of the others."""
    danger = CrashIsolation()
    async with danger.section(alone=False):
        waiting = asyncio.create_task(_enter(danger), name="suspect")
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(5), danger.section(alone=False):
            assert danger.suspects == 0


async def _enter(danger: CrashIsolation) -> None:
    async with danger.section(alone=True):
        raise AssertionError("it entered beside somebody")

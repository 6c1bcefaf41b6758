"""What a 429 does to all workers: a hold as long as told, and half the runs in flight when it is a wave."""

import pytest

from askmill.jobs.store import Store


@pytest.mark.parametrize(("refusals", "halved"), [(2, False), (3, True)])
async def test_a_wave_of_refusals_halves_and_chance_does_not(
    redis_url: str, refusals: int, halved: bool
) -> None:
    """Two refusals in a second are chance: nothing shrinks. Three are a wave."""
    async with await Store.open(redis_url) as store:
        allowed = [await store.throttle(0.1) for _ in range(refusals)]

    assert allowed[-1] == (1 if halved else None)


async def test_what_users_allow_bounds_what_a_refusal_leaves(redis_url: str) -> None:
    """Without a wave the users' own limit stands, and without one there is none."""
    async with await Store.open(redis_url) as store:
        await store.set_limits(max_runs=7)
        assert await store.throttle(0.0) == 7


async def test_one_wave_halves_once(redis_url: str) -> None:
    """However many requests one wave meets, runs in flight are halved once; the next wave may halve again."""
    async with await Store.open(redis_url) as store:
        allowed = [await store.throttle(30.0) for _ in range(50)]

    assert len(set(allowed[2:])) == 1

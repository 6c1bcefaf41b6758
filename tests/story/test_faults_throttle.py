"""What a 429 does to all workers: a wait as long as the API says, and half the runs in flight after a wave."""

import pytest

from askmill.jobs.store import Store


@pytest.mark.parametrize(("refusals", "halved"), [(2, False), (3, True)])
async def test_only_a_wave_of_429s_halves_the_runs_in_flight(
    redis_url: str, refusals: int, halved: bool
) -> None:
    """Two in a second change nothing. Three are a wave."""
    async with await Store.open(redis_url) as store:
        allowed = [await store.throttle(0.1) for _ in range(refusals)]

    assert allowed[-1] == (1 if halved else None)


async def test_the_users_limit_holds_after_a_429(redis_url: str) -> None:
    """Without a wave the users' own limit applies."""
    async with await Store.open(redis_url) as store:
        await store.set_limits(max_runs=7)
        assert await store.throttle(0.0) == 7


async def test_one_wave_halves_once(redis_url: str) -> None:
    """However many requests of one wave get a 429, runs in flight are halved once; the next wave may halve again."""
    async with await Store.open(redis_url) as store:
        allowed = [await store.throttle(30.0) for _ in range(50)]

    assert len(set(allowed[2:])) == 1

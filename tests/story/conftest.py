"""A store for the stories, on a Redis that must be sound when each has ended."""

from collections.abc import AsyncIterator

import pytest

from jobs.store import Store
from tests.leaks import assert_no_leaks


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An open store; afterwards every key and row must be as the tables say."""
    async with await Store.open(redis_url) as opened:
        yield opened
    assert_no_leaks(redis_url)

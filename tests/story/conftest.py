"""A store, or a whole mill, for the stories: its Redis must be sound when each has ended."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jobs.store import Store
from tests.leaks import assert_no_leaks
from tests.mill import Mill


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An open store; afterwards every key and row must be as the tables say."""
    async with await Store.open(redis_url) as opened:
        yield opened
    assert_no_leaks(redis_url)


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    """Redis and the emulator; a test starts the workers it wants."""
    with Mill(tmp_path) as made:
        yield made

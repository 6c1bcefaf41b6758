"""A Redis that another version of askmill has written is refused, with the way out."""

from pathlib import Path

import pytest
import redis

from askmill.jobs.local import embedded_redis
from askmill.jobs.model.errors import UsageError
from askmill.jobs.store import Store, keys
from tests.helpers.batches import submit_batch


def set_layout(url: str, version: int) -> None:
    """Mark the Redis as written with this layout."""
    with redis.Redis.from_url(url) as client:
        client.set(keys.SCHEMA, version)


async def test_a_newer_layout_is_refused(redis_url: str) -> None:
    """The message tells how to upgrade."""
    set_layout(redis_url, keys.SCHEMA_VERSION + 1)
    with pytest.raises(UsageError, match=r"newer askmill.*pip install -U askmill"):
        await Store.open(redis_url)


async def test_an_older_layout_is_refused(redis_url: str) -> None:
    """The message says to collect the results with the older version, and to use another database."""
    set_layout(redis_url, keys.SCHEMA_VERSION - 1)
    with pytest.raises(UsageError, match=r"older askmill.*collect.*ASKMILL_REDIS_URL"):
        await Store.open(redis_url)


async def test_an_embedded_redis_of_an_older_layout_names_the_folder_to_move(tmp_path: Path) -> None:
    """The named folder is the right one: askmill works again once it is moved, and the old data is kept."""
    with embedded_redis(tmp_path) as url:
        async with await Store.open(url) as store:
            await submit_batch(store, 1)
        set_layout(url, keys.SCHEMA_VERSION - 1)
        with pytest.raises(UsageError, match=r"older askmill.*collect.*ASKMILL_DATA_DIR") as caught:
            await Store.open(url)
    folder = tmp_path / "redis"
    assert f"mv {folder} {folder}-layout-{keys.SCHEMA_VERSION - 1}" in str(caught.value)
    folder.rename(tmp_path / "redis-old")
    with embedded_redis(tmp_path) as url:
        async with await Store.open(url) as store:
            assert await store.newest_batch() is None
    assert any((tmp_path / "redis-old").iterdir())

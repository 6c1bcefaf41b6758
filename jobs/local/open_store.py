"""Where a command finds its Redis: the one of the settings, or the embedded one for as long as it is used."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from askmill.config.settings import Settings
from askmill.jobs.local import embedded_redis
from askmill.jobs.model.errors import NotFound
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch


@contextmanager
def redis_url(settings: Settings) -> Iterator[str]:
    """The address. Raises LocalFault when the embedded server cannot be started."""
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    with embedded_redis(settings.data_dir) as url:
        yield url


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The store. Raises RedisUnavailable, LocalFault."""
    with redis_url(settings) as url:
        async with await Store.open(url) as store:
            yield store


async def resolve_batch(store: Store, batch: str | None) -> str:
    """The batch that was named, else the newest. Raises NotFound."""
    if batch is not None:
        return (await store.batch(batch)).id
    newest = await store.newest()
    if newest is None:
        raise NotFound("There is no batch in this Redis yet; `askmill run FILE` makes one.")
    return newest


async def resolve_row(store: Store, batch: Batch, named: str) -> int:
    """The row of that number, else the one with that id of its own. Raises NotFound."""
    if (
        named.isascii()
        and named.isdigit()
        and (batch.spec.id_column is None or 1 <= int(named) <= batch.rows)
    ):
        return int(named)
    return await store.find_row_by_id(batch.id, named)

"""Open the store on the Redis of the settings, or on the embedded Redis while it is in use."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from askmill.config.settings import Settings
from askmill.jobs.local import embedded_redis
from askmill.jobs.model.errors import NotFound
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch


@contextmanager
def redis_url(settings: Settings) -> Iterator[str]:
    """Yield the address of Redis. Raises LocalFault if the embedded server cannot be started."""
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    with embedded_redis(settings.data_dir) as url:
        yield url


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """Yield the store. Raises RedisUnavailable, LocalFault."""
    with redis_url(settings) as url:
        async with await Store.open(url) as store:
            yield store


async def resolve_batch(store: Store, batch: str | None) -> str:
    """Return the id of `batch`, or of the newest batch if it is None. Raises NotFound."""
    if batch is not None:
        return (await store.batch(batch)).id
    newest = await store.newest_batch()
    if newest is None:
        raise NotFound("There is no batch in this Redis yet; `askmill run FILE` creates one.")
    return newest


async def resolve_row(store: Store, batch: Batch, number_or_id: str) -> int:
    """Return the row with this number, else the row with this value in its id column. Raises NotFound."""
    # A shell that cuts a number out of a CSV keeps the line's carriage return.
    number = number_or_id.strip()
    if (
        number.isascii()
        and number.isdigit()
        and (batch.spec.id_column is None or 1 <= int(number) <= batch.rows)
    ):
        return int(number)
    return await store.find_row_by_id(batch.id, number_or_id)

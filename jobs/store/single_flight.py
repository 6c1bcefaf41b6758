"""Single-flight creation of API objects behind a Redis lock: one creates, the others wait for its id."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.store import Store
from askmill.jobs.store.records import LeaseLost, ResourceKey

POLL_S = 0.1
RENEW_S = 20.0
"""The lock expires after a minute."""


async def single_flight(
    store: Store,
    resource: ResourceKey,
    create: Callable[[], Awaitable[str]],
    deleted_ids: Collection[str] = (),
) -> str:
    """Return the object's id: stored, from another process that is creating it, or created here.

    Args:
        store: where ids and locks are kept.
        resource: the object, by its content.
        create: creates it at the API and returns its id.
        deleted_ids: ids that the API no longer has.
    """
    while True:
        acquired, stored_id = await store.acquire_resource(resource, deleted_ids)
        if stored_id is not None:
            return stored_id
        if acquired:
            break
        await asyncio.sleep(POLL_S)
    renewal = asyncio.create_task(_renew_lock(store, resource), name=f"renew {resource.kind}")
    try:
        created_id = await create()
    except BaseException:
        await store.release_resource(resource)
        raise
    finally:
        renewal.cancel()
    await store.store_resource(resource, created_id)
    return created_id


async def _renew_lock(store: Store, resource: ResourceKey) -> None:
    """Renew the lock: an upload may take longer than it lives."""
    while True:
        await asyncio.sleep(RENEW_S)
        # Another command may have taken the batch over: what is being created still goes into its ledger.
        with suppress(Unavailable, LeaseLost):
            await store.acquire_resource(resource)

"""Single-flight creation of API objects behind a Redis lock: one creates, the others wait for its id.

A creator renews its lock every few seconds. Those who wait count how often they find it unchanged, and take
it over from a creator that has died. No clock decides: that of Redis, by which keys expire, may be set, and
a machine that sleeps counts nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.store import Store
from askmill.jobs.store.records import Acquired, LeaseLost, ResourceKey

POLL_S = 0.1
RENEW_S = 2.0
SILENT_POLLS = 150
"""A creator whose lock is unchanged for so many polls, 15 s at least, has died."""


@dataclass(frozen=True)
class DeadCreator:
    """How to find an object that a creator made before it died, and whose id it could not store."""

    note: Callable[[], Awaitable[str]]
    """Returns what `find` needs, before the object is created; '' where the API cannot be searched."""
    find: Callable[[str], Awaitable[str | None]]
    """Takes the note of the dead creator; returns the object's id, None if there is none."""


async def single_flight(
    store: Store,
    resource: ResourceKey,
    create: Callable[[], Awaitable[str]],
    deleted_ids: Collection[str] = (),
    dead_creator: DeadCreator | None = None,
) -> str:
    """Return the object's id: stored, from another process that is creating it, or created here.

    Args:
        store: where ids and locks are kept.
        resource: the object, by its content.
        create: creates it at the API and returns its id.
        deleted_ids: ids that the API no longer has.
        dead_creator: finds what a creator that died may have created; None: another one is created.
    """
    acquired = await _acquire(store, resource, deleted_ids)
    if acquired.object_id is not None:
        return acquired.object_id
    renewal = asyncio.create_task(_renew_lock(store, resource), name=f"renew {resource.kind}")
    try:
        object_id = None
        if dead_creator is not None:
            object_id = await _found_or_noted(store, resource, acquired.note, dead_creator)
        if object_id is None:
            object_id = await create()
    except BaseException:
        await store.release_resource(resource)
        raise
    finally:
        renewal.cancel()
    await store.store_resource(resource, object_id)
    return object_id


async def _acquire(store: Store, resource: ResourceKey, deleted_ids: Collection[str]) -> Acquired:
    """Wait until the object's id is stored, or the lock is ours."""
    lock, unchanged = b"", 0
    while True:
        silent_lock = lock if unchanged >= SILENT_POLLS else b""
        acquired = await store.acquire_resource(resource, deleted_ids, silent_lock=silent_lock)
        if acquired.is_creator or acquired.object_id is not None:
            return acquired
        unchanged = unchanged + 1 if acquired.lock == lock else 0
        lock = acquired.lock
        await asyncio.sleep(POLL_S)


async def _found_or_noted(
    store: Store, resource: ResourceKey, note: str, dead_creator: DeadCreator
) -> str | None:
    """Return the id of what a dead creator made. None: store a note of our own, and create it."""
    if note:
        return await dead_creator.find(note)
    await store.acquire_resource(resource, note=await dead_creator.note())
    return None


async def _renew_lock(store: Store, resource: ResourceKey) -> None:
    """Renew the lock until cancelled: an upload may take long."""
    number = 0
    while True:
        await asyncio.sleep(RENEW_S)
        number += 1
        # Another command may have taken the batch over: what is being created still goes into its ledger.
        with suppress(Unavailable, LeaseLost):
            await store.acquire_resource(resource, renewal=number)

"""What several may want at once is made once: one maker at a time, the others wait for its id."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.store import Store
from askmill.jobs.store.records import LeaseLost, ResourceKey

LOOK_S = 0.1
RENEW_S = 20.0
"""Within the minute that a turn lasts."""


async def single_flight(
    store: Store, wanted: ResourceKey, make: Callable[[], Awaitable[str]], gone: Collection[str] = ()
) -> str:
    """Its id: remembered, of another who makes it just now, or made here. `gone`: ids that are no good."""
    while True:
        ours, known = await store.acquire_resource(wanted, gone)
        if known is not None:
            return known
        if ours:
            break
        await asyncio.sleep(LOOK_S)
    renewing = asyncio.create_task(_renew(store, wanted), name=f"renew {wanted.kind}")
    try:
        made = await make()
    except BaseException:
        await store.release_resource(wanted)
        raise
    finally:
        renewing.cancel()
    await store.store_resource(wanted, made)
    return made


async def _renew(store: Store, wanted: ResourceKey) -> None:
    """An upload may take longer than a silent maker is waited for."""
    while True:
        await asyncio.sleep(RENEW_S)
        # A batch that was lost to another command: what is being made is still put into its ledger.
        with suppress(Unavailable, LeaseLost):
            await store.acquire_resource(wanted)

"""Load a batch under a lease: renewed while its rows are stored, released at once when that fails."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

from askmill.jobs.model.errors import AskmillError, Unavailable
from askmill.jobs.store import Store
from askmill.jobs.store.records import LeaseLost

RENEW_S = 2.5
"""A quarter of the lease (`jobs.store.ingest.LEASE_MS`)."""


async def under_lease(store: Store, batch: str, load: Coroutine[None, None, None]) -> None:
    """Await `load`, which fills and seals the batch.

    However else it ends, by Ctrl-C too, the batch is dropped, so that a repeat need not wait for the lease to
    run out. A batch that was lost to another command (`LeaseLost`) is that command's.
    """
    renewing = asyncio.create_task(_renew(store, batch), name=f"lease of {batch}")
    try:
        await load
    except LeaseLost:
        raise
    except BaseException:
        with suppress(AskmillError):
            await store.drop(batch)
        raise
    finally:
        renewing.cancel()


async def _renew(store: Store, batch: str) -> None:
    """Uploads and large files may take longer than the lease between two steps of the load."""
    with suppress(LeaseLost):
        while True:
            await asyncio.sleep(RENEW_S)
            # The load meets the same fault, and says so.
            with suppress(Unavailable):
                await store.renew(batch)

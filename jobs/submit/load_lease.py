"""Load a batch under a lease, which is renewed meanwhile and released at once on failure."""

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

    If it fails, or on Ctrl-C, the batch is dropped, so that a repeated command need not wait for the end of
    the lease. After `LeaseLost` the batch belongs to another command and is left alone.
    """
    renewing = asyncio.create_task(_renew(store, batch), name=f"lease of {batch}")
    try:
        await load
    except LeaseLost:
        raise
    except BaseException:
        with suppress(AskmillError):
            await store.drop_batch(batch)
        raise
    finally:
        renewing.cancel()


async def _renew(store: Store, batch: str) -> None:
    """Renew the lease: uploads and large files may take longer than it between two steps of the load."""
    with suppress(LeaseLost):
        while True:
            await asyncio.sleep(RENEW_S)
            # The load meets the same fault and reports it.
            with suppress(Unavailable):
                await store.renew_lease(batch)

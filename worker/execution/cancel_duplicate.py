"""Cancels a run that no row follows."""

import asyncio
import random

import structlog

from askmill.worker.backends.base import Backend
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.retry import RetryPolicy, is_transient
from askmill.worker.runtime.context import elapsed_clock_s

log = structlog.get_logger()

CANCEL_WITHIN_S = 60.0
"""How long the cancel of a run that no row follows is retried."""


async def cancel_duplicate(backend: Backend, thread_id: str | None, run_id: str) -> None:
    """Cancel the run. Transient errors are retried for a while: it costs money."""
    policy, began_s, tries = RetryPolicy(), elapsed_clock_s(), 0
    while True:
        try:
            await backend.cancel(thread_id or "", run_id)
        except ApiError as error:
            if not is_transient(error) or elapsed_clock_s() - began_s > CANCEL_WITHIN_S:
                log.warning("run.not_cancelled", run=run_id, fault=str(error))
                return
        else:
            return
        await asyncio.sleep(policy.wait_s(tries, random.random()))  # noqa: S311 -- jitter
        tries += 1

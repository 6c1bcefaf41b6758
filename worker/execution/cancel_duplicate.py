"""Cancels runs that no row follows."""

import asyncio
import random
from contextlib import suppress

import structlog

from askmill.jobs.model.errors import NotFound
from askmill.jobs.store.claim_records import Claim
from askmill.worker.backends.base import Backend
from askmill.worker.execution.costs import RowCosts
from askmill.worker.execution.stored_state import belongs_to
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.retry import RetryPolicy, is_transient
from askmill.worker.lifecycle.state import JobState
from askmill.worker.runtime.context import WorkerContext, elapsed_clock_s

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


async def cancel_late_run(
    context: WorkerContext, claim: Claim, state: JobState, backend: Backend, costs: RowCosts
) -> None:
    """A create was answered after the claim was lost: cancel its run unless the row follows it.

    Args:
        context: whose store says what the row follows now.
        claim: the lost claim.
        state: the row's last state here.
        backend: the API that created the run.
        costs: of the row, for the most that the run may cost.
    """
    if state.run_id is None:
        return
    with suppress(NotFound):
        detail = await context.retry_on_outage(context.store.row, claim.batch, claim.row)
        if belongs_to(detail, state.run_id, state.attempt):
            return
        counters = {"late_runs": 1, "assumed_nano": costs.worst_case_nano(state) or 0}
        await context.retry_on_outage(context.store.incr_counters, claim.batch, counters)
    log.warning("run.duplicate", run=state.run_id)
    await cancel_duplicate(backend, state.thread_id, state.run_id)

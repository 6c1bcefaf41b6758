"""Rows of a shard that kill the worker which builds or reads their lines.

first death     many lines went on: the shard is suspect; its lines go on one by one, alone in the process
each later one  counts against the row whose line went on; after MAX_LINE_CRASHES the row fails
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from askmill.jobs.model.errors import NotFound
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.shard_records import CrashMark, ShardClaim
from askmill.jobs.store.shards import ROWS_PER_CALL
from askmill.worker.runtime.context import OUTAGE, WorkerContext
from askmill.worker.runtime.interrupts import ClaimLost, Interrupts, ShuttingDown

MAX_LINE_CRASHES = 2
"""With the first death, which names no row, a row fails at the third death, as in every other tier."""

NOT_THE_ROW = (ClaimLost, ShuttingDown, NotFound, *OUTAGE)
"""Exceptions that no row has caused: the end of the process, of the claim, of the batch or of Redis."""


def poison_error(row: Claim) -> str | None:
    """The error of a row that must not go on any more; None for any other."""
    if row.crashes < MAX_LINE_CRASHES:
        return None
    return f"poison_row: its line killed its worker {row.crashes} times"


def lines_per_step(claim: ShardClaim) -> int:
    """How many lines go on under one crash mark."""
    return 1 if claim.crashes else ROWS_PER_CALL


@asynccontextmanager
async def crash_marked(
    context: WorkerContext, claim: ShardClaim, interrupts: Interrupts, rows: Sequence[int]
) -> AsyncIterator[None]:
    """Mark the step in which the lines of these rows go on. Raises ClaimLost."""
    row = rows[0] if len(rows) == 1 else None

    async def mark(step: CrashMark) -> None:
        if not await context.retry_on_outage(context.store.mark_shard, claim, step, row):
            raise ClaimLost

    async with context.crash_isolation.section(alone=claim.crashes > 0):
        interrupts.raise_if_ending()
        await mark(CrashMark.BEGIN)
        try:
            yield
        except NOT_THE_ROW:  # the release of the shard clears the mark
            raise
        except Exception:
            await mark(CrashMark.CRASH)
            raise
        await mark(CrashMark.END)

"""Tasks of `--tier batch`: a worker process follows shards as it follows rows."""

from functools import partial
from typing import TYPE_CHECKING

import structlog

from askmill.config.text import loggable
from askmill.jobs.store import keys
from askmill.jobs.store.claim_records import Refusal
from askmill.worker.execution.shard_runner import ShardRunner
from askmill.worker.process.following import claim_once, followed
from askmill.worker.runtime.batch_lister import BatchLister
from askmill.worker.runtime.context import WorkerContext

if TYPE_CHECKING:
    from askmill.worker.process.worker import WorkerProcess

log = structlog.get_logger()


class ShardTasks:
    """Claims and follows shards for one worker process."""

    def __init__(self, process: "WorkerProcess") -> None:
        self._process = process
        self._lister: BatchLister | None = None

    async def follow(self, batch: str, number: int) -> None:
        """Claim the shard and follow it to its end. One that cannot be claimed is left to its holder."""
        if not keys.names_a_row(batch, number):
            log.warning("message.dropped", reason="it names no shard", message=loggable((batch, number)))
            return
        await self._process.ready.wait()
        context = self._process.context
        if context is None:  # Redis was unreachable from the start of this process to its end
            return
        structlog.contextvars.bind_contextvars(batch=batch, shard=number)
        store = context.store
        claim = await claim_once(context, store.claim_shard, store.abandon_shard, batch, number)
        if isinstance(claim, Refusal):
            log.debug("shard.refused", reason=claim.value)
            return
        key, release = (batch, keys.shard(number)), partial(store.release_shard, claim, b"")
        async with followed(self._process, context, key, release) as interrupts:
            current = await context.retry_on_outage(self._process.batches.get, claim)
            await ShardRunner(context, current, claim, interrupts, self._lister_of(context)).run()

    def _lister_of(self, context: WorkerContext) -> BatchLister:
        if self._lister is None:
            interval_s = self._process.settings.batch_list_s
            self._lister = BatchLister(context.backends.batch_jobs, context.now_s, interval_s)
        return self._lister

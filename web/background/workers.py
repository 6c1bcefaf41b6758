"""Keeps a worker alive for each unfinished batch that was made here, as `run` does for its batch.

A worker serves one batch, because this server's key pays for it. After a restart the batches are found again
by their option `web`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import structlog

from askmill.config.settings import Settings
from askmill.jobs.local import died_here
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import AskmillError, NotFound
from askmill.jobs.run.watch import is_over
from askmill.jobs.run.worker_supervisor import WorkerSupervisor, batch_worker
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import StatusView

CHECK_S = 1.0
MAX_OWN_WORKERS = 4
"""Batches with a worker of their own at a time; the others wait for one to end."""
AFTER_FAULT_S = 30.0

log = structlog.get_logger()


@dataclass
class _Served:
    """A batch and its worker, once it has one."""

    supervisor: WorkerSupervisor | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    resting_until: float = 0.0


class Workers:
    """The workers of this server. `functions`: the modules whose functions they may call."""

    def __init__(
        self, settings: Settings, store: Store, target: Target | None, functions: Sequence[str]
    ) -> None:
        self._settings, self._store, self._target = settings, store, target
        self._functions = frozenset(functions)
        self._served: dict[str, _Served] = {}
        self.faults: dict[str, str] = {}
        """Why the worker of a batch could not be started."""
        self._wake = asyncio.Event()

    def serve(self, batch: Batch) -> bool:
        """Keep a worker alive for the batch. False if this server may not: another API or functions."""
        functions = batch.profile.functions
        if self._target is None or not self._target.server.serves(batch.server):
            return False
        if functions is not None and functions.module not in self._functions:
            return False
        self._served.setdefault(batch.id, _Served())
        self._wake.set()
        return True

    def serves(self, batch_id: str) -> bool:
        """Whether this server keeps a worker alive for the batch."""
        return batch_id in self._served

    async def run(self) -> None:
        """Supervise the workers until cancelled; then stop them."""
        try:
            for batch in await self._store.list_batches():
                if batch.options.get("web") and batch.finished_at_ms is None:
                    self.serve(batch)
            while True:
                for batch_id in list(self._served):
                    await self._supervise_batch(batch_id)
                self._wake.clear()
                if not self._served:
                    await self._wake.wait()
                else:
                    await asyncio.sleep(CHECK_S)
        finally:
            for served in self._served.values():
                served.stack.close()

    async def _supervise_batch(self, batch_id: str) -> None:
        served = self._served[batch_id]
        try:
            view = await self._store.status(batch_id)
        except NotFound:
            await self._end(batch_id)
            return
        except AskmillError as fault:
            log.warning("web.status_failed", batch=batch_id, fault=str(fault))
            return
        alive = tuple(worker for worker in view.workers if not died_here(worker))
        view = replace(view, workers=alive)
        if is_over(view, worker_expected=True):
            await self._end(batch_id)
            return
        try:
            await self._supervise(served, view)
            self.faults.pop(batch_id, None)
        except AskmillError as fault:
            self.faults[batch_id] = str(fault)
            log.error("web.worker_failed", batch=batch_id, fault=str(fault))  # noqa: TRY400 -- its sentence says all
            await asyncio.to_thread(served.stack.close)
            rest = _Served(resting_until=asyncio.get_running_loop().time() + AFTER_FAULT_S)
            self._served[batch_id] = rest

    async def _supervise(self, served: _Served, view: StatusView) -> None:
        """Start or replace the batch's worker if need be. Raises LocalFault."""
        if served.supervisor is not None:
            await asyncio.to_thread(served.supervisor.check, view)
            return
        own = sum(other.supervisor is not None for other in self._served.values())
        resting = asyncio.get_running_loop().time() < served.resting_until
        if view.workers or resting or own >= MAX_OWN_WORKERS:
            return
        assert self._target is not None
        target = replace(self._target, api=view.batch.api)
        functions = view.batch.profile.functions
        log_file = self._settings.data_dir / "logs" / "worker.log"
        served.supervisor = WorkerSupervisor(
            lambda: batch_worker(self._settings, target, functions), served.stack, log_file
        )
        await asyncio.to_thread(_start, served.supervisor, view.batch.id)

    async def _end(self, batch_id: str) -> None:
        """Stop the worker of a batch that needs none any more."""
        served = self._served.pop(batch_id)
        self.faults.pop(batch_id, None)
        stop: Callable[[], None] = served.stack.close
        await asyncio.to_thread(stop)


def _start(supervisor: WorkerSupervisor, batch: str) -> None:
    supervisor.start_worker()
    supervisor.serve(batch)

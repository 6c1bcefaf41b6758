"""One worker process: heartbeat, dispatch and maintenance loops, and the jobs it holds, on one event loop.

heartbeat    every 3 s: renews all claims with one key, reads which batches are paused or cancelled
dispatch     when slots become free, and after each maintenance: hands rows to the broker, a window at a time
maintenance  every 1 to 3 s: releases the rows of dead workers, publishes lost messages again
answer       the body of a Celery task: claims its row and follows it (worker.execution.job_runner)
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from uuid import uuid4

import structlog
from redis.exceptions import RedisError

from askmill.config.settings import Settings
from askmill.config.text import loggable
from askmill.jobs.local import EmulatorService
from askmill.jobs.model.api_target import Target, api_target
from askmill.jobs.model.models import Server
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store, keys
from askmill.jobs.store.broker import disconnect_publisher, publish
from askmill.jobs.store.claim_records import DispatchedRow, Refusal
from askmill.jobs.store.records import BatchUpdate
from askmill.jobs.store.views import WorkerInfo
from askmill.worker.backends.factory import Backends
from askmill.worker.execution.job_runner import JobRunner
from askmill.worker.process.durability_check import DurabilityCheck
from askmill.worker.process.following import claim_once, followed
from askmill.worker.process.shards import ShardTasks
from askmill.worker.runtime.batch_cache import BatchCache
from askmill.worker.runtime.context import (
    CREATE_FAILURE_PATIENCE_S,
    OUTAGE,
    WorkerContext,
    elapsed_clock_s,
    retry_on_outage,
)
from askmill.worker.runtime.interrupts import Interrupts
from askmill.worker.runtime.rate_limiter import SharedLimits
from askmill.worker.runtime.redis_clock import NOTICED_WITHIN_S

log = structlog.get_logger()

HEARTBEAT_S = 3.0
"""Interval of the heartbeat."""
LIFETIME_S = 12.0
"""How long a worker's claims outlive its last heartbeat."""
MARGIN_S = 5.0
"""How long before that it sends no create any more."""
MAINTENANCE_S = 2.0
"""Mean interval of the maintenance."""
DISPATCH_FLOOR = 20
"""Rows handed to the broker when no slot is known to be free: the next worker finds work at once."""
RELEASE_WITHIN_S = 2.5
"""How long jobs may take to release their rows at a shutdown before they are cancelled."""
FAULT_WAIT_S = 2.0
"""How long a loop rests after an unexpected exception, so that it never spins."""
LOGGED_STEP_S = 0.5
"""A smaller step of Redis' clock is not logged."""
CLOCK_UNCERTAINTY_S, FIRST_HEARTBEATS = 0.25, 3
"""How precisely Redis' clock must be known before the first job, and how many heartbeats that may take."""
CANCEL_AGAIN_S = 2.0
"""Longer than the last try to release a row (following.py)."""
GIVE_UP_S = 1.0
"""How long after its jobs have had their time the worker still retries calls to an unreachable Redis."""


@dataclass
class WorkerScope:
    """What a worker serves. `batch`: the only one, '' for all. `functions`: as in `WorkerInfo`."""

    batch: str = ""
    functions: str = ""
    chat_slots: int | None = None  # calls of chat completions at a time; None: as many as slots


class WorkerProcess:
    """Lives from the pool's start to its end; `answer` is what a Celery task runs."""

    def __init__(
        self, settings: Settings, redis_url: str, slots: int, host: str, pid: int, scope: WorkerScope
    ) -> None:
        self.settings, self.redis_url, self.target = settings, redis_url, api_target(settings)
        info = WorkerInfo(_new_id(host, pid), host, pid, slots, *_server_of(self.target, settings))
        self.info = replace(info, batch=scope.batch, functions=scope.functions, version=version("askmill"))
        self.chat_slots = asyncio.Semaphore(scope.chat_slots or slots)
        self.jobs: dict[tuple[str, int | str], Interrupts] = {}
        self.shards = ShardTasks(self)
        self.publisher = ThreadPoolExecutor(1, "askmill-publish")
        self.disconnect_consumer: Callable[[], None] = lambda: None
        """Cuts the connections on which Celery receives messages."""
        self.shutting_down = False
        self.context: WorkerContext | None = None
        self.ready, self.idle = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Connect, run the loops until cancelled, then deregister."""
        try:
            context = self.context = await self._connect()
            self.batches = BatchCache(context.store)
            await self._synchronize_clock(context)
            await self._check_functions(context)
            self.ready.set()
            log.info("worker.ready", worker=self.info.id, slots=self.info.slots, api=self.info.api)
            async with asyncio.TaskGroup() as group:
                for loop in (self._heartbeat_loop, self._dispatch_loop, self._maintenance_loop):
                    group.create_task(loop(context), name=loop.__name__)
        finally:
            await self._close()

    async def _connect(self) -> WorkerContext:
        settings, target = self.settings, self.target
        store = await retry_on_outage(
            Store.open, self.redis_url, lifetime_s=LIFETIME_S, durability=settings.durability_in_use
        )
        self.durability = DurabilityCheck(store)
        await retry_on_outage(self.durability.check)
        store.enable_write_recovery(self._leave_broker)
        api_client = make_client(target.key, target.base_url, target.organization, target.project)
        await retry_on_outage(self._begin_limits, store)
        return WorkerContext(
            store=store,
            backends=Backends(api_client),
            limits=SharedLimits(store),
            prices=Prices.read(settings.prices),
            worker=self.info,
            lifetime_s=LIFETIME_S,
            margin_s=MARGIN_S,
            create_failure_patience_s=CREATE_FAILURE_PATIENCE_S,
        )

    def _leave_broker(self) -> None:
        """Let Celery connect anew, and publish on a new connection: old ones may lead to an old master."""
        self.disconnect_consumer()
        with suppress(RuntimeError):  # this process is ending
            self.publisher.submit(disconnect_publisher, self.redis_url)

    async def _begin_limits(self, store: Store) -> None:
        """Set the limits of the settings, unless other workers share limits already."""
        await store.apply_worker_limits(
            alone=not await store.workers(),
            requests_per_minute=self.settings.requests_per_minute,
            tokens_per_minute=self.settings.tokens_per_minute,
            max_runs=self.settings.max_runs,
        )

    async def _check_functions(self, context: WorkerContext) -> None:
        """Pause the batch that this worker is for, if the file of its functions has changed meanwhile."""
        if not self.info.batch:
            return
        batch = await retry_on_outage(context.store.batch, self.info.batch)
        functions = batch.profile.functions
        if functions is not None and not self.info.allows(functions):
            reason = f"functions_changed: {functions.module} has changed since the batch was submitted"
            await retry_on_outage(context.store.pause_from_worker, batch.id, reason)

    async def _close(self) -> None:
        self.publisher.shutdown(wait=False)
        if self.context is None:
            return
        try:
            async with asyncio.timeout(1.0):
                await self.context.store.deregister_worker(self.info.id)
        except (RedisError, *OUTAGE) as error:
            # It counts as alive for a lifetime: until then `cancel` leaves its runs to it.
            log.warning("worker.not_deregistered", reason=str(error) or type(error).__name__)
        await self.context.backends.close()
        await self.context.store.close()

    # ── a task's body ──

    async def answer(self, batch: str, row: int) -> None:
        """Claim the row and follow it to its end. A row that cannot be claimed is left to its holder."""
        if not keys.names_a_row(batch, row):
            log.warning("message.dropped", reason="it names no row", message=loggable((batch, row)))
            return
        await self.ready.wait()
        context = self.context
        if context is None:  # Redis was unreachable from the start of this process to its end
            return
        structlog.contextvars.bind_contextvars(batch=batch, row=row)
        claim = await claim_once(context, context.store.claim, context.store.abandon_claim, batch, row)
        if isinstance(claim, Refusal):
            log.debug("job.refused", reason=claim.value)
            return
        release = partial(context.store.release, claim)
        async with followed(self, context, (batch, row), release) as interrupts:
            current = await context.retry_on_outage(self.batches.get, claim)
            async with self.chat_slots if current.batch.api == "chat" else nullcontext():
                await JobRunner(context, current, claim, interrupts).run()

    # ── the three loops ──

    async def _heartbeat_loop(self, context: WorkerContext) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._run_guarded(self._heartbeat(context))

    async def _dispatch_loop(self, context: WorkerContext) -> None:
        while True:
            await context.dispatch_needed.wait()
            context.dispatch_needed.clear()
            await self._run_guarded(self._dispatch(context))
            await asyncio.sleep(0.005)  # slots that become free together are filled together

    async def _maintenance_loop(self, context: WorkerContext) -> None:
        while True:
            await self._run_guarded(self._maintain(context))
            context.dispatch_needed.set()
            await asyncio.sleep(MAINTENANCE_S * random.uniform(0.5, 1.5))  # noqa: S311 -- jitter

    async def _run_guarded(self, iteration: Awaitable[None]) -> None:
        """One iteration of a loop. The next one makes up for what an outage or an exception prevented."""
        try:
            await iteration
        except OUTAGE:
            pass
        except Exception:
            log.exception("worker.loop_failed")
            await asyncio.sleep(FAULT_WAIT_S)

    # ── heartbeat ──

    async def _synchronize_clock(self, context: WorkerContext) -> None:
        """The first heartbeat, and more where the reply was too slow to read Redis' clock from."""
        for _ in range(FIRST_HEARTBEATS):
            await context.retry_on_outage(self._heartbeat, context)
            if context.clock.uncertainty_s <= CLOCK_UNCERTAINTY_S:
                break
        context.clock.remember(await context.retry_on_outage(context.store.clock_steps))

    async def _heartbeat(self, context: WorkerContext) -> None:
        """Renew all claims and read the state of the batches held here."""
        sent_s = elapsed_clock_s()
        async with asyncio.timeout(LIFETIME_S):
            reply = await context.store.heartbeat(context.worker, tuple(self.batches.contexts))
        step_s = context.clock.learn(sent_s, elapsed_clock_s(), reply.now_ms / 1000)
        if abs(step_s) >= LOGGED_STEP_S:
            log.warning("redis.clock_stepped", seconds=round(step_s, 3))
            await context.store.record_clock_step(step_s, NOTICED_WITHIN_S)
        if not reply.alive:
            await self._rejoin_with_new_id(context)
            return
        if reply.other_server:  # nobody claims rows until every worker has said that its writes are there
            self.durability.is_due = True
            await self._heartbeat(context)
            return
        if await self.durability.allows_creates(self.batches.contexts):
            context.heartbeat_acknowledged_s = sent_s
        await context.limits.refresh()
        for batch, update in reply.batches.items():
            self._on_batch_update(batch, update, reply.now_ms)
        await self.batches.report(context.now_s())
        self.batches.drop_ended({batch for batch, _ in self.jobs})

    async def _rejoin_with_new_id(self, context: WorkerContext) -> None:
        """Other workers took this one for dead and hold its rows: drop them and continue under a new id."""
        log.warning("worker.declared_dead", worker=context.worker.id, jobs=len(self.jobs))
        for interrupts in self.jobs.values():
            interrupts.claim_lost = True
            interrupts.wake()
        self.jobs.clear()
        worker = context.worker
        self.info = context.worker = replace(worker, id=_new_id(worker.host, worker.pid))
        await self._heartbeat(context)

    def _on_batch_update(self, batch: str, update: BatchUpdate | None, at_ms: int) -> None:
        """Wake the jobs of a batch whose state has changed; drop those of a purged batch (`update` None)."""
        context = self.batches.contexts.get(batch)
        if context is None or (update is not None and not context.update(update, at_ms)):
            return
        for (job_batch, _), interrupts in self.jobs.items():
            if job_batch == batch:
                interrupts.claim_lost = interrupts.claim_lost or update is None
                interrupts.wake()
        if update is None:
            del self.batches.contexts[batch]

    # ── dispatch and maintenance ──

    async def _dispatch(self, context: WorkerContext) -> None:
        await self._publish(await context.store.dispatch(DISPATCH_FLOOR))

    async def _maintain(self, context: WorkerContext) -> None:
        reaped = await context.store.reap_dead_workers(context.worker.id)
        if reaped.workers:
            log.warning("worker.dead", workers=reaped.workers, rows=reaped.rows)
        if reaped.removed:
            log.warning("redis.odd_entries_removed", entries=loggable(reaped.removed))
        await self._publish(await context.store.requeue_lost())

    async def _publish(self, rows: list[DispatchedRow]) -> None:
        """Publish in a thread of its own: publishing blocks, and a user's slow function must not delay it."""
        await asyncio.get_running_loop().run_in_executor(self.publisher, publish, self.redis_url, rows)

    # ── shutdown ──

    async def shut_down(self) -> None:
        """Claim nothing more; every job releases its row with its state.

        A call of chat completions cannot be handed over, so it may end first, for ASKMILL_DRAIN_S.
        """
        self.shutting_down = True
        self.ready.set()
        log.info("worker.handing_over", jobs=len(self.jobs))
        for interrupts in self.jobs.values():
            interrupts.shutting_down = True
            interrupts.wake()
        if self.jobs:
            drain_s = self.settings.drain_s if self.batches.has_chat({b for b, _ in self.jobs}) else 0.0
            with suppress(TimeoutError):
                async with asyncio.timeout(max(RELEASE_WITHIN_S, drain_s)):
                    await self.idle.wait()
        if self.context is not None:
            self.context.retry_on_outage.give_up_at_s = elapsed_clock_s() + GIVE_UP_S
        while self.jobs:
            for interrupts in list(self.jobs.values()):
                if interrupts.task is not None:
                    interrupts.task.cancel()
            # On Python 3.11 a cancellation may be lost in a library while Redis is away: it is repeated.
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_AGAIN_S):
                    await self.idle.wait()


def _server_of(target: Target, settings: Settings) -> Server:
    """The API and account whose batches it takes. The batches of the emulator name no account."""
    if target.base_url == EmulatorService(settings.data_dir).address():
        return Server(target.api or "", target.base_url)
    return target.server


def _new_id(host: str, pid: int) -> str:
    return f"{host}-{pid}-{uuid4().hex[:6]}"

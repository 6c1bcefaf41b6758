"""One worker process: its heart, its feeder, its sweeper, and the jobs in its hands, on the pool's one loop.

beat    every 3 s: renews all claims with one key, learns which batches are paused or cancelled
feed    when slots come free, and with every sweep: hands rows to the broker, a window at a time
sweep   every 1 to 3 s: what dead workers held goes back, lost messages are published again
answer  a task's body: claims its row and follows it (worker.execution.job_runner)
"""

import asyncio
import random
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import structlog
from redis.exceptions import RedisError

from askmill.config.settings import Settings
from askmill.config.text import loggable
from askmill.jobs.model.api_target import target_of
from askmill.jobs.model.errors import NotFound
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.broker import names_a_row, publish
from askmill.jobs.store.claims import new_fence
from askmill.jobs.store.records import BatchUpdate, Claim, DispatchedRow, Refusal, WorkerInfo
from askmill.worker.backends.factory import backend_for
from askmill.worker.execution.job_runner import CRASH_WAIT_S, JobRunner
from askmill.worker.runtime.batch_cache import BatchCache
from askmill.worker.runtime.context import OUTAGE, WorkerContext, elapsed_clock_s, retry_on_outage
from askmill.worker.runtime.interrupts import Interrupts
from askmill.worker.runtime.rate_limiter import SharedLimits

log = structlog.get_logger()

BEAT_S = 3.0
LIFETIME_S = 12.0
MARGIN_S = 5.0
SWEEP_S = 2.0
FEED_FLOOR = 20
"""Rows handed to the broker when no slot is known to be free: the next worker finds work at once."""
TROUBLE_S = 300.0
"""How long creates may fail without one success before their batch pauses."""
LEAVE_S = 2.5
"""How long jobs may take to give themselves back before they are cut off."""
FAULT_WAIT_S = 2.0
"""How long a loop rests after a fault of ours, so that it never spins."""
STEP_WORTH_TELLING_S = 0.5
SURE_S, FIRST_BEATS = 0.25, 3
"""How well Redis' time is to be known before the first job, and how often it is asked for it at most."""
GIVE_UP_S = 1.0
"""How long after that a worker goes on trying to reach a Redis that is away."""


class WorkerProcess:
    """Lives from the pool's start to its end; `answer` is what a Celery task runs."""

    def __init__(self, settings: Settings, redis_url: str, slots: int, host: str, pid: int) -> None:
        self.settings, self.redis_url = settings, redis_url
        self.info = WorkerInfo(
            id=_new_id(host, pid),
            host=host,
            pid=pid,
            slots=slots,
            api=settings.api_in_use,
            base_url=settings.base_url,
        )
        self.jobs: dict[tuple[str, int], Interrupts] = {}
        self.publisher = ThreadPoolExecutor(1, "askmill-publish")
        self.shutting_down = False
        self.context: WorkerContext | None = None
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Start everything, and keep it going until cancelled; then give back what is still held."""
        try:
            desk = self.context = await self._open()
            self.batches = BatchCache(desk.store)
            await self._first_beats(desk)
            self.ready.set()
            log.info("worker.ready", worker=self.info.id, slots=self.info.slots, api=self.info.api)
            async with asyncio.TaskGroup() as group:
                for loop in (self._heartbeat_loop, self._dispatch_loop, self._maintenance_loop):
                    group.create_task(loop(desk), name=loop.__name__)
        finally:
            await self._close()

    async def _open(self) -> WorkerContext:
        settings = self.settings
        store = await retry_on_outage(lambda: Store.open(self.redis_url, lifetime_s=LIFETIME_S))
        target = target_of(settings)
        api_client = make_client(target.key, target.base_url, target.organization, target.project)
        await retry_on_outage(lambda: self._begin_limits(store))
        return WorkerContext(
            store=store,
            backend=backend_for(settings.api_in_use, api_client),
            limits=SharedLimits(store),
            prices=Prices.read(settings.prices),
            worker=self.info,
            lifetime_s=LIFETIME_S,
            margin_s=MARGIN_S,
            create_failure_patience_s=TROUBLE_S,
        )

    async def _begin_limits(self, store: Store) -> None:
        await store.begin_limits(
            alone=not await store.workers(),
            requests_per_minute=self.settings.requests_per_minute,
            tokens_per_minute=self.settings.tokens_per_minute,
            max_runs=self.settings.max_runs,
        )

    async def _close(self) -> None:
        self.publisher.shutdown(wait=False)
        if self.context is None:
            return
        with suppress(RedisError, *OUTAGE):
            async with asyncio.timeout(1.0):
                await self.context.store.deregister_worker(self.info.id)
        await self.context.backend.close()
        await self.context.store.close()

    # ── a task's body ──

    async def answer(self, batch: str, row: int) -> None:
        """Claim the row and follow it to its end. A row that is not to be had is left to whoever has it."""
        if not names_a_row(batch, row):
            log.warning("message.dropped", reason="it names no row", message=loggable((batch, row)))
            return
        await self.ready.wait()
        desk = self.context
        if desk is None:  # Redis was away from our start to our end
            return
        structlog.contextvars.bind_contextvars(batch=batch, row=row)
        claim = await self._claim(desk, batch, row)
        if isinstance(claim, Refusal):
            log.debug("job.refused", reason=claim.value)
            return
        await self._follow(desk, claim)

    async def _claim(self, desk: WorkerContext, batch: str, row: int) -> Claim | Refusal:
        """Under one fence, however often it is sent. Cut off before it is answered, the row is given back."""
        worker, fence = desk.worker.id, new_fence()
        try:
            return await desk.retry_on_outage(lambda: desk.store.claim(batch, row, worker, fence))
        except (Exception, asyncio.CancelledError):
            await desk.retry_on_outage(lambda: desk.store.abandon_claim(batch, row, worker, fence))
            raise

    async def _follow(self, desk: WorkerContext, claim: Claim) -> None:
        signals = Interrupts(shutting_down=self.shutting_down, task=asyncio.current_task())
        self.jobs[claim.batch, claim.row] = signals
        try:
            room = await desk.retry_on_outage(lambda: self.batches.get(claim))
            await JobRunner(desk, room, claim, signals).run()
        except NotFound:
            log.info("batch.purged")
        except (Exception, asyncio.CancelledError):
            # Nobody follows it any more; under a living worker no sweep would find it.
            log.exception("job.crashed")
            due_ms = desk.due_ms(CRASH_WAIT_S)
            await desk.retry_on_outage(lambda: desk.store.release(claim, due_ms=due_ms))
        finally:
            if self.jobs.get((claim.batch, claim.row)) is signals:
                del self.jobs[claim.batch, claim.row]
            desk.dispatch_needed.set()

    # ── the three loops ──

    async def _run_guarded(self, turn: Awaitable[None]) -> None:
        """One turn of a loop. The next makes good what an outage or a fault of ours has left out."""
        try:
            await turn
        except OUTAGE:
            pass
        except Exception:
            log.exception("worker.fault")
            await asyncio.sleep(FAULT_WAIT_S)

    async def _heartbeat_loop(self, desk: WorkerContext) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            await self._run_guarded(self._heartbeat(desk))

    async def _first_beats(self, desk: WorkerContext) -> None:
        """One, and another where the reply was too slow to tell the time by."""
        for _ in range(FIRST_BEATS):
            await desk.retry_on_outage(lambda: self._heartbeat(desk))
            if desk.clock.uncertainty_s <= SURE_S:
                return

    async def _heartbeat(self, desk: WorkerContext) -> None:
        """Renew all claims. An answer that says we were taken for dead ends all we hold."""
        sent_s = elapsed_clock_s()
        async with asyncio.timeout(LIFETIME_S):
            reply = await desk.store.heartbeat(desk.worker, tuple(self.batches.contexts))
        self._learn_time(desk, sent_s, reply.now_ms / 1000)
        if not reply.alive:
            await self._rejoin_with_new_id(desk)
            return
        desk.heartbeat_acknowledged_s = sent_s
        await desk.limits.refresh()
        for batch, now in reply.batches.items():
            self._on_batch_update(batch, now, reply.now_ms)
        self.batches.drop_ended({batch for batch, _ in self.jobs})

    def _learn_time(self, desk: WorkerContext, sent_s: float, redis_s: float) -> None:
        step_s = desk.clock.learn(sent_s, elapsed_clock_s(), redis_s)
        if abs(step_s) >= STEP_WORTH_TELLING_S:
            log.warning("redis.clock_stepped", seconds=round(step_s, 3))

    async def _rejoin_with_new_id(self, desk: WorkerContext) -> None:
        """We were swept: our rows are with others. Drop them, and come back under a new name."""
        log.warning("worker.swept", worker=desk.worker.id, jobs=len(self.jobs))
        for signals in self.jobs.values():
            signals.claim_lost = True
            signals.wake()
        self.jobs.clear()
        self.info = desk.worker = replace(desk.worker, id=_new_id(desk.worker.host, desk.worker.pid))
        await self._heartbeat(desk)

    def _on_batch_update(self, batch: str, now: BatchUpdate | None, at_ms: int) -> None:
        """Wake a batch's jobs when its state has changed; let go of those of a purged batch."""
        room = self.batches.contexts.get(batch)
        if room is None or (now is not None and not room.update(now, at_ms)):
            return
        for (of, _), signals in self.jobs.items():
            if of == batch:
                signals.claim_lost = signals.claim_lost or now is None
                signals.wake()
        if now is None:
            del self.batches.contexts[batch]

    async def _dispatch_loop(self, desk: WorkerContext) -> None:
        while True:
            await desk.dispatch_needed.wait()
            desk.dispatch_needed.clear()
            await self._run_guarded(self._dispatch(desk))
            await asyncio.sleep(0.005)  # what comes free together is fed together

    async def _maintenance_loop(self, desk: WorkerContext) -> None:
        while True:
            await self._run_guarded(self._maintain(desk))
            desk.dispatch_needed.set()
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))  # noqa: S311 -- jitter

    async def _dispatch(self, desk: WorkerContext) -> None:
        await self._publish(await desk.store.dispatch(FEED_FLOOR))

    async def _maintain(self, desk: WorkerContext) -> None:
        await self._reap_dead_workers(desk)
        await self._publish(await desk.store.requeue_lost())

    async def _reap_dead_workers(self, desk: WorkerContext) -> None:
        swept = await desk.store.reap_dead_workers(desk.worker.id)
        if swept.workers:
            log.warning("worker.dead", workers=swept.workers, rows=swept.rows)

    async def _publish(self, fed: list[DispatchedRow]) -> None:
        """Publishing blocks: in a thread of its own, so that no user's slow function can hold it up."""
        await asyncio.get_running_loop().run_in_executor(self.publisher, publish, self.redis_url, fed)

    # ── hand-over ──

    async def shut_down(self) -> None:
        """Stop claiming; every job gives its row back with all that is known, and its slot ends."""
        self.shutting_down = True
        self.ready.set()
        log.info("worker.handing_over", jobs=len(self.jobs))
        for signals in self.jobs.values():
            signals.shutting_down = True
            signals.wake()
        await asyncio.sleep(LEAVE_S)
        if self.context is not None:
            self.context.last_try_s = elapsed_clock_s() + GIVE_UP_S
        for signals in list(self.jobs.values()):
            if signals.task is not None:
                signals.task.cancel()


def _new_id(host: str, pid: int) -> str:
    return f"{host}-{pid}-{uuid4().hex[:6]}"

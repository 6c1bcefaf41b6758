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
from askmill.config.text import short
from askmill.jobs.model.api_target import target_of
from askmill.jobs.model.errors import NotFound
from askmill.jobs.openai_client.client import client
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.broker import names_a_row, publish
from askmill.jobs.store.claims import new_fence
from askmill.jobs.store.records import BatchNow, Claim, Fed, Refusal, WorkerCard
from askmill.worker.backends.factory import backend_for
from askmill.worker.execution.job_runner import CRASH_WAIT_S, JobRunner
from askmill.worker.runtime.batch_cache import Rooms
from askmill.worker.runtime.context import OUTAGE, Desk, elapsed_clock_s, patiently
from askmill.worker.runtime.interrupts import Signals
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
        self.card = WorkerCard(
            id=_new_id(host, pid),
            host=host,
            pid=pid,
            slots=slots,
            api=settings.api_in_use,
            base_url=settings.base_url,
        )
        self.jobs: dict[tuple[str, int], Signals] = {}
        self.publisher = ThreadPoolExecutor(1, "askmill-publish")
        self.leaving = False
        self.desk: Desk | None = None
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Start everything, and keep it going until cancelled; then give back what is still held."""
        try:
            desk = self.desk = await self._open()
            self.rooms = Rooms(desk.store)
            await self._first_beats(desk)
            self.ready.set()
            log.info("worker.ready", worker=self.card.id, slots=self.card.slots, api=self.card.api)
            async with asyncio.TaskGroup() as group:
                for loop in (self._beat, self._feed, self._sweep):
                    group.create_task(loop(desk), name=loop.__name__)
        finally:
            await self._close()

    async def _open(self) -> Desk:
        settings = self.settings
        store = await patiently(lambda: Store.open(self.redis_url, lifetime_s=LIFETIME_S))
        target = target_of(settings)
        api_client = client(target.key, target.base_url, target.organization, target.project)
        await patiently(lambda: self._begin_limits(store))
        return Desk(
            store=store,
            backend=backend_for(settings.api_in_use, api_client),
            limits=SharedLimits(store),
            prices=Prices.read(settings.prices),
            card=self.card,
            lifetime_s=LIFETIME_S,
            margin_s=MARGIN_S,
            trouble_s=TROUBLE_S,
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
        if self.desk is None:
            return
        with suppress(RedisError, *OUTAGE):
            async with asyncio.timeout(1.0):
                await self.desk.store.leave(self.card.id)
        await self.desk.backend.close()
        await self.desk.store.close()

    # ── a task's body ──

    async def answer(self, batch: str, row: int) -> None:
        """Claim the row and follow it to its end. A row that is not to be had is left to whoever has it."""
        if not names_a_row(batch, row):
            log.warning("message.dropped", reason="it names no row", message=short((batch, row)))
            return
        await self.ready.wait()
        desk = self.desk
        if desk is None:  # Redis was away from our start to our end
            return
        structlog.contextvars.bind_contextvars(batch=batch, row=row)
        claim = await self._claim(desk, batch, row)
        if isinstance(claim, Refusal):
            log.debug("job.refused", reason=claim.value)
            return
        await self._follow(desk, claim)

    async def _claim(self, desk: Desk, batch: str, row: int) -> Claim | Refusal:
        """Under one fence, however often it is sent. Cut off before it is answered, the row is given back."""
        worker, fence = desk.card.id, new_fence()
        try:
            return await desk.patiently(lambda: desk.store.claim(batch, row, worker, fence))
        except (Exception, asyncio.CancelledError):
            await desk.patiently(lambda: desk.store.let_go(batch, row, worker, fence))
            raise

    async def _follow(self, desk: Desk, claim: Claim) -> None:
        signals = Signals(leaving=self.leaving, task=asyncio.current_task())
        self.jobs[claim.batch, claim.row] = signals
        try:
            room = await desk.patiently(lambda: self.rooms.room(claim))
            await JobRunner(desk, room, claim, signals).run()
        except NotFound:
            log.info("batch.purged")
        except (Exception, asyncio.CancelledError):
            # Nobody follows it any more; under a living worker no sweep would find it.
            log.exception("job.crashed")
            due_ms = desk.due_ms(CRASH_WAIT_S)
            await desk.patiently(lambda: desk.store.give_back(claim, due_ms=due_ms))
        finally:
            if self.jobs.get((claim.batch, claim.row)) is signals:
                del self.jobs[claim.batch, claim.row]
            desk.poke.set()

    # ── the three loops ──

    async def _tried(self, turn: Awaitable[None]) -> None:
        """One turn of a loop. The next makes good what an outage or a fault of ours has left out."""
        try:
            await turn
        except OUTAGE:
            pass
        except Exception:
            log.exception("worker.fault")
            await asyncio.sleep(FAULT_WAIT_S)

    async def _beat(self, desk: Desk) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            await self._tried(self._beat_once(desk))

    async def _first_beats(self, desk: Desk) -> None:
        """One, and another where the reply was too slow to tell the time by."""
        for _ in range(FIRST_BEATS):
            await desk.patiently(lambda: self._beat_once(desk))
            if desk.clock.uncertainty_s <= SURE_S:
                return

    async def _beat_once(self, desk: Desk) -> None:
        """Renew all claims. An answer that says we were taken for dead ends all we hold."""
        sent_s = elapsed_clock_s()
        async with asyncio.timeout(LIFETIME_S):
            reply = await desk.store.beat(desk.card, tuple(self.rooms.known))
        self._learn_time(desk, sent_s, reply.now_ms / 1000)
        if not reply.alive:
            await self._reborn(desk)
            return
        desk.acknowledged_s = sent_s
        await desk.limits.refresh()
        for batch, now in reply.batches.items():
            self._heard(batch, now, reply.now_ms)
        self.rooms.forget_ended({batch for batch, _ in self.jobs})

    def _learn_time(self, desk: Desk, sent_s: float, redis_s: float) -> None:
        step_s = desk.clock.learn(sent_s, elapsed_clock_s(), redis_s)
        if abs(step_s) >= STEP_WORTH_TELLING_S:
            log.warning("redis.clock_stepped", seconds=round(step_s, 3))

    async def _reborn(self, desk: Desk) -> None:
        """We were swept: our rows are with others. Drop them, and come back under a new name."""
        log.warning("worker.swept", worker=desk.card.id, jobs=len(self.jobs))
        for signals in self.jobs.values():
            signals.lost = True
            signals.wake()
        self.jobs.clear()
        self.card = desk.card = replace(desk.card, id=_new_id(desk.card.host, desk.card.pid))
        await self._beat_once(desk)

    def _heard(self, batch: str, now: BatchNow | None, at_ms: int) -> None:
        """Wake a batch's jobs when its state has changed; let go of those of a purged batch."""
        room = self.rooms.known.get(batch)
        if room is None or (now is not None and not room.learn(now, at_ms)):
            return
        for (of, _), signals in self.jobs.items():
            if of == batch:
                signals.lost = signals.lost or now is None
                signals.wake()
        if now is None:
            del self.rooms.known[batch]

    async def _feed(self, desk: Desk) -> None:
        while True:
            await desk.poke.wait()
            desk.poke.clear()
            await self._tried(self._feed_once(desk))
            await asyncio.sleep(0.005)  # what comes free together is fed together

    async def _sweep(self, desk: Desk) -> None:
        while True:
            await self._tried(self._sweep_once(desk))
            desk.poke.set()
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))  # noqa: S311 -- jitter

    async def _feed_once(self, desk: Desk) -> None:
        await self._publish(await desk.store.feed(FEED_FLOOR))

    async def _sweep_once(self, desk: Desk) -> None:
        await self._bury(desk)
        await self._publish(await desk.store.lost_messages())

    async def _bury(self, desk: Desk) -> None:
        swept = await desk.store.sweep(desk.card.id)
        if swept.workers:
            log.warning("worker.dead", workers=swept.workers, rows=swept.rows)

    async def _publish(self, fed: list[Fed]) -> None:
        """Publishing blocks: in a thread of its own, so that no user's slow function can hold it up."""
        await asyncio.get_running_loop().run_in_executor(self.publisher, publish, self.redis_url, fed)

    # ── hand-over ──

    async def hand_over(self) -> None:
        """Stop claiming; every job gives its row back with all that is known, and its slot ends."""
        self.leaving = True
        self.ready.set()
        log.info("worker.handing_over", jobs=len(self.jobs))
        for signals in self.jobs.values():
            signals.leaving = True
            signals.wake()
        await asyncio.sleep(LEAVE_S)
        if self.desk is not None:
            self.desk.last_try_s = elapsed_clock_s() + GIVE_UP_S
        for signals in list(self.jobs.values()):
            if signals.task is not None:
                signals.task.cancel()


def _new_id(host: str, pid: int) -> str:
    return f"{host}-{pid}-{uuid4().hex[:6]}"

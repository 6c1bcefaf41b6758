"""One worker process: its heart, its feeder, its sweeper, and the jobs in its hands, on the pool's one loop.

beat    every 3 s: renews all claims with one key, learns which batches are paused or cancelled
feed    when slots come free, and with every sweep: hands rows to the broker, a window at a time
sweep   every 1 to 3 s: what dead workers held goes back, lost messages are published again
answer  a task's body: claims its row and follows it (worker.runner)
"""

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import structlog
from redis.exceptions import RedisError

from config.settings import Settings
from jobs.api import client
from jobs.errors import NotFound, Unavailable
from jobs.pricing import Prices
from jobs.queue import publish
from jobs.records import BatchNow, Claim, Fed, Refusal, WorkerCard
from jobs.store import Store
from worker.backends.choice import backend_for
from worker.desk import Desk, elapsed_clock_s
from worker.limits import SharedLimits
from worker.rooms import Rooms
from worker.runner import JobRunner
from worker.signals import Signals

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
            self.desk = await self._open()
            self.rooms = Rooms(self.desk.store)
            await self._beat_once(self.desk)
            self.ready.set()
            log.info("worker.ready", worker=self.card.id, slots=self.card.slots, api=self.card.api)
            async with asyncio.TaskGroup() as group:
                for loop in (self._beat, self._feed, self._sweep):
                    group.create_task(loop(self.desk), name=loop.__name__)
        finally:
            await self._close()

    async def _open(self) -> Desk:
        settings = self.settings
        store = await _opened(self.redis_url, settings.retention_days)
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "offline"
        api_client = client(key, settings.base_url, settings.openai_org_id, settings.openai_project_id)
        await store.begin_limits(
            alone=not await store.workers(),
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            max_runs=settings.max_runs,
        )
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

    async def _close(self) -> None:
        self.publisher.shutdown(wait=False)
        if self.desk is None:
            return
        with suppress(RedisError, OSError, Unavailable):
            async with asyncio.timeout(1.0):
                await self.desk.store.leave(self.card.id)
        await self.desk.backend.close()
        await self.desk.store.close()

    # ── a task's body ──

    async def answer(self, batch: str, row: int) -> None:
        """Claim the row and follow it to its end. A row that is not to be had is left to whoever has it."""
        await self.ready.wait()
        assert self.desk is not None
        desk = self.desk
        structlog.contextvars.bind_contextvars(batch=batch, row=row)
        claim = await desk.patiently(lambda: desk.store.claim(batch, row, desk.card.id))
        if isinstance(claim, Refusal):
            log.debug("job.refused", reason=claim.value)
            return
        await self._follow(desk, claim)

    async def _follow(self, desk: Desk, claim: Claim) -> None:
        signals = Signals(leaving=self.leaving, task=asyncio.current_task())
        self.jobs[claim.batch, claim.row] = signals
        try:
            room = await desk.patiently(lambda: self.rooms.room(claim))
            await JobRunner(desk, room, claim, signals).run()
        except NotFound:
            log.info("batch.purged")
        finally:
            if self.jobs.get((claim.batch, claim.row)) is signals:
                del self.jobs[claim.batch, claim.row]
            desk.poke.set()

    # ── the three loops ──

    async def _beat(self, desk: Desk) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(RedisError, OSError, Unavailable, TimeoutError):
                await self._beat_once(desk)

    async def _beat_once(self, desk: Desk) -> None:
        """Renew all claims. An answer that says we were taken for dead ends all we hold."""
        sent_s, sent_at = elapsed_clock_s(), time.time()
        async with asyncio.timeout(LIFETIME_S):
            reply = await desk.store.beat(desk.card, tuple(self.rooms.known))
        if not reply.alive:
            await self._reborn(desk)
            return
        desk.acknowledged_s = sent_s
        await desk.limits.refresh()
        desk.clock_offset_s = reply.now_ms / 1000 - (sent_at + time.time()) / 2
        for batch, now in reply.batches.items():
            self._heard(batch, now, reply.now_ms)
        self.rooms.forget_ended({batch for batch, _ in self.jobs})

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
            with suppress(RedisError, OSError, Unavailable):
                fed = await desk.store.feed(FEED_FLOOR)
                await self._publish(fed)
            await asyncio.sleep(0.005)  # what comes free together is fed together

    async def _sweep(self, desk: Desk) -> None:
        while True:
            with suppress(RedisError, OSError, Unavailable):
                await self._bury(desk)
                lost = await desk.store.lost_messages()
                await self._publish(lost)
            desk.poke.set()
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1.5))  # noqa: S311 -- jitter

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


async def _opened(redis_url: str, retention_days: float | None) -> Store:
    """The store, as soon as Redis answers: a worker that starts before its Redis waits for it."""
    told = False
    while True:
        try:
            return await Store.open(redis_url, retention_days=retention_days, lifetime_s=LIFETIME_S)
        except Unavailable as away:
            if not told:
                log.warning("redis.waiting", reason=str(away))
            told = True
            await asyncio.sleep(0.5)

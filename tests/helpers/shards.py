"""Shards of tier batch followed in this process, on a real Redis, against a running emulator.

For deaths and states at one exact moment, which kills of real processes hit too seldom.
"""

import json
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from askmill.jobs.model.models import Api, BatchState, Limits
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import NewRow
from askmill.jobs.store.shard_records import ShardClaim
from askmill.jobs.store.views import RowView, StatusView, WorkerInfo
from askmill.worker.backends.factory import Backends
from askmill.worker.execution.job_runner import JobRunner
from askmill.worker.execution.shard_runner import ShardRunner
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.batch_lister import BatchLister
from askmill.worker.runtime.context import WorkerContext, elapsed_clock_s
from askmill.worker.runtime.interrupts import Interrupts
from askmill.worker.runtime.rate_limiter import SharedLimits
from tests.emulator.emulator_support import KEY, Emulator
from tests.helpers.batches import claim_row, expire_worker, submit_batch, worker_info
from tests.support import wait_until_async

PROFILE = Profile(model="gpt-5-mini", service_tier="batch")


class WorkerDies(BaseException):
    """The process dies here: nothing catches it, and nothing more is stored."""


@dataclass
class ShardScene:
    """One batch at the emulator; the test decides when a worker takes a shard, and when it dies."""

    store: Store
    redis_url: str
    emulator: Emulator
    api: Api = "responses"
    batch: str = ""
    workers: list[str] = field(default_factory=list)
    """Workers so far; the last one lives."""

    async def submit(self, questions: Sequence[str], profile: Profile = PROFILE, **limits: Any) -> str:
        """Store a batch of these questions, with these `Limits`."""
        self.batch = await submit_batch(
            self.store,
            [NewRow([question]) for question in questions],
            profile=profile,
            api=self.api,
            base_url=self.emulator.url,
            model=profile.model,
            limits=Limits(**limits),
        )
        return self.batch

    def worker_info(self) -> WorkerInfo:
        """The living worker; the first one where none is."""
        if not self.workers:
            self.workers.append("w1")
        return worker_info(self.workers[-1], api=self.api, base_url=self.emulator.url, slots=0)

    async def bury_worker(self) -> None:
        """The living worker is dead, and another one releases what it held."""
        dead = self.workers[-1]
        self.workers.append(f"w{len(self.workers) + 1}")
        await self.store.heartbeat(self.worker_info())
        expire_worker(self.redis_url, dead)
        await self.store.reap_dead_workers(self.workers[-1])

    async def claim(self) -> ShardClaim | Claim | None:
        """The next shard, or row to be ended, that is due; None where there is none."""
        await self.store.heartbeat(self.worker_info())
        for row in await self.store.dispatch(1):
            if row.shard is None:
                return await claim_row(self.store, row, self.workers[-1])
            claim = await self.store.claim_shard(row.batch, row.shard, self.workers[-1])
            assert isinstance(claim, ShardClaim), claim
            return claim
        return None

    async def claim_shard(self) -> ShardClaim:
        """The next shard, which must be due."""
        claim = await self.claim()
        assert isinstance(claim, ShardClaim), claim
        return claim

    @asynccontextmanager
    async def runner(self, claim: ShardClaim) -> AsyncIterator[ShardRunner]:
        """Who follows the shard. A list of batches is a tenth of a second old at most."""
        async with self._context() as context:
            current = BatchContext(await self.store.batch(claim.batch), claim.update, claim.now_ms)
            lister = BatchLister(context.backends.batch_jobs, context.now_s, interval_s=0.1)
            yield ShardRunner(context, current, claim, Interrupts(), lister)

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[WorkerContext]:
        client = make_client(KEY, self.emulator.url)
        context = WorkerContext(
            store=self.store,
            backends=Backends(client),
            limits=SharedLimits(self.store),
            prices=Prices.read(None),
            worker=self.worker_info(),
            lifetime_s=12,
            margin_s=5,
            heartbeat_acknowledged_s=elapsed_clock_s() + 3600,
        )
        sent_s = elapsed_clock_s()
        heartbeat = await self.store.heartbeat(self.worker_info())
        context.clock.learn(sent_s, elapsed_clock_s(), heartbeat.now_ms / 1000)
        try:
            yield context
        finally:
            await context.backends.close()

    async def follow(self) -> bool:
        """Claim the next shard or row and follow it until it is ended or released; False where none is due."""
        claim = await self.claim()
        if isinstance(claim, ShardClaim):
            async with self.runner(claim) as runner:
                await runner.run()
        elif claim is not None:
            async with self._context() as context:
                current = BatchContext(await self.store.batch(claim.batch), claim.update, claim.now_ms)
                await JobRunner(context, current, claim, Interrupts()).run()
        return claim is not None

    async def follow_all(self, most_deaths: int = 10) -> int:
        """Follow shards until none is due; a new worker follows a dead one. Returns the deaths."""
        deaths = 0
        while True:
            try:
                if not await self.follow():
                    return deaths
            except WorkerDies:
                deaths += 1
                assert deaths <= most_deaths, "workers die without end"
                await self.bury_worker()

    async def finish(self) -> None:
        """Follow shards until the batch is done, also those of rows that wait for another attempt."""

        async def is_done() -> bool:
            await self.follow_all()
            return (await self.status()).batch.state is BatchState.DONE

        await wait_until_async(is_done, "the batch is done", 30)

    async def rows(self) -> list[RowView]:
        return [row async for row in self.store.results(self.batch)]

    async def status(self) -> StatusView:
        return await self.store.status(self.batch)

    def ledger(self) -> dict[str, Any]:
        """What the emulator's Batch API has carried out: creates and lines."""
        with urllib.request.urlopen(f"{self.emulator.url.removesuffix('/v1')}/emulator/batches") as reply:
            return dict(json.load(reply))


def dump_redis(url: str) -> dict[bytes, Any]:
    """All keys, to go back to."""
    with redis.Redis.from_url(url) as client:
        return {key: client.dump(key) for key in client.scan_iter(count=1000)}


def restore_redis(url: str, snapshot: dict[bytes, Any]) -> None:
    """Redis has lost all writes since then."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        for key, content in snapshot.items():
            client.restore(key, 0, content)

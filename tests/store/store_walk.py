"""A random life of a store: workers, people and accidents, each answer held against the model."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import redis

from askmill.jobs.model.models import BYTE_OF_FINISHED, JobStatus
from askmill.jobs.store import Store, keys
from askmill.jobs.store.records import Claim, DispatchedRow, Refusal
from tests.helpers.batches import card, claimed, ended
from tests.helpers.key_leaks import assert_no_leaks
from tests.store.loading_walk import LoadingWalk
from tests.store.store_model import OPEN, ModelBatch, ModelRow

FAR_MS = 10**12


class Walk(LoadingWalk):
    """A life of three batches at most. Messages are kept for ever and may arrive again and again."""

    def __init__(self, url: str, seed: int) -> None:
        self.url, self.chance = url, random.Random(seed)
        self.loop = asyncio.Runner()
        self.redis = redis.Redis.from_url(url)
        self.redis.flushall()
        self.store: Store = self.run(Store.open(url))
        self.batches: dict[str, ModelBatch] = {}
        self.alive: set[str] = set()
        self.dead: set[str] = set()
        self.messages: list[DispatchedRow] = []
        self.claims: list[Claim] = []
        self.counter = 0
        self.story: list[str] = []
        super().__init__()

    def happens(self, name: str) -> None:
        """One action, then a look whether store and model still agree."""
        self.story.append(name)
        action: Callable[[], None] = getattr(self, name)
        action()
        self.agrees()

    def any_batch(self) -> str | None:
        return self.chance.choice(list(self.batches)) if self.batches else None

    def any_of(self, *values: Any) -> Any:
        return self.chance.choice(values)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    def fresh(self) -> int:
        self.counter += 1
        return self.counter

    # ── people ──

    def pause(self) -> None:
        if not (batch := self.any_batch()):
            return
        fault = self.any_of(True, False)
        model = self.batches[batch]
        going = model.state in {"queued", "running"}
        pausing = self.store.pause_from_worker if fault else self.store.pause
        assert self.run(pausing(batch, "because")) is going
        if going:
            model.state = "paused"
            model.accepted = model.accepted and not fault
            model.probe = None if fault else model.probe

    def resume(self) -> None:
        if not (batch := self.any_batch()):
            return
        model = self.batches[batch]
        assert self.run(self.store.resume(batch)) is (model.state == "paused")
        if model.state == "paused":
            model.state = "running" if model.runs else "queued"
            for number in model.orphans:
                model.rows[number].later = False

    def cancel(self) -> None:
        if batch := self.any_batch():
            self.run(self.store.cancel(batch))
            self.batches[batch].cancel()

    def retry(self) -> None:
        if batch := self.any_batch():
            statuses = {self.an_end() for _ in range(self.chance.randint(1, 4))}
            chosen = "".join(BYTE_OF_FINISHED[status] for status in statuses)
            assert self.run(self.store.retry(batch, statuses)) == self.batches[batch].retry(chosen)

    def purge(self) -> None:
        if batch := self.any_batch():
            self.run(self.store.purge(batch))
            del self.batches[batch]

    # ── workers ──

    def beat(self) -> None:
        """A new worker, or one of those alive."""
        known = sorted(self.alive)
        worker = self.any_of(*known, None if len(known) < 3 else known[0]) or f"w{self.fresh()}"
        reply = self.run(self.store.heartbeat(card(worker, self.chance.randint(1, 30)), list(self.batches)))
        assert reply.alive
        assert {batch: now.state for batch, now in reply.batches.items()} == {
            batch: model.state for batch, model in self.batches.items()
        }
        self.alive.add(worker)

    def die(self) -> None:
        """Its heart stops: the key that each beat renews is gone."""
        if self.alive:
            worker = self.any_of(*sorted(self.alive))
            self.redis.delete(keys.worker(worker))
            self.alive.remove(worker)
            self.dead.add(worker)

    def sweep(self) -> None:
        swept = self.run(self.store.reap_dead_workers("sweeper"))
        assert set(swept.workers) == self.dead
        expected = sum(model.bury(worker) for worker in self.dead for model in self.batches.values())
        assert swept.rows == expected
        for worker in self.dead:
            assert not self.run(self.store.heartbeat(card(worker))).alive, "a swept worker must not come back"
        self.dead.clear()

    def leave(self) -> None:
        if self.alive:
            worker = self.any_of(*sorted(self.alive))
            assert self.run(self.store.deregister_worker(worker)) == sum(
                m.bury(worker) for m in self.batches.values()
            )
            self.alive.remove(worker)

    def feed(self, floor: int | None = None) -> None:
        floor = self.any_of(0, 1, 3, 40) if floor is None else floor
        fed: list[DispatchedRow] = self.run(self.store.dispatch(floor))
        wanted = {(name, number) for name, model in self.batches.items() for number in model.feedable()}
        probing = {name: model.probing() for name, model in self.batches.items()}
        assert {(one.batch, one.row) for one in fed} <= wanted
        if floor == 40 and len(fed) < 20 and all(model.accepted for model in self.batches.values()):
            outstanding = sum(model.status.count("p") for model in self.batches.values())
            assert len(fed) == len(wanted) or len(fed) + outstanding >= floor, "room and rows, but not fed"
        for one in fed:
            model = self.batches[one.batch]
            alone = model.accepted or one.row in model.orphans or not probing[one.batch]
            assert alone, "two rows before the API has accepted one"
            probing[one.batch] = probing[one.batch] or one.row not in model.orphans
            model.fed(one.row)
        self.messages += fed

    def lose_messages(self) -> None:
        """This test's broker holds no message at all: what is fed is proved lost, at the second look."""
        fed = self.redis.zcard(keys.FED)
        self.store._suspects = {}
        assert self.run(self.store.requeue_lost(-1)) == []
        again: list[DispatchedRow] = self.run(self.store.requeue_lost(-1))
        assert len(again) == fed
        self.messages += again

    def claim(self) -> None:
        """Any message arrives, late or twice, at any worker, even a dying one."""
        workers = sorted(self.alive | self.dead)
        if self.messages and workers:
            self.claim_one(self.chance.choice(self.messages[-20:]), self.any_of(*workers))

    def work(self) -> None:
        """What workers do most: feed, and take what was fed."""
        if not self.alive:
            return
        known = len(self.messages)
        self.feed(40)
        for message in self.messages[known:][: self.chance.randint(1, 6)]:
            self.claim_one(message, self.any_of(*sorted(self.alive)))

    def claim_one(self, message: DispatchedRow, name: str) -> None:
        got = self.run(self.store.claim(message.batch, message.row, name))
        model = self.batches.get(message.batch)
        if model is None:
            assert got is Refusal.GONE
            return
        refusal = model.claim(message.row, name, name in self.alive)
        if refusal:
            assert got is refusal
            return
        row = model.rows[message.row]
        assert isinstance(got, Claim), got
        assert got.cells == [f"question {message.row - 1}"]
        assert (got.state, got.kills, got.previous_turn) == (row.state, row.kills, row.seed)
        assert (got.previous.status if got.previous else None) == row.result
        row.fence = got.fence
        self.claims.append(got)

    def any_claim(self) -> tuple[Claim, ModelRow | None] | None:
        """A claim, mostly one that still stands, and then its row."""
        known = [(claim, self.row_of(claim)) for claim in self.claims]
        standing = [(claim, row) for claim, row in known if row]
        among = standing if standing and self.chance.random() < 0.8 else known
        return self.chance.choice(among[-20:]) if among else None

    def an_end(self) -> JobStatus:
        ends = sorted(set(BYTE_OF_FINISHED) - {JobStatus.REJECTED})
        return self.any_of(JobStatus.COMPLETED, JobStatus.COMPLETED, *ends)

    def row_of(self, claim: Claim) -> ModelRow | None:
        model = self.batches.get(claim.batch)
        row = model.rows[claim.row] if model else None
        return row if row and row.fence == claim.fence else None

    def save(self) -> None:
        """Sent again when the reply was lost: counted once."""
        if not (one := self.any_claim()):
            return
        (claim, row), state = one, str(self.fresh()).encode()
        run_made, twice = self.any_of(True, False), self.any_of(True, False)
        out, danger = self.any_of(None, True, False), self.any_of(None, True, False)
        nano, spent = self.any_of(None, 0, 5), self.any_of(None, None, 0, 3)
        model = self.batches.get(claim.batch)
        may = row is None or model.may_start(run_made, out)
        now, later = model.affordable(row, nano) if row and may else (True, True)
        for again in range(1 + twice):
            saved = self.run(
                self.store.save(
                    claim,
                    state,
                    run_made=run_made,
                    run_out=out,
                    danger=danger,
                    reserve_nano=nano,
                    spent_nano=spent,
                    counters={"requests": 2},
                )
            )
            assert bool(saved) == (row is not None)
            assert (saved.may_start, saved.affordable, saved.affordable_later) == (may, now, later)
            if row and may and now and not again:
                assert saved.first == model.save(row, state, run_made, out, danger, nano, spent)
                model.requests += 2

    def finish(self) -> None:
        if not (one := self.any_claim()):
            return
        (claim, row), status, seed = one, self.an_end(), str(self.fresh()).encode()
        counters = {"cost_nano": self.any_of(0, 2), "assumed_nano": self.any_of(0, 0, 3)}
        finished = self.store.finish(claim, ended(claim.row, status), seed=seed, counters=counters)
        assert self.run(finished) == (row is not None)
        if row:
            self.batches[claim.batch].gone += sum(counters.values())
            self.batches[claim.batch].finish(claim.row, status, seed)

    def give_back(self) -> None:
        if not (one := self.any_claim()):
            return
        (claim, row), later, keep, out = (
            one,
            self.any_of(True, False),
            self.any_of(True, False),
            self.any_of(None, False),
        )
        # What is spent is known from the attempts in the state, so it never comes without one.
        state, spent = (None, None) if keep else (str(self.fresh()).encode(), self.any_of(None, None, 4))
        due_ms = claim.now_ms + FAR_MS if later else 0
        given = self.store.release(claim, state, due_ms=due_ms, run_out=out, spent_nano=spent)
        assert self.run(given) == (row is not None)
        if row:
            row.spent = row.spent if spent is None else spent
            row.state = state or row.state
            row.out = row.out if out is None else out
            self.batches[claim.batch].put_back(claim.row, later=later)

    def time_passes(self) -> None:
        """Every back-off is over."""
        for batch, model in self.batches.items():
            for zset in ("due", "orphans"):
                for row in self.redis.zrange(keys.part(batch, zset), 0, -1):
                    self.redis.zadd(keys.part(batch, zset), {row: 0})
            for row in model.rows.values():
                row.later = False

    # ── always ──

    def agrees(self) -> None:
        """Bytes, state and counters are the model's; now and then the whole Redis is looked over."""
        with self.redis.pipeline() as pipe:
            for batch in self.batches:
                pipe.get(keys.part(batch, "status")).hget(keys.batch(batch), "state")
                pipe.hmget(keys.part(batch, "n"), "runs", "requests")
            told = pipe.execute()
        for model, status, state, (runs, requests) in zip(
            self.batches.values(), told[::3], told[1::3], told[2::3], strict=True
        ):
            assert (status.decode(), state.decode()) == (model.status, model.state)
            assert (int(runs or 0), int(requests or 0)) == (model.runs, model.requests)
        self.half_stored_is_seen_by_nobody()
        if len(self.story) % 5 == 0:
            assert_no_leaks(self.url)

    def end(self) -> None:
        """From wherever it stands, a living worker brings every batch to its end."""
        self.run(self.bring_to_the_end())
        assert_no_leaks(self.url)
        self.loop.close()
        self.redis.close()

    async def bring_to_the_end(self) -> None:
        for batch in self.batches:
            await self.store.resume(batch)
        for worker in self.alive:
            await self.store.deregister_worker(worker)
        await self.store.reap_dead_workers("sweeper")
        await self.store.heartbeat(card("last", 1000))
        rounds = 0
        while OPEN & set("".join([await self.bytes_of(batch) for batch in self.batches])):
            assert rounds < 60, "a row that nobody can ever finish"
            rounds += 1
            self.time_passes()
            await self.store.requeue_lost(-1)
            for one in [*await self.store.requeue_lost(-1), *await self.store.dispatch(0)]:
                claim = await claimed(self.store, one, "last")
                assert await self.store.save(claim, b"{}", run_made=True)
                assert await self.store.finish(claim, ended(one.row))
        await self.store.close()

    async def bytes_of(self, batch: str) -> str:
        content: bytes = await self.store._at.execute("GET", keys.part(batch, "status"))
        return content.decode()

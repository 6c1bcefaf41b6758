"""A random walk of workers, commands and faults over a store, each reply compared with the model."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import redis

from askmill.jobs.model.models import BYTE_OF_FINISHED, JobStatus
from askmill.jobs.store import Store, keys
from askmill.jobs.store.claim_records import Claim, DispatchedRow, Refusal
from tests.helpers.batches import claim_row, make_result, worker_info
from tests.helpers.key_leaks import assert_no_leaks
from tests.store.loading_walk import LoadingWalk
from tests.store.store_model import OPEN, ModelBatch, ModelRow

FAR_MS = 10**12


class Walk(LoadingWalk):
    """A walk over three batches at most. Messages are never deleted, and may arrive any number of times."""

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
        self.events: list[str] = []
        super().__init__()

    def step(self, name: str) -> None:
        """Take one step, then compare store and model."""
        self.events.append(name)
        action: Callable[[], None] = getattr(self, name)
        action()
        self.check()

    def choose_batch(self) -> str | None:
        return self.chance.choice(list(self.batches)) if self.batches else None

    def choose(self, *values: Any) -> Any:
        return self.chance.choice(values)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    def next_number(self) -> int:
        self.counter += 1
        return self.counter

    # ── commands ──

    def pause(self) -> None:
        if not (batch := self.choose_batch()):
            return
        fault = self.choose(True, False)
        model = self.batches[batch]
        active = model.state in {"queued", "running"}
        pausing = self.store.pause_from_worker if fault else self.store.pause
        assert self.run(pausing(batch, "because")) is active
        if active:
            model.state = "paused"
            model.accepted = model.accepted and not fault
            model.probe = None if fault else model.probe

    def resume(self) -> None:
        if not (batch := self.choose_batch()):
            return
        model = self.batches[batch]
        assert self.run(self.store.resume(batch)) is (model.state == "paused")
        if model.state == "paused":
            model.state = "running" if model.runs else "queued"
            for number in model.due_running:
                model.rows[number].not_due = False

    def cancel(self) -> None:
        if batch := self.choose_batch():
            self.run(self.store.cancel(batch))
            self.batches[batch].cancel()

    def retry(self) -> None:
        if batch := self.choose_batch():
            statuses = {self.choose_end() for _ in range(self.chance.randint(1, 4))}
            chosen = "".join(BYTE_OF_FINISHED[status] for status in statuses)
            assert self.run(self.store.retry(batch, statuses)) == self.batches[batch].retry(chosen)

    def purge(self) -> None:
        if batch := self.choose_batch():
            self.run(self.store.purge(batch))
            del self.batches[batch]

    # ── workers ──

    def heartbeat(self) -> None:
        """Send the heartbeat of a new worker, or of a living one."""
        alive = sorted(self.alive)
        worker = self.choose(*alive, None if len(alive) < 3 else alive[0]) or f"w{self.next_number()}"
        reply = self.run(
            self.store.heartbeat(worker_info(worker, self.chance.randint(1, 30)), list(self.batches))
        )
        assert reply.alive
        assert {batch: now.state for batch, now in reply.batches.items()} == {
            batch: model.state for batch, model in self.batches.items()
        }
        self.alive.add(worker)

    def die(self) -> None:
        """A worker dies: the key that each heartbeat renews has expired."""
        if self.alive:
            worker = self.choose(*sorted(self.alive))
            self.redis.delete(keys.worker(worker))
            self.alive.remove(worker)
            self.dead.add(worker)

    def reap(self) -> None:
        reaped = self.run(self.store.reap_dead_workers("reaper"))
        assert set(reaped.workers) == self.dead
        expected = sum(model.reap(worker) for worker in self.dead for model in self.batches.values())
        assert reaped.rows == expected
        for worker in self.dead:
            assert not self.run(self.store.heartbeat(worker_info(worker))).alive, (
                "a reaped worker must not come back"
            )
        self.dead.clear()

    def deregister(self) -> None:
        if self.alive:
            worker = self.choose(*sorted(self.alive))
            assert self.run(self.store.deregister_worker(worker)) == sum(
                m.reap(worker) for m in self.batches.values()
            )
            self.alive.remove(worker)

    def dispatch(self, floor: int | None = None) -> None:
        floor = self.choose(0, 1, 3, 40) if floor is None else floor
        rows: list[DispatchedRow] = self.run(self.store.dispatch(floor))
        expected = {
            (batch, number) for batch, model in self.batches.items() for number in model.dispatchable()
        }
        probing = {batch: model.probing() for batch, model in self.batches.items()}
        assert {(row.batch, row.row) for row in rows} <= expected
        if floor == 40 and len(rows) < 20 and all(model.accepted for model in self.batches.values()):
            in_queue = sum(model.status.count("p") for model in self.batches.values())
            assert len(rows) == len(expected) or len(rows) + in_queue >= floor, "free slots and rows left"
        for row in rows:
            model = self.batches[row.batch]
            alone = model.accepted or row.row in model.due_running or not probing[row.batch]
            assert alone, "two rows before the API has accepted one"
            probing[row.batch] = probing[row.batch] or row.row not in model.due_running
            model.dispatch(row.row)
        self.messages += rows

    def requeue_lost(self) -> None:
        """The broker of this test holds no message: every dispatched row is found lost in the second call."""
        dispatched = self.redis.zcard(keys.DISPATCHED)
        self.store._suspects = {}
        assert self.run(self.store.requeue_lost(-1)) == []
        requeued: list[DispatchedRow] = self.run(self.store.requeue_lost(-1))
        assert len(requeued) == dispatched
        self.messages += requeued

    def claim(self) -> None:
        """Deliver any message, late or twice, to any worker, also a dead one."""
        workers = sorted(self.alive | self.dead)
        if self.messages and workers:
            self.claim_message(self.chance.choice(self.messages[-20:]), self.choose(*workers))

    def work(self) -> None:
        """Dispatch, and claim what was dispatched: what workers do most."""
        if not self.alive:
            return
        earlier = len(self.messages)
        self.dispatch(40)
        for message in self.messages[earlier:][: self.chance.randint(1, 6)]:
            self.claim_message(message, self.choose(*sorted(self.alive)))

    def claim_message(self, message: DispatchedRow, name: str) -> None:
        reply = self.run(self.store.claim(message.batch, message.row, name))
        model = self.batches.get(message.batch)
        if model is None:
            assert reply is Refusal.GONE
            return
        refusal = model.claim(message.row, name, name in self.alive)
        if refusal:
            assert reply is refusal
            return
        row = model.rows[message.row]
        assert isinstance(reply, Claim), reply
        assert reply.cells == [f"question {message.row - 1}"]
        assert (reply.state, reply.crashes, reply.previous_turn) == (row.state, row.crashes, row.turn_state)
        assert (reply.previous.status if reply.previous else None) == row.result
        row.fence = reply.fence
        self.claims.append(reply)

    def choose_claim(self) -> tuple[Claim, ModelRow | None] | None:
        """Return a claim and, if it still holds the row, that row: most of the time one that does."""
        claims = [(claim, self.row_of(claim)) for claim in self.claims]
        held = [(claim, row) for claim, row in claims if row]
        candidates = held if held and self.chance.random() < 0.8 else claims
        return self.chance.choice(candidates[-20:]) if candidates else None

    def choose_end(self) -> JobStatus:
        ends = sorted(set(BYTE_OF_FINISHED) - {JobStatus.REJECTED})
        return self.choose(JobStatus.COMPLETED, JobStatus.COMPLETED, *ends)

    def row_of(self, claim: Claim) -> ModelRow | None:
        model = self.batches.get(claim.batch)
        row = model.rows[claim.row] if model else None
        return row if row and row.fence == claim.fence else None

    def save(self) -> None:
        """Save, sometimes twice as after a lost reply: counted once."""
        if not (chosen := self.choose_claim()):
            return
        (claim, row), state = chosen, str(self.next_number()).encode()
        run_created, repeat = self.choose(True, False), self.choose(True, False)
        run_in_flight, crash_mark = self.choose(None, True, False), self.choose(None, True, False)
        reserve_nano, spent = self.choose(None, 0, 5), self.choose(None, None, 0, 3)
        model = self.batches.get(claim.batch)
        may_start = row is None or model.may_start(run_created, run_in_flight)
        now, later = model.affordable(row, reserve_nano) if row and may_start else (True, True)
        for again in range(1 + repeat):
            saved = self.run(
                self.store.save(
                    claim,
                    state,
                    run_created=run_created,
                    run_in_flight=run_in_flight,
                    crash_mark=crash_mark,
                    reserve_nano=reserve_nano,
                    spent_nano=spent,
                    counters={"requests": 2},
                )
            )
            assert saved.held == (row is not None)
            assert (saved.may_start, saved.affordable, saved.affordable_later) == (may_start, now, later)
            if row and may_start and now and not again:
                assert saved.first_accepted == model.save(
                    row, state, run_created, run_in_flight, crash_mark, reserve_nano, spent
                )
                model.requests += 2

    def finish(self) -> None:
        if not (chosen := self.choose_claim()):
            return
        (claim, row), status, turn_state = chosen, self.choose_end(), str(self.next_number()).encode()
        counters = {"cost_nano": self.choose(0, 2), "assumed_nano": self.choose(0, 0, 3)}
        finished = self.store.finish(
            claim,
            make_result(claim.row, status, answer=str(self.next_number())),
            next_turn_state=turn_state,
            counters=counters,
        )
        assert self.run(finished) == (row is not None)
        if row:
            self.batches[claim.batch].ended_nano += sum(counters.values())
            self.batches[claim.batch].finish(claim.row, status, turn_state)

    def release(self) -> None:
        if not (chosen := self.choose_claim()):
            return
        (claim, row), not_due, keep, run_in_flight = (
            chosen,
            self.choose(True, False),
            self.choose(True, False),
            self.choose(None, False),
        )
        # The amount spent comes from the attempts in the state, so it is never saved without a state.
        state, spent = (
            (None, None) if keep else (str(self.next_number()).encode(), self.choose(None, None, 4))
        )
        due_ms = claim.now_ms + FAR_MS if not_due else 0
        released = self.store.release(
            claim, state, due_ms=due_ms, run_in_flight=run_in_flight, spent_nano=spent
        )
        assert self.run(released) == (row is not None)
        if row:
            row.spent = row.spent if spent is None else spent
            row.state = state or row.state
            row.run_in_flight = row.run_in_flight if run_in_flight is None else run_in_flight
            self.batches[claim.batch].release(claim.row, not_due=not_due)

    def make_all_due(self) -> None:
        """Make every waiting row due."""
        for batch, model in self.batches.items():
            for zset in ("due", "due_running"):
                for row in self.redis.zrange(keys.part(batch, zset), 0, -1):
                    self.redis.zadd(keys.part(batch, zset), {row: 0})
            for row in model.rows.values():
                row.not_due = False

    # ── checks ──

    def check(self) -> None:
        """Compare bytes, state and counters with the model; in every fifth step check all invariants of Redis."""
        with self.redis.pipeline() as pipe:
            for batch in self.batches:
                pipe.get(keys.part(batch, "status")).hget(keys.batch(batch), "state")
                pipe.hmget(keys.part(batch, "counters"), "runs", "requests")
            replies = pipe.execute()
        for model, status, state, (runs, requests) in zip(
            self.batches.values(), replies[::3], replies[1::3], replies[2::3], strict=True
        ):
            assert (status.decode(), state.decode()) == (model.status, model.state)
            assert (int(runs or 0), int(requests or 0)) == (model.runs, model.requests)
        self.check_lists()
        if len(self.events) % 5 == 0:
            assert_no_leaks(self.url)

    def finish_all(self) -> None:
        """From any state, a living worker finishes every batch."""
        self.run(self.run_to_the_end())
        assert_no_leaks(self.url)
        self.loop.close()
        self.redis.close()

    async def run_to_the_end(self) -> None:
        for batch in self.batches:
            await self.store.resume(batch)
        for worker in self.alive:
            await self.store.deregister_worker(worker)
        await self.store.reap_dead_workers("reaper")
        await self.store.heartbeat(worker_info("last", 1000))
        rounds = 0
        while OPEN & set("".join([await self.bytes_of(batch) for batch in self.batches])):
            assert rounds < 60, "a row that can never finish"
            rounds += 1
            self.make_all_due()
            await self.store.requeue_lost(-1)
            for row in [*await self.store.requeue_lost(-1), *await self.store.dispatch(0)]:
                claim = await claim_row(self.store, row, "last")
                assert (await self.store.save(claim, b"{}", run_created=True)).held
                assert await self.store.finish(claim, make_result(row.row))
        await self.store.close()

    async def bytes_of(self, batch: str) -> str:
        content: bytes = await self.store._connection.execute("GET", keys.part(batch, "status"))
        return content.decode()

"""Whatever workers, people and accidents do to a store, in any order: it answers as its model, and stays sound."""

import asyncio
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from jobs import keys
from jobs.models import BYTE_OF_FINISHED, JobStatus
from jobs.records import Claim, Fed, NewRow, Refusal
from jobs.store import Store
from tests.leaks import assert_no_leaks
from tests.stored import card, claimed, ended, submitted
from tests.story.store_model import OPEN, ModelBatch, ModelRow

ENDS = st.sampled_from(sorted(set(BYTE_OF_FINISHED) - {JobStatus.REJECTED}))
FAR_MS = 10**12


class StoreMachine(RuleBasedStateMachine):
    """Three workers at most at a time; messages are kept for ever and may arrive again and again."""

    url: str
    messages = Bundle("messages")
    claims = Bundle("claims")

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.Runner()
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
        self.store: Store = self.run(Store.open(self.url))
        self.batches: dict[str, ModelBatch] = {}
        self.alive: set[str] = set()
        self.dead: set[str] = set()
        self.counter = 0

    def run(self, coroutine: Any) -> Any:
        return self.loop.run(coroutine)

    def fresh(self) -> int:
        self.counter += 1
        return self.counter

    def pick(self, choice: int) -> str | None:
        names = sorted(self.batches, key=list(self.batches).index)
        return names[choice % len(names)] if names else None

    # ── people ──

    @rule(rows=st.lists(st.tuples(st.booleans(), st.sampled_from(["", "", "a", "b"])), min_size=1, max_size=20))
    def submit(self, rows: list[tuple[bool, str]]) -> None:
        """Rows, some rejected, some in conversation a or b."""
        if len(self.batches) == 3:
            return
        given = [NewRow([f"question {i}"], "bad" if i % 7 == 6 and bad else None, talk) for i, (bad, talk) in enumerate(rows)]
        model, last = ModelBatch({}), {}
        for number, row in enumerate(given, 1):
            before = last.get(row.conversation) if row.conversation and row.reject is None else None
            model.rows[number] = ModelRow("j" if row.reject else "h" if before else "q", before)
            if before:
                model.rows[before].after = number
            if row.conversation and row.reject is None:
                last[row.conversation] = number
        model.settle()
        self.batches[self.run(submitted(self.store, given))] = model

    @rule(choice=st.integers(0, 2), fault=st.booleans())
    def pause(self, choice: int, fault: bool) -> None:
        if not (batch := self.pick(choice)):
            return
        model = self.batches[batch]
        going = model.state in {"queued", "running"}
        pausing = self.store.pause_from_worker if fault else self.store.pause
        assert self.run(pausing(batch, "because")) is going
        if going:
            model.state = "paused"
            model.accepted = model.accepted and not fault

    @rule(choice=st.integers(0, 2))
    def resume(self, choice: int) -> None:
        if not (batch := self.pick(choice)):
            return
        model = self.batches[batch]
        assert self.run(self.store.resume(batch)) is (model.state == "paused")
        if model.state == "paused":
            model.state = "running" if model.runs else "queued"

    @rule(choice=st.integers(0, 2))
    def cancel(self, choice: int) -> None:
        if batch := self.pick(choice):
            self.run(self.store.cancel(batch))
            self.batches[batch].cancel()

    @rule(choice=st.integers(0, 2), statuses=st.sets(ENDS, min_size=1))
    def retry(self, choice: int, statuses: set[JobStatus]) -> None:
        if batch := self.pick(choice):
            chosen = "".join(BYTE_OF_FINISHED[status] for status in statuses)
            assert self.run(self.store.retry(batch, statuses)) == self.batches[batch].retry(chosen)

    @rule(choice=st.integers(0, 2), chance=st.integers(0, 5))
    def purge(self, choice: int, chance: int) -> None:
        if chance == 0 and (batch := self.pick(choice)):
            self.run(self.store.purge(batch))
            del self.batches[batch]

    # ── workers ──

    @rule(choice=st.integers(0, 2), slots=st.integers(1, 30))
    def beat(self, choice: int, slots: int) -> None:
        """A new worker, or one of those alive."""
        known = sorted(self.alive)
        worker = known[choice] if choice < len(known) else f"w{self.fresh()}"
        reply = self.run(self.store.beat(card(worker, slots), list(self.batches)))
        assert reply.alive
        assert {batch: now.state for batch, now in reply.batches.items()} == {
            batch: model.state for batch, model in self.batches.items()
        }
        self.alive.add(worker)

    @rule(choice=st.integers(0, 2))
    def die(self, choice: int) -> None:
        """Its heart stops: the key that each beat renews is gone."""
        if self.alive:
            worker = sorted(self.alive)[choice % len(self.alive)]
            with redis.Redis.from_url(self.url) as client:
                client.delete(keys.worker(worker))
            self.alive.remove(worker)
            self.dead.add(worker)

    @rule()
    def sweep(self) -> None:
        swept = self.run(self.store.sweep())
        assert set(swept.workers) == self.dead
        expected = sum(model.bury(worker) for worker in self.dead for model in self.batches.values())
        assert swept.rows == expected
        for worker in self.dead:
            assert not self.run(self.store.beat(card(worker))).alive, "a swept worker must not come back"
        self.dead.clear()

    @rule(choice=st.integers(0, 2))
    def leave(self, choice: int) -> None:
        if self.alive:
            worker = sorted(self.alive)[choice % len(self.alive)]
            assert self.run(self.store.leave(worker)) == sum(m.bury(worker) for m in self.batches.values())
            self.alive.remove(worker)

    @rule(target=messages, floor=st.integers(0, 40))
    def feed(self, floor: int) -> list[Fed]:
        fed: list[Fed] = self.run(self.store.feed(floor))
        wanted = {(name, number) for name, model in self.batches.items() for number in model.feedable()}
        probing = {name: model.probing() for name, model in self.batches.items()}
        assert {(one.batch, one.row) for one in fed} <= wanted
        if floor == 40 and len(fed) < 20 and all(model.accepted for model in self.batches.values()):
            outstanding = sum(model.bytes.count("p") for model in self.batches.values())
            assert len(fed) == len(wanted) or len(fed) + outstanding >= floor, "room and rows, but not fed"
        for one in fed:
            model = self.batches[one.batch]
            alone = model.accepted or one.row in model.orphans or not probing[one.batch]
            assert alone, "two rows before the API has accepted one"
            probing[one.batch] = probing[one.batch] or one.row not in model.orphans
            model.fed(one.row)
        return fed

    @rule(target=messages)
    def lose_messages(self) -> list[Fed]:
        """No message was ever put into this test's broker: all that is fed is proved lost, at the second look."""
        with redis.Redis.from_url(self.url) as client:
            fed = client.zcard(keys.FED)
        self.store._suspects = {}
        assert self.run(self.store.lost_messages(-1)) == []
        again: list[Fed] = self.run(self.store.lost_messages(-1))
        assert len(again) == fed
        return again

    @rule(target=claims, messages=messages, choice=st.integers(0, 50), worker=st.integers(0, 2))
    def claim(self, messages: list[Fed], choice: int, worker: int) -> Claim | None:
        if not messages or not (self.alive or self.dead):
            return None
        message = messages[choice % len(messages)]
        name = sorted(self.alive | self.dead)[worker % len(self.alive | self.dead)]
        got = self.run(self.store.claim(message.batch, message.row, name))
        model = self.batches.get(message.batch)
        if model is None:
            assert got is Refusal.GONE
            return None
        refusal = model.claim(message.row, name, name in self.alive)
        if refusal:
            assert got is refusal
            return None
        row = model.rows[message.row]
        assert isinstance(got, Claim), got
        assert got.cells == [f"question {message.row - 1}"]
        assert (got.state, got.kills, got.seed) == (row.state, row.kills, row.seed)
        assert (got.previous.status if got.previous else None) == row.result
        row.fence = got.fence
        return got

    def ours(self, claim: Claim) -> ModelRow | None:
        model = self.batches.get(claim.batch)
        row = model.rows[claim.row] if model else None
        return row if row and row.fence == claim.fence else None

    @rule(
        claim=claims,
        run_made=st.booleans(),
        out=st.sampled_from([None, True, False]),
        danger=st.sampled_from([None, True, False]),
        nano=st.sampled_from([None, 0, 5]),
        twice=st.booleans(),
    )
    def save(self, claim: Claim | None, run_made: bool, out: bool | None, danger: bool | None, nano: int | None, twice: bool) -> None:
        """Sent again when the reply was lost: counted once."""
        if claim is None:
            return
        row, state = self.ours(claim), str(self.fresh()).encode()
        for again in range(1 + twice):
            saved = self.run(
                self.store.save(
                    claim, state, run_made=run_made, run_out=out, danger=danger, reserve_nano=nano, counters={"requests": 2}
                )
            )
            assert bool(saved) == (row is not None)
            if row and not again:
                assert saved.first == self.batches[claim.batch].save(row, state, run_made, out, danger)
                self.batches[claim.batch].requests += 2

    @rule(claim=claims, status=ENDS)
    def finish(self, claim: Claim | None, status: JobStatus) -> None:
        if claim is None:
            return
        row, seed = self.ours(claim), str(self.fresh()).encode()
        assert self.run(self.store.finish(claim, ended(claim.row, status), seed=seed)) == (row is not None)
        if row:
            self.batches[claim.batch].finish(claim.row, status, seed)

    @rule(claim=claims, later=st.booleans(), out=st.sampled_from([None, False]), keep=st.booleans())
    def give_back(self, claim: Claim | None, later: bool, out: bool | None, keep: bool) -> None:
        if claim is None:
            return
        row = self.ours(claim)
        state = None if keep else str(self.fresh()).encode()
        held = self.run(self.store.give_back(claim, state, due_ms=claim.now_ms + FAR_MS if later else 0, run_out=out))
        assert held == (row is not None)
        if row:
            row.state = state or row.state
            row.out = row.out if out is None else out
            self.batches[claim.batch].put_back(claim.row, later=later)

    @rule()
    def time_passes(self) -> None:
        """Every back-off is over."""
        with redis.Redis.from_url(self.url) as client:
            for batch, model in self.batches.items():
                for zset in ("due", "orphans"):
                    for row in client.zrange(keys.part(batch, zset), 0, -1):
                        client.zadd(keys.part(batch, zset), {row: 0})
                for row in model.rows.values():
                    row.later = False

    # ── always ──

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        assert_no_leaks(self.url)
        with redis.Redis.from_url(self.url) as client:
            for batch, model in self.batches.items():
                assert client.get(keys.part(batch, "status")).decode() == model.bytes
                status = self.run(self.store.status(batch))
                assert status.batch.state == model.state
                assert status.to_json()["runs"] == model.runs
                assert status.to_json()["requests"] == model.requests

    def teardown(self) -> None:
        """From wherever it stands, a living worker brings every batch to its end."""
        if not hasattr(self, "store"):
            return
        self.run(self.bring_to_the_end())
        assert_no_leaks(self.url)
        self.loop.close()

    async def bring_to_the_end(self) -> None:
        for batch in self.batches:
            await self.store.resume(batch)
        for worker in self.alive:
            await self.store.leave(worker)
        await self.store.sweep()
        await self.store.beat(card("last", 1000))
        rounds = 0
        while OPEN & set("".join([await self.bytes_of(batch) for batch in self.batches])):
            assert rounds < 60, "a row that nobody can ever finish"
            rounds += 1
            self.time_passes()
            await self.store.lost_messages(-1)
            for one in [*await self.store.lost_messages(-1), *await self.store.feed(0)]:
                claim = await claimed(self.store, one, "last")
                await self.store.save(claim, b"{}", run_made=True)
                assert await self.store.finish(claim, ended(one.row))
        await self.store.close()

    async def bytes_of(self, batch: str) -> str:
        content: bytes = await self.store._at.ask("GET", keys.part(batch, "status"))
        return content.decode()


@pytest.fixture
def machine(redis_url: str) -> type[StoreMachine]:
    return type("Machine", (StoreMachine,), {"url": redis_url})


@pytest.mark.timeout(300)
def test_any_order_of_events_leaves_the_store_as_its_model(machine: type[StoreMachine], tmp_path: Path) -> None:
    """Random lives of batches and workers: every answer predicted, every row accounted for, all ends reached."""
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=25, stateful_step_count=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)),
    )

"""A Redis that goes back in time under living workers (cases D1, D3, D4): the store's part of the recovery."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import Store, keys
from askmill.jobs.store.claim_records import Claim, Refusal
from askmill.jobs.store.records import NewRow
from tests.helpers.batches import claim_row, make_result, new_batch, submit_batch, worker_info
from tests.helpers.key_leaks import assert_no_leaks
from tests.helpers.tcp_relay import TcpRelay
from tests.support import RedisServer, wait_until_async

ROWS = 12
SEEDS = range(8)
HOUR_MS = 3_600_000


class TwoWorkers:
    """Two workers' stores, and what each of them knows of the rows it holds."""

    def __init__(self, stores: list[Store], chance: random.Random) -> None:
        self.stores, self.chance = stores, chance
        self.held: list[dict[int, tuple[Claim, int]]] = [{} for _ in stores]
        """For each worker: row → claim, and how many steps it has gone."""
        self.runs: dict[int, int] = {}
        self.requests = 0

    async def heartbeats(self) -> None:
        for at, store in enumerate(self.stores):
            while (await store.heartbeat(worker_info(f"w{at}"))).other_server:
                pass

    async def step(self) -> None:
        """One worker takes rows or goes on with one of its rows."""
        at = self.chance.randrange(len(self.stores))
        if not self.held[at] or self.chance.random() < 0.3:
            await self._take(at)
            return
        row = self.chance.choice(list(self.held[at]))
        claim, steps = self.held[at][row]
        if claim.state and not steps:  # an earlier holder has created the run
            steps = 2
        self.requests += 1
        counters = {"requests": 1}
        if steps == 0:
            saved = await self.stores[at].save(
                claim, b'{"creating": 1}', run_in_flight=True, reserve_nano=10, counters=counters
            )
            assert saved.held
        elif steps == 1:
            self.runs[row] = self.runs.get(row, 0) + 1
            assert (
                await self.stores[at].save(claim, b'{"run": 1}', run_created=True, counters=counters)
            ).held
        elif self.chance.random() < 0.2:
            assert await self.stores[at].release(claim, b'{"run": 1}', counters=counters)
        else:
            assert await self.stores[at].finish(
                claim, make_result(row), next_turn_state=b"{}", counters={**counters, "cost_nano": 7}
            )
        if steps < 2:
            self.held[at][row] = claim, steps + 1
        else:
            del self.held[at][row]

    async def _take(self, at: int) -> None:
        for dispatched in await self.stores[at].dispatch(2):
            claim = await self.stores[at].claim(dispatched.batch, dispatched.row, f"w{at}")
            if isinstance(claim, Claim):
                self.held[at][dispatched.row] = claim, 0

    async def finish_all(self, redis_url: str, batch: str) -> None:
        for _ in range(2_000):
            if (await self.stores[0].batch(batch)).state == "done":
                return
            with redis.Redis.from_url(redis_url) as client:
                client.delete(keys.RECOVERY)  # its time is over
                for name in client.zrange(keys.DISPATCHED, 0, -1):  # their messages are delivered
                    row = int(name.decode().rpartition(":")[2])
                    claim = await self.stores[0].claim(batch, row, "w0")
                    if isinstance(claim, Claim):
                        self.held[0][row] = claim, 0
            await self.step()
        raise AssertionError("the batch does not end")


async def play(server: RedisServer, seed: int, *, loses: bool) -> dict[str, Any]:
    """Play a batch of two workers; with `loses`, Redis forgets the last 1 to 30 steps once. Returns the outcome."""
    chance = random.Random(seed)
    first, second = await Store.open(server.url), await Store.open(server.url)
    async with first, second:
        for store in (first, second):
            store.enable_write_recovery()
        rows = [NewRow([f"q {row}"], conversation="one" if row < 4 else None) for row in range(1, ROWS + 1)]
        batch = await submit_batch(first, rows)
        workers = TwoWorkers([first, second], chance)
        await workers.heartbeats()
        for _ in range(chance.randint(1, 30)):
            await workers.step()
        with redis.Redis.from_url(server.url) as client:
            client.save()
        for _ in range(chance.randint(1, 30)):
            await workers.step()
        if loses:
            server.restart()
            await workers.heartbeats()
        await workers.finish_all(server.url, batch)
        counts = await first.counts(batch)
        statuses = await first.status_bytes(batch)
    assert_no_leaks(server.url)
    return {
        "runs": workers.runs,
        "statuses": statuses,
        "rows": {byte: rows for byte, rows in counts.rows_by_byte.items() if rows},
        "totals": {
            name: counts.totals.get(name, 0) - expected
            for name, expected in {
                "runs": sum(workers.runs.values()),
                "requests": workers.requests,
                "cost_nano": 7 * ROWS,
                "reserved_nano": 0,
                "spent_nano": 0,
            }.items()
        },
        "recovered": counts.totals.get("recovered_writes", 0),
    }


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_store_may_forget_its_last_effects(redis_server: RedisServer, seed: int) -> None:
    """The last steps of two living workers are lost: no row is lost or bought twice, and every sum is right."""
    outcome = await play(redis_server, seed, loses=True)
    assert outcome["runs"] == dict.fromkeys(range(1, ROWS + 1), 1)
    assert outcome["statuses"] == "c" * ROWS
    assert outcome["rows"] == {"c": ROWS}
    assert outcome["totals"] == dict.fromkeys(outcome["totals"], 0)
    assert outcome["recovered"] > 0


async def test_no_row_is_claimed_before_the_recovery(redis_server: RedisServer) -> None:
    """A row that was free before the loss may have a run: another worker is not given it before its holder is back."""
    first, second = await Store.open(redis_server.url), await Store.open(redis_server.url)
    async with first, second:
        for store in (first, second):
            store.enable_write_recovery()
        batch = await submit_batch(first, 1)
        await first.heartbeat(worker_info("w0"))
        await second.heartbeat(worker_info("w1"))
        (dispatched,) = await first.dispatch(0)
        with redis.Redis.from_url(redis_server.url) as client:
            client.save()
        claim = await claim_row(first, dispatched, "w0")
        await first.save(claim, b'{"run": 1}', run_created=True)
        redis_server.restart()
        assert await second.claim(batch, 1, "w1") is Refusal.RECOVERING
        assert await second.dispatch(0) == []
        assert await first.finish(claim, make_result(1))
        assert (await first.counts(batch)).totals["runs"] == 1


async def test_a_clock_set_back_does_not_prolong_the_recovery(redis_server: RedisServer) -> None:
    """By an hour, while Redis comes back from a power loss: rows would be claimed again after that hour only."""
    async with await Store.open(redis_server.url, lifetime_s=2) as store:
        store.enable_write_recovery()
        batch = await submit_batch(store, 1)
        await store.heartbeat(worker_info())
        with redis.Redis.from_url(redis_server.url) as client:
            client.save()
            redis_server.restart()
            assert (await store.heartbeat(worker_info())).other_server
            not_before_ms, rest = client.get(keys.RECOVERY).split(maxsplit=1)
            client.set(keys.RECOVERY, b"%d %s" % (int(not_before_ms) + HOUR_MS, rest), px=HOUR_MS)
            assert await store.dispatch(0) == []
            assert not (await store.heartbeat(worker_info())).other_server

        async def dispatched() -> bool:
            return bool(await store.dispatch(0))

        await wait_until_async(dispatched, "the recovery is over", 10)
        assert (await store.counts(batch)).by_status[JobStatus.QUEUED] == 1


@pytest.mark.parametrize("noticed_by", ["heartbeat", "write"])
async def test_an_old_master_that_takes_writes_is_left(
    redis_server: RedisServer, tmp_path: Path, noticed_by: str
) -> None:
    """Case D5: a planned failover cuts no connection, and the old master goes on taking writes.

    As soon as one connection has found the new master, all follow it, and what only the old one has is written again.
    """
    successor = RedisServer(tmp_path)
    successor.start()
    try:
        with (
            TcpRelay(redis_server.url) as name,
            redis.Redis.from_url(redis_server.url) as old,
            redis.Redis.from_url(successor.url) as new,
        ):
            async with await Store.open(name.url) as store:
                store.enable_write_recovery()
                batch = await submit_batch(store, 2)
                await store.heartbeat(worker_info())
                first = await claim_row(store, (await store.dispatch(2))[0])
                await store.save(first, b'{"run": 1}', run_created=True)
                second = await claim_row(store, (await store.dispatch(2))[0])
                successor.take_over_from(redis_server)
                name.switch_to(successor.url, cut=False)
                assert await store.finish(first, make_result(first.row))
                assert (await store.save(second, b'{"run": 1}', run_created=True)).held

                _, heartbeats, _ = store._connection.pools
                if noticed_by == "heartbeat":
                    await heartbeats.reconnect()
                else:
                    await store._connection.redis.connection_pool.disconnect()
                    assert (await store.save(second, b'{"run": 2}')).held
                assert (await store.heartbeat(worker_info())).other_server
                assert not (await store.heartbeat(worker_info())).other_server
                counts = await store.counts(batch)
                assert counts.totals["runs"] == 2
                assert counts.by_status[JobStatus.COMPLETED] == 1
                assert await store.finish(second, make_result(second.row))
            statuses = new.get(keys.part(batch, "status"))
            assert (statuses, old.get(keys.part(batch, "status"))) == (b"cc", b"cr")
    finally:
        successor.kill()


async def test_a_loader_whose_rows_were_lost_does_not_seal(redis_server: RedisServer) -> None:
    """The command says so; run again, it stores the rows anew."""
    async with await Store.open(redis_server.url) as store:
        batch = await store.create_batch(new_batch())
        rows = [NewRow([f"q {row}"]) for row in range(1, 17)]
        await store.add_rows(batch, 1, rows)
        with redis.Redis.from_url(redis_server.url) as client:
            client.save()
        await store.add_rows(batch, 17, rows)
        redis_server.restart()
        await store.add_rows(batch, 33, rows)
        with pytest.raises(Unavailable, match="lost rows"):
            await store.seal_batch(batch)
        for first_row in (1, 17, 33):
            await store.add_rows(batch, first_row, rows)
        await store.seal_batch(batch)
        assert (await store.status(batch)).counts.by_status[JobStatus.QUEUED] == 48


async def test_odd_entries_are_skipped_and_removed(store: Store, redis_url: str) -> None:
    """Names without a hash, keys of another type, garbage: everything goes on, and the entries go (case D13)."""
    batch = await submit_batch(store, 2)
    await store.heartbeat(worker_info())
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.OPEN, {"b_nohash": 0, b"\xff\xfe": 0, "b_string": 0})
        client.zadd(keys.BATCHES, {"b_nohash": 9e15, b"\xff\xfe": 9e15, "b_string": 9e15, "b_half": 9e15})
        client.zadd(keys.DISPATCHED, {"garbage": 1, b"\xff:1": 1, "b_nohash:7": float("inf")})
        client.zadd(keys.WORKERS, {"strange": 1, b"\xff": 1})
        client.set(keys.batch("b_string"), "x")
        client.set(keys.worker("strange"), "x")
        client.hset(keys.batch("b_half"), "state", "running")
        assert [found.id for found in await store.list_batches()] == [batch]
        assert [worker.id for worker in await store.workers()] == ["w1"]
        assert await store.requeue_lost(-1) == await store.requeue_lost(-1) == []
        reaped = await store.reap_dead_workers("w1")
        assert len(reaped.removed) >= 6
        claim = await claim_row(store, (await store.dispatch(1))[0])
        assert await store.finish(claim, make_result(claim.row))
        assert client.zrange(keys.OPEN, 0, -1) == [batch.encode()]
        assert client.zrange(keys.DISPATCHED, 0, -1) == []
        client.delete(keys.batch("b_string"), keys.worker("strange"), keys.batch("b_half"))
        client.zrem(keys.BATCHES, "b_half")
        client.delete(b"askmill:worker:\xff")


async def test_writes_are_redone_once_nothing_else_is_on_its_way(redis_url: str) -> None:
    """A number that comes between the recovery's and an earlier one would look like another loss."""
    async with await Store.open(redis_url) as store, Redis.from_url(redis_url) as client:
        store.enable_write_recovery()
        await submit_batch(store, 1)
        await store.heartbeat(worker_info())
        claim = await claim_row(store, (await store.dispatch(1))[0])
        recovery = store._connection.scripts._recovery

        async def held_back() -> int:
            return int((await client.info("clients"))["blocked_clients"])

        async def save_is_sent() -> bool:
            return await held_back() == 1

        await client.client_pause(60_000, all=False)
        saved = asyncio.create_task(store.save(claim, b'{"run": 1}', run_created=True))
        await wait_until_async(save_is_sent, "the save is sent")
        checked = asyncio.create_task(recovery.check(moved=False))
        assert {await held_back() for _ in range(200)} == {1}
        await client.client_unpause()
        assert (await saved).held
        await checked
        assert not any(pipeline.lost for pipeline in recovery.pipelines)

"""Who may load a batch: one command at a time, as long as it renews its lease, each of its scripts sent once or twice."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import Limits
from askmill.jobs.model.profile import Resources
from askmill.jobs.store import Store, keys
from askmill.jobs.store.codec import limits_json
from askmill.jobs.store.records import Acquired, BatchToLoad, FoundBatch, LeaseLost, NewRow, ResourceKey
from askmill.jobs.submit.load_lease import under_lease
from tests.helpers.batches import new_batch, submit_batch
from tests.store.loading_walk import SentTwice

IDENTITY = "0" * 64


class Always(random.Random):
    def random(self) -> float:
        return 1.0


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as opened:
        yield opened


def _expire_lease(client: redis.Redis, batch: str) -> None:
    """As if its loader had been silent for as long as its lease."""
    client.hset(keys.batch(batch), "lease_until", 0)


def _other_command(store: Store) -> Store:
    """Another command at the same Redis."""
    return Store(store._connection)


async def test_each_script_of_a_load_may_be_sent_twice(store: Store, redis_url: str) -> None:
    """After a lost reply the call is repeated with the same fence, and changes nothing more."""
    twice = Store(replace(store._connection, scripts=SentTwice(store._connection.redis, redis_url, Always())))
    rows = [NewRow([f"q{n}"], "bad" if n == 3 else None, "talk" if n % 2 else None) for n in range(20)]
    loading = await twice.take_identity(new_batch())
    assert isinstance(loading, BatchToLoad)
    batch = loading.batch
    resource = ResourceKey(batch, "file", "ab" * 32)
    assert await twice.acquire_resource(resource) == Acquired(is_creator=True)
    await twice.store_resource(resource, "file-1")
    await twice.set_resources(batch, Resources(code_interpreter_files=("file-1",)))
    await twice.renew_lease(batch)
    await twice.change_limits(batch, {"attempts": 7})
    await twice.add_rows(batch, 1, rows[:16])
    await twice.add_rows(batch, 17, rows[16:])
    await twice.seal_batch(batch)
    assert [view.cells for view in [v async for v in store.results(batch)]] == [row.cells for row in rows]
    found = await store.batch(batch)
    assert (found.rows, found.limits.attempts) == (20, 7)
    assert await store.list_resources(batch) == [("file", "file-1")]
    dropped = await twice.create_batch(new_batch())
    await twice.drop_batch(dropped)
    assert await store.find_identity(IDENTITY) == FoundBatch(batch, loading=False)


async def test_a_successor_uses_the_uploads_of_a_dead_loader(store: Store, client: redis.Redis) -> None:
    """The dead loader's lock is void at once; what it still uploads goes into the batch's ledger."""
    first, second = _other_command(store), _other_command(store)
    batch = (await first.take_identity(new_batch())).batch
    known, slow = ResourceKey(batch, "file", "ab" * 32), ResourceKey(batch, "file", "cd" * 32)
    assert await first.acquire_resource(known) == Acquired(is_creator=True)
    await first.store_resource(known, "file-1")
    assert await first.acquire_resource(slow) == Acquired(is_creator=True)
    assert await second.take_identity(new_batch()) == FoundBatch(batch, loading=True)
    _expire_lease(client, batch)
    assert await second.take_identity(new_batch()) == BatchToLoad(batch, continued=True, options={})
    assert await second.acquire_resource(ResourceKey(batch, "file", "ab" * 32)) == Acquired(
        is_creator=False, object_id="file-1"
    )
    mine = ResourceKey(batch, "file", "cd" * 32)
    assert await second.acquire_resource(mine) == Acquired(is_creator=True)
    await first.store_resource(slow, "file-late")
    with pytest.raises(LeaseLost):
        await first.acquire_resource(ResourceKey(batch, "file", "ef" * 32))
    with pytest.raises(LeaseLost):
        await first.set_resources(batch, Resources())
    await second.store_resource(mine, "file-2")
    assert await second.acquire_resource(mine) == Acquired(is_creator=False, object_id="file-2")
    assert sorted(await store.list_resources(batch)) == [
        ("file", "file-1"),
        ("file", "file-2"),
        ("file", "file-late"),
    ]


async def test_two_commands_can_change_different_limits_at_once(store: Store) -> None:
    """Also while the batch is loading; limits of a dead loader stay."""
    batch = (await store.take_identity(new_batch(limits=Limits(budget_usd=2.5)))).batch
    await store.change_limits(batch, {"attempts": 7})
    older = Limits(budget_usd=2.5)
    stale = await store._connection.scripts.set_batch_limits(batch, b"{}", "", limits_json(older))
    assert stale == -1, "they are no longer those that were read"
    await store.change_limits(batch, {"deadline_s": 9.0})
    await store.add_rows(batch, 1, [NewRow(["why?"])])
    await store.seal_batch(batch)
    assert (await store.batch(batch)).limits == Limits(attempts=7, deadline_s=9.0, budget_usd=2.5)


async def test_a_failed_load_frees_the_identity(store: Store, client: redis.Redis) -> None:
    """At once, and no key stays; after --new the identity is again that of the batch before."""
    whole = await submit_batch(store, 1)

    async def load() -> None:
        await store.add_rows(batch, 1, [NewRow(["why?"])])
        raise UsageError("in.csv has changed while it was read")

    for before in (FoundBatch(whole, loading=False), None):
        if before is None:
            await store.purge(whole)
        batch = await store.create_batch(new_batch())
        assert await store.find_identity(IDENTITY) == FoundBatch(batch, loading=True)
        with pytest.raises(UsageError):
            await under_lease(store, batch, load())
        assert await store.find_identity(IDENTITY) == before
        assert list(client.scan_iter(f"*{batch}*")) == []


async def test_a_dead_loader_of_new_gives_way_to_the_batch_before(store: Store, client: redis.Redis) -> None:
    """The same command without --new gets the existing answers, and pays for nothing."""
    whole = await submit_batch(store, 1)
    batch = await store.create_batch(new_batch())
    assert await _other_command(store).take_identity(new_batch()) == FoundBatch(batch, loading=True)
    _expire_lease(client, batch)
    assert await _other_command(store).take_identity(new_batch()) == FoundBatch(whole, loading=False)


async def test_a_loader_with_an_expired_lease_goes_on_if_not_replaced(
    store: Store, client: redis.Redis
) -> None:
    """Nobody wanted the batch meanwhile."""
    batch = (await store.take_identity(new_batch())).batch
    _expire_lease(client, batch)
    assert await store.find_identity(IDENTITY) is None
    await store.add_rows(batch, 1, [NewRow(["why?"])])
    assert await _other_command(store).take_identity(new_batch()) == FoundBatch(batch, loading=True)
    await store.seal_batch(batch)


async def test_a_clock_that_is_set_back_keeps_nobody_waiting(store: Store, client: redis.Redis) -> None:
    """A lease that begins in the future has run out: nobody waits an hour for a loader that has died."""
    batch = (await store.take_identity(new_batch())).batch
    for field in ("lease_from", "lease_until"):
        client.hincrby(keys.batch(batch), field, 3_600_000)
    assert await _other_command(store).take_identity(new_batch()) == BatchToLoad(
        batch, continued=True, options={}
    )

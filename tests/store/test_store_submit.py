"""How a batch comes into the store, and when it may be seen."""

import asyncio
from typing import Any

import pytest
import redis

from askmill.jobs.model.errors import NotFound, RedisUnavailable, UsageError
from askmill.jobs.model.models import BatchState, InputSpec, JobStatus, Limits, OnIncomplete
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import Store, keys, single_flight
from askmill.jobs.store.records import Acquired, FoundBatch, NewRow, ResourceKey
from tests.helpers.batches import new_batch, submit_batch
from tests.support import wait_until_async


async def test_nobody_sees_a_batch_before_it_is_sealed(store: Store) -> None:
    """Unsealed it is not listed, not newest, not fed; other commands find that it is being loaded."""
    batch = await store.create_batch(new_batch())
    await store.add_rows(batch, 1, [NewRow(["why?"])])
    assert await store.list_batches() == []
    assert await store.newest_batch() is None
    assert await store.dispatch(10) == []
    assert await store.find_identity("0" * 64) == FoundBatch(batch, loading=True)
    with pytest.raises(NotFound, match="there is none in this Redis"):
        await store.batch(batch)
    await store.seal_batch(batch)
    assert [found.id for found in await store.list_batches()] == [batch]
    assert (await store.newest_batch(), await store.find_identity("0" * 64)) == (
        batch,
        FoundBatch(batch, loading=False),
    )
    assert [dispatched.row for dispatched in await store.dispatch(10)] == [1]


async def test_a_submit_that_dies_half_way_leaves_nothing_for_ever(store: Store, redis_url: str) -> None:
    """Every key of an unsealed batch expires within the hour, after each trip to Redis; sealed, none does."""
    batch = await store.create_batch(new_batch())
    rows = [NewRow(["why?"], None, "talk"), NewRow([""], "empty question")]
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl(keys.identity("0" * 64)) <= 3600
        await store.add_rows(batch, 1, rows)
        mine = list(client.scan_iter(f"askmill:batch:{batch}*"))
        assert len(mine) == 5
        assert all(0 < client.ttl(key) <= 3600 for key in mine)
        await store.seal_batch(batch)
        assert all(client.ttl(key) == -1 for key in client.scan_iter(f"askmill:batch:{batch}*"))


async def test_a_batch_has_all_that_was_frozen_at_submit(store: Store) -> None:
    """Specification, profile, resources, limits and options are read back unchanged."""
    frozen = new_batch(
        spec=InputSpec(("a", "b"), None, template="{a} and {b}", id_column="a", overrides=("model",)),
        profile=Profile(instructions="Be brief: «ja»", tools=("code_interpreter",), temperature=0.5),
        resources=Resources(code_interpreter_files=("file-1",), row_files={"a.png": "file-2"}),
        limits=Limits(attempts=5, deadline_s=1.5, budget_usd=2.5, on_incomplete=OnIncomplete.CONTINUE),
        options={"reuse": True},
    )
    batch = await store.create_batch(frozen)
    await store.add_rows(batch, 1, [NewRow(["x", "y"])])
    await store.seal_batch(batch)
    found = await store.batch(batch)
    for name in (
        "name",
        "file",
        "spec",
        "profile",
        "resources",
        "api",
        "base_url",
        "model",
        "limits",
        "options",
    ):
        assert getattr(found, name) == getattr(frozen, name), name
    assert (found.rows, found.state, found.accepted) == (1, BatchState.QUEUED, False)


async def test_add_rows_may_be_repeated(store: Store) -> None:
    """After a lost reply it changes nothing, conversations included."""
    batch = await store.create_batch(new_batch())
    rows = [NewRow([f"q{n}"], None, "talk" if n % 2 else None) for n in range(40)]
    await store.add_rows(batch, 1, rows[:16])
    await store.add_rows(batch, 17, rows[16:])
    await store.add_rows(batch, 17, rows[16:])
    await store.seal_batch(batch)
    assert [view.cells[0] for view in [v async for v in store.results(batch)]] == [f"q{n}" for n in range(40)]
    counts = (await store.counts(batch)).rows_by_byte
    assert (counts["q"], counts["h"]) == (21, 19)


async def test_rows_must_begin_a_block(store: Store) -> None:
    """A call that would split a block is refused before anything is stored."""
    batch = await store.create_batch(new_batch())
    with pytest.raises(ValueError, match="multiple of 16"):
        await store.add_rows(batch, 5, [NewRow(["why?"])])


async def test_a_rejected_row_is_finished_with_its_reason(store: Store) -> None:
    """It is never dispatched; a batch of nothing else is done at once."""
    batch = await submit_batch(store, [NewRow(["", "x"], "the question is empty")])
    (view,) = [view async for view in store.results(batch)]
    assert (view.status, view.cells) == (JobStatus.REJECTED, ["", "x"])
    assert view.result is not None
    assert (view.result.error, view.result.attempt_count) == ("the question is empty", 0)
    assert (await store.batch(batch)).state is BatchState.DONE
    assert await store.dispatch(10) == []


async def test_typed_cells_keep_their_types(store: Store) -> None:
    """Values of .jsonl and .parquet rows are stored unchanged."""
    cells = ["text", 1, 2.5, None, True, {"nested": [1, "ü"]}]
    batch = await submit_batch(store, [NewRow(cells)])
    assert (await store.row(batch, 1)).view.cells == cells


async def test_api_objects_are_found_by_content(store: Store, redis_url: str) -> None:
    """What was created at the API is used again, if within 90 days."""
    resource = ResourceKey("", "file", "ab" * 32)
    await store.store_resource(resource, "file-1")
    key = keys.resource("file", "ab" * 32)
    with redis.Redis.from_url(redis_url) as client:
        client.expire(key, 5)
        assert await store.acquire_resource(resource) == Acquired(is_creator=False, object_id="file-1")
        assert client.ttl(key) > 89 * 86400


async def test_an_unknown_batch_raises_and_names_similar_ids(store: Store) -> None:
    """The message names the batches that exist."""
    batch = await submit_batch(store, 1)
    typed = batch[:-1] + "_"
    for call in (
        store.batch,
        store.counts,
        store.status,
        store.resume,
        store.cancel,
        store.retry,
        store.purge,
    ):
        with pytest.raises(NotFound, match=f"no batch '{typed}': here are {batch} "):
            await call(typed)
    with pytest.raises(NotFound):
        await store.pause(typed, "asked")
    with pytest.raises(NotFound):
        await store.update_limits(typed, Limits())


async def test_an_unreachable_redis_is_named_without_its_password() -> None:
    """The address, what happened, what to do; no secret."""
    with pytest.raises(RedisUnavailable) as caught:
        await Store.open("redis://me:secret@127.0.0.1:1/3")
    message = str(caught.value)
    assert "redis://127.0.0.1:1/3" in message
    assert "ASKMILL_REDIS_URL" in message
    assert "secret" not in message


async def test_an_unreadable_address_is_a_usage_error() -> None:
    """The message has a good example."""
    with pytest.raises(UsageError, match="redis://localhost:6379/0"):
        await Store.open("http://localhost")


async def test_retention_lets_every_key_of_a_finished_batch_expire(store: Store, redis_url: str) -> None:
    """A retry makes the keys permanent again until the batch is done."""
    batch = await submit_batch(store, 1, retention_days=2)
    await store.store_resource(ResourceKey(batch, "file", "ab" * 32), "file-1")
    with redis.Redis.from_url(redis_url) as client:

        def lifetimes() -> set[bool]:
            mine = [*client.scan_iter(f"askmill:batch:{batch}*"), keys.identity("0" * 64)]
            return {client.ttl(key) > 0 for key in mine}

        assert lifetimes() == {False}
        await store.cancel(batch)
        assert lifetimes() == {True}
        assert await store.retry(batch, [JobStatus.CANCELLED]) == 1
        assert lifetimes() == {False}
        newer = await submit_batch(store, 1)
        await store.cancel(batch)
        assert client.ttl(keys.identity("0" * 64)) == -1, "it names the newer batch"
        await store.retry(batch, [JobStatus.CANCELLED])
        await store.purge(newer)
        client.set(keys.identity("0" * 64), batch)
        await store.cancel(batch)
        expire(client, batch)
    assert await store.list_batches() == []
    await store.reap_dead_workers("reaper")
    assert await store.newest_batch() is None


def expire(client: redis.Redis, batch: str) -> None:
    """As if its retention had passed."""
    for key in client.scan_iter(f"askmill:batch:{batch}*"):
        client.delete(key)


async def test_each_batch_has_its_own_retention_which_can_be_changed(store: Store, redis_url: str) -> None:
    """A changed one counts from the batch's end; for a finished batch, from now."""
    kept, unfinished = await submit_batch(store, 1), await submit_batch(store, 1, retention_days=2)
    with redis.Redis.from_url(redis_url) as client:
        await store.cancel(kept)
        assert client.ttl(keys.batch(kept)) == -1
        await store.update_retention(kept, 1)
        assert 86_000 < client.ttl(keys.part(kept, "status")) <= 86_400
        await store.update_retention(unfinished, 1)
        assert client.ttl(keys.batch(unfinished)) == -1
        await store.cancel(unfinished)
        assert 86_000 < client.ttl(keys.batch(unfinished)) <= 86_400
    with pytest.raises(NotFound):
        await store.update_retention("b_nobody", 1)


async def test_expired_batches_are_named_nowhere(store: Store, redis_url: str) -> None:
    """Not as the newest, not in a message; reaps remove them all from the list."""
    older = [await submit_batch(store, 1) for _ in range(120)]
    over = [await submit_batch(store, 1) for _ in range(3)]
    with redis.Redis.from_url(redis_url) as client:
        for batch in over:
            await store.cancel(batch)
            expire(client, batch)
        assert await store.newest_batch() == older[-1]
        with pytest.raises(NotFound) as caught:
            await store.batch("b_nobody")
        assert not [batch for batch in over if batch in str(caught.value)]
        for _ in range(100):
            await store.reap_dead_workers("reaper")
        assert client.zcard(keys.BATCHES) == len(older)


async def test_one_creator_at_a_time(store: Store) -> None:
    """The first gets the lock, again if its reply was lost; others wait, then get its id."""
    one, two, three = (
        ResourceKey("", "assistant", "cd" * 32, creator) for creator in ("one", "two", "three")
    )
    assert await store.acquire_resource(one) == Acquired(is_creator=True)
    assert await store.acquire_resource(one) == Acquired(is_creator=True)
    assert (await store.acquire_resource(two))[:2] == (False, None)
    await store.store_resource(one, "asst_1")
    assert await store.acquire_resource(two) == Acquired(is_creator=False, object_id="asst_1")

    assert await store.acquire_resource(two, {"asst_1"}) == Acquired(is_creator=True)
    await store.release_resource(one)
    assert (await store.acquire_resource(three))[:2] == (False, None), "a turn is given up by who has it"
    await store.release_resource(two)
    assert await store.acquire_resource(three) == Acquired(is_creator=True)


async def test_a_creator_whose_lock_expired_does_not_disturb_the_next(store: Store, redis_url: str) -> None:
    """The next one's lock, and later its id, stay whatever the first does."""
    slow, next_ = (ResourceKey("", "file", "ef" * 32, creator) for creator in ("slow", "next"))
    assert await store.acquire_resource(slow) == Acquired(is_creator=True)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(keys.resource("file", "ef" * 32))
    assert await store.acquire_resource(next_) == Acquired(is_creator=True)
    await store.store_resource(slow, "file-slow")
    assert await store.acquire_resource(next_) == Acquired(is_creator=True)
    await store.store_resource(next_, "file-next")
    await store.release_resource(slow)
    await store.store_resource(slow, "file-slow")
    assert await store.acquire_resource(slow) == Acquired(is_creator=False, object_id="file-next")


async def test_a_lock_is_taken_over_when_it_no_longer_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creator that lives keeps it however long it takes. A dead one's is taken over once, with its note."""
    for name, value in (("POLL_S", 0.001), ("RENEW_S", 0.01), ("SILENT_POLLS", 30)):
        monkeypatch.setattr(single_flight, name, value)
    polls, living_done = 0, asyncio.Event()
    created, notes = list[str](), list[str]()
    acquire = Store.acquire_resource

    async def count_polls(store: Store, resource: ResourceKey, *rest: Any, **options: Any) -> Acquired:
        nonlocal polls
        polls += resource.creator.startswith("waiter")
        if polls > 300:
            living_done.set()
        return await acquire(store, resource, *rest, **options)

    monkeypatch.setattr(Store, "acquire_resource", count_polls)

    async def get(sha: str, creator: str) -> str:
        async def create() -> str:
            created.append(creator)
            if creator == "living":
                await living_done.wait()
            return f"file-{creator}"

        async def note() -> str:
            return f"1:{creator}"

        async def find(note: str) -> None:
            notes.append(note)

        resource = ResourceKey("", "file", sha, creator)
        dead_creator = single_flight.DeadCreator(note, find)
        return await single_flight.single_flight(store, resource, create, (), dead_creator)

    slow = asyncio.create_task(get("ab" * 32, "living"))
    await wait_until_async(lambda: asyncio.sleep(0, created), "it creates")
    assert await get("ab" * 32, "waiter") == await slow == "file-living"

    dead = ResourceKey("", "file", "cd" * 32, "dead")
    assert (await store.acquire_resource(dead)).is_creator
    assert (await store.acquire_resource(dead, note="1:dead")).note == "1:dead"
    waiters = [get("cd" * 32, f"waiter-{number}") for number in range(3)]
    (object_id,) = set(await asyncio.gather(*waiters))
    assert object_id.removeprefix("file-") in created
    assert (len(created), notes) == (2, ["1:dead"])


async def test_objects_that_another_batch_uses_are_not_unlinked(store: Store) -> None:
    """A loading batch counts from the moment it gets an id; unused objects are no longer found."""
    older = await submit_batch(store, 1)
    uploaded, other = ResourceKey(older, "file", "ab" * 32), ResourceKey(older, "file", "cd" * 32)
    await store.store_resource(uploaded, "file-1")
    await store.store_resource(other, "file-2")
    newer = await store.create_batch(new_batch())
    assert await store.acquire_resource(ResourceKey(newer, "file", "ab" * 32)) == Acquired(
        is_creator=False, object_id="file-1"
    )

    created = [("file", "file-1"), ("file", "file-2")]
    assert sorted(await store.list_resources(older)) == created
    assert await store.unlink_unused(older, created) == [("file", "file-2")]
    assert await store.acquire_resource(ResourceKey(newer, "file", "cd" * 32)) == Acquired(is_creator=True)

    await store.add_rows(newer, 1, [NewRow(["why?"])])
    await store.seal_batch(newer)
    assert await store.unlink_unused(older, created) == [("file", "file-2")], "a purge may be repeated"
    await store.purge(newer)
    assert await store.unlink_unused(older, created) == created


async def test_an_abandoned_load_keeps_no_objects_in_use(store: Store, redis_url: str) -> None:
    """Its keys expire within the hour, its ledger with them; then a reap removes it from the list."""
    batch = await store.create_batch(new_batch())
    resource = ResourceKey(batch, "file", "ab" * 32)
    assert await store.acquire_resource(resource) == Acquired(is_creator=True)
    await store.store_resource(resource, "file-1")
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl(keys.part(batch, "resources")) <= 3600
        client.expire(keys.batch(batch), 5)
        assert await store.acquire_resource(resource, ["file-1"]) == Acquired(is_creator=True)
        assert client.ttl(keys.batch(batch)) > 3500, "an upload may take longer"
        expire(client, batch)
        await store.reap_dead_workers("reaper")
        assert client.smembers(keys.LOADING) == set()

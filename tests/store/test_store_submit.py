"""How a batch comes into the store, and when it may be seen."""

import pytest
import redis

from askmill.jobs.model.errors import NotFound, RedisUnavailable, UsageError
from askmill.jobs.model.models import BatchState, InputSpec, JobStatus, Limits, OnIncomplete
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import Store, keys
from askmill.jobs.store.records import Found, NewRow, ResourceKey
from tests.helpers.batches import new_batch, submitted


async def test_nobody_sees_a_batch_before_it_is_sealed(store: Store) -> None:
    """Unsealed it is not listed, not newest, not fed; other commands find that it is being loaded."""
    batch = await store.create_batch(new_batch())
    await store.add_rows(batch, 1, [NewRow(["why?"])])
    assert await store.list_batches() == []
    assert await store.newest() is None
    assert await store.dispatch(10) == []
    assert await store.look("0" * 64) == Found(batch, loading=True)
    with pytest.raises(NotFound, match="there is none in this Redis"):
        await store.batch(batch)
    await store.seal_batch(batch)
    assert [found.id for found in await store.list_batches()] == [batch]
    assert (await store.newest(), await store.look("0" * 64)) == (batch, Found(batch, loading=False))
    assert [fed.row for fed in await store.dispatch(10)] == [1]


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


async def test_what_is_frozen_comes_back_as_it_went_in(store: Store) -> None:
    """Specification, profile, resources, limits and options are those of the submit."""
    given = new_batch(
        spec=InputSpec(("a", "b"), None, template="{a} and {b}", id_column="a", overrides=("model",)),
        profile=Profile(instructions="Be brief: «ja»", tools=("code_interpreter",), temperature=0.5),
        resources=Resources(code_interpreter_files=("file-1",), row_files={"a.png": "file-2"}),
        limits=Limits(attempts=5, deadline_s=1.5, budget_usd=2.5, on_incomplete=OnIncomplete.CONTINUE),
        options={"reuse": True},
    )
    batch = await store.create_batch(given)
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
        assert getattr(found, name) == getattr(given, name), name
    assert (found.rows, found.state, found.accepted) == (1, BatchState.QUEUED, False)


async def test_a_repeated_call_stores_the_same_rows(store: Store) -> None:
    """`add_rows` again after a lost reply changes nothing, conversations included."""
    batch = await store.create_batch(new_batch())
    rows = [NewRow([f"q{n}"], None, "talk" if n % 2 else None) for n in range(40)]
    await store.add_rows(batch, 1, rows[:16])
    await store.add_rows(batch, 17, rows[16:])
    await store.add_rows(batch, 17, rows[16:])
    await store.seal_batch(batch)
    assert [view.cells[0] for view in [v async for v in store.results(batch)]] == [f"q{n}" for n in range(40)]
    counts = (await store.counts(batch)).rows_by_byte
    assert (counts["q"], counts["h"]) == (21, 19)


async def test_rows_must_open_a_block(store: Store) -> None:
    """A call that would tear a block apart is refused before anything is stored."""
    batch = await store.create_batch(new_batch())
    with pytest.raises(ValueError, match="multiple of 16"):
        await store.add_rows(batch, 5, [NewRow(["why?"])])


async def test_a_rejected_row_is_finished_and_says_why(store: Store) -> None:
    """It is never fed; a batch of nothing else is done at once."""
    batch = await submitted(store, [NewRow(["", "x"], "the question is empty")])
    (view,) = [view async for view in store.results(batch)]
    assert (view.status, view.cells) == (JobStatus.REJECTED, ["", "x"])
    assert view.result is not None
    assert (view.result.error, view.result.attempt_count) == ("the question is empty", 0)
    assert (await store.batch(batch)).state is BatchState.DONE
    assert await store.dispatch(10) == []


async def test_typed_cells_come_back_typed(store: Store) -> None:
    """Values of .jsonl and .parquet rows are kept as they are."""
    cells = ["text", 1, 2.5, None, True, {"nested": [1, "ü"]}]
    batch = await submitted(store, [NewRow(cells)])
    assert (await store.row(batch, 1)).view.cells == cells


async def test_ids_of_resources_are_found_by_content(store: Store, redis_url: str) -> None:
    """What was made at the API once is used again, as long as somebody does within 90 days."""
    wanted = ResourceKey("", "file", "ab" * 32)
    await store.store_resource(wanted, "file-1")
    key = keys.resource("file", "ab" * 32)
    with redis.Redis.from_url(redis_url) as client:
        client.expire(key, 5)
        assert await store.acquire_resource(wanted) == (False, "file-1")
        assert client.ttl(key) > 89 * 86400


async def test_an_unknown_batch_is_answered_with_those_that_look_alike(store: Store) -> None:
    """The message names what there is."""
    batch = await submitted(store, 1)
    typed = batch[:-1] + "_"
    for asked in (
        store.batch,
        store.counts,
        store.status,
        store.resume,
        store.cancel,
        store.retry,
        store.purge,
    ):
        with pytest.raises(NotFound, match=f"no batch '{typed}': here are {batch} "):
            await asked(typed)
    with pytest.raises(NotFound):
        await store.pause(typed, "asked")
    with pytest.raises(NotFound):
        await store.update_limits(typed, Limits())


async def test_a_redis_that_is_not_there_is_named_without_its_password() -> None:
    """The address, what happened, what to do; no secret."""
    with pytest.raises(RedisUnavailable) as caught:
        await Store.open("redis://me:secret@127.0.0.1:1/3")
    said = str(caught.value)
    assert "redis://127.0.0.1:1/3" in said
    assert "ASKMILL_REDIS_URL" in said
    assert "secret" not in said


async def test_an_address_that_cannot_be_read_is_a_setting_to_mend() -> None:
    """Not a traceback, and a good example goes along."""
    with pytest.raises(UsageError, match="redis://localhost:6379/0"):
        await Store.open("http://localhost")


async def test_retention_lets_every_key_of_a_finished_batch_expire(store: Store, redis_url: str) -> None:
    """With ASKMILL_RETENTION_DAYS set nothing of it stays; a retry makes it stay again until it is done."""
    batch = await submitted(store, 1, retention_days=2)
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
        newer = await submitted(store, 1)
        await store.cancel(batch)
        assert client.ttl(keys.identity("0" * 64)) == -1, "it names the newer batch"
        await store.retry(batch, [JobStatus.CANCELLED])
        await store.purge(newer)
        client.set(keys.identity("0" * 64), batch)
        await store.cancel(batch)
        expire(client, batch)
    assert await store.list_batches() == []
    await store.reap_dead_workers("sweeper")
    assert await store.newest() is None


def expire(client: redis.Redis, batch: str) -> None:
    """As if its retention had passed."""
    for key in client.scan_iter(f"askmill:batch:{batch}*"):
        client.delete(key)


async def test_retention_is_the_batchs_own_and_can_be_changed(store: Store, redis_url: str) -> None:
    """What its submit said holds, whoever ends it; another one counts from its end, or from now."""
    kept, going = await submitted(store, 1), await submitted(store, 1, retention_days=2)
    with redis.Redis.from_url(redis_url) as client:
        await store.cancel(kept)
        assert client.ttl(keys.batch(kept)) == -1
        await store.update_retention(kept, 1)
        assert 86_000 < client.ttl(keys.part(kept, "status")) <= 86_400
        await store.update_retention(going, 1)
        assert client.ttl(keys.batch(going)) == -1
        await store.cancel(going)
        assert 86_000 < client.ttl(keys.batch(going)) <= 86_400
    with pytest.raises(NotFound):
        await store.update_retention("b_nobody", 1)


async def test_batches_whose_retention_is_over_are_named_nowhere(store: Store, redis_url: str) -> None:
    """However many older ones are kept: not as the newest, not in a message; sweeps forget each of them."""
    older = [await submitted(store, 1) for _ in range(120)]
    over = [await submitted(store, 1) for _ in range(3)]
    with redis.Redis.from_url(redis_url) as client:
        for batch in over:
            await store.cancel(batch)
            expire(client, batch)
        assert await store.newest() == older[-1]
        with pytest.raises(NotFound) as caught:
            await store.batch("b_nobody")
        assert not [batch for batch in over if batch in str(caught.value)]
        for _ in range(100):
            await store.reap_dead_workers("sweeper")
        assert client.zcard(keys.BATCHES) == len(older)


async def test_one_maker_at_a_time(store: Store) -> None:
    """The first asks for the turn and gets it, again if its reply was lost; others wait, then have its id."""
    one, two, three = (ResourceKey("", "assistant", "cd" * 32, maker) for maker in ("one", "two", "three"))
    assert await store.acquire_resource(one) == (True, None)
    assert await store.acquire_resource(one) == (True, None)
    assert await store.acquire_resource(two) == (False, None)
    await store.store_resource(one, "asst_1")
    assert await store.acquire_resource(two) == (False, "asst_1")

    assert await store.acquire_resource(two, {"asst_1"}) == (True, None)
    await store.release_resource(one)
    assert await store.acquire_resource(three) == (False, None), "a turn is given up by who has it"
    await store.release_resource(two)
    assert await store.acquire_resource(three) == (True, None)


async def test_a_maker_whose_turn_ran_out_takes_nothing_from_the_next(store: Store, redis_url: str) -> None:
    """It was silent too long: the next one's turn, and later its id, stand whatever becomes of the first."""
    slow, next_ = (ResourceKey("", "file", "ef" * 32, maker) for maker in ("slow", "next"))
    assert await store.acquire_resource(slow) == (True, None)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(keys.resource("file", "ef" * 32))
    assert await store.acquire_resource(next_) == (True, None)
    await store.store_resource(slow, "file-slow")
    assert await store.acquire_resource(next_) == (True, None)
    await store.store_resource(next_, "file-next")
    await store.release_resource(slow)
    await store.store_resource(slow, "file-slow")
    assert await store.acquire_resource(slow) == (False, "file-next")


async def test_what_another_batch_uses_is_not_disowned(store: Store) -> None:
    """A batch on its way in counts, from the moment it is told an id; what nobody uses is found no more."""
    older = await submitted(store, 1)
    uploaded, other = ResourceKey(older, "file", "ab" * 32), ResourceKey(older, "file", "cd" * 32)
    await store.store_resource(uploaded, "file-1")
    await store.store_resource(other, "file-2")
    newer = await store.create_batch(new_batch())
    assert await store.acquire_resource(ResourceKey(newer, "file", "ab" * 32)) == (False, "file-1")

    made = [("file", "file-1"), ("file", "file-2")]
    assert sorted(await store.list_resources(older)) == made
    assert await store.unlink_unused(older, made) == [("file", "file-2")]
    assert await store.acquire_resource(ResourceKey(newer, "file", "cd" * 32)) == (True, None)

    await store.add_rows(newer, 1, [NewRow(["why?"])])
    await store.seal_batch(newer)
    assert await store.unlink_unused(older, made) == [("file", "file-2")], "a purge may be repeated"
    await store.purge(newer)
    assert await store.unlink_unused(older, made) == made


async def test_a_batch_that_dies_on_its_way_in_keeps_nobody_from_purging(
    store: Store, redis_url: str
) -> None:
    """Its keys expire within the hour, what it took from others with them; then a sweep forgets it."""
    batch = await store.create_batch(new_batch())
    wanted = ResourceKey(batch, "file", "ab" * 32)
    assert await store.acquire_resource(wanted) == (True, None)
    await store.store_resource(wanted, "file-1")
    with redis.Redis.from_url(redis_url) as client:
        assert 0 < client.ttl(keys.part(batch, "resources")) <= 3600
        client.expire(keys.batch(batch), 5)
        assert await store.acquire_resource(wanted, ["file-1"]) == (True, None)
        assert client.ttl(keys.batch(batch)) > 3500, "an upload may take longer"
        expire(client, batch)
        await store.reap_dead_workers("sweeper")
        assert client.smembers(keys.LOADING) == set()

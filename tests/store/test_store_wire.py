"""The way to Redis: shared by who asks at the same moment, and it outlives what happens to Redis."""

import asyncio

import pytest
import redis

from askmill.jobs.model.errors import RedisUnavailable
from askmill.jobs.store import Store, connection
from askmill.jobs.store.claim_records import Claim
from askmill.worker.runtime.context import retry_on_outage
from tests.helpers.batches import claim_row, make_result, submit_batch, worker_info
from tests.support import RedisServer


def reads(client: redis.Redis) -> int:
    """How often the server found something to read: about one a round trip."""
    return int(client.info("stats")["total_reads_processed"])


async def test_calls_at_the_same_moment_share_round_trips(store: Store, redis_url: str) -> None:
    """Each of five hundred gets its own reply."""
    batch = await submit_batch(store, 501)
    await store.heartbeat(worker_info(slots=501))
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    dispatched = await store.dispatch(0)
    with redis.Redis.from_url(redis_url) as client:
        before = reads(client)
        claims = await asyncio.gather(*(store.claim(batch, one.row, "w1") for one in dispatched))
        assert reads(client) - before < 50
    assert [claim.row for claim in claims if isinstance(claim, Claim)] == list(range(2, 502))
    assert all(claim.cells == [f"question {claim.row}"] for claim in claims if isinstance(claim, Claim))
    assert all(
        await asyncio.gather(*(store.finish(claim, make_result(claim.row)) for claim in [first, *claims]))
    )


async def test_scripts_are_loaded_again_after_a_flush(store: Store, redis_url: str) -> None:
    """After SCRIPT FLUSH, or a restart, each call is carried out once."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    (dispatched,) = await store.dispatch(0)
    claim = await claim_row(store, dispatched)
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    saved, refused = await asyncio.gather(
        store.save(claim, b"{}", run_created=True), store.claim(batch, 1, "w1")
    )
    assert (saved.first_accepted, refused) == (True, "running")
    assert (await store.status(batch)).to_json()["runs"] == 1


async def test_a_cancelled_call_does_not_disturb_the_others(store: Store) -> None:
    """Of many calls at once some are cancelled; the others get their replies."""
    await submit_batch(store, 1)
    calls = [asyncio.create_task(store.heartbeat(worker_info(f"w{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    for task in calls[::2]:
        task.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False] * 10
    assert (await store.heartbeat(worker_info("later"))).alive


async def test_an_error_of_one_script_does_not_affect_its_pipeline(store: Store) -> None:
    """Only its own caller gets the error."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(0))[0])
    wrong, right = await asyncio.gather(
        store.save(claim, b"{}", counters={"requests": "many"}),  # type: ignore[dict-item]
        store.heartbeat(worker_info(), [batch]),
        return_exceptions=True,
    )
    assert isinstance(wrong, redis.ResponseError)
    assert not isinstance(right, BaseException)
    assert right.alive


async def test_a_frozen_redis_is_waited_for(store: Store, redis_server: RedisServer) -> None:
    """Nothing fails, nothing is done twice."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(0))[0])
    redis_server.freeze()
    saving = asyncio.create_task(store.save(claim, b"{}", run_created=True, counters={"requests": 1}))
    done, _ = await asyncio.wait({saving}, timeout=0.1)
    assert not done
    redis_server.thaw()
    assert await saving
    assert (await store.counts(batch)).totals["requests"] == 1


async def test_a_restarted_redis_is_used_again(redis_server: RedisServer) -> None:
    """The next call reaches the new server."""
    async with await Store.open(redis_server.url) as store:
        await submit_batch(store, 1)
        redis_server.restart()
        assert await store.newest_batch() is None
        assert (await store.heartbeat(worker_info())).alive


async def test_a_lasting_outage_raises_with_the_address_and_advice(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every kind of call, once the retries are used up."""
    monkeypatch.setattr(connection, "_RETRIES", 1)
    async with await Store.open(redis_server.url) as store:
        await submit_batch(store, 1)
        redis_server.kill()
        for call in (
            store.heartbeat(worker_info()),
            store.newest_batch(),
            store.dispatch(1),
            store.requeue_lost(),
        ):
            with pytest.raises(RedisUnavailable, match="ASKMILL_REDIS_URL"):
                await call


async def test_a_full_redis_raises_with_advice(redis_server: RedisServer) -> None:
    """Raise its memory, or purge."""
    async with await Store.open(redis_server.url) as store:
        await submit_batch(store, 1)
        with redis.Redis.from_url(redis_server.url) as client:
            client.config_set("maxmemory", 1)
            try:
                with pytest.raises(RedisUnavailable, match="is full"):
                    await submit_batch(store, 1)
            finally:
                client.config_set("maxmemory", 0)


async def test_temporary_errors_of_redis_are_waited_for(redis_server: RedisServer) -> None:
    """A server that is a replica for a while accepts no changes: RedisUnavailable, and a retry succeeds later."""
    async with await Store.open(redis_server.url) as store:
        await submit_batch(store, 1)
        with redis.Redis.from_url(redis_server.url) as client:
            client.replicaof("127.0.0.1", 9)
            try:
                with pytest.raises(RedisUnavailable, match="takes no changes just now"):
                    await store.heartbeat(worker_info())
                waiting = asyncio.create_task(retry_on_outage(lambda: store.heartbeat(worker_info())))
                done, _ = await asyncio.wait([waiting], timeout=0.5)
                assert not done
            finally:
                client.replicaof("NO", "ONE")
        assert (await waiting).alive


async def test_permanent_errors_of_redis_are_not_retried(store: Store) -> None:
    """A defect of askmill comes out at once: retried for ever, it would hold its row and count each time."""
    await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(0))[0])
    wrong = {"requests": 1, "prompt": 12.5}
    async with asyncio.timeout(5):
        with pytest.raises(redis.ResponseError):
            await retry_on_outage(lambda: store.save(claim, b"{}", counters=wrong))  # type: ignore[arg-type]
    assert (await store.status(claim.batch)).to_json()["requests"] == 1


async def test_a_wrong_password_raises_without_showing_it(redis_server: RedisServer) -> None:
    """The address is shown, neither password is."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("requirepass", "right")
    try:
        for credentials in (":wrong@", "me:wrong@", ""):
            url = redis_server.url.replace("redis://", f"redis://{credentials}")
            with pytest.raises(RedisUnavailable, match="refuses the user or password") as caught:
                await Store.open(url)
            assert "wrong" not in str(caught.value)
    finally:
        with redis.Redis.from_url(redis_server.url, password="right") as client:
            client.config_set("requirepass", "")

"""Redis' clock set back by an hour: what lay ahead of it moves with it, once, and nothing waits an hour longer."""

import redis

from askmill.jobs.store import Store, keys
from tests.helpers.batches import claim_row, submit_batch, worker_info

HOUR_MS = 3_600_000


def an_hour_ahead(client: "redis.Redis[bytes]", zset: str) -> None:
    """As it stands when Redis' clock has been set back: written an hour ago by the clock, a moment ago in truth."""
    for name, at in client.zrange(zset, 0, -1, withscores=True):
        client.zadd(zset, {name: at + HOUR_MS})


def now_ms(client: "redis.Redis[bytes]") -> int:
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


async def test_waiting_rows_are_due_at_the_same_moment_as_before(store: Store, redis_url: str) -> None:
    """So are rate limits and the search for lost messages: nothing waits an hour longer."""
    batch = await submit_batch(store, 2)
    await store.heartbeat(worker_info())
    await store.set_limits(requests_per_minute=600)
    claim = await claim_row(store, (await store.dispatch(1))[0])
    await store.heartbeat(worker_info())
    with redis.Redis.from_url(redis_url) as client:
        due, tat = keys.part(batch, "due"), keys.rate_limit("requests_per_minute")
        await store.release(claim, due_ms=now_ms(client) + 20_000)
        await store.dispatch(1)
        await store.reserve_rate("requests_per_minute", 1)
        for zset in (due, keys.WORKERS, keys.DISPATCHED):
            an_hour_ahead(client, zset)
        client.set(tat, float(client.get(tat) or 0) + HOUR_MS, keepttl=True)
        for _ in range(2):
            await store.heartbeat(worker_info())
            (_, due_at), now = client.zrange(due, 0, -1, withscores=True)[0], now_ms(client)
            assert abs(due_at - now) < 60_000
            assert all(at <= now + 1000 for _, at in client.zrange(keys.DISPATCHED, 0, -1, withscores=True))
            assert float(client.get(tat) or 0) < now + 60_000
    assert await store.reserve_rate("requests_per_minute", 1) < 60


async def test_a_step_while_no_worker_lives_delays_no_row(store: Store, redis_url: str) -> None:
    """All workers have ended; the clock is set back before the next one starts: a waiting row is due as before."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(1))[0])
    with redis.Redis.from_url(redis_url) as client:
        due = keys.part(batch, "due")
        await store.release(claim, due_ms=now_ms(client) + 20_000)
        await store.deregister_worker("w1")
        an_hour_ahead(client, due)
        client.incrby(keys.LAST_HEARTBEAT, HOUR_MS)
        for _ in range(2):
            await store.heartbeat(worker_info("w2"))
            (_, due_at), now = client.zrange(due, 0, -1, withscores=True)[0], now_ms(client)
            assert 0 < due_at - now < 60_000


async def test_a_step_that_several_workers_notice_is_recorded_once(store: Store, redis_url: str) -> None:
    """Each measures it a little differently, and a call may be repeated; another step is another entry."""
    assert await store.clock_steps() == []
    for step_s in (3600.02, 3599.98, 3600.02, -30.0):
        await store.record_clock_step(step_s, 15.0)
    (first_at, first), (_, second) = await store.clock_steps()
    assert (first, second) == (3600.02, -30.0)
    with redis.Redis.from_url(redis_url) as client:
        assert abs(first_at * 1000 - now_ms(client)) < 60_000
    for step_s in range(100, 140, 2):
        await store.record_clock_step(step_s, 15.0)
    assert [step_s for _, step_s in await store.clock_steps()] == [*range(108, 140, 2)]

"""What a worker may do with a row, and what it may not do any more once it was taken for dead."""

import asyncio

import pytest
import redis

from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.store import Store, keys
from askmill.jobs.store.claim_records import MAX_CRASHES, Claim, Refusal
from tests.helpers.batches import claim_row, expire_worker, make_result, submit_batch, worker_info


async def test_a_row_goes_from_claim_to_result(store: Store) -> None:
    """The cells come back, every counter is right, and the batch is done."""
    batch = await submit_batch(store, 1)
    assert (await store.heartbeat(worker_info(), [batch])).batches[batch].state is BatchState.QUEUED
    (dispatched,) = await store.dispatch(1)
    claim = await claim_row(store, dispatched)
    assert (claim.cells, claim.state, claim.previous, claim.crashes) == (["question 1"], None, None, 0)
    saved = await store.save(claim, b"{}", run_created=True, counters={"requests": 3})
    assert saved.first_accepted
    assert (await store.batch(batch)).state is BatchState.RUNNING
    spent = {"requests": 2, "prompt": 10, "completion": 5, "cost_nano": 1_500_000}
    assert await store.finish(claim, make_result(1), counters=spent)
    status_json = (await store.status(batch)).to_json()
    assert (status_json["state"], status_json["runs"], status_json["requests"]) == ("done", 1, 5)
    assert (status_json["tokens"], status_json["cost_usd"]) == ({"prompt": 10, "completion": 5}, 0.0015)
    assert status_json["counts"]["completed"] == 1
    assert status_json["submitted_at"] < status_json["started_at"] <= status_json["finished_at"]
    assert (await store.row(batch, 1)).view.result == make_result(1)


async def test_a_message_delivered_many_times_is_one_claim(store: Store) -> None:
    """Of a hundred deliveries at once one gets the row; afterwards all find it finished."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    (dispatched,) = await store.dispatch(1)
    replies = await asyncio.gather(*(store.claim(batch, dispatched.row, "w1") for _ in range(100)))
    claims = [claim for claim in replies if isinstance(claim, Claim)]
    assert len(claims) == 1
    assert [one for one in replies if one not in claims] == [Refusal.RUNNING] * 99
    await store.finish(claims[0], make_result(1))
    assert await store.claim(batch, 1, "w1") is Refusal.FINISHED


async def test_a_repeated_claim_returns_the_same_row(store: Store) -> None:
    """redis-py sends a claim again when its reply was lost: it gets its row, not a refusal."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    await store.dispatch(1)
    scripts = store._connection.scripts
    first = await scripts.claim(batch, 1, "w1", "fence")
    repeated = await scripts.claim(batch, 1, "w1", "fence")
    assert (first[0], repeated[0]) == (b"", b"")
    assert (await scripts.claim(batch, 1, "w1", "other"))[0] == b"running"
    await store.deregister_worker("w1")


@pytest.mark.parametrize("reaped", [False, True])
async def test_a_slow_worker_changes_nothing_once_it_was_reaped(
    store: Store, redis_url: str, reaped: bool
) -> None:
    """Its heartbeat says so, and its saves, releases and results are refused; before that it goes on."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    slow = await claim_row(store, (await store.dispatch(1))[0])
    await store.save(slow, b"mine", run_in_flight=True)
    expire_worker(redis_url, "w1")
    if not reaped:
        assert (await store.heartbeat(worker_info())).alive
        assert (await store.save(slow, b"still mine")).held
        return
    assert (await store.reap_dead_workers("reaper")).workers == ("w1",)
    assert not (await store.heartbeat(worker_info())).alive
    await store.heartbeat(worker_info("w2"))
    successor = await claim_row(store, (await store.dispatch(1))[0], "w2")
    assert successor.state == b"mine"
    assert not (await store.save(slow, b"late", counters={"requests": 9})).held
    assert not await store.release(slow, b"late")
    assert not await store.finish(slow, make_result(1, JobStatus.FAILED))
    assert not await store.store_file(slow, 0, b"late", 100)
    assert (await store.row(batch, 1)).state == b"mine"
    assert await store.finish(successor, make_result(1))
    assert (await store.status(batch)).to_json()["requests"] == 0


@pytest.mark.parametrize("row", [0, -1, 2, 10**6, 10**300])
async def test_a_row_outside_the_batch_is_refused(store: Store, redis_url: str, row: int) -> None:
    """It leaves no key, and the batch's own row is not affected."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    (dispatched,) = await store.dispatch(0)
    assert await store.claim(batch, row, "w1") is Refusal.NO_SUCH_ROW
    with redis.Redis.from_url(redis_url) as client:
        assert not client.exists(keys.live(batch, row), keys.claims("w1"))
    assert await store.finish(await claim_row(store, dispatched), make_result(1))
    assert (await store.status(batch)).batch.state is BatchState.DONE


async def test_only_deaths_under_the_crash_mark_count(store: Store, redis_url: str) -> None:
    """A row that crashes its workers ends as poison; one whose workers die while it waits does not."""
    batch = await submit_batch(store, 2)
    await store.heartbeat(worker_info("w0"))
    first = await claim_row(store, (await store.dispatch(0))[0], "w0")
    await store.save(first, b"1", run_created=True)
    second = await claim_row(store, (await store.dispatch(0))[0], "w0")
    await store.save(second, b"2", run_created=True, crash_mark=True)
    for death in range(1, MAX_CRASHES + 1):
        expire_worker(redis_url, f"w{death - 1}")
        await store.reap_dead_workers("reaper")
        await store.heartbeat(worker_info(f"w{death}"))
        claims = [await claim_row(store, dispatched, f"w{death}") for dispatched in await store.dispatch(0)]
        assert {claim.row: claim.crashes for claim in claims} == {1: 0, 2: death}
        for claim in claims:
            await store.save(claim, b"again", crash_mark=claim.row == 2)
    assert (await store.row(batch, 2)).crashes == MAX_CRASHES


async def test_a_deregistered_worker_releases_its_rows(store: Store) -> None:
    """A clean end is no crash: the rows are due at once, with their saved state."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(1))[0])
    await store.save(claim, b"known", run_created=True, crash_mark=True)
    assert await store.deregister_worker("w1") == 1
    assert await store.workers() == ()
    await store.heartbeat(worker_info("w2"))
    successor = await claim_row(store, (await store.dispatch(1))[0], "w2")
    assert (successor.batch, successor.state) == (batch, b"known")


async def test_a_released_row_waits_until_it_is_due(store: Store) -> None:
    """It is not dispatched before, nor claimable by an old message; then it has its state."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(1))[0])
    assert await store.release(claim, b"resting", due_ms=claim.now_ms + 60_000, counters={"requests": 1})
    assert await store.dispatch(5) == []
    assert await store.claim(batch, 1, "w1") is Refusal.WAITING
    detail = await store.row(batch, 1)
    assert (detail.view.status, detail.due_ms, detail.state) == (
        JobStatus.QUEUED,
        claim.now_ms + 60_000,
        b"resting",
    )
    await store._connection.execute("ZADD", keys.part(batch, "due"), 0, 1)
    repeated = await claim_row(store, (await store.dispatch(5))[0])
    assert repeated.state == b"resting"
    assert repeated.fence != claim.fence


@pytest.mark.parametrize(
    "other",
    [
        {"base_url": "https://elsewhere/v1"},
        {"api": "responses"},
        {"project": "proj_2"},
        {"project": ""},
        {"organization": "org_2"},
    ],
)
async def test_a_worker_of_another_api_or_account_is_refused(store: Store, other: dict[str, str]) -> None:
    """A19: runs of one account do not exist for another. The row is due again after a second, not passed on and on."""
    batch = await submit_batch(store, 1, organization="org_1", project="proj_1")
    await store.heartbeat(worker_info("right", organization="org_1", project="proj_1"))
    await store.heartbeat(worker_info("wrong", **{"organization": "org_1", "project": "proj_1", **other}))
    (dispatched,) = await store.dispatch(1)
    assert await store.claim(batch, dispatched.row, "wrong") is Refusal.MISMATCH
    assert await store.dispatch(1) == []
    status = await store.status(batch)
    assert [worker.id for worker in status.workers] == ["right"]
    assert [worker.id for worker in status.other_workers] == ["wrong"]


async def test_a_worker_without_a_heartbeat_gets_no_row(store: Store) -> None:
    """Its death could not be noticed."""
    batch = await submit_batch(store, 1)
    await store.dispatch(1)
    assert await store.claim(batch, 1, "ghost") is Refusal.STRANGER
    assert [dispatched.row for dispatched in await store.dispatch(1)] == [1]


async def test_generated_files_are_stored_up_to_a_limit(store: Store) -> None:
    """Storing one again replaces it and counts once."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(1))[0])
    assert await store.store_file(claim, 0, b"x" * 60, 100)
    assert await store.store_file(claim, 0, b"y" * 70, 100)
    assert not await store.store_file(claim, 1, b"z" * 31, 100)
    assert await store.store_file(claim, 1, b"z" * 30, 100)
    assert await store.read_file(batch, 1, 0) == b"y" * 70
    assert await store.read_file(batch, 1, 2) is None


async def test_five_minutes_of_failing_creates_pause_the_batch(store: Store) -> None:
    """One failure does not, nor failures with a success in between."""
    batch = await submit_batch(store, 2)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(1))[0])
    long_ago = claim.now_ms - 301_000

    async def set_failing_since(at_ms: int) -> None:
        await store._connection.execute("HSET", keys.batch(batch), "creates_failing_since", at_ms)

    assert not await store.record_create_failure(batch, patience_s=300.0)
    since = await store._connection.execute("HGET", keys.batch(batch), "creates_failing_since")
    assert int(since) >= claim.now_ms
    await set_failing_since(long_ago)
    await store.save(claim, b"{}", run_created=True)
    assert not await store.record_create_failure(batch, patience_s=300.0)
    await set_failing_since(long_ago)
    assert await store.record_create_failure(batch, patience_s=300.0)
    paused = await store.batch(batch)
    assert (paused.state, paused.paused_reason, paused.accepted) == (
        BatchState.PAUSED,
        "api_unreachable",
        False,
    )
    assert not await store.record_create_failure(batch, patience_s=300.0)


async def test_a_pause_lets_runs_in_flight_end_and_starts_none(store: Store) -> None:
    """A row that may have a run in flight is dispatched and claimed; one whose run has ended is not."""
    batch = await submit_batch(store, 3)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"following", run_created=True)
    ended_run, unasked = [await claim_row(store, dispatched) for dispatched in await store.dispatch(0)]
    await store.save(ended_run, b"sent", run_in_flight=True)
    await store.save(ended_run, b"expired", run_in_flight=False)
    await store.pause(batch, "asked")
    for claim in (first, ended_run, unasked):
        assert await store.release(claim)
    dispatched = await store.dispatch(10)
    assert [one.row for one in dispatched] == [first.row]
    repeated = await claim_row(store, dispatched[0])
    assert (repeated.state, repeated.update.state, repeated.update.paused_reason) == (
        b"following",
        BatchState.PAUSED,
        "asked",
    )
    await store.finish(repeated, make_result(first.row))
    await store.resume(batch)
    assert {one.row for one in await store.dispatch(10)} == {ended_run.row, unasked.row}


async def test_a_row_published_before_a_pause_waits_for_the_resume(store: Store) -> None:
    """Its claim is refused, and it is dispatched again afterwards."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    await store.dispatch(0)
    await store.pause(batch, "asked")
    assert await store.claim(batch, 1, "w1") is Refusal.PAUSED
    assert await store.dispatch(10) == []
    await store.resume(batch)
    assert [dispatched.row for dispatched in await store.dispatch(10)] == [1]


async def test_no_run_may_start_once_the_batch_is_paused_or_cancelled(store: Store) -> None:
    """The save before the create is refused, and saves nothing."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(0))[0])
    for stop in (store.pause(batch, "asked"), store.cancel(batch)):
        await stop
        saved = await store.save(claim, b"sending", run_in_flight=True, counters={"requests": 1})
        assert saved.held
        assert not saved.may_start
    assert (await store.row(batch, 1)).state is None
    assert (await store.counts(batch)).totals.get("requests") is None
    assert (await store.save(claim, b"it was made just before", run_created=True)).may_start


async def test_one_reap_releases_all_rows_of_a_dead_worker(store: Store, redis_url: str) -> None:
    """However many rows: several scripts, none of them long."""
    await submit_batch(store, 2500)
    await store.heartbeat(worker_info(slots=3000))
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    dispatched = await store.dispatch(0)
    await asyncio.gather(*(claim_row(store, one) for one in dispatched))
    expire_worker(redis_url, "w1")
    reaped = await store.reap_dead_workers("reaper")
    assert (reaped.workers, reaped.rows) == (("w1",), 2500)
    assert (await store.reap_dead_workers("reaper")).workers == ()


async def test_a_late_heartbeat_does_not_register_a_deregistered_worker(store: Store) -> None:
    """`cancel` must not count on a worker that is gone."""
    await store.heartbeat(worker_info())
    await store.deregister_worker("w1")
    assert not (await store.heartbeat(worker_info())).alive
    assert await store.workers() == ()


async def test_after_an_outage_no_worker_is_declared_dead_for_a_lifetime(
    store: Store, redis_url: str
) -> None:
    """All missed their heartbeats: the first that is back waits before it declares others dead."""
    await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    await store.heartbeat(worker_info("w2"))
    await claim_row(store, (await store.dispatch(0))[0])
    expire_worker(redis_url, "w1")
    expire_worker(redis_url, "w2")
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.WORKERS, {"w2": 0})
    assert (await store.reap_dead_workers("w2")).workers == (), "it has not been heard itself"
    await store.heartbeat(worker_info("w2"))
    assert (await store.reap_dead_workers("w2")).workers == (), "w1 may be heard any moment"
    await store.heartbeat(worker_info())
    assert (await store.reap_dead_workers("reaper")).workers == ()


async def test_keys_deleted_by_hand_are_not_created_again(store: Store, redis_url: str) -> None:
    """What a dead worker held of a deleted batch is removed, not put back."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    await claim_row(store, (await store.dispatch(0))[0])
    with redis.Redis.from_url(redis_url) as client:
        client.delete(*client.scan_iter(f"askmill:batch:{batch}*"), keys.identity("0" * 64))
        client.zrem(keys.OPEN, batch)
        client.zrem(keys.BATCHES, batch)
    expire_worker(redis_url, "w1")
    assert (await store.reap_dead_workers("reaper")).workers == ("w1",)
    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter(f"askmill:batch:{batch}*")) == []

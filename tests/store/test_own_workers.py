"""D10: which workers get which rows. A worker serves all batches, or one; only one that allows its functions."""

import redis

from askmill.jobs.model.profile import Functions, FunctionTool, Profile
from askmill.jobs.store import Store, keys
from askmill.jobs.store.broker import QUEUE, publish
from askmill.jobs.store.claim_records import Refusal
from tests.helpers.batches import claim_row, expire_worker, submit_batch, worker_info
from tests.store.test_feed import batches_with_accepted_runs, rows_of

FUNCTIONS = Functions(module="mine.py", sha256="5a" * 32, tools=(FunctionTool(name="add"),))


async def accepted(store: Store, *sizes: int) -> list[str]:
    """Batches whose first row is done; no worker is alive."""
    await store.heartbeat(worker_info("w0"))
    batches = await batches_with_accepted_runs(store, *sizes, worker_id="w0")
    await store.deregister_worker("w0")
    return batches


async def test_a_worker_of_one_batch_gets_its_rows_in_a_queue_of_its_own(
    store: Store, redis_url: str
) -> None:
    """Another batch waits for a worker for all; that one leaves the first batch to its own."""
    mine, other = await accepted(store, 50, 50)
    await store.heartbeat(worker_info("w1", slots=3, batch=mine))
    dispatched = await store.dispatch(2)
    assert {(one.batch, one.own_queue) for one in dispatched} == {(mine, True)}
    assert len(dispatched) == 5
    publish(redis_url, dispatched)

    await store.heartbeat(worker_info("w2", slots=4))
    dispatched = await store.dispatch(2)
    assert {(one.batch, one.own_queue) for one in dispatched} == {(other, False)}
    assert len(dispatched) == 6
    publish(redis_url, dispatched)
    with redis.Redis.from_url(redis_url) as client:
        assert [client.llen(name) for name in (keys.part(mine, "queue"), QUEUE)] == [5, 6]
        bindings = list(client.scan_iter("_kombu.binding.*queue*"))
    assert bindings == [], "no key stays behind for the queue of a batch"


async def test_a_worker_claims_no_row_of_a_batch_that_it_does_not_serve(store: Store) -> None:
    """Whatever the message says: another batch, or functions that it does not allow."""
    (mine, other) = await accepted(store, 5, 5)
    await store.heartbeat(worker_info("w1", batch=mine))
    await store.heartbeat(worker_info("w2"))
    dispatched = await store.dispatch(5)
    row = rows_of(dispatched, other)[0]
    assert await store.claim(other, row, "w1") is Refusal.MISMATCH

    calling = await submit_batch(store, 1, profile=Profile(functions=FUNCTIONS))
    assert rows_of(await store.dispatch(5), calling) == []
    await store.heartbeat(worker_info("w3", functions=f"{'0' * 64},{FUNCTIONS.sha256}"))
    (mixed,) = [one for one in await store.dispatch(5) if one.batch == calling]
    assert await store.claim(calling, mixed.row, "w2") is Refusal.MISMATCH
    assert [worker.id for worker in (await store.status(calling)).workers] == ["w3"]


async def test_rows_that_nobody_serves_take_no_slots(store: Store) -> None:
    """A dead fleet's dispatched rows of another batch: the batch with a worker of its own goes on."""
    await store.heartbeat(worker_info("w1", slots=200))
    mine, other = await accepted(store, 50, 500)
    await store.pause(mine, "later")
    assert len(rows_of(await store.dispatch(0), other)) == 200
    await store.deregister_worker("w1")
    await store.resume(mine)

    await store.heartbeat(worker_info("w2", slots=10, batch=mine))
    assert len(rows_of(await store.dispatch(0), mine)) == 10


async def test_rows_in_the_common_queue_follow_to_a_worker_of_their_batch(
    store: Store, redis_url: str
) -> None:
    """`submit`, then `run` of the same file: at once, and only once."""
    batch = (await accepted(store, 4))[0]
    publish(redis_url, await store.dispatch(20))
    await store.heartbeat(worker_info("w1", slots=4, batch=batch))

    requeued = await store.requeue_lost()
    assert [(one.row, one.own_queue) for one in requeued] == [(2, True), (3, True), (4, True)]
    publish(redis_url, requeued)
    assert await store.requeue_lost() == []
    await claim_row(store, requeued[0])


async def test_rows_in_the_queue_of_a_dead_worker_go_to_the_others(store: Store, redis_url: str) -> None:
    """After two calls, as any lost message; the old one may be received later and changes nothing."""
    batch = (await accepted(store, 4))[0]
    await store.heartbeat(worker_info("w1", slots=4, batch=batch))
    publish(redis_url, await store.dispatch(0))
    expire_worker(redis_url, "w1")
    await store.heartbeat(worker_info("w2"))

    assert await store.requeue_lost(-1) == []
    assert [(one.row, one.own_queue) for one in await store.requeue_lost(-1)] == [
        (2, False),
        (3, False),
        (4, False),
    ]


async def test_a_worker_without_an_api_serves_all_batches_of_its_address(store: Store) -> None:
    """16.3: its ASKMILL_API is not set; a worker of one API takes that API's rows only."""
    chat = await submit_batch(store, 4, api="chat")
    assistants = await submit_batch(store, 4, api="assistants")
    elsewhere = await submit_batch(store, 4, api="chat", base_url="http://127.0.0.1:10/v1")
    await store.heartbeat(worker_info("any", slots=10, api=""))
    dispatched = await store.dispatch(20)
    assert {one.batch for one in dispatched} == {chat, assistants}
    for one in dispatched:
        await claim_row(store, one, "any")
    assert [worker.id for worker in (await store.status(chat)).workers] == ["any"]
    assert (await store.status(elsewhere)).workers == ()

    await store.heartbeat(worker_info("chat only", api="chat"))
    other = await submit_batch(store, 1, api="responses")
    (row,) = rows_of(await store.dispatch(20), other)
    assert await store.claim(other, row, "chat only") is Refusal.MISMATCH


async def test_rows_go_to_the_workers_that_have_room(store: Store) -> None:
    """A worker of the batch's API with few slots does not hold back one for any API with many."""
    await accepted(store, 50)
    await store.heartbeat(worker_info("narrow", slots=1))
    await store.heartbeat(worker_info("wide", slots=20, api=""))
    assert len(await store.dispatch(2)) == 22

"""What a batch may spend: exact where a run's worst case is reserved before it is made."""

from askmill.jobs.model.models import Limits
from askmill.jobs.store import Store
from tests.helpers.batches import claim_row, expire_worker, make_result, submit_batch, worker_info


async def test_a_run_over_the_budget_is_not_saved(store: Store) -> None:
    """Spent and reserved money stay within it together; a row's end frees what it had reserved."""
    batch = await submit_batch(store, 3, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    assert (await store.save(first, b"a", run_created=True, reserve_nano=60)).affordable
    second = await claim_row(store, (await store.dispatch(0))[0])
    refused = await store.save(second, b"b", run_in_flight=True, reserve_nano=41)
    assert refused.held
    assert not refused.affordable
    assert (await store.row(batch, second.row)).state is None
    assert (await store.save(second, b"c", run_in_flight=True, reserve_nano=40)).affordable
    await store.finish(first, make_result(first.row), counters={"cost_nano": 50})
    assert not (await store.save(second, b"d", reserve_nano=51)).affordable
    assert (await store.save(second, b"d", reserve_nano=50)).affordable
    await store.update_limits(batch, Limits())
    assert (await store.save(second, b"e", reserve_nano=10**12)).affordable


async def test_a_released_row_frees_its_reservation(store: Store) -> None:
    """Unless its run may be in flight: that is still to be paid."""
    batch = await submit_batch(store, 2, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"made", run_created=True, reserve_nano=60)
    second = await claim_row(store, (await store.dispatch(0))[0])
    await store.release(first)
    assert not (await store.save(second, b"sending", run_in_flight=True, reserve_nano=60)).affordable
    repeated = await claim_row(store, (await store.dispatch(0))[0])
    await store.release(repeated, run_in_flight=False)
    assert (await store.save(second, b"sending", run_in_flight=True, reserve_nano=60)).affordable
    assert (await store.batch(batch)).limits.budget_usd == 1e-9 * 100


async def test_a_dead_workers_row_without_a_run_frees_its_reservation(store: Store, redis_url: str) -> None:
    """One with a run in flight does not."""
    await submit_batch(store, 3, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(worker_info("dying"))
    in_flight = await claim_row(store, (await store.dispatch(0))[0], "dying")
    await store.save(in_flight, b"made", run_created=True, reserve_nano=30)
    unsent, other = [await claim_row(store, dispatched, "dying") for dispatched in await store.dispatch(0)]
    await store.save(unsent, b"sending", run_in_flight=True, reserve_nano=60)
    await store.save(unsent, b"not sent", run_in_flight=False)
    expire_worker(redis_url, "dying")
    await store.reap_dead_workers("reaper")
    await store.heartbeat(worker_info("heir"))
    claims = {
        dispatched.row: await claim_row(store, dispatched, "heir") for dispatched in await store.dispatch(0)
    }
    assert not (
        await store.save(claims[other.row], b"sending", run_in_flight=True, reserve_nano=71)
    ).affordable
    assert (await store.save(claims[other.row], b"sending", run_in_flight=True, reserve_nano=70)).affordable


async def test_ended_attempts_of_a_waiting_row_count_against_the_budget(store: Store, redis_url: str) -> None:
    """Whether the row was released or its worker died: only the row's end turns `spent` into the batch's cost."""
    batch = await submit_batch(store, 3, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(worker_info("dying"))
    tried = await claim_row(store, (await store.dispatch(0))[0], "dying")
    await store.save(tried, b"made", run_created=True, reserve_nano=50)
    waiting, other = [await claim_row(store, dispatched, "dying") for dispatched in await store.dispatch(0)]
    await store.save(tried, b"again", run_in_flight=False, reserve_nano=0, spent_nano=40)
    assert await store.release(waiting, b"again", spent_nano=30)
    assert not (await store.save(other, b"sending", run_in_flight=True, reserve_nano=31)).affordable
    assert (await store.save(other, b"sending", run_in_flight=True, reserve_nano=30)).affordable
    expire_worker(redis_url, "dying")
    await store.reap_dead_workers("reaper")
    await store.heartbeat(worker_info("heir"))
    claims = {
        dispatched.row: await claim_row(store, dispatched, "heir") for dispatched in await store.dispatch(0)
    }
    refused = await store.save(claims[tried.row], b"sending", run_in_flight=True, reserve_nano=31)
    assert not refused.affordable
    assert not refused.affordable_later, "no end of a run can bring back what is spent"
    await store.finish(claims[tried.row], make_result(tried.row), counters={"cost_nano": 40})
    assert (await store.save(claims[waiting.row], b"sending", run_in_flight=True, reserve_nano=0)).affordable
    assert not (
        await store.save(claims[waiting.row], b"sending", run_in_flight=True, reserve_nano=1)
    ).affordable
    assert (await store.status(batch)).counts.cost_usd == 40e-9


async def test_an_assumed_cost_counts_against_the_budget_only(store: Store) -> None:
    """A run without usage data leaves as much less to spend; the cost stays unknown."""
    batch = await submit_batch(store, 2, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"made", run_created=True, reserve_nano=60)
    second = await claim_row(store, (await store.dispatch(0))[0])
    await store.finish(first, make_result(first.row), counters={"assumed_nano": 60})
    refused = await store.save(second, b"sending", run_in_flight=True, reserve_nano=41)
    assert not refused.affordable
    assert not refused.affordable_later
    assert (await store.save(second, b"sending", run_in_flight=True, reserve_nano=40)).affordable
    assert (await store.status(batch)).counts.cost_usd is None

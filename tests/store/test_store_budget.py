"""What a batch may spend: exact where a run's worst case is reserved before it is made."""

from askmill.jobs.model.models import Limits
from askmill.jobs.store import Store
from tests.helpers.batches import card, claimed, ended, stop_heart, submitted


async def test_nothing_is_saved_that_the_budget_cannot_pay(store: Store) -> None:
    """Spent, reserved and wanted together stay within it; what a row reserved comes free with its end."""
    batch = await submitted(store, 3, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(card())
    first = await claimed(store, (await store.dispatch(0))[0])
    assert (await store.save(first, b"a", run_made=True, reserve_nano=60)).affordable
    second = await claimed(store, (await store.dispatch(0))[0])
    refused = await store.save(second, b"b", run_out=True, reserve_nano=41)
    assert refused.held
    assert not refused.affordable
    assert (await store.row(batch, second.row)).state is None
    assert (await store.save(second, b"c", run_out=True, reserve_nano=40)).affordable
    await store.finish(first, ended(first.row), counters={"cost_nano": 50})
    assert not (await store.save(second, b"d", reserve_nano=51)).affordable
    assert (await store.save(second, b"d", reserve_nano=50)).affordable
    await store.update_limits(batch, Limits())
    assert (await store.save(second, b"e", reserve_nano=10**12)).affordable


async def test_a_row_given_back_frees_what_it_had_reserved(store: Store) -> None:
    """Unless its run may be out at the API: that is still to be paid."""
    batch = await submitted(store, 2, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(card())
    first = await claimed(store, (await store.dispatch(0))[0])
    await store.save(first, b"made", run_made=True, reserve_nano=60)
    second = await claimed(store, (await store.dispatch(0))[0])
    await store.release(first)
    assert not (await store.save(second, b"sending", run_out=True, reserve_nano=60)).affordable
    again = await claimed(store, (await store.dispatch(0))[0])
    await store.release(again, run_out=False)
    assert (await store.save(second, b"sending", run_out=True, reserve_nano=60)).affordable
    assert (await store.batch(batch)).limits.budget_usd == 1e-9 * 100


async def test_a_dead_worker_reserves_nothing_for_runs_it_never_made(store: Store, redis_url: str) -> None:
    """Swept, a row without a run out at the API leaves the budget to the others; one with a run does not."""
    await submitted(store, 3, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(card("dying"))
    out = await claimed(store, (await store.dispatch(0))[0], "dying")
    await store.save(out, b"made", run_made=True, reserve_nano=30)
    unsent, other = [await claimed(store, fed, "dying") for fed in await store.dispatch(0)]
    await store.save(unsent, b"sending", run_out=True, reserve_nano=60)
    await store.save(unsent, b"not sent", run_out=False)
    stop_heart(redis_url, "dying")
    await store.reap_dead_workers("sweeper")
    await store.heartbeat(card("heir"))
    claims = {fed.row: await claimed(store, fed, "heir") for fed in await store.dispatch(0)}
    assert not (await store.save(claims[other.row], b"sending", run_out=True, reserve_nano=71)).affordable
    assert (await store.save(claims[other.row], b"sending", run_out=True, reserve_nano=70)).affordable


async def test_what_a_waiting_rows_attempts_have_cost_is_gone(store: Store, redis_url: str) -> None:
    """Whoever gives the row back or dies with it: only the row's end turns `spent` into the batch's cost."""
    batch = await submitted(store, 3, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(card("dying"))
    tried = await claimed(store, (await store.dispatch(0))[0], "dying")
    await store.save(tried, b"made", run_made=True, reserve_nano=50)
    waiting, other = [await claimed(store, fed, "dying") for fed in await store.dispatch(0)]
    await store.save(tried, b"again", run_out=False, reserve_nano=0, spent_nano=40)
    assert await store.release(waiting, b"again", spent_nano=30)
    assert not (await store.save(other, b"sending", run_out=True, reserve_nano=31)).affordable
    assert (await store.save(other, b"sending", run_out=True, reserve_nano=30)).affordable
    stop_heart(redis_url, "dying")
    await store.reap_dead_workers("sweeper")
    await store.heartbeat(card("heir"))
    claims = {fed.row: await claimed(store, fed, "heir") for fed in await store.dispatch(0)}
    refused = await store.save(claims[tried.row], b"sending", run_out=True, reserve_nano=31)
    assert not refused.affordable
    assert not refused.affordable_later, "no end of a run can bring back what is spent"
    await store.finish(claims[tried.row], ended(tried.row), counters={"cost_nano": 40})
    assert (await store.save(claims[waiting.row], b"sending", run_out=True, reserve_nano=0)).affordable
    assert not (await store.save(claims[waiting.row], b"sending", run_out=True, reserve_nano=1)).affordable
    assert (await store.status(batch)).counts.cost_usd == 40e-9


async def test_what_is_assumed_is_gone_and_no_cost(store: Store) -> None:
    """A run whose cost nobody told leaves as much less to spend; the cost stays unknown."""
    batch = await submitted(store, 2, limits=Limits(budget_usd=1e-9 * 100))
    await store.heartbeat(card())
    first = await claimed(store, (await store.dispatch(0))[0])
    await store.save(first, b"made", run_made=True, reserve_nano=60)
    second = await claimed(store, (await store.dispatch(0))[0])
    await store.finish(first, ended(first.row), counters={"assumed_nano": 60})
    refused = await store.save(second, b"sending", run_out=True, reserve_nano=41)
    assert not refused.affordable
    assert not refused.affordable_later
    assert (await store.save(second, b"sending", run_out=True, reserve_nano=40)).affordable
    assert (await store.status(batch)).counts.cost_usd is None

"""Shards in the store: rows that travel in one job of the Batch API are cut, held, ended and adopted."""

from typing import Any

import pytest

from askmill.jobs.model.models import BatchState, JobStatus, Limits
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import Store
from askmill.jobs.store.claim_records import DispatchedRow, Refusal
from askmill.jobs.store.records import NANO
from askmill.jobs.store.shard_ranges import ranges_of, rows_in
from askmill.jobs.store.shard_records import (
    CutLimits,
    RowEnd,
    ShardClaim,
    ShardStep,
    ShardVerdict,
)
from askmill.jobs.store.views import RowView
from tests.helpers.batches import expire_worker, make_result, submit_batch, worker_info

SENT = b'{"phase":"sent"}'


async def batch_of(store: Store, rows: int, **changed: Any) -> str:
    """A batch of tier batch that a worker serves."""
    batch = await submit_batch(store, rows, profile=Profile(service_tier="batch"), **changed)
    await store.heartbeat(worker_info(slots=0))  # as many messages as `dispatch` is asked for
    return batch


async def claim_one(store: Store, worker: str = "w1", floor: int = 1) -> ShardClaim:
    (published,) = await store.dispatch(floor)
    return await claim(store, published, worker)


async def claim(store: Store, published: DispatchedRow, worker: str = "w1") -> ShardClaim:
    assert published.shard is not None
    claimed = await store.claim_shard(published.batch, published.shard, worker)
    assert isinstance(claimed, ShardClaim)
    return claimed


async def send(store: Store, shard: ShardClaim, **changed: Any) -> ShardVerdict | None:
    return await store.save_shard(
        shard, SENT, ShardStep.SEND, file_id=f"file-{shard.number}", lines=shard.lines, **changed
    )


async def rows_of(store: Store, batch: str) -> list[RowView]:
    return [row async for row in store.results(batch)]


async def finish(store: Store, shard: ShardClaim) -> None:
    assert await store.end_rows(shard, [RowEnd(row, make_result(row)) for row in shard.lines])
    assert await store.end_shard(shard, b'{"phase":"done"}')


@pytest.mark.parametrize("rows", [[], [1], [1, 2, 3], [1, 3, 4, 9]])
def test_rows_of_a_shard_are_kept_as_ranges(rows: list[int]) -> None:
    """A shard of 2,000 rows in file order is one range."""
    assert list(rows_in(ranges_of(rows))) == rows
    assert ranges_of([1, 2, 3, 7]) == "1-3,7"


async def test_rows_are_cut_sent_and_ended_in_bulk(store: Store) -> None:
    """2,000 rows a shard: queued until the mark before the create, running from then on, ended by 200 a script."""
    batch = await batch_of(store, 2005)
    shard = await claim_one(store)
    assert (shard.lines[0], shard.lines[-1], shard.open_rows) == (1, 2000, 2000)
    assert (await store.counts(batch)).by_status[JobStatus.RUNNING] == 0
    assert await send(store, shard, reserve_nano=7) is ShardVerdict.SAVED
    assert await send(store, shard, reserve_nano=7) is ShardVerdict.SAVED
    assert (await store.counts(batch)).by_status[JobStatus.RUNNING] == 2000
    assert await store.dispatch(1) == []  # one shard alone until the API has accepted a create
    assert await store.save_shard(shard, SENT, ShardStep.CREATED) is ShardVerdict.SAVED
    assert (await store.batch(batch)).state is BatchState.RUNNING
    second = await claim_one(store)
    assert second.lines == (2001, 2002, 2003, 2004, 2005)
    for at in range(0, 2000, 200):
        ends = [RowEnd(row, make_result(row)) for row in shard.lines[at : at + 200]]
        for _ in range(2):  # a repeated call counts once
            assert await store.end_rows(shard, ends, counters={"runs": 200})
    assert await store.end_shard(shard, b'{"phase":"done"}')
    assert await store.end_shard(shard, b'{"phase":"done"}')
    summary = (await store.status(batch)).shards
    assert summary is not None
    assert (summary.phases, summary.oldest_ms) == ({"done": 1, "cut": 1}, second.cut_at_ms)
    await finish(store, second)
    counts = await store.counts(batch)
    assert (counts.by_status[JobStatus.COMPLETED], counts.totals["runs"]) == (2005, 2000)
    assert counts.totals["reserved_nano"] == 0
    assert (await store.batch(batch)).state is BatchState.DONE
    assert [view.phase for view in await store.list_shards(batch)] == ["done", "done"]
    ((view, line),) = (await store.row(batch, 2003)).shards
    assert (view.number, line) == (2, 3)


async def test_a_dead_worker_s_shard_goes_to_another(store: Store, redis_url: str) -> None:
    """With its state and its rows; the first worker's calls change nothing any more."""
    await batch_of(store, 3)
    shard = await claim_one(store)
    await send(store, shard)
    await store.heartbeat(worker_info("w2"))
    expire_worker(redis_url, "w1")
    await store.reap_dead_workers("w2")
    again = await claim_one(store, "w2")
    assert (again.number, again.state, again.open_rows) == (shard.number, SENT, 3)
    assert await store.save_shard(shard, b"{}") is None
    assert not await store.end_rows(shard, [RowEnd(1, make_result(1))])
    assert not await store.end_shard(shard, b"{}")
    await finish(store, again)


async def test_a_message_of_a_shard_that_is_lost_is_published_again(store: Store, redis_url: str) -> None:
    """As a row's: proven by two looks into the queue."""
    await batch_of(store, 3)
    (published,) = await store.dispatch(1)
    assert await store.requeue_lost(older_than_s=-1.0) == []
    (again,) = await store.requeue_lost(older_than_s=-1.0)
    assert (again.shard, again.delivery) == (published.shard, published.delivery + 1)
    shard = await claim(store, again)
    assert await store.claim_shard(published.batch, shard.number, "w1") is Refusal.RUNNING
    await finish(store, shard)


async def test_rows_go_back_and_wait_for_the_next_shard(store: Store) -> None:
    """With their state, or as they were; they are cut again with the queued ones."""
    batch = await batch_of(store, 3)
    shard = await claim_one(store)
    await send(store, shard)
    ends = [RowEnd(1, state=b'{"attempt":2}', spent_nano=5), RowEnd(2), RowEnd(3, make_result(3))]
    assert await store.end_rows(shard, ends)
    assert await store.end_shard(shard, b"{}")
    assert (await store.counts(batch)).totals["spent_nano"] == 5
    again = await claim_one(store)
    assert again.lines == (1, 2)
    assert [each.state for each in await store.shard_rows(again, [1, 2, 3])] == [b'{"attempt":2}', None]
    await finish(store, again)


async def test_cuts_are_held_until_another_shard_ends(store: Store) -> None:
    """After the enqueued-token limit: none is cut meanwhile, then within the learned sizes."""
    batch = await batch_of(store, 4002)
    first = await claim_one(store)
    await store.save_shard(first, SENT, ShardStep.CREATED)
    refused = await claim_one(store)
    await store.end_rows(refused, [RowEnd(row) for row in refused.lines])
    limits = CutLimits(hold_ms=60_000, shard_rows=2, rows_in_all=3)
    assert await store.end_shard(refused, b"{}", limits=limits)
    assert await store.dispatch(5) == []
    await finish(store, first)
    sizes = [len((await claim(store, each)).lines) for each in await store.dispatch(5)]
    assert sizes == [2, 1]
    await store.purge(batch)


async def test_a_stopped_batch_or_a_small_budget_sends_nothing(store: Store) -> None:
    """The mark before a create is refused, and changes nothing."""
    batch = await batch_of(store, 2, limits=Limits(budget_usd=1.0))
    shard = await claim_one(store)
    assert await send(store, shard, reserve_nano=2 * NANO) is ShardVerdict.BUDGET
    await store.pause(batch, "by hand")
    assert await send(store, shard, reserve_nano=1) is ShardVerdict.STOPPED
    assert (await store.counts(batch)).by_status[JobStatus.RUNNING] == 0
    await store.resume(batch)
    assert await send(store, shard, reserve_nano=1) is ShardVerdict.SAVED
    await finish(store, shard)


async def test_a_cancelled_batch_ends_rows_that_are_not_sent_and_leaves_the_others_to_the_worker(
    store: Store,
) -> None:
    """Unsent rows are cancelled at once; a sent shard stays, and is dispatched to be cancelled at the API."""
    batch = await batch_of(store, 4001)
    first = await claim_one(store)
    await send(store, first)
    await store.save_shard(first, SENT, ShardStep.CREATED)
    second = await claim_one(store)
    await store.cancel(batch)
    counts = (await store.counts(batch)).by_status
    assert (counts[JobStatus.RUNNING], counts[JobStatus.CANCELLED]) == (2000, 2001)
    assert await send(store, second) is ShardVerdict.STOPPED
    await store.release_shard(second, b"{}")
    again = await claim_one(store)
    assert again.number == second.number
    await store.end_rows(again, [RowEnd(row) for row in again.lines])
    await store.end_shard(again, b"{}")
    await finish(store, first)
    assert (await store.batch(batch)).finished_at_ms is not None


async def test_a_cancelled_row_keeps_its_earlier_attempts(store: Store) -> None:
    """Cancelled while it is in its second shard: a worker ends it, with what it has cost."""
    batch = await batch_of(store, 3)
    shard = await claim_one(store)
    await send(store, shard)
    ends = [RowEnd(row, state=b'{"attempt":2}', spent_nano=5) for row in (1, 2)]
    await store.end_rows(shard, [*ends, RowEnd(3)])
    await store.end_shard(shard, b"{}")
    again = await claim_one(store)
    assert again.lines == (1, 2, 3)
    await store.cancel(batch)
    ended = [RowEnd(row, make_result(row)) for row in (1, 2, 3)]
    assert await store.end_rows(again, ended)  # they have left the shard: nothing is stored
    assert await store.end_shard(again, b"{}")
    counts = await store.counts(batch)
    assert (counts.by_status[JobStatus.CANCELLED], counts.totals["spent_nano"]) == (1, 10)
    assert [(each.row, each.shard) for each in await store.dispatch(5)] == [(1, None), (2, None)]


async def test_a_row_to_be_asked_again_in_a_cancelled_batch_is_ended_by_a_worker(store: Store) -> None:
    """Its attempt is paid: it waits with its state until a worker has stored the attempt and its cost."""
    batch = await batch_of(store, 2)
    shard = await claim_one(store)
    await send(store, shard)
    await store.cancel(batch)
    await store.end_rows(shard, [RowEnd(1, state=b'{"attempt":2}', spent_nano=5), RowEnd(2)])
    await store.end_shard(shard, b"{}")
    counts = await store.counts(batch)
    assert (counts.by_status[JobStatus.CANCELLED], counts.totals["spent_nano"]) == (1, 5)
    assert (await store.batch(batch)).finished_at_ms is None
    assert [(each.row, each.shard) for each in await store.dispatch(5)] == [(1, None)]


async def test_a_batch_of_lost_writes_gets_its_rows_back(store: Store) -> None:
    """Rows that wait or are in an unsent shard go to the adopted one; what others hold or have ended stays."""
    batch = await batch_of(store, 4)
    shard = await claim_one(store)
    adopted = await store.adopt_shard(batch, "batch-1", "file-lost", b'{"phase":"followed"}', [2, 3], 9)
    assert (adopted.robbed, adopted.duplicate) == ((shard.number,), False)
    assert await send(store, shard) is ShardVerdict.ROWS_CHANGED
    assert (await store.counts(batch)).by_status[JobStatus.RUNNING] == 2
    known = await store.adopt_shard(batch, "batch-1", "file-lost", b"{}", [2, 3], 9)
    assert (known.number, known.duplicate) == (None, False)
    for first in (True, False):  # rows that are bought elsewhere: a duplicate, counted once
        double = await store.adopt_shard(batch, "batch-2", "file-2", b"{}", [2, 3], 9)
        assert (double.number, double.duplicate) == (None, first)
    assert (await store.counts(batch)).totals["assumed_nano"] == 9
    owners, counted = await store.shards_of_files(batch, ["file-lost", "file-x"], ["batch-2"])
    assert (owners, counted) == ({"file-lost": adopted.number}, {"batch-2"})
    follower = await claim_one(store)
    assert (follower.lines, follower.open_rows) == ((2, 3), 2)
    await finish(store, follower)
    await store.end_rows(shard, [RowEnd(row, make_result(row)) for row in (1, 4)])
    await store.end_shard(shard, b"{}")


async def test_a_size_that_another_shard_has_changed_meanwhile_stays(store: Store) -> None:
    """Two shards end at once: the growth of one does not undo the refusal of the other."""
    batch = await batch_of(store, 9)
    first = await claim_one(store)
    await store.end_rows(first, [RowEnd(row) for row in first.lines])
    await store.end_shard(first, b"{}", limits=CutLimits(0, 4, 8))
    for before, sizes in (((5, 8), (4, 8)), ((4, 8), (6, 9))):
        shard = await claim_one(store)
        assert len(shard.lines) == 4
        await store.end_rows(shard, [RowEnd(row) for row in shard.lines])
        await store.end_shard(shard, b"{}", limits=CutLimits(0, 6, 9, before=before))
        assert await store.cut_sizes(batch) == sizes
    await store.purge(batch)


async def test_one_script_cuts_few_shards(store: Store) -> None:
    """However many slots are free: nobody else is served while rows are cut. The next call goes on."""
    await batch_of(store, 12)
    first = await claim_one(store)
    await send(store, first)
    await store.save_shard(first, SENT, ShardStep.CREATED)
    await store.end_rows(first, [RowEnd(row) for row in first.lines])
    await store.end_shard(first, b"{}", limits=CutLimits(shard_rows=1))
    assert [len(await store.dispatch(100)) for _ in range(4)] == [4, 4, 4, 0]

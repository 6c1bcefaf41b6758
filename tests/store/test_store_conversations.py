"""A conversation is asked turn by turn, and ends with the first turn that does not complete."""

import pytest

from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from tests.helpers.batches import claim_row, finish_all_rows, make_result, submit_batch, worker_info


async def test_a_conversation_runs_turn_by_turn(store: Store) -> None:
    """One row at a time, in file order, each with the state of the turn before; other rows do not wait."""
    rows = [NewRow([str(n)], None, "talk" if n in {1, 3, 5} else None) for n in range(1, 6)]
    batch = await submit_batch(store, rows)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    others = [await claim_row(store, dispatched) for dispatched in await store.dispatch(0)]
    assert [claim.row for claim in others] == [2, 4]
    await store.finish(first, make_result(1), next_turn_state=b"thread_1")
    (second,) = [await claim_row(store, dispatched) for dispatched in await store.dispatch(0)]
    assert (second.row, second.previous_turn) == (3, b"thread_1")
    await store.finish(second, make_result(3), next_turn_state=b"thread_1, 3")
    (third,) = [await claim_row(store, dispatched) for dispatched in await store.dispatch(0)]
    assert (third.row, third.previous_turn) == (5, b"thread_1, 3")
    await store.finish(third, make_result(5))
    for claim in others:
        await store.finish(claim, make_result(claim.row))
    assert (await store.batch(batch)).state is BatchState.DONE


@pytest.mark.parametrize(
    "status", [JobStatus.FAILED, JobStatus.INCOMPLETE, JobStatus.EXPIRED, JobStatus.CANCELLED]
)
async def test_a_turn_that_is_not_completed_ends_its_conversation(store: Store, status: JobStatus) -> None:
    """The rest fails with `previous_turn` and no attempt; a retry asks that turn and its rest, on the good thread."""
    batch = await submit_batch(store, [NewRow([str(n)], None, "talk") for n in range(1, 5)])
    await store.heartbeat(worker_info())
    await store.finish(
        await claim_row(store, (await store.dispatch(0))[0]), make_result(1), next_turn_state=b"good"
    )
    await store.finish(
        await claim_row(store, (await store.dispatch(0))[0]), make_result(2, status), next_turn_state=b"bad"
    )
    views = [view async for view in store.results(batch)]
    assert [view.status for view in views[2:]] == [JobStatus.FAILED] * 2
    assert [(view.result.error, view.result.attempt_count) for view in views[2:] if view.result] == [
        ("previous_turn", 0)
    ] * 2
    assert (await store.batch(batch)).state is BatchState.DONE
    assert await store.retry(batch, [status]) == 3
    (repeated,) = [await claim_row(store, dispatched) for dispatched in await store.dispatch(0)]
    assert (repeated.row, repeated.previous_turn, repeated.previous) == (2, b"good", make_result(2, status))
    await store.finish(repeated, make_result(2), next_turn_state=b"better")
    assert await finish_all_rows(store) == [3, 4]
    assert (await store.counts(batch)).by_status[JobStatus.COMPLETED] == 4


async def test_attempts_of_a_turn_still_count_when_a_retry_does_not_reach_it(store: Store) -> None:
    """`previous_turn` hides the earlier answer, not what was paid for it, however often that happens."""
    batch = await submit_batch(store, [NewRow([str(n)], None, "talk") for n in range(1, 3)])
    await store.heartbeat(worker_info())
    await finish_all_rows(store)
    for _ in range(2):
        assert await store.retry(batch, [JobStatus.COMPLETED, JobStatus.FAILED]) == 2
        first = await claim_row(store, (await store.dispatch(0))[0])
        await store.finish(first, make_result(1, JobStatus.FAILED))
        last = (await store.row(batch, 2)).view
        assert last.result is not None
        assert (last.status, last.result.status, last.result.error) == (
            JobStatus.FAILED,
            JobStatus.FAILED,
            "previous_turn",
        )
        assert (last.result.answer, last.result.attempt_count) == ("", 1)

"""What a person may do with a batch: pause, cancel, retry, look at it, purge it, whatever its workers do meanwhile."""

import pytest
import redis

from askmill.jobs.display.status_text import summary_line
from askmill.jobs.local.open_store import resolve_row
from askmill.jobs.model.errors import NotFound, Unavailable
from askmill.jobs.model.models import BatchState, InputSpec, JobStatus, Limits, Step
from askmill.jobs.store import Store, keys
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import FoundBatch, NewRow
from tests.helpers.batches import (
    BASE_URL,
    claim_row,
    finish_all_rows,
    make_result,
    new_batch,
    submit_batch,
    worker_info,
)
from tests.helpers.key_leaks import assert_no_leaks


def commands(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.info("stats")["total_commands_processed"])


async def test_cancel_ends_rows_without_a_state_at_once(store: Store) -> None:
    """Running rows stay for their workers, and the batch ends with the last of them; an answer is kept."""
    batch = await submit_batch(store, 5)
    await store.heartbeat(worker_info(slots=3))
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"following", run_created=True)
    second = await claim_row(store, (await store.dispatch(0))[0])
    counts = (await store.cancel(batch)).by_status
    assert (counts[JobStatus.CANCELLED], counts[JobStatus.RUNNING], counts[JobStatus.QUEUED]) == (3, 2, 0)
    cancelled = await store.batch(batch)
    assert (cancelled.state, cancelled.finished_at_ms) == (BatchState.CANCELLED, None)
    assert (await store.heartbeat(worker_info(), [batch])).batches[batch] is not None
    await store.finish(first, make_result(1))
    await store.finish(second, make_result(2, JobStatus.CANCELLED))
    over = await store.batch(batch)
    assert over.state is BatchState.CANCELLED
    assert over.finished_at_ms is not None
    assert (await store.counts(batch)).by_status[JobStatus.COMPLETED] == 1
    assert [view.result is None for view in [v async for v in store.results(batch)]] == [
        False,
        False,
        True,
        True,
        True,
    ]


async def test_cancel_leaves_rows_with_a_state_to_a_worker(store: Store) -> None:
    """A waiting row with a thread, a run or paid attempts is dispatched at once, to end with all of them."""
    batch = await submit_batch(store, 4)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"run out", run_created=True)
    waiting_claim, published, untouched = [
        await claim_row(store, dispatched) for dispatched in await store.dispatch(0)
    ]
    await store.release(first, due_ms=first.now_ms + 60_000)
    await store.release(waiting_claim, b"one attempt", due_ms=first.now_ms + 60_000)
    await store.release(published, b"another")
    await store.release(untouched)
    assert len(await store.dispatch(0)) == 2
    assert (await store.cancel(batch)).by_status[JobStatus.CANCELLED] == 1
    assert {one.row for one in await store.dispatch(0)} == {first.row, waiting_claim.row}
    for row, state in (
        (first.row, b"run out"),
        (waiting_claim.row, b"one attempt"),
        (published.row, b"another"),
    ):
        claim = await store.claim(batch, row, "w1")
        assert claim.state == state
        assert claim.update.state is BatchState.CANCELLED
        await store.finish(claim, make_result(row, JobStatus.CANCELLED))
    assert (await store.batch(batch)).finished_at_ms is not None


async def test_a_released_row_of_a_cancelled_batch_is_dispatched_again(store: Store) -> None:
    """A worker that ends while it cancels the run passes the row on."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(0))[0])
    await store.cancel(batch)
    await store.release(claim, b"cancelling")
    repeated = await claim_row(store, (await store.dispatch(0))[0])
    assert repeated.state == b"cancelling"
    await store.finish(repeated, make_result(1, JobStatus.CANCELLED))


async def test_a_finished_batch_cannot_be_paused_resumed_or_cancelled(store: Store) -> None:
    """The calls change nothing."""
    batch = await submit_batch(store, 1)
    assert not await store.resume(batch)
    await store.heartbeat(worker_info())
    await finish_all_rows(store)
    assert not await store.pause(batch, "asked")
    assert not await store.pause_from_worker(batch, "insufficient_quota")
    assert (await store.cancel(batch)).by_status[JobStatus.COMPLETED] == 1
    assert (await store.batch(batch)).state is BatchState.DONE
    cancelled = await submit_batch(store, 1)
    await store.cancel(cancelled)
    when = (await store.batch(cancelled)).finished_at_ms
    assert not await store.resume(cancelled)
    await store.cancel(cancelled)
    assert (await store.batch(cancelled)).finished_at_ms == when


async def test_after_a_pause_by_a_fault_one_row_is_dispatched_alone(store: Store) -> None:
    """The reason is shown; other rows follow once the API has accepted a run."""
    batch = await submit_batch(store, 5)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    assert len(await store.dispatch(0)) == 4
    assert await store.pause_from_worker(batch, "insufficient_quota")
    assert not await store.pause_from_worker(batch, "insufficient_quota")
    status_json = (await store.status(batch)).to_json()
    assert (status_json["state"], status_json["paused_reason"]) == ("paused", "insufficient_quota")
    for row in range(2, 6):
        await store.claim(batch, row, "w1")
    assert await store.resume(batch)
    (probe,) = await store.dispatch(0)
    assert await store.dispatch(0) == []
    assert (await store.save(await claim_row(store, probe), b"{}", run_created=True)).first_accepted
    assert len(await store.dispatch(0)) == 3


async def test_after_a_pause_by_a_command_all_rows_go_on(store: Store) -> None:
    """The API refused nothing, so no row has to go alone."""
    batch = await submit_batch(store, 5)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    await store.pause(batch, "asked")
    await store.resume(batch)
    assert len(await store.dispatch(0)) == 4


async def test_retry_queues_the_chosen_rows_and_keeps_their_results_meanwhile(store: Store) -> None:
    """Other rows stay; a claim brings the earlier result; no task id is used twice."""
    batch = await submit_batch(store, 3)
    await store.heartbeat(worker_info())
    ids = []
    for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED):
        (dispatched,) = await store.dispatch(0)
        ids.append(dispatched)
        await store.finish(await claim_row(store, dispatched), make_result(dispatched.row, status))
    assert (await store.batch(batch)).state is BatchState.DONE
    assert await store.retry(batch) == 2
    unfinished = await store.status(batch)
    assert (unfinished.to_json()["state"], unfinished.batch.finished_at_ms) == ("queued", None)
    views = [view async for view in store.results(batch)]
    assert [view.status for view in views] == [JobStatus.COMPLETED, JobStatus.QUEUED, JobStatus.QUEUED]
    assert [view.result for view in views[1:]] == [
        make_result(2, JobStatus.FAILED),
        make_result(3, JobStatus.EXPIRED),
    ]
    (dispatched,) = await store.dispatch(0)
    assert dispatched not in ids
    claim = await claim_row(store, dispatched)
    assert claim.previous == make_result(2, JobStatus.FAILED)
    await store.finish(claim, make_result(2))
    assert await finish_all_rows(store) == [3]
    assert await store.retry(batch) == 0
    assert (await store.batch(batch)).state is BatchState.DONE


async def test_a_rejected_row_cannot_be_retried(store: Store) -> None:
    """It never was a question."""
    batch = await submit_batch(store, [NewRow([""], "empty"), NewRow(["why?"])])
    await store.cancel(batch)
    assert await store.retry(batch, [JobStatus.REJECTED]) == 0
    assert await store.retry(batch, list(JobStatus.__members__.values())[2:]) == 1


async def test_the_time_before_a_retry_is_no_part_of_the_duration(store: Store) -> None:
    """A batch of one second that is retried the next day took two seconds, not a day."""
    batch = await submit_batch(store, 2)
    await store.heartbeat(worker_info())
    await finish_all_rows(store, JobStatus.FAILED)
    second, day = 1_000, 86_400_000

    async def move_back(*names: str, by_ms: int) -> None:
        for name in names:
            await store._connection.execute("HINCRBY", keys.batch(batch), name, -by_ms)

    await move_back("started_at", by_ms=day + second)
    await move_back("finished_at", by_ms=day)
    assert (await store.batch(batch)).duration_s == pytest.approx(1, abs=0.5)
    await store.retry(batch)
    assert (await store.batch(batch)).duration_s is None
    claims = [await claim_row(store, row) for row in await store.dispatch(2)]
    await store.save(claims[0], b"{}", run_created=True)
    assert (await store.batch(batch)).idle_ms >= day, "the idle time ends with the first run"
    for claim in claims:
        await store.finish(claim, make_result(claim.row, JobStatus.FAILED))
    twice = await store.batch(batch)
    assert twice.duration_s == pytest.approx(1, abs=0.5)
    assert " in 1." in summary_line(await store.status(batch))
    assert twice.started_at_ms is not None
    assert twice.finished_at_ms is not None
    assert twice.finished_at_ms - twice.started_at_ms > day, "`status --json` has the times as they were"

    await store.retry(batch)
    await move_back("ended_before", "started_at", by_ms=day)
    await store.cancel(batch)
    assert (await store.batch(batch)).duration_s == pytest.approx(1, abs=0.5), "cancelled before a run"


async def test_retry_leaves_out_a_turn_whose_earlier_turn_failed(store: Store) -> None:
    """Without the earlier turn it has no thread to continue."""
    batch = await submit_batch(store, [NewRow([str(n)], None, "talk") for n in range(2)])
    await store.heartbeat(worker_info())
    await store.finish(
        await claim_row(store, (await store.dispatch(0))[0]), make_result(1, JobStatus.EXPIRED)
    )
    assert await store.retry(batch, [JobStatus.FAILED]) == 0
    assert await store.retry(batch, [JobStatus.EXPIRED]) == 2


async def test_retry_while_an_earlier_turn_still_runs_waits_for_it(store: Store) -> None:
    """Cancelled in the middle of a conversation, then retried: the rest follows the turn that was running."""
    batch = await submit_batch(store, [NewRow([str(n)], None, "talk") for n in range(3)])
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.cancel(batch)
    assert await store.retry(batch, [JobStatus.CANCELLED]) == 2
    assert await store.dispatch(0) == []
    await store.finish(first, make_result(1), next_turn_state=b"the thread")
    second = await claim_row(store, (await store.dispatch(0))[0])
    assert (second.row, second.previous_turn) == (2, b"the thread")


async def test_changed_limits_reach_workers_with_the_next_heartbeat(store: Store) -> None:
    """And with every claim after the change."""
    batch = await submit_batch(store, 1)
    await store.update_limits(batch, Limits(attempts=9))
    now = (await store.heartbeat(worker_info(), [batch])).batches[batch]
    assert now is not None
    assert now.limits.attempts == 9
    assert (await claim_row(store, (await store.dispatch(0))[0])).update.limits.attempts == 9


async def test_purge_deletes_every_key_and_ends_all_claims(store: Store, redis_url: str) -> None:
    """Whatever the rows were doing; heartbeats report that the batch does not exist."""
    rows = [NewRow([str(n)], None, "talk" if n in {1, 2} else None) for n in range(6)]
    batch = await submit_batch(store, rows)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True, reserve_nano=5)
    dispatched = await store.dispatch(0)
    held = await claim_row(store, dispatched[0])
    waiting_claim = await claim_row(store, dispatched[1])
    await store.store_file(held, 0, b"file", 100)
    await store.release(waiting_claim, b"{}")
    await store.finish(first, make_result(1))
    await store.purge(batch)
    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter(f"*{batch}*")) == []
        assert client.smembers(keys.claims("w1")) == set()
        assert client.zrange(keys.DISPATCHED, 0, -1) == []
    assert not (await store.save(held, b"late")).held
    assert not await store.finish(held, make_result(held.row))
    assert (await store.heartbeat(worker_info(), [batch])).batches == {batch: None}
    assert await store.find_identity("0" * 64) is None
    with pytest.raises(NotFound):
        await store.status(batch)


async def test_purge_of_an_older_batch_keeps_the_identity_of_the_newer(store: Store) -> None:
    """The same file submitted again with --new is still found."""
    older, newer = await submit_batch(store, 1), await submit_batch(store, 1)
    await store.purge(older)
    assert await store.find_identity("0" * 64) == FoundBatch(newer, loading=False)


async def test_a_row_is_found_by_its_number_and_by_its_own_id(store: Store) -> None:
    """With what its worker saved; for an unknown one the error says what there is."""
    spec = InputSpec(("id", "question"), "question", id_column="id")
    batch = await submit_batch(store, [NewRow([f"r{n}", "why?"]) for n in range(40)], spec=spec)
    assert await store.find_row_by_id(batch, "r37") == 38
    # Cut out of a results file, whose lines end with a carriage return.
    assert await resolve_row(store, await store.batch(batch), "38\r") == 38
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(claim, b"following")
    detail = await store.row(batch, 1)
    assert (detail.view.cells, detail.view.status) == (["r0", "why?"], JobStatus.RUNNING)
    assert (detail.worker, detail.state, detail.due_ms) == ("w1", b"following", None)
    for row in (0, 41):
        with pytest.raises(NotFound, match="it has the rows 1 to 40"):
            await store.row(batch, row)
    with pytest.raises(NotFound, match="no row with id 'r99'"):
        await store.find_row_by_id(batch, "r99")
    plain = await submit_batch(store, 1)
    with pytest.raises(NotFound, match="no id column"):
        await store.find_row_by_id(plain, "r1")


async def test_the_ledger_names_every_thread_and_run(store: Store) -> None:
    """Of finished rows, retried ones and rows in progress: what a purge deletes at the API."""
    reused = pack_result(make_result(4, thread_id="thread_other", attempts=(), attempts_made=0))
    batch = await submit_batch(
        store, [*(NewRow([f"question {row}"]) for row in (1, 2, 3)), NewRow(["?"], reused_result=reused)]
    )
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    second = await claim_row(store, (await store.dispatch(0))[0])
    state = b'{"thread_id":"thread_b","run_id":null,"past":[{"thread_id":"thread_a","run_id":"items:c"}]}'
    await store.save(second, state)
    steps = (Step("run_0", 1, "function", "completed"), Step("run_1", 1, "message", "completed"))
    files = ({"file_id": "file-g", "name": "g.csv"}, {"file_id": "cfile_1", "container_id": "cntr_1"})
    cited = ({"file_id": "file-users", "filename": "users.txt"},)
    await store.finish(first, make_result(1, JobStatus.FAILED, steps=steps, files=files, citations=cited))
    await store.retry(batch)
    ledger = [created async for created in store.created_objects(batch)]
    created = {("thread", "thread_1"), ("run", "run_0"), ("run", "run_1"), ("file", "file-g")}
    assert set(ledger) == {*created, ("thread", "thread_a"), ("thread", "thread_b")}
    assert len(ledger) == 6, "nothing twice, nothing of an answer taken from another batch"


async def test_the_ledger_of_many_rows_takes_few_round_trips(store: Store, redis_url: str) -> None:
    """Case C9: `purge` reads the states of unfinished rows together; each of them was a round trip once."""
    rows = 20_000
    batch = await submit_batch(store, rows)
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_reads_processed"]
        assert [created async for created in store.created_objects(batch)] == []
        await store.purge(batch)
        assert client.info("stats")["total_reads_processed"] - before < rows / 50


async def test_results_can_be_limited_to_some_statuses(store: Store) -> None:
    """Across blocks and chunks, in file order."""
    batch = await submit_batch(store, 2500)
    await store.heartbeat(worker_info(slots=3000))
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    await store.finish(first, make_result(1, JobStatus.FAILED))
    for dispatched in await store.dispatch(0):
        if dispatched.row in {16, 17, 1024, 1025, 2500}:
            await store.finish(
                await claim_row(store, dispatched), make_result(dispatched.row, JobStatus.FAILED)
            )
    views = [view async for view in store.results(batch, [JobStatus.FAILED])]
    assert [view.row for view in views] == [1, 16, 17, 1024, 1025, 2500]
    assert [view.cells for view in views] == [[f"question {view.row}"] for view in views]
    assert len([view async for view in store.results(batch)]) == 2500


async def test_two_hundred_thousand_rows_take_few_commands(redis_url: str) -> None:
    """Submit, status, cancel and retry send no command per row."""
    rows = 200_000
    async with await Store.open(redis_url) as store:
        before = commands(redis_url)
        batch = await submit_batch(store, rows)
        filled = commands(redis_url)
        assert filled - before < 800
        await store.status(batch)
        assert (await store.cancel(batch)).by_status[JobStatus.CANCELLED] == rows
        assert await store.retry(batch, [JobStatus.CANCELLED]) == rows
        assert (await store.counts(batch)).rows_by_byte["q"] == rows
        await store.purge(batch)
        assert commands(redis_url) - filled < 200
    assert_no_leaks(redis_url)


async def test_status_is_told_in_the_words_of_the_contract(store: Store) -> None:
    """Every key, every status, times with fractions in UTC, unknown numbers empty."""
    batch = await submit_batch(store, 2)
    status_json = (await store.status(batch)).to_json()
    assert set(status_json) == {
        *("batch", "name", "file", "state", "rows", "counts", "runs", "requests", "tokens", "cost_usd"),
        *("submitted_at", "started_at", "finished_at", "rows_per_s", "eta_s", "workers"),
        *(
            "paused_reason",
            "unknown_creates",
            "waiting",
            "last_fault",
            "recovered_writes",
            "cut_contexts",
            "schema_misses",
            "shards",
            "tier",
            "tier_fallbacks",
            "accuracy",
        ),
    }
    assert status_json["counts"] == {
        status.value: 2 if status is JobStatus.QUEUED else 0 for status in JobStatus
    }
    assert status_json["submitted_at"].endswith("Z")
    assert (status_json["cost_usd"], status_json["tokens"]) == (None, {"prompt": None, "completion": None})
    assert (status_json["rows_per_s"], status_json["eta_s"], status_json["workers"]) == (None, None, 0)
    await store.heartbeat(worker_info(slots=3, base_url=BASE_URL))
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    await store.finish(first, make_result(1))
    assert await store._connection.execute("HSET", keys.part(batch, "throughput"), 1, 1_000_000) == 1
    status_json = (await store.status(batch)).to_json()
    assert 0 < status_json["rows_per_s"] <= 1
    assert status_json["eta_s"] == pytest.approx(1 / status_json["rows_per_s"])
    assert status_json["workers"] == 1
    second = await claim_row(store, (await store.dispatch(0))[0])
    await store._connection.execute("DEL", keys.part(batch, "throughput"))
    await store._connection.execute("HSET", keys.part(batch, "throughput"), 1, 1_000_000)
    await store.finish(second, make_result(2))
    assert await store._connection.execute("HLEN", keys.part(batch, "throughput")) == 1, (
        "only the last minutes are kept"
    )


async def test_a_batch_purged_while_it_is_read_is_not_found(store: Store) -> None:
    """A reader half-way through gets an error that says so, not rows of nothing."""
    batch = await submit_batch(store, 3000)
    reading = store.results(batch)
    assert (await anext(reading)).row == 1
    await store.purge(batch)
    with pytest.raises(NotFound):
        assert [view async for view in reading] == "all rows"


async def test_a_submit_that_stood_still_for_an_hour_is_told(store: Store) -> None:
    """Its keys have expired: sealing it says to submit again."""
    batch = await store.create_batch(new_batch())
    await store._connection.execute("DEL", keys.batch(batch))
    with pytest.raises(Unavailable, match="submit it again"):
        await store.seal_batch(batch)

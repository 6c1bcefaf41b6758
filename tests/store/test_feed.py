"""How rows get to the workers: a small window, fair between batches, and nothing lost on the way."""

import json
import subprocess
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from askmill.jobs.local.redis_service import server_binary
from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import Store, keys
from askmill.jobs.store.broker import QUEUE, TASK, broker_settings, broker_url, publish
from askmill.jobs.store.claim_records import DispatchedRow, Refusal
from tests.helpers.batches import claim_row, make_result, submit_batch, worker_info
from tests.support import wait_until


async def batches_with_accepted_runs(store: Store, *sizes: int, worker_id: str = "w1") -> list[str]:
    """Batches of so many rows, whose first rows are done, so that their windows are open."""
    batches = [await submit_batch(store, rows) for rows in sizes]
    for dispatched in await store.dispatch(1000):
        claim = await claim_row(store, dispatched, worker_id)
        await store.save(claim, b"{}", run_created=True)
        await store.finish(claim, make_result(1))
    return batches


def rows_of(dispatched: list[DispatchedRow], batch: str) -> list[int]:
    return [one.row for one in dispatched if one.batch == batch]


async def test_dispatch_fills_the_free_slots_and_the_floor(store: Store) -> None:
    """Rows already dispatched count; a claim moves a row from dispatched to held."""
    await store.heartbeat(worker_info("w1", slots=3))
    await batches_with_accepted_runs(store, 50)
    dispatched = await store.dispatch(2)
    assert [one.row for one in dispatched] == [2, 3, 4, 5, 6]
    assert await store.dispatch(2) == []
    first = await claim_row(store, dispatched[0])
    assert await store.dispatch(2) == []
    await store.finish(first, make_result(2))
    assert [one.row for one in await store.dispatch(2)] == [7]
    await store.heartbeat(worker_info("w2", slots=4))
    assert [one.row for one in await store.dispatch(2)] == [8, 9, 10, 11]
    await store.deregister_worker("w2")
    assert await store.dispatch(2) == []


async def test_a_worker_over_its_slots_leaves_the_slots_of_others(store: Store) -> None:
    """Its concurrency was lowered while its runs go on: another worker's free slots are still filled."""
    await store.heartbeat(worker_info("w1", slots=5))
    await batches_with_accepted_runs(store, 50)
    for one in await store.dispatch(0):
        await claim_row(store, one)
    await store.heartbeat(worker_info("w1", slots=1))
    await store.heartbeat(worker_info("w2", slots=3))
    assert len(await store.dispatch(0)) == 3


async def test_batches_get_equal_shares(store: Store) -> None:
    """What one batch cannot use goes to the others, and single slots go round."""
    await store.heartbeat(worker_info("w1", slots=12))
    large, small, middle = await batches_with_accepted_runs(store, 10_000, 3, 500)
    dispatched = await store.dispatch(0)
    assert len(dispatched) == 12
    assert rows_of(dispatched, small) == [2, 3]
    assert len(rows_of(dispatched, large)) == len(rows_of(dispatched, middle)) == 5
    turns = []
    for one in dispatched[:6]:
        await store.finish(await claim_row(store, one), make_result(one.row))
        turns += [new.batch for new in await store.dispatch(0)]
    assert sorted(turns) == sorted([large, middle] * 3)


async def test_the_first_row_is_dispatched_alone_until_the_api_accepts_its_run(store: Store) -> None:
    """A claim or a save is not enough: only a created run lets other rows follow."""
    batch = await submit_batch(store, 10)
    await store.heartbeat(worker_info())
    (probe,) = await store.dispatch(5)
    assert await store.dispatch(5) == []
    claim = await claim_row(store, probe)
    assert await store.dispatch(5) == []
    await store.save(claim, b"sending", run_in_flight=True)
    assert await store.dispatch(5) == []
    assert (await store.save(claim, b"made", run_created=True)).first_accepted
    assert rows_of(await store.dispatch(5), batch) == list(range(2, 11))


async def test_a_first_row_without_a_reply_delays_the_others_by_20_s_at_most(
    store: Store, redis_url: str
) -> None:
    """Its create may be lost again and again: then another row is tried alone, and its run lets the others follow."""
    batch = await submit_batch(store, 10)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(5))[0])
    await store.save(first, b"sending", run_in_flight=True)
    with redis.Redis.from_url(redis_url) as client:
        client.hincrby(keys.batch(batch), "probe_at", -19_000)
        assert await store.dispatch(5) == []
        client.hincrby(keys.batch(batch), "probe_at", -1_000)
    (second,) = await store.dispatch(5)
    assert await store.dispatch(5) == []
    await store.save(await claim_row(store, second), b"made", run_created=True)
    assert rows_of(await store.dispatch(5), batch) == list(range(3, 11))


async def test_the_next_row_is_tried_when_the_first_fails_or_waits(store: Store) -> None:
    """A refusal of a row's own input is no refusal of the batch."""
    batch = await submit_batch(store, 10)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(5))[0])
    await store.finish(first, make_result(1, JobStatus.FAILED))
    second = await claim_row(store, (await store.dispatch(5))[0])
    await store.release(second, due_ms=second.now_ms + 60_000)
    assert rows_of(await store.dispatch(5), batch) == [3]


async def test_due_rows_come_before_new_ones(store: Store) -> None:
    """A row whose backoff is over is dispatched before rows that were never asked."""
    batch = await submit_batch(store, 300)
    await store.heartbeat(worker_info(slots=2))
    claim = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(claim, b"{}", run_created=True)
    await store.release(claim, due_ms=0)
    assert rows_of(await store.dispatch(0), batch) == [1, 2]


async def test_queued_rows_are_found_anywhere_in_a_large_batch(store: Store) -> None:
    """At every border of the chunks that the script reads, and again after a retry."""
    last = 70_000
    batch = await submit_batch(store, last)
    left = [1, 256, 257, 4352, 4353, 69_888, 69_889, last]
    status = bytearray(b"x" * last)
    for row in left:
        status[row - 1] = ord("q")
    await store._connection.execute("SET", keys.part(batch, "status"), bytes(status))
    await store._connection.execute(
        "HSET", keys.part(batch, "counters"), "q", len(left), "x", last - len(left)
    )
    await store.heartbeat(worker_info(slots=10))
    first = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_created=True)
    assert rows_of(await store.dispatch(0), batch) == left[1:]
    assert await store.retry(batch, [JobStatus.CANCELLED]) == last - len(left)
    assert rows_of(await store.dispatch(0), batch) == [2, 3]
    await store.purge(batch)


async def test_rows_wait_for_a_worker_of_their_api(store: Store) -> None:
    """A batch of another address is not dispatched and takes no slots from the others."""
    elsewhere = await submit_batch(store, 5, base_url="https://elsewhere/v1")
    here = await submit_batch(store, 5)
    await store.heartbeat(worker_info("w1", slots=4))
    dispatched = await store.dispatch(1)
    assert {one.batch for one in dispatched} == {here}
    await store.heartbeat(worker_info("w2", slots=4, base_url="https://elsewhere/v1"))
    assert {one.batch for one in await store.dispatch(1)} == {elsewhere}


async def test_workers_of_each_api_have_their_own_slots(store: Store) -> None:
    """Free slots of one API do not let rows of another pile up in the queue."""
    await store.heartbeat(worker_info("w1", slots=2))
    await store.heartbeat(worker_info("w2", slots=50, base_url="https://elsewhere/v1"))
    (here,) = await batches_with_accepted_runs(store, 100)
    assert len(rows_of(await store.dispatch(1), here)) == 3
    assert await store.dispatch(1) == []


async def test_without_a_worker_only_the_floor_is_dispatched(store: Store) -> None:
    """No row is dispatched when the floor is 0."""
    batch = await submit_batch(store, 5)
    assert await store.dispatch(0) == []
    assert rows_of(await store.dispatch(3), batch) == [1]
    assert await store.dispatch(3) == []


async def test_every_dispatch_of_a_row_has_its_own_task_id(store: Store) -> None:
    """A revoked id would never run again: after a release, a loss or a retry the number rises."""
    await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    seen = []
    for _ in range(3):
        (dispatched,) = await store.dispatch(0)
        seen.append(dispatched.delivery)
        await store.release(await claim_row(store, dispatched))
    (dispatched,) = await store.dispatch(0)
    seen.append(dispatched.delivery)
    await store.requeue_lost(-1)
    (requeued,) = await store.requeue_lost(-1)
    seen.append(requeued.delivery)
    await store.finish(await claim_row(store, requeued), make_result(1, JobStatus.FAILED))
    await store.retry(requeued.batch)
    seen.append((await store.dispatch(0))[0].delivery)
    assert len(set(seen)) == 6
    assert seen == sorted(seen)


# ── the broker ──


async def test_a_published_row_is_a_plain_celery_message(store: Store, redis_url: str) -> None:
    """It has the task's name, JSON, an id batch:row:delivery, and only the row's name as arguments."""
    batch = await submit_batch(store, 3)
    dispatched = await store.dispatch(1)
    publish(redis_url, dispatched)
    with redis.Redis.from_url(redis_url) as client:
        (raw,) = client.lrange(QUEUE, 0, -1)
    message = json.loads(raw)
    assert message["headers"]["id"] == f"{batch}:1:1"
    assert message["headers"]["task"] == TASK
    assert message["content-type"] == "application/json"
    args, kwargs, _ = json.loads(b64decode(message["body"]))
    assert (args, kwargs) == ([batch, 1], {})


async def test_a_thousand_rows_are_published_in_few_round_trips(store: Store, redis_url: str) -> None:
    """And nothing at all is sent for none."""
    await store.heartbeat(worker_info(slots=2000))
    (batch,) = await batches_with_accepted_runs(store, 1001)
    with redis.Redis.from_url(redis_url) as client:
        dispatched = await store.dispatch(0)
        publish(redis_url, [])
        publish(redis_url, dispatched)
        messages = [json.loads(raw) for raw in client.lrange(QUEUE, 0, -1)]
        calls = client.info("commandstats")
    assert sorted(int(message["headers"]["id"].split(":")[1]) for message in messages) == list(range(2, 1002))
    assert {message["headers"]["id"].split(":")[0] for message in messages} == {batch}
    assert calls["cmdstat_lpush"]["calls"] == 1000


async def test_a_lost_message_is_published_again(store: Store, redis_url: str) -> None:
    """Not in the first call, not while it is in the queue, and only once."""
    await store.heartbeat(worker_info(slots=4))
    await batches_with_accepted_runs(store, 4)
    dispatched = await store.dispatch(0)
    publish(redis_url, dispatched)
    with redis.Redis.from_url(redis_url) as client:
        assert await store.requeue_lost(-1) == []
        assert await store.requeue_lost(-1) == []
        assert "cmdstat_lrange" not in client.info("commandstats"), "a full queue need not be read"
        lost = client.rpop(QUEUE)
        assert await store.requeue_lost(-1) == []
        requeued = await store.requeue_lost(-1)
        assert [(one.batch, one.row) for one in requeued] == [batch_and_row(lost)]
        publish(redis_url, requeued)
        assert await store.requeue_lost(-1) == []
        assert await store.requeue_lost(-1) == []
        client.delete(QUEUE)


def batch_and_row(raw: bytes) -> tuple[str, int]:
    batch, row, _ = json.loads(raw)["headers"]["id"].split(":")
    return batch, int(row)


@pytest.mark.parametrize("raw", ["no json", "[]", "{}", '{"headers": null}', '{"headers": [1]}', b"\xff"])
async def test_an_unreadable_message_names_no_row(store: Store, redis_url: str, raw: str | bytes) -> None:
    """Anybody may write into the queue: the search for lost messages skips it and still finds what is lost."""
    await store.heartbeat(worker_info(slots=4))
    await batches_with_accepted_runs(store, 4)
    await store.dispatch(0)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush(QUEUE, raw)
        assert await store.requeue_lost(-1) == []
        assert [one.row for one in await store.requeue_lost(-1)] == [2, 3, 4]
        client.delete(QUEUE)


@pytest.mark.parametrize("row", ["1", 1.0, True, None, [], {}, 0, -1])
def test_only_row_numbers_from_1_name_a_row(row: object) -> None:
    """Anything else in a message is dropped before the claim."""
    assert keys.names_a_row("b_7hq2m9", 1)
    assert not keys.names_a_row("b_7hq2m9", row)


@pytest.mark.parametrize("batch", ["", "b_", "7hq2m9", "b_7hq2m9:n", "b_\ud800", "b_7hq2m9\n", 7, None, []])
def test_only_a_batch_id_names_a_batch(batch: object) -> None:
    """A name of another key, or of none, is dropped before the claim."""
    assert not keys.names_a_row(batch, 1)


async def test_a_recent_message_is_not_lost(store: Store) -> None:
    """Between the broker and the claim every message is in neither for a moment."""
    await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    await store.dispatch(0)
    assert await store.requeue_lost() == []
    assert await store.requeue_lost() == []


async def test_two_workers_requeue_a_lost_row_once(store: Store, redis_url: str) -> None:
    """Both find it lost, one gets the row."""
    await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    await store.dispatch(0)
    async with await Store.open(redis_url) as other:
        assert await store.requeue_lost(-1) == []
        assert await other.requeue_lost(-1) == []
        assert len([*await store.requeue_lost(-1), *await other.requeue_lost(-1)]) == 1


async def test_a_row_claimed_meanwhile_is_not_lost(store: Store) -> None:
    """Its message only took long."""
    await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    (dispatched,) = await store.dispatch(0)
    assert await store.requeue_lost(-1) == []
    await claim_row(store, dispatched)
    assert await store.requeue_lost(-1) == []


async def test_a_crash_between_dispatch_and_publish_loses_no_row(store: Store) -> None:
    """The row was dispatched and never published: the next calls find it."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    await store.dispatch(0)
    await store.requeue_lost(-1)
    (requeued,) = await store.requeue_lost(-1)
    assert (requeued.batch, requeued.row) == (batch, 1)
    assert await store.claim(batch, 1, "w1") is not Refusal.NOT_PUBLISHED


@pytest.mark.parametrize(
    ("url", "kombus"),
    [
        ("redis://u:p@host:1/2", "redis://u:p@host:1/2"),
        ("unix:///run/my redis.sock?db=3", "redis+socket:///run/my%20redis.sock?virtual_host=3"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("unix://me:s%2Fcret@/run/redis.sock", "redis+socket://me:s%2Fcret@/run/redis.sock"),
        ("unix:///run/redis.sock?password=s/cret", "redis+socket://:s%2Fcret@/run/redis.sock"),
    ],
)
def test_the_broker_is_the_same_redis_in_kombus_words(url: str, kombus: str) -> None:
    """Addresses as redis-py reads them are told as kombu reads them."""
    assert broker_url(url) == kombus


@pytest.fixture
def socket_url() -> Iterator[str]:
    """A Redis with a password that listens on a Unix socket only; its path must be short."""
    with tempfile.TemporaryDirectory(prefix="askmill-") as folder:
        path = f"{folder}/redis.sock"
        command = [str(server_binary()), "--port", "0", "--unixsocket", path, "--requirepass", "s/cret"]
        with subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL, cwd=folder) as server:
            wait_until(lambda: Path(path).exists(), "the socket is there")
            yield f"unix://:s%2Fcret@{path}?db=3"
            server.terminate()


async def test_store_and_broker_meet_behind_a_unix_socket(socket_url: str) -> None:
    """With a password and a database number: what the one feeds, the other carries."""
    async with await Store.open(socket_url) as store:
        await submit_batch(store, 1)
        publish(socket_url, await store.dispatch(1))
        assert await store._connection.execute("LLEN", QUEUE) == 1


def test_a_brokers_certificate_is_checked() -> None:
    """kombu would not, unless told to; what the address says of TLS is left alone."""
    assert broker_settings("rediss://host/0")["broker_use_ssl"] == {"ssl_cert_reqs": "required"}
    assert broker_settings("rediss://host/0?ssl_cert_reqs=none")["broker_use_ssl"] is None
    assert broker_settings("redis://host/0")["broker_use_ssl"] is None


async def test_open_batches_are_fed_in_turn_even_one_place_at_a_time(store: Store) -> None:
    """The one served longest ago comes next."""
    await store.heartbeat(worker_info(slots=1))
    batches = await batches_with_accepted_runs(store, 10, 10, 10)
    turns = []
    for _ in range(6):
        (dispatched,) = await store.dispatch(0)
        turns.append(dispatched.batch)
        await store.finish(await claim_row(store, dispatched), make_result(dispatched.row))
    assert turns[:3] == turns[3:]
    assert set(turns) == set(batches)

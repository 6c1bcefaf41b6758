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
from askmill.jobs.store.broker import QUEUE, TASK, broker_settings, broker_url, names_a_row, publish
from askmill.jobs.store.records import DispatchedRow, Refusal
from tests.helpers.batches import card, claimed, ended, submitted
from tests.support import wait_until


async def accepted(store: Store, *sizes: int) -> list[str]:
    """Batches of so many rows, whose first rows are done, so that their windows are open."""
    batches = [await submitted(store, rows) for rows in sizes]
    for fed in await store.dispatch(1000):
        claim = await claimed(store, fed)
        await store.save(claim, b"{}", run_made=True)
        await store.finish(claim, ended(1))
    return batches


def rows_of(fed: list[DispatchedRow], batch: str) -> list[int]:
    return [one.row for one in fed if one.batch == batch]


async def test_only_as_much_is_published_as_living_workers_take_soon(store: Store) -> None:
    """Free slots and a floor, less what is on its way; a claim moves a row from the one to the other."""
    await store.heartbeat(card("w1", slots=3))
    await accepted(store, 50)
    fed = await store.dispatch(2)
    assert [one.row for one in fed] == [2, 3, 4, 5, 6]
    assert await store.dispatch(2) == []
    first = await claimed(store, fed[0])
    assert await store.dispatch(2) == []
    await store.finish(first, ended(2))
    assert [one.row for one in await store.dispatch(2)] == [7]
    await store.heartbeat(card("w2", slots=4))
    assert [one.row for one in await store.dispatch(2)] == [8, 9, 10, 11]
    await store.deregister_worker("w2")
    assert await store.dispatch(2) == []


async def test_a_worker_that_holds_more_than_its_slots_takes_none_from_the_others(store: Store) -> None:
    """Its concurrency was lowered while its runs go on: the free slots of another are filled all the same."""
    await store.heartbeat(card("w1", slots=5))
    await accepted(store, 50)
    for one in await store.dispatch(0):
        await claimed(store, one)
    await store.heartbeat(card("w1", slots=1))
    await store.heartbeat(card("w2", slots=3))
    assert len(await store.dispatch(0)) == 3


async def test_a_small_batch_does_not_wait_behind_a_large_one(store: Store) -> None:
    """Equal shares, what one cannot use goes to the others, and single places go round."""
    await store.heartbeat(card("w1", slots=12))
    large, small, middle = await accepted(store, 10_000, 3, 500)
    fed = await store.dispatch(0)
    assert len(fed) == 12
    assert rows_of(fed, small) == [2, 3]
    assert len(rows_of(fed, large)) == len(rows_of(fed, middle)) == 5
    turns = []
    for one in fed[:6]:
        await store.finish(await claimed(store, one), ended(one.row))
        turns += [new.batch for new in await store.dispatch(0)]
    assert sorted(turns) == sorted([large, middle] * 3)


async def test_the_first_row_of_a_batch_goes_alone_until_the_api_has_accepted_it(store: Store) -> None:
    """Claimed or not, saved or not: only a run that was made opens the window."""
    batch = await submitted(store, 10)
    await store.heartbeat(card())
    (probe,) = await store.dispatch(5)
    assert await store.dispatch(5) == []
    claim = await claimed(store, probe)
    assert await store.dispatch(5) == []
    await store.save(claim, b"sending", run_out=True)
    assert await store.dispatch(5) == []
    assert (await store.save(claim, b"made", run_made=True)).first_accepted
    assert rows_of(await store.dispatch(5), batch) == list(range(2, 11))


async def test_a_first_row_without_a_reply_holds_the_others_up_for_20_s_only(
    store: Store, redis_url: str
) -> None:
    """Its create may be lost again and again: then another tries, alone too, and its run opens the window."""
    batch = await submitted(store, 10)
    await store.heartbeat(card())
    first = await claimed(store, (await store.dispatch(5))[0])
    await store.save(first, b"sending", run_out=True)
    with redis.Redis.from_url(redis_url) as client:
        client.hincrby(keys.batch(batch), "probe_at", -19_000)
        assert await store.dispatch(5) == []
        client.hincrby(keys.batch(batch), "probe_at", -1_000)
    (second,) = await store.dispatch(5)
    assert await store.dispatch(5) == []
    await store.save(await claimed(store, second), b"made", run_made=True)
    assert rows_of(await store.dispatch(5), batch) == list(range(3, 11))


async def test_when_the_first_row_fails_by_itself_the_next_tries(store: Store) -> None:
    """A row whose own input is refused says nothing about the batch; nor does one that waits."""
    batch = await submitted(store, 10)
    await store.heartbeat(card())
    first = await claimed(store, (await store.dispatch(5))[0])
    await store.finish(first, ended(1, JobStatus.FAILED))
    second = await claimed(store, (await store.dispatch(5))[0])
    await store.release(second, due_ms=second.now_ms + 60_000)
    assert rows_of(await store.dispatch(5), batch) == [3]


async def test_waiting_rows_come_first_when_they_are_due(store: Store) -> None:
    """A back-off that is over goes before rows nobody has asked yet."""
    batch = await submitted(store, 300)
    await store.heartbeat(card(slots=2))
    claim = await claimed(store, (await store.dispatch(0))[0])
    await store.save(claim, b"{}", run_made=True)
    await store.release(claim, due_ms=0)
    assert rows_of(await store.dispatch(0), batch) == [1, 2]


async def test_rows_far_into_a_batch_are_found(store: Store) -> None:
    """Whatever was done before them, over every border of what the script reads at once; and after a retry again."""
    last = 70_000
    batch = await submitted(store, last)
    left = [1, 256, 257, 4352, 4353, 69_888, 69_889, last]
    status = bytearray(b"x" * last)
    for row in left:
        status[row - 1] = ord("q")
    await store._connection.execute("SET", keys.part(batch, "status"), bytes(status))
    await store._connection.execute(
        "HSET", keys.part(batch, "counters"), "q", len(left), "x", last - len(left)
    )
    await store.heartbeat(card(slots=10))
    first = await claimed(store, (await store.dispatch(0))[0])
    await store.save(first, b"{}", run_made=True)
    assert rows_of(await store.dispatch(0), batch) == left[1:]
    assert await store.retry(batch, [JobStatus.CANCELLED]) == last - len(left)
    assert rows_of(await store.dispatch(0), batch) == [2, 3]
    await store.purge(batch)


async def test_rows_are_fed_only_for_an_api_that_some_worker_speaks_to(store: Store) -> None:
    """A batch of another address waits, and takes no place of the others."""
    elsewhere = await submitted(store, 5, base_url="https://elsewhere/v1")
    here = await submitted(store, 5)
    await store.heartbeat(card("w1", slots=4))
    fed = await store.dispatch(1)
    assert {one.batch for one in fed} == {here}
    await store.heartbeat(card("w2", slots=4, base_url="https://elsewhere/v1"))
    assert {one.batch for one in await store.dispatch(1)} == {elsewhere}


async def test_each_kind_of_worker_has_its_own_window(store: Store) -> None:
    """Free slots of one kind do not let rows of the other pile up in the queue."""
    await store.heartbeat(card("w1", slots=2))
    await store.heartbeat(card("w2", slots=50, base_url="https://elsewhere/v1"))
    (here,) = await accepted(store, 100)
    assert len(rows_of(await store.dispatch(1), here)) == 3
    assert await store.dispatch(1) == []


async def test_with_nobody_alive_a_few_rows_wait_for_the_first_worker(store: Store) -> None:
    """At most the floor, and none when that is 0."""
    batch = await submitted(store, 5)
    assert await store.dispatch(0) == []
    assert rows_of(await store.dispatch(3), batch) == [1]
    assert await store.dispatch(3) == []


async def test_a_row_fed_again_has_a_task_id_of_its_own(store: Store) -> None:
    """A revoked id would never run again: given back, put back, lost or retried, the number goes up."""
    await submitted(store, 1)
    await store.heartbeat(card())
    seen = []
    for _ in range(3):
        (fed,) = await store.dispatch(0)
        seen.append(fed.attempt)
        await store.release(await claimed(store, fed))
    (fed,) = await store.dispatch(0)
    seen.append(fed.attempt)
    await store.requeue_lost(-1)
    (again,) = await store.requeue_lost(-1)
    seen.append(again.attempt)
    await store.finish(await claimed(store, again), ended(1, JobStatus.FAILED))
    await store.retry(again.batch)
    seen.append((await store.dispatch(0))[0].attempt)
    assert len(set(seen)) == 6
    assert seen == sorted(seen)


# ── the broker ──


async def test_a_published_row_is_a_message_that_any_celery_worker_reads(
    store: Store, redis_url: str
) -> None:
    """By name, in JSON, with an id that reads batch:row:attempt; nothing of the job but its name."""
    batch = await submitted(store, 3)
    fed = await store.dispatch(1)
    publish(redis_url, fed)
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
    await store.heartbeat(card(slots=2000))
    (batch,) = await accepted(store, 1001)
    with redis.Redis.from_url(redis_url) as client:
        fed = await store.dispatch(0)
        publish(redis_url, [])
        publish(redis_url, fed)
        messages = [json.loads(raw) for raw in client.lrange(QUEUE, 0, -1)]
        calls = client.info("commandstats")
    assert sorted(int(message["headers"]["id"].split(":")[1]) for message in messages) == list(range(2, 1002))
    assert {message["headers"]["id"].split(":")[0] for message in messages} == {batch}
    assert calls["cmdstat_lpush"]["calls"] == 1000


async def test_a_message_that_is_gone_is_proved_lost_and_published_again(
    store: Store, redis_url: str
) -> None:
    """Not at the first look, not while it is in the queue, and once only."""
    await store.heartbeat(card(slots=4))
    await accepted(store, 4)
    fed = await store.dispatch(0)
    publish(redis_url, fed)
    with redis.Redis.from_url(redis_url) as client:
        assert await store.requeue_lost(-1) == []
        assert await store.requeue_lost(-1) == []
        assert "cmdstat_lrange" not in client.info("commandstats"), "a full queue need not be read"
        lost = client.rpop(QUEUE)
        assert await store.requeue_lost(-1) == []
        again = await store.requeue_lost(-1)
        assert [(one.batch, one.row) for one in again] == [tuple_of(lost)]
        publish(redis_url, again)
        assert await store.requeue_lost(-1) == []
        assert await store.requeue_lost(-1) == []
        client.delete(QUEUE)


def tuple_of(raw: bytes) -> tuple[str, int]:
    batch, row, _ = json.loads(raw)["headers"]["id"].split(":")
    return batch, int(row)


@pytest.mark.parametrize("raw", ["no json", "[]", "{}", '{"headers": null}', '{"headers": [1]}', b"\xff"])
async def test_what_nobody_can_read_in_the_queue_names_no_row(
    store: Store, redis_url: str, raw: str | bytes
) -> None:
    """Anybody may write there: the search for lost messages passes it over and finds what is lost."""
    await store.heartbeat(card(slots=4))
    await accepted(store, 4)
    await store.dispatch(0)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush(QUEUE, raw)
        assert await store.requeue_lost(-1) == []
        assert [one.row for one in await store.requeue_lost(-1)] == [2, 3, 4]
        client.delete(QUEUE)


@pytest.mark.parametrize("row", ["1", 1.0, True, None, [], {}, 0, -1])
def test_only_what_publish_writes_names_a_row(row: object) -> None:
    """Batches by their id, rows counted from 1: whatever else a message says is dropped before the claim."""
    assert names_a_row("b_7hq2m9", 1)
    assert not names_a_row("b_7hq2m9", row)


@pytest.mark.parametrize("batch", ["", "b_", "7hq2m9", "b_7hq2m9:n", "b_\ud800", "b_7hq2m9\n", 7, None, []])
def test_only_a_batchs_id_names_one(batch: object) -> None:
    """Not a key of it, nor what Redis could not be asked for."""
    assert not names_a_row(batch, 1)


async def test_a_message_is_not_called_lost_before_its_time(store: Store) -> None:
    """Between the broker and the claim every message is nowhere for a moment."""
    await submitted(store, 1)
    await store.heartbeat(card())
    await store.dispatch(0)
    assert await store.requeue_lost() == []
    assert await store.requeue_lost() == []


async def test_two_sweepers_publish_a_lost_row_once(store: Store, redis_url: str) -> None:
    """Both have the proof, one gets the row."""
    await submitted(store, 1)
    await store.heartbeat(card())
    await store.dispatch(0)
    async with await Store.open(redis_url) as other:
        assert await store.requeue_lost(-1) == []
        assert await other.requeue_lost(-1) == []
        assert len([*await store.requeue_lost(-1), *await other.requeue_lost(-1)]) == 1


async def test_a_row_claimed_meanwhile_is_not_lost(store: Store) -> None:
    """Its message only took long."""
    await submitted(store, 1)
    await store.heartbeat(card())
    (fed,) = await store.dispatch(0)
    assert await store.requeue_lost(-1) == []
    await claimed(store, fed)
    assert await store.requeue_lost(-1) == []


async def test_a_crash_between_feeding_and_publishing_loses_nothing(store: Store) -> None:
    """The row was fed and never sent: the next sweeps find it."""
    batch = await submitted(store, 1)
    await store.heartbeat(card())
    await store.dispatch(0)
    await store.requeue_lost(-1)
    (again,) = await store.requeue_lost(-1)
    assert (again.batch, again.row) == (batch, 1)
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
        await submitted(store, 1)
        publish(socket_url, await store.dispatch(1))
        assert await store._connection.execute("LLEN", QUEUE) == 1


def test_a_brokers_certificate_is_checked() -> None:
    """kombu would not, unless told to; what the address says of TLS is left alone."""
    assert broker_settings("rediss://host/0")["broker_use_ssl"] == {"ssl_cert_reqs": "required"}
    assert broker_settings("rediss://host/0?ssl_cert_reqs=none")["broker_use_ssl"] is None
    assert broker_settings("redis://host/0")["broker_use_ssl"] is None


async def test_open_batches_are_fed_in_turn_even_one_place_at_a_time(store: Store) -> None:
    """The one served longest ago comes next."""
    await store.heartbeat(card(slots=1))
    batches = await accepted(store, 10, 10, 10)
    turns = []
    for _ in range(6):
        (fed,) = await store.dispatch(0)
        turns.append(fed.batch)
        await store.finish(await claimed(store, fed), ended(fed.row))
    assert turns[:3] == turns[3:]
    assert set(turns) == set(batches)

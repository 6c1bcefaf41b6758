"""Scripts that stop, cancel and retry a whole batch, or release what is lost: complete replies, and all that they change.

Each line of them is a mutant that some test must catch (docs/decisions/mutation-tests.md).
"""

from typing import Any

import pytest
import redis

from askmill.jobs.store import Store, keys
from askmill.jobs.store.records import NewRow
from tests.helpers.batches import expire_worker, finish_all_rows, new_batch, submit_batch, worker_info
from tests.store.script_effects import Changes, Effects
from tests.store.test_row_script_effects import NOTHING, scene
from tests.store.test_shard_script_effects import scene as shard_scene
from tests.store.test_shard_script_effects import step

LIFETIME_MS, TOMBSTONE_MS = 12_000, 100_000
REFUSED: Changes = {"accepted": 0, "probe_row": None, "refused_at_run": 1}


async def unsealed(store: Store) -> str:
    """The id of a batch that is still loading."""
    return await store.create_batch(new_batch(identity="2" * 64))


async def end(effects: Effects, row: int, byte: str, fence: str = "") -> None:
    """Claim a dispatched row and end it with this byte."""
    fence = fence or f"f{row}"
    await effects.of("claim", "B", row, "w1", fence)
    await effects.of("finish", "B", row, "w1", fence, byte, f"result {row}", "", 0)


@pytest.mark.parametrize("accepted", [False, True])
async def test_creates_that_go_on_failing_pause_the_batch_once(
    store: Store, redis_url: str, accepted: bool
) -> None:
    """A queued or a running one, after its patience; the next run goes alone, and the patience begins anew."""
    effects, batch = await scene(store, redis_url, 2, accepted=accepted)
    failed = ("create_failed", "B", "a reason", 10**9)
    assert await effects.of(*failed) == (0, {"batch:B": {"creates_failing_since": "now"}})
    assert await effects.of(*failed) == (0, NOTHING)
    now_ms = int(effects.started_s * 1000)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "creates_failing_since", now_ms - 10**9 + 10**8)
        assert await effects.of(*failed) == (0, NOTHING)
        client.hset(keys.batch(batch), "creates_failing_since", now_ms - 10**9)
    paused = {"paused_at": "now", "paused_reason": "a reason", "state": "paused"}
    goes_alone = {"accepted": 0} if accepted else {}
    assert await effects.of(*failed) == (
        1,
        {"batch:B": {**paused, **goes_alone, "creates_failing_since": None, "probe_row": None}},
    )
    assert await effects.of(*failed) == (0, NOTHING)
    await store.resume(batch)
    assert await effects.of("create_failed", "B", "a reason", 0) == (1, {"batch:B": paused})


async def test_refusals_count_since_the_last_accepted_run(store: Store, redis_url: str) -> None:
    """Which rows were refused, and which of them alone: each once, also when the call is repeated."""
    effects, batch = await scene(store, redis_url, 4)
    await effects.of("claim", "B", 2, "w1", "f2")
    assert await effects.of("record_refusal", "B", 2, "f1") == ([0], NOTHING)
    assert await effects.of("record_refusal", "B", 3, "f1") == ([0], NOTHING)

    def live(row: int, runs: int, accepted: int = 0) -> dict[str, Any]:
        return {"accepted_since": accepted, "refused_at_run": runs, "refused_with": f"f{row}"}

    assert await effects.of("record_refusal", "B", 2, "f2") == (
        [1, 0, 0, 3, 1, 2],
        {
            "batch:B": {**REFUSED, "refused_alone": " ", "refused_rows": " 2 "},
            "live:2": live(2, 1),
        },
    )
    assert await effects.of("record_refusal", "B", 2, "f2") == ([1, 0, 0, 3, 1, 2], NOTHING)
    await effects.of("claim", "B", 3, "w1", "f3")
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "probe_row", 3)
    assert await effects.of("record_refusal", "B", 3, "f3") == (
        [1, 0, 1, 2, 1, 2, 3],
        {
            "batch:B": {"probe_row": None, "refused_alone": " 3 ", "refused_rows": " 2 3 "},
            "live:3": live(3, 1),
        },
    )
    assert await effects.of("record_refusal", "B", 3, "f3") == ([1, 0, 1, 2, 1, 2, 3], NOTHING)

    await effects.of("release_row", "B", 2, "w1", "f2", "state", 0, 0, "")
    await store.dispatch(1)
    await effects.of("claim", "B", 2, "w1", "f2 again")
    reply, changes = await effects.of("record_refusal", "B", 2, "f2 again")
    assert (reply, changes["batch:B"]) == (
        [1, 0, 2, 2, 1, 2, 3],
        {"probe_row": None, "refused_alone": " 3 2 "},
    )
    await effects.of("claim", "B", 4, "w1", "f4")
    await effects.of("save", "B", 4, "f4", "hash 1", "state", 1, 1, "", "", "")
    assert (await effects.of("record_refusal", "B", 2, "f2 again")).reply == [1, 0, 0, 3, 1, 2]
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.live(batch, 2), "fence", "f2 once more")
    assert (await effects.of("record_refusal", "B", 2, "f2 once more")).reply == [1, 1, 0, 3, 1, 2]


async def test_refusals_before_any_run_name_other_rows_that_may_be_tried(
    store: Store, redis_url: str
) -> None:
    """Queued, dispatched, waiting and running ones."""
    await store.heartbeat(worker_info(slots=3))
    batch = await submit_batch(store, 6)
    effects = Effects(store, redis_url, batch)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "accepted", 1)
        await store.dispatch(0)
        client.hset(keys.batch(batch), "accepted", 0)
    for row in (1, 2):
        await effects.of("claim", "B", row, "w1", f"f{row}")
    await effects.of("release_row", "B", 2, "w1", "f2", "", 9 * 10**12, "", "")
    assert await store.status_bytes(batch) == "rwpqqq"
    assert (await effects.of("record_refusal", "B", 1, "f1")).reply == [1, 0, 0, 5, 0, 1]


async def test_five_hundred_refused_rows_are_named(store: Store, redis_url: str) -> None:
    """One more is not, and those are kept."""
    effects, batch = await scene(store, redis_url, 2)
    await effects.of("claim", "B", 2, "w1", "f2")
    for named, after in ((499, 500), (500, 500)):
        rows = list(range(10, 10 + named))
        text = f" {' '.join(map(str, rows))} "
        with redis.Redis.from_url(redis_url) as client:
            client.hset(
                keys.batch(batch),
                mapping={"refused_at_run": 1, "refused_rows": text, "refused_alone": text, "probe_row": 2},
            )
        reply, _ = await effects.of("record_refusal", "B", 2, "f2")
        assert (reply[2], reply[5:]) == (after, rows + [2] * (after - named))


async def test_a_message_that_is_lost_is_published_again(store: Store, redis_url: str) -> None:
    """Under a number that no earlier message of the row had; once for each request and time of its dispatch."""
    effects, batch = await scene(store, redis_url, 3)

    def dispatched_at(ms: int, *names: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.zadd(keys.DISPATCHED, {name.replace("B", batch): ms for name in names})

    dispatched_at(5, "B:2", "B:3")
    lost = ("q1", "B:2", 5, "B:3", 6, "B:1", 0, "B:4", 0)
    again = (["B", 2, 2], {"dispatched": {"B:2": "now"}, "live:2": {"requeues": 1}})
    assert await effects.of("requeue", *lost) == again
    assert await effects.of("requeue", *lost) == (again[0], NOTHING)
    assert await effects.of("requeue", "q2", *lost[1:]) == ([], NOTHING)
    await effects.of("claim", "B", 2, "w1", "f2")
    await effects.of("release_row", "B", 2, "w1", "f2", "", 0, "", "")
    await store.dispatch(1)
    dispatched_at(5, "B:2")
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "generation", 7)
    assert await effects.of("requeue", "q3", "B:2", 5, "B:3", 5) == (
        ["B", 2, 7004, "B", 3, 7002],
        {
            "dispatched": {"B:2": "now", "B:3": "now"},
            "live:2": {"requeues": 2},
            "live:3": {"requeues": 1},
        },
    )
    dispatched_at(5, "b_nobatch:1")
    assert await effects.of("requeue", "q4", "b_nobatch:1", 5) == ([], NOTHING)
    with redis.Redis.from_url(redis_url) as client:
        client.zrem(keys.DISPATCHED, "b_nobatch:1")


async def test_a_cancelled_batch_keeps_only_what_a_worker_has_to_end(store: Store, redis_url: str) -> None:
    """Running rows, and those with a stored state, which are due at once; all others have ended. Once."""
    await store.heartbeat(worker_info(slots=7))
    other = await submit_batch(store, 1, identity="1" * 64)
    rows = [NewRow([str(row)], None, "one" if row > 7 else None) for row in range(1, 10)]
    batch = await submit_batch(store, rows)
    effects = Effects(store, redis_url, batch)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "accepted", 1)
        client.zadd(keys.OPEN, {batch: -1})
        await store.dispatch(0)
        for row in (1, 3, 4, 5, 6):
            await effects.of("claim", "B", row, "w1", f"f{row}")
        for row in (1, 3, 4, 5):
            await effects.of("save", "B", row, f"f{row}", "hash", f"state {row}", int(row == 5), 1, 0, 9, "")
        for row, due_ms, in_flight in ((3, 0, 0), (4, 9 * 10**12, 0), (5, 9 * 10**12, 1), (6, 5, 0)):
            state = "" if row == 6 else f"state {row}"
            await effects.of("release_row", "B", row, "w1", f"f{row}", state, due_ms, in_flight, "")
        client.zrem(keys.part(batch, "due"), 6)
        await store.heartbeat(worker_info(slots=5))
        await store.dispatch(0)
        client.zadd(keys.part(batch, "due"), {"6": 5})
        client.hset(keys.live(batch, 2), "requeues", 1)
    assert await store.status_bytes(batch) == "rppwwwpqh"
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), mapping={"paused_reason": "a pause", "state": "paused"})
    assert await effects.of("cancel", "B") == (
        "paused",
        {
            "batch:B": {"paused_reason": None, "state": "cancelled"},
            "counters": {"h": 0, "p": 1, "q": 0, "w": 2, "x": 5},
            "dispatched": {"B:2": None, "B:7": None},
            "due": None,
            "due_running": {4: 0, 5: 0},
            "live:2": None,
            "live:6": None,
            "status": "rxpwwxxxx",
        },
    )
    assert await effects.of("cancel", "B") == ("cancelled", NOTHING)
    assert await store.status_bytes(other) == "p"
    assert await effects.of("cancel", "nobatch") == ("", NOTHING)
    assert await effects.of("cancel", await unsealed(store)) == ("", NOTHING)


async def test_a_cancel_without_a_worker_ends_the_batch_and_begins_its_retention(
    store: Store, redis_url: str
) -> None:
    """Also of the second 64 KB of rows; an ended batch stays as it is."""
    _, batch = await scene(store, redis_url, 2)
    await store.cancel(batch)
    many = await submit_batch(store, 1, identity="1" * 64)
    effects = Effects(store, redis_url, many)
    await store.update_retention(many, 1)
    status = "q" + "c" * 65534 + "qqc" + "h" * 3
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.part(many, "status"), status)
        client.hset(keys.part(many, "counters"), mapping={"q": 3, "h": 3, "c": 65535, "x": 1})
        assert await effects.of("cancel", "B") == (
            "queued",
            {
                "batch:B": {"finished_at": "now", "state": "cancelled"},
                "counters": {"h": 0, "p": 0, "q": 0, "w": 0, "x": 7},
                "open": {"B": None},
                "status": status.replace("q", "x").replace("h", "x"),
            },
        )
        assert client.pttl(keys.batch(many)) > 0
        await store.purge(many)
    done = await submit_batch(store, 1, identity="2" * 64)
    await finish_all_rows(store)
    assert await Effects(store, redis_url, done).of("cancel", "B") == ("done", NOTHING)


async def test_rows_of_shards_that_are_not_sent_leave_them_when_cancelled(
    store: Store, redis_url: str
) -> None:
    """Also of one that waits, or is dispatched: a worker ends it. Those of a sent shard stay in it."""
    effects, batch = await shard_scene(store, redis_url, held=False)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), mapping={"accepted": 1, "shard_size": 2})
        for number in (1, 2, 3):
            await store.dispatch(number)
        client.hset(keys.live(batch, 4), mapping={"state": "state 4", "deliveries": 1})
        client.hset(keys.live(batch, 3), "deliveries", 1)
    await effects.of("claim_shard", "B", "shard:1", "w1", "f1")
    await effects.of("save_shard", *step("send", 2))
    await effects.of("claim_shard", "B", "shard:2", "w1", "f2")
    await effects.of("release_row", "B", "shard:2", "w1", "f2", "", 9 * 10**12, "", "")
    assert await effects.of("cancel", "B") == (
        "queued",
        {
            "batch:B": {"state": "cancelled"},
            "counters": {"p": 0, "w": 1, "x": 3},
            "due_running": {4: 0, "shard:2": 0},
            "live:3": None,
            "live:shard:2": {"rows": 0},
            "live:shard:3": {"rows": 0},
            "shard_rows": {3: None, 4: None, 5: None, 6: None},
            "status": "rrxwxx",
        },
    )


async def test_rows_that_a_batch_of_the_api_has_taken_from_their_shard_run_on_when_cancelled(
    store: Store, redis_url: str
) -> None:
    """Only what is still in the shard that is not sent ends."""
    effects, batch = await shard_scene(store, redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.live(batch, 2), "state", "state 2")
    await effects.of("adopt_shard", "B", "api_1", "file-9", "state", 40, 2, 3, 5)
    assert await effects.of("cancel", "B") == (
        "running",
        {
            "batch:B": {"state": "cancelled"},
            "counters": {"p": 0, "w": 0, "x": 3},
            "live:shard:1": {"rows": 0},
            "shard_rows": {1: None, 4: None, 6: None},
            "status": "xrrxrx",
        },
    )


async def test_a_retry_opens_an_ended_batch_again(store: Store, redis_url: str) -> None:
    """Once for each request: the chosen rows are queued, its keys stay, and its time so far is kept."""
    effects, batch = await scene(store, redis_url, 4, accepted=False)
    await store.update_retention(batch, 1)
    await store.dispatch(1)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "accepted", 1)
        await store.dispatch(1)
    for row, byte in ((1, "c"), (2, "f"), (3, "e")):
        await end(effects, row, byte)
    retried = ("retry", "q1", "B", "fx")
    assert await effects.of(*retried) == (
        1,
        {
            "batch:B": {"cursor": 0, "generation": 1},
            "counters": {"f": 0, "q": 1, "x": 0},
            "status": "cqep",
        },
    )
    await store.dispatch(1)
    await end(effects, 4, "f")
    await end(effects, 2, "f", "f2 again")
    opened: Changes = {"finished_at": None, "generation": 2, "state": "queued"}
    assert await effects.of("retry", "q2", "B", "ef") == (
        3,
        {
            "batch:B": {**opened, "cursor": 0},
            "counters": {"e": 0, "f": 0, "q": 3},
            "open": {"B": 0},
            "status": "cqqq",
        },
    )
    assert await effects.of("retry", "q2", "B", "ef") == (3, NOTHING)
    assert await effects.of("retry", "q3", "B", "ef") == (0, NOTHING)
    with redis.Redis.from_url(redis_url) as client:
        assert {client.pttl(name) for name in client.scan_iter(f"{keys.batch(batch)}*")} == {-1}
        assert client.pttl(keys.identity("0" * 64)) == -1
        reply_ms = client.pttl(keys.reply("q2"))
        assert 3_000_000 < reply_ms <= 3_600_000
    assert await effects.of("retry", "q4", "nobatch", "ef") == (-1, NOTHING)
    assert await effects.of("retry", "q5", await unsealed(store), "ef") == (-1, NOTHING)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_batch_that_has_run_and_is_retried_knows_when_it_had_ended(
    store: Store, redis_url: str, cancelled: bool
) -> None:
    """The search for queued rows goes on where it was, when the row is behind that."""
    effects, batch = await scene(store, redis_url, 2)
    if cancelled:
        await store.cancel(batch)
        await effects.of("finish", "B", 1, "w1", "f1", "f", "result", "", 0)
    else:
        await effects.of("finish", "B", 1, "w1", "f1", "f", "result", "", 0)
        await end(effects, 2, "x")
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "finished_at", 1234)
        client.hset(keys.batch(batch), "cursor", 0)
    assert await effects.of("retry", "q1", "B", "fx") == (
        2,
        {
            "batch:B": {"ended_before": 1234, "finished_at": None, "generation": 1, "state": "running"},
            "counters": {"f": 0, "q": 2, "x": 0},
            "open": {"B": 0},
            "status": "qq",
        },
    )


async def test_a_retry_while_a_cancelled_batch_ends_its_runs(store: Store, redis_url: str) -> None:
    """It has not ended, so no time is idle; its row goes on."""
    effects, _ = await scene(store, redis_url, 2)
    await effects.of("cancel", "B")
    assert await effects.of("retry", "q1", "B", "x") == (
        1,
        {
            "batch:B": {"cursor": 0, "generation": 1, "state": "running"},
            "counters": {"q": 1, "x": 0},
            "open": {"B": 0},
            "status": "rq",
        },
    )


async def test_a_retry_of_many_rows_finds_the_first(store: Store, redis_url: str) -> None:
    """Beyond 64 KB of status bytes; the search for queued rows begins with the piece that has the first."""
    batch = await submit_batch(store, 1)
    effects = Effects(store, redis_url, batch)
    status = "c" * 65536 + "fcxf"
    for chosen, new, cursor in (("f", "c" * 65536 + "qcxq", 65536), ("cf", "q" * 65537 + "qxq", 0)):
        with redis.Redis.from_url(redis_url) as client:
            client.set(keys.part(batch, "status"), status)
            client.hset(keys.batch(batch), "cursor", 65540)
            client.hset(keys.part(batch, "counters"), mapping={"q": 0, "f": 2, "c": 65537, "x": 1})
        reply, changes = await effects.of("retry", f"q{cursor}", "B", chosen)
        assert (reply, changes["status"], changes["batch:B"]["cursor"]) == (
            status.count("f") + ("c" in chosen) * status.count("c"),
            new,
            cursor,
        )
    await store.purge(batch)


@pytest.mark.parametrize(
    ("status", "chosen", "new"),
    [
        ("cfff", "f", "cqhh"),
        ("ccfc", "c", "qhhh"),
        ("cccc", "f", "cccc"),
        ("fccc", "fc", "qhhh"),
        ("ffff", "x", "ffff"),
        ("efff", "f", "efff"),
        ("xxxx", "x", "qhhh"),
        ("xfff", "f", "xfff"),
        ("cexf", "ex", "cqhh"),
        ("rxxx", "x", "rhhh"),
        ("pxxx", "x", "phhh"),
        ("qxxx", "x", "qhhh"),
        ("wxxx", "x", "whhh"),
        ("rhxx", "x", "rhhh"),
        ("cwxx", "c", "qwxx"),
        ("icff", "i", "qhhh"),
        ("jjff", "f", "jjff"),
    ],
)
async def test_a_retried_turn_takes_the_rest_of_its_conversation_with_it(
    store: Store, redis_url: str, status: str, chosen: str, new: str
) -> None:
    """It waits for an earlier turn that is open, and is left out behind one that failed and was not chosen."""
    batch = await submit_batch(store, [NewRow([str(row)], None, "one") for row in range(1, 5)])
    effects = Effects(store, redis_url, batch)
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.part(batch, "status"), status)
        client.hset(keys.part(batch, "counters"), mapping={"q": 0, "h": 0} | counted(status))
        reply, changes = await effects.of("retry", "q1", "B", chosen)
        after = client.hgetall(keys.part(batch, "counters"))
    changed = sum(a != b for a, b in zip(status, new, strict=True))
    assert (reply, changes.get("status", status)) == (changed, new)
    assert {name.decode(): int(rows) for name, rows in after.items() if int(rows)} == counted(new)
    await store.purge(batch)


def counted(status: str) -> dict[str, int]:
    """How many rows have each byte."""
    return {byte: status.count(byte) for byte in set(status)}


async def test_turns_are_retried_beyond_a_thousand_rows(store: Store, redis_url: str) -> None:
    """The next turn may be in a later piece, of which the last is full; rows without a conversation are retried by themselves."""
    batch = await submit_batch(store, [NewRow([str(row)], None, "one") for row in range(1, 3)])
    effects = Effects(store, redis_url, batch)
    status = "c" * 998 + "fffcf" + "c" * 996 + "f"
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.part(batch, "status"), status)
        client.delete(keys.part(batch, "next_turn"))
        client.hset(keys.part(batch, "next_turn"), mapping={1000: 1002, 1002: 1003, 1003: 2000})
        client.hset(keys.batch(batch), "cursor", 2000)
        client.hset(keys.part(batch, "counters"), mapping=counted(status))
    reply, changes = await effects.of("retry", "q1", "B", "f")
    assert (reply, changes["status"], changes["batch:B"]["cursor"]) == (
        6,
        "c" * 998 + "qqqhh" + "c" * 996 + "h",
        0,
    )
    await store.purge(batch)


async def test_the_last_row_of_a_paused_batch_ends_it(store: Store, redis_url: str) -> None:
    """The reason of the pause goes."""
    effects, batch = await scene(store, redis_url, 1)
    await store.pause(batch, "a pause")
    _, changes = await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 0)
    assert changes["batch:B"] == {"finished_at": "now", "paused_reason": None, "state": "done"}


@pytest.mark.parametrize("byte", "qpwhr")
async def test_a_batch_stays_open_while_a_row_is_unfinished(store: Store, redis_url: str, byte: str) -> None:
    """Queued, dispatched, waiting, held or running."""
    effects, batch = await scene(store, redis_url, 1)
    with redis.Redis.from_url(redis_url) as client:
        client.hincrby(keys.part(batch, "counters"), byte, 1)
    _, changes = await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 0)
    assert "batch:B" not in changes
    await store.purge(batch)


async def test_all_that_is_left_of_a_batch_of_shards_expires(store: Store, redis_url: str) -> None:
    """Also the lists of their rows."""
    effects, batch = await shard_scene(store, redis_url)
    await store.update_retention(batch, 1)
    await effects.of("save_shard", *step("send"))
    ends = (part for row in range(1, 7) for part in (row, "c", f"result {row}", "", 0))
    await effects.of("end_rows", "B", 1, "f1", 0, *ends)
    await effects.of("end_shard", "B", 1, "w1", "f1", "done", 0, "", "", "", 0)
    with redis.Redis.from_url(redis_url) as client:
        names = [*client.scan_iter(f"{keys.batch(batch)}*"), keys.identity("0" * 64).encode()]
        assert keys.part(batch, "shard_lines").encode() in names
        assert all(client.pttl(name) > 0 for name in names)


async def test_an_older_batch_of_the_same_file_lets_the_newer_keep_its_identity(
    store: Store, redis_url: str
) -> None:
    """Only its own keys expire."""
    effects, batch = await scene(store, redis_url, 1)
    await store.update_retention(batch, 1)
    newer = await submit_batch(store, 1)
    await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 0)
    with redis.Redis.from_url(redis_url) as client:
        assert client.get(keys.identity("0" * 64)) == newer.encode()
        assert client.pttl(keys.identity("0" * 64)) == -1
        assert client.pttl(keys.batch(batch)) > 0


async def test_five_minutes_of_finished_rows_are_counted(store: Store, redis_url: str) -> None:
    """In pieces of ten seconds; older ones go with the first row of a new one."""
    effects, batch = await scene(store, redis_url, 1)
    key = keys.part(batch, "throughput")
    with redis.Redis.from_url(redis_url) as client:
        now = client.time()[0] // 10
        client.hset(key, mapping={str(now - ago): 1 for ago in range(25, 40)})
        await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 0)
        counts = {int(piece): int(rows) for piece, rows in client.hgetall(key).items()}
    newest = max(counts)
    assert now <= newest
    assert counts == {newest: 1, **dict.fromkeys(range(newest - 30, now - 24), 1)}


async def test_the_rows_of_dead_workers_are_released_a_few_at_a_time(store: Store, redis_url: str) -> None:
    """Each is marked first, and listed until it holds none; a worker that registers again finds the mark."""
    effects, _ = await scene(store, redis_url, 6)
    for worker in ("w2", "w3", "w4"):
        await store.heartbeat(worker_info(worker))
    for row, worker in ((2, "w2"), (3, "w2"), (4, "w2"), (5, "w3"), (6, "w3")):
        await effects.of("claim", "B", row, worker, f"f{row}")
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.WORKERS, {"w2": 1, "w3": 2})
    for worker in ("w2", "w3"):
        expire_worker(redis_url, worker)
    reap = ("reap_workers", "w1", LIFETIME_MS, 2, TOMBSTONE_MS)

    def unheld(*rows: int) -> Changes:
        return {f"live:{row}": {"fence": None, "worker": None} for row in rows}

    def status(*rows: int) -> str:
        return "".join("w" if row in rows else "r" for row in range(1, 7))

    reply, changes = await effects.of(*reap)
    first = set(changes["due"])
    assert (reply, changes) == (
        [2, ["w2"], []],
        {
            "claims:w2": {f"B:{row}": None for row in first},
            "counters": {"r": 4, "w": 2},
            "due": dict.fromkeys(first, 0),
            **unheld(*first),
            "status": status(*first),
            "worker:w2": {"reaped": 1},
        },
    )
    with redis.Redis.from_url(redis_url) as client:
        assert LIFETIME_MS < client.pttl(keys.worker("w2")) <= TOMBSTONE_MS
    reply, changes = await effects.of(*reap)
    (left,) = {2, 3, 4} - first
    (other,) = set(changes["due"]) - {left}
    assert (reply, changes) == (
        [2, ["w2", "w3"], []],
        {
            "claims:w2": None,
            "claims:w3": {f"B:{other}": None},
            "counters": {"r": 2, "w": 4},
            "due": {left: 0, other: 0},
            **unheld(left, other),
            "status": status(2, 3, 4, other),
            "worker:w3": {"reaped": 1},
            "workers": {"w2": None},
        },
    )
    reply, changes = await effects.of(*reap)
    assert (reply, changes["workers"], changes["status"]) == ([1, ["w3"], []], {"w3": None}, "rwwwww")
    assert await effects.of(*reap) == ([0, [], []], NOTHING)


@pytest.mark.parametrize(
    ("gap", "reaps"),
    [("no key", False), ("since now", False), ("since long", True), ("unlisted", True), ("recovery", False)],
)
async def test_who_missed_heartbeats_declares_nobody_dead(
    store: Store, redis_url: str, gap: str, reaps: bool
) -> None:
    """Not until a lifetime after its own gap, nor while writes are redone: the others may only be late."""
    effects, _ = await scene(store, redis_url, 1)
    await store.heartbeat(worker_info("w2"))
    expire_worker(redis_url, "w1")
    with redis.Redis.from_url(redis_url) as client:
        seconds = client.time()[0]
        if gap == "no key":
            expire_worker(redis_url, "w2")
        elif gap == "unlisted":
            expire_worker(redis_url, "w2")
            client.zrem(keys.WORKERS, "w2")
        elif gap == "recovery":
            client.set(keys.RECOVERY, "9999999999999 12000", px=12_000)
        else:
            since_s = seconds if gap == "since now" else seconds - LIFETIME_MS // 1000 - 1
            client.hset(keys.worker("w2"), "heartbeats_since", since_s * 1000)
        reply, changes = await effects.of("reap_workers", "w2", LIFETIME_MS, 10, TOMBSTONE_MS)
        assert reply == ([1, ["w1"], []] if reaps else [0, [], []])
        assert bool(changes) == reaps
        client.delete(keys.RECOVERY)


async def test_a_worker_lives_no_longer_than_a_lifetime(store: Store, redis_url: str) -> None:
    """A clock that was set back would hold a dead worker's rows for longer; a shorter rest stays as it is."""
    effects, _ = await scene(store, redis_url, 1)
    await store.heartbeat(worker_info("w2"))
    with redis.Redis.from_url(redis_url) as client:
        client.pexpire(keys.worker("w1"), 10**9)
        client.pexpire(keys.worker("w2"), LIFETIME_MS - 2000)
        assert await effects.of("reap_workers", "w1", LIFETIME_MS, 10, TOMBSTONE_MS) == ([0, [], []], NOTHING)
        assert 0 < client.pttl(keys.worker("w1")) <= LIFETIME_MS
        assert 0 < client.pttl(keys.worker("w2")) <= LIFETIME_MS - 2000


async def test_a_reap_removes_what_is_gone_or_is_no_batch_and_worker(store: Store, redis_url: str) -> None:
    """And keeps what is there; it names what it removed of the lists by which rows are found."""
    effects, _ = await scene(store, redis_url, 2)
    loading = await unsealed(store)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.OPEN, {"b_gone": 0})
        client.zadd(keys.BATCHES, {"b_gone": 1})
        client.zadd(keys.DISPATCHED, {"b_gone:1": 1})
        for name in ("odd", "strange"):
            client.zadd(keys.WORKERS, {name: 1})
            client.set(keys.worker(name), "x")
        client.sadd(keys.LOADING, "b_gone")
        reply, changes = await effects.of("reap_workers", "w1", LIFETIME_MS, 10, TOMBSTONE_MS)
        assert (reply[:2], sorted(reply[2])) == (
            [0, []],
            [
                *("askmill:dispatched b_gone:1", "askmill:open b_gone"),
                *("askmill:workers odd", "askmill:workers strange"),
            ],
        )
        assert changes == {
            "batches": {"b_gone": None},
            "dispatched": {"b_gone:1": None},
            "loading": {"b_gone": None},
            "open": {"b_gone": None},
            "workers": {"odd": None, "strange": None},
        }
        assert client.sismember(keys.LOADING, loading)
        client.delete(keys.worker("odd"), keys.worker("strange"))


@pytest.mark.parametrize(
    "script",
    [
        ("reap_workers", "w9", LIFETIME_MS, 10, TOMBSTONE_MS),
        ("deregister_worker", "w1"),
        ("release_unknown", "w1", "B:1", "b_gone:7", "garbage"),
    ],
    ids=lambda script: script[0],
)
async def test_odd_names_among_the_rows_of_a_worker_are_removed(
    store: Store, redis_url: str, script: tuple[Any, ...]
) -> None:
    """Anybody may write them; its rows are released all the same."""
    effects, _ = await scene(store, redis_url, 2)
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(keys.claims("w1"), "garbage", "b_gone:7")
    if script[0] == "reap_workers":
        expire_worker(redis_url, "w1")
    reply, changes = await effects.of(*script)
    assert (changes["claims:w1"], changes["status"]) == (None, "wp")
    assert reply == ([3, ["w1"], []] if script[0] == "reap_workers" else 3)

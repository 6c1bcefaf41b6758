"""Recoveries, lost writes of rows, and rate limits: complete replies of their scripts, and all that they change."""

from typing import Any

import orjson
import pytest
import redis

from askmill.jobs.store import Store, keys
from askmill.jobs.store.lua_source import script
from tests.helpers.batches import expire_worker, worker_info
from tests.store.test_row_script_effects import NOTHING, scene
from tests.store.test_shard_script_effects import scene as shard_scene
from tests.store.test_shard_script_effects import step


def lost(**changed: Any) -> bytes:
    """What a worker knows of row 2 whose writes were lost."""
    live = {
        "run_in_flight": "1",
        "run_counted": "1",
        "crash_mark": "",
        "reserved_nano": "30",
        "spent_nano": "",
    }
    row = {
        "request": "q1",
        "batch": "B",
        "row": 2,
        "fence": "g",
        "generation": 0,
        "deliveries": 1,
        "live": live,
    }
    return orjson.dumps({**row, "runs": 1, "writes": 3, "counters": {"requests": 2, "prompt": 5}, **changed})


async def test_lost_writes_of_a_row_are_redone_once(store: Store, redis_url: str) -> None:
    """The row is its worker's again, out of the queue; what it counted is added once for each request."""
    effects, _ = await scene(store, redis_url, 4)
    redone = {
        "deliveries": 1,
        "fence": "g",
        "run_counted": 1,
        "run_in_flight": 1,
        "worker": "w1",
        "reserved_nano": 30,
    }
    assert await effects.of("reclaim_rows", "w1", lost(), "state A") == (
        1,
        {
            "claims:w1": {"B:2": "in"},
            "counters": {
                "p": 2,
                "r": 2,
                "runs": 2,
                "requests": 2,
                "prompt": 5,
                "recovered_writes": 3,
                "reserved_nano": 30,
            },
            "dispatched": {"B:2": None},
            "live:2": {**redone, "state": "state A"},
            "status": "rrpp",
        },
    )
    assert await effects.of("reclaim_rows", "w1", lost(), "state A") == (1, NOTHING)
    two = (
        *(lost(row=4, request="q2", live={}), "state 4"),
        *(lost(request="q3", runs=0, counters={}, writes=1, fence="h", deliveries=2, live={}), ""),
    )
    assert await effects.of("reclaim_rows", "w1", *two) == (
        2,
        {
            "claims:w1": {"B:4": "in"},
            "counters": {
                "p": 1,
                "r": 3,
                "runs": 3,
                "requests": 4,
                "prompt": 10,
                "recovered_writes": 7,
                "reserved_nano": 0,
            },
            "dispatched": {"B:4": None},
            "live:2": {"deliveries": 2, "fence": "h", "reserved_nano": 0},
            "live:4": {"deliveries": 1, "fence": "g", "state": "state 4", "worker": "w1"},
            "status": "rrpr",
        },
    )
    assert await effects.of("reclaim_rows", "w1", lost(row=9, request="q4"), "") == (0, NOTHING)


@pytest.mark.parametrize("newer", ["deliveries", "held by another", "ended", "generation"])
async def test_a_row_that_has_gone_on_since_stays_where_it_is(
    store: Store, redis_url: str, newer: str
) -> None:
    """Only what the lost writes counted is added."""
    effects, _ = await scene(store, redis_url, 3)
    await store.heartbeat(worker_info("w2"))
    await effects.of("claim", "B", 2, "w2", "f2")
    worker, changed = "w1", NOTHING
    if newer == "deliveries":
        worker, changed = "w2", {"deliveries": 0}
    elif newer == "generation":
        changed = {"generation": -1, "deliveries": 5}
    elif newer == "ended":
        await effects.of("finish", "B", 2, "w2", "f2", "c", "result", "", 0)
        changed = {"deliveries": 5}
    counted = {"counters": {"runs": 2, "requests": 2, "prompt": 5, "recovered_writes": 3}}
    assert await effects.of("reclaim_rows", worker, lost(**changed), "state B") == (0, counted)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.worker(worker), "reaped", 1)
    assert await effects.of("reclaim_rows", worker, lost(request="q2"), "state B") == (0, NOTHING)


@pytest.mark.parametrize("holder", ["w1", "w2"])
async def test_a_claim_given_anew_to_nobody_alive_is_taken_back(
    store: Store, redis_url: str, holder: str
) -> None:
    """To a worker that has died since, or to this one under another fence; with what its attempts have spent."""
    effects, _ = await scene(store, redis_url, 2)
    await store.heartbeat(worker_info("w2"))
    await effects.of("claim", "B", 2, holder, "f2")
    if holder == "w2":
        expire_worker(redis_url, "w2")
    row = lost(runs=0, writes=1, counters={}, live={"spent_nano": "7"})
    reply, changes = await effects.of("reclaim_rows", "w1", row, "state")
    assert (reply, changes["counters"]) == (1, {"spent_nano": 7, "recovered_writes": 1})
    worker = {} if holder == "w1" else {"worker": "w1"}
    assert changes["live:2"] == {"fence": "g", "spent_nano": 7, "state": "state", **worker}


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_lost_retry_opens_its_batch_again(store: Store, redis_url: str, cancelled: bool) -> None:
    """The row has ended in Redis, and its worker knows it of a later generation."""
    effects, batch = await scene(store, redis_url, 1)
    await store.update_retention(batch, 1)
    if cancelled:
        await store.cancel(batch)
    await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 0)
    reply, changes = await effects.of(
        "reclaim_rows", "w1", lost(row=1, generation=1, live={}, runs=0, counters={}), "s"
    )
    assert (reply, changes) == (
        1,
        {
            "batch:B": {"finished_at": None, "generation": 1, "state": "running"},
            "claims:w1": {"B:1": "in"},
            "counters": {"c": 0, "r": 1, "recovered_writes": 3},
            "live:1": {"deliveries": 1, "fence": "g", "state": "s", "worker": "w1"},
            "open": {"B": 0},
            "status": "r",
        },
    )
    with redis.Redis.from_url(redis_url) as client:
        assert {client.pttl(name) for name in client.scan_iter(f"{keys.batch(batch)}*")} == {-1}


async def test_a_batch_of_lost_writes_gets_the_rows_that_are_not_sent(store: Store, redis_url: str) -> None:
    """Once; without any such row it is a duplicate, at its assumed cost."""
    effects, _ = await shard_scene(store, redis_url)
    adopt = ("B", "api_1", "file-9", "state", 40, 2, 3, 5)
    assert await effects.of("adopt_shard", *adopt) == (
        [2, 0, 1],
        {
            "batch:B": {"accepted": 1, "started_at": "now", "state": "running"},
            "counters": {"adopted_batches": 1, "open_shards": 2, "p": 3, "r": 3, "runs": 0},
            "due_running": {"shard:2": 0},
            "live:shard:1": {"rows": 3},
            "live:shard:2": {"cut_at": "now", "rows": 3, "run_in_flight": 1, "sent": 1, "state": "state"},
            "shard_lines": {2: "2-3,5"},
            "shard_rows": {2: 2, 3: 2, 5: 2},
            "shards": {"file:file-9": 2, "next": 3},
            "status": "prrprp",
        },
    )
    assert await effects.of("adopt_shard", *adopt) == ([0, 0], NOTHING)
    assert (await effects.of("save_shard", *step("send", 6))).reply == [1, "rows_changed"]
    assert (await effects.of("save_shard", *step("send", 3))).changes["status"] == "rrrrrr"
    assert (await effects.of("save_shard", *step("unsent", 3))).changes["status"] == "prrprp"
    assert (await effects.of("save_shard", *step("send", 3, 1))).changes["counters"] == {
        "p": 0,
        "r": 6,
        "reserved_nano": 1,
    }
    duplicate = ("B", "api_2", "file-8", "state", 40, 1, 4)
    assert await effects.of("adopt_shard", *duplicate) == (
        [0, 1],
        {"counters": {"assumed_nano": 40, "late_runs": 1}, "shards": {"duplicate:api_2": 1}},
    )
    assert await effects.of("adopt_shard", *duplicate) == ([0, 0], NOTHING)
    assert await effects.of("adopt_shard", "nobatch", *duplicate[1:]) == ([0, 0], NOTHING)


async def test_a_batch_of_lost_writes_gets_waiting_rows_and_no_others(store: Store, redis_url: str) -> None:
    """Rows that have ended, or run in another batch of the API, stay as they are."""
    effects, _ = await shard_scene(store, redis_url)
    await effects.of("save_shard", *step("send"))
    ends = (*(1, "c", "result 1", "", 0), *(2, "w", "", "", 5000), *(3, "w", "", "", 5000))
    await effects.of("end_rows", "B", 1, "f1", 0, *ends)
    assert await effects.of("adopt_shard", "B", "api_1", "file-9", "state", 40, 1, 2, 4) == (
        [2, 0],
        {
            "batch:B": {"accepted": 1, "started_at": "now", "state": "running"},
            "counters": {"adopted_batches": 1, "open_shards": 2, "r": 4, "w": 1, "runs": 0},
            "due": {2: None},
            "due_running": {"shard:2": 0},
            "live:shard:2": {"cut_at": "now", "rows": 1, "run_in_flight": 1, "sent": 1, "state": "state"},
            "shard_lines": {2: "1-2,4"},
            "shard_rows": {2: 2},
            "shards": {"file:file-9": 2, "next": 3},
            "status": "crwrrr",
        },
    )


async def test_a_batch_of_lost_writes_gets_rows_that_are_queued_again(store: Store, redis_url: str) -> None:
    """Even their cut was lost."""
    effects, _ = await shard_scene(store, redis_url, held=False)
    reply, changes = await effects.of("adopt_shard", "B", "api_1", "file-9", "state", 40, 2, 3)
    assert (reply, changes["status"], changes["counters"]["q"]) == ([1, 0], "qrrqqq", 4)


async def test_the_time_between_an_end_and_a_run_after_a_retry_is_idle(store: Store, redis_url: str) -> None:
    """Counted once, by the first run or by the next end; never negative, though Redis' clock was set back."""
    effects, batch = await scene(store, redis_url, 1)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "ended_before", 1)
        _, changes = await effects.of("save", "B", 1, "f1", "hash 1", "state", 0, 1, "", "", "")
        assert "batch:B" not in changes
        _, changes = await effects.of("save", "B", 1, "f1", "hash 2", "state", 1, 1, "", "", "")
        assert changes["batch:B"] == {"ended_before": None, "idle_ms": "now"}
        client.hset(keys.batch(batch), "ended_before", 10**15)
        _, changes = await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 0)
        assert changes["batch:B"] == {"ended_before": None, "finished_at": "now", "state": "done"}


async def test_a_rate_limit_gives_each_request_its_place(store: Store, redis_url: str) -> None:
    """A burst of a second at least, then one a minute; a repeated request keeps its place, one given back frees it."""
    effects, _ = await scene(store, redis_url, 1)

    async def reserve(request: str, cost: int, kind: str = "requests_per_minute") -> tuple[float, float]:
        """The wait, and the place of the next request by Redis' clock, in seconds."""
        with redis.Redis.from_url(redis_url) as client:
            reply, _ = await effects.of("reserve_rate", request, kind, cost)
            place_s = float(client.get(keys.rate_limit(kind)) or 0) / 1000
            assert client.pttl(keys.rate_limit(kind)) <= 60_000 + 1000 * max(0, place_s - effects.started_s)
        return reply / 1000, place_s

    assert await effects.of("reserve_rate", "r0", "requests_per_minute", 1) == (0, NOTHING)
    await store.set_limits(requests_per_minute=1, tokens_per_minute=600)
    first_s, place_s = await reserve("r1", 1)
    assert (first_s, place_s) == (0, pytest.approx(effects.started_s + 60, abs=30))
    for number in (2, 3, 4):
        wait_s, next_s = await reserve(f"r{number}", 1)
        assert next_s == pytest.approx(place_s + 60, abs=0.002)
        assert next_s - 60 - 30 < effects.started_s + wait_s <= next_s - 60 + 0.002
        place_s = next_s
    assert await reserve("r4", 1) == (wait_s, place_s)
    wait_s, next_s = await reserve("r5", -2)
    assert next_s == pytest.approx(place_s - 120, abs=0.002)
    assert await reserve("t1", 100, "tokens_per_minute") == (
        pytest.approx(9, abs=0.01),
        pytest.approx(effects.started_s + 10, abs=5),
    )
    await store.set_limits(requests_per_minute=0)
    assert await effects.of("reserve_rate", "r6", "requests_per_minute", 1) == (0, NOTHING)


LIFETIME_MS = 12_000


def id_of(client: redis.Redis) -> str:
    """Process and history of this Redis, as the scripts know it."""
    return f"{client.info('server')['run_id']}/{client.info('replication')['master_replid']}"


def recovery_of(client: redis.Redis) -> tuple[float, int, int]:
    """When the recovery may end, in seconds, and the lifetime and the rest of its key, in milliseconds."""
    not_before_ms, lifetime_ms = map(int, client.get(keys.RECOVERY).split())
    return not_before_ms / 1000, lifetime_ms, client.pttl(keys.RECOVERY)


async def test_another_server_than_before_begins_a_recovery(store: Store, redis_url: str) -> None:
    """It lasts for a quarter of a lifetime at least, and its key for one; the same server begins none."""
    effects, _ = await scene(store, redis_url, 1)
    with redis.Redis.from_url(redis_url) as client:
        server = id_of(client)
        assert await effects.of("note_server", LIFETIME_MS) == (server, NOTHING)
        client.delete(keys.SERVER)
        assert await effects.of("note_server", LIFETIME_MS) == (server, {"server": server})
        client.set(keys.SERVER, "another")
        reply, changes = await effects.of("note_server", LIFETIME_MS)
        not_before_s, lifetime_ms, left_ms = recovery_of(client)
        assert (reply, changes.keys(), changes["server"]) == (server, {"recovery", "server"}, server)
        assert (lifetime_ms, 0 < left_ms <= LIFETIME_MS) == (LIFETIME_MS, True)
        assert effects.started_s + 2.99 < not_before_s < client.time()[0] + 1 + 3
        assert await effects.of("note_server", LIFETIME_MS) == (server, NOTHING)
        client.delete(keys.RECOVERY)


@pytest.mark.parametrize(("silent_s", "begins"), [(240, True), (360, False)])
async def test_workers_silent_for_five_minutes_are_not_waited_for(
    store: Store, redis_url: str, silent_s: int, begins: bool
) -> None:
    """Nobody has lost anything that another server would have."""
    effects, _ = await scene(store, redis_url, 1)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.WORKERS, {"w1": (client.time()[0] - silent_s) * 1000})
        client.set(keys.SERVER, "another")
        _, changes = await effects.of("note_server", LIFETIME_MS)
        assert ("recovery" in changes) == begins
        client.delete(keys.RECOVERY)


@pytest.mark.parametrize("allowed", [[], ["+info|server"], ["+info|replication"]])
async def test_a_user_who_may_not_read_the_servers_id_begins_no_recovery(
    store: Store, redis_url: str, allowed: list[str]
) -> None:
    """The server has no name then, and what was noted of it stays."""
    await scene(store, redis_url, 1)
    url = redis_url.replace("//", "//reader:any@")
    with redis.Redis.from_url(redis_url) as client, redis.Redis.from_url(url) as reader:
        client.set(keys.SERVER, "another")
        rights = {"keys": ["*"], "categories": ["+@all"], "commands": ["-info", *allowed]}
        client.acl_setuser("reader", enabled=True, nopass=True, **rights)
        try:
            assert reader.eval(script("note_server").text, 0, LIFETIME_MS) == b""
        finally:
            client.acl_deluser("reader")
        assert (client.get(keys.SERVER), client.exists(keys.RECOVERY)) == (b"another", 0)


def worker_without_slots(client: redis.Redis) -> None:
    """A dead worker, w0, of whom the server knows that its writes are there."""
    client.zadd(keys.WORKERS, {"w0": 1})
    client.hset(keys.worker("w0"), "server", id_of(client))


@pytest.mark.parametrize(
    ("stored", "server_of_w1", "server_of_w2", "over"),
    [
        ("1 12000", "this", "this", True),
        ("1 12000", "this", "another", False),
        ("1 12000", "another", "this", False),
        ("1 12000", "this", "", False),
        ("9999999999999 12000", "this", "this", False),
        ("of another version", "this", "this", False),
    ],
)
async def test_a_recovery_is_over_when_each_worker_knows_the_server(
    store: Store, redis_url: str, stored: str, server_of_w1: str, server_of_w2: str, over: bool
) -> None:
    """And not before its time; until then no worker is declared dead."""
    effects, _ = await scene(store, redis_url, 1)
    await store.heartbeat(worker_info("w2"))
    with redis.Redis.from_url(redis_url) as client:
        for worker, server in (("w1", server_of_w1), ("w2", server_of_w2)):
            client.hset(keys.worker(worker), "server", id_of(client) if server == "this" else server)
        client.zadd(keys.WORKERS, {"w1": 0})
        worker_without_slots(client)
        client.set(keys.RECOVERY, stored, px=LIFETIME_MS)
        ended = {"recovery": None, "worker:w0": {"reaped": 1}, "workers": {"w0": None}}
        assert await effects.of("reap_workers", "w9", LIFETIME_MS, 10, LIFETIME_MS) == (
            [0, ["w0"], []] if over else [0, [], []],
            ended if over else NOTHING,
        )
        client.delete(keys.RECOVERY)


async def test_a_recovery_that_would_last_longer_than_a_lifetime_begins_anew(
    store: Store, redis_url: str
) -> None:
    """Redis' clock was set back meanwhile."""
    effects, _ = await scene(store, redis_url, 1)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.worker("w1"), "server", id_of(client))
        worker_without_slots(client)
        client.set(keys.RECOVERY, f"1 {LIFETIME_MS}", px=10**9)
        reply, changes = await effects.of("reap_workers", "w9", LIFETIME_MS, 10, LIFETIME_MS)
        not_before_s, lifetime_ms, left_ms = recovery_of(client)
        assert (reply, changes.keys(), lifetime_ms) == ([0, [], []], {"recovery"}, LIFETIME_MS)
        assert left_ms <= LIFETIME_MS
        assert effects.started_s + 2.99 < not_before_s < client.time()[0] + 1 + 3
        client.delete(keys.RECOVERY)

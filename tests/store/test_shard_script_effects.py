"""Scripts of shards that decide about money and fences: their complete replies, and all that they change in Redis.

Each line of them is a mutant that some test must catch (docs/decisions/mutation-tests.md).
"""

from typing import Any

import redis

from askmill.jobs.model.models import Limits
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import Store, keys
from askmill.worker.lifecycle.shard_sizes import MOST_ROWS
from tests.helpers.batches import expire_worker, submit_batch, worker_info
from tests.store.script_effects import Changes, Effects

NOTHING: dict[str, Any] = {}
HELD = ("B", 1, "f1")
SAVED = [1, "saved"]
UNMARKED = {"crash_mark": None, "crash_row": None}
UNHELD = {"fence": None, "worker": None}
ALL_RUN = {"p": 0, "r": 6}


async def scene(store: Store, url: str, *, held: bool = True, **limits: Any) -> tuple[Effects, str]:
    """A batch of six rows, cut into one shard, which w1 holds."""
    profile = Profile(service_tier="batch")
    batch = await submit_batch(store, 6, profile=profile, limits=Limits(**limits))
    await store.heartbeat(worker_info(slots=0))
    effects = Effects(store, url, batch)
    if held:
        await store.dispatch(1)
        await effects.of("claim_shard", "B", "shard:1", "w1", "f1")
    return effects, batch


async def dispatch_again(store: Store, url: str, batch: str) -> None:
    """Shard 1 is due at once."""
    with redis.Redis.from_url(url) as client:
        client.zadd(keys.part(batch, "due_running"), {"shard:1": 0})
    await store.dispatch(1)


def step(name: str, lines: int = 6, nano: int | str = "", file: str = "", rows: str = "") -> tuple[Any, ...]:
    """Arguments of `save_shard` whose state says which step it was."""
    return (*HELD, f"state {name}", name, file, rows, lines, nano, "")


def saved(name: str, **changed: Any) -> Changes:
    """The fields of the shard that each save changes, and others."""
    return {"last_save": "hash", "state": f"state {name}", **changed}


async def test_a_shard_is_cut_and_claimed_by_one_worker(store: Store, redis_url: str) -> None:
    """Refused, it goes back to its queue; the claim names its rows."""
    effects, batch = await scene(store, redis_url, held=False)
    assert await effects.of("dispatch", "q", 1, 12_000) == (
        ["B", "shard:1", 1, 0],
        {
            "batch:B": {"cursor": 6, "probe_at": "now", "probe_row": "shard:1"},
            "counters": {"open_shards": 1, "p": 6, "q": 0},
            "dispatch_round": 1,
            "dispatched": {"B:shard:1": "now"},
            "live:shard:1": {"cut_at": "now", "rows": 6, "run_in_flight": 1, "state": "{}"},
            "open": {"B": 1},
            "shard_lines": {1: "1-6"},
            "shard_rows": dict.fromkeys(range(1, 7), 1),
            "shards": {"next": 2},
            "status": "pppppp",
        },
    )
    claim = ("B", "shard:1", "w1", "f1")
    assert await effects.of("claim_shard", "B", "shard:2", "w1", "f1") == (["gone"], NOTHING)
    assert await effects.of("claim_shard", "nobatch", "shard:1", "w1", "f1") == (["gone"], NOTHING)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.DISPATCHED, {f"{batch}:shard:9": 1})
    gone = {"dispatched": {"B:shard:9": None}}
    assert await effects.of("claim_shard", "B", "shard:9", "w1", "f1") == (["gone"], gone)
    back = {"dispatched": None, "due_running": {"shard:1": 0}}
    assert await effects.of("claim_shard", "B", "shard:1", "w9", "f1") == (["stranger"], back)
    assert await effects.of("claim_shard", *claim) == (["waiting"], NOTHING)
    await store.heartbeat(worker_info("w2", base_url="http://other/v1"))
    await store.heartbeat(worker_info("w3", batch="b_other"))
    back = {"dispatched": None, "due_running": {"shard:1": "now"}}
    for other in ("w2", "w3"):
        await dispatch_again(store, redis_url, batch)
        assert await effects.of("claim_shard", "B", "shard:1", other, "f1") == (["mismatch"], back)
        assert effects.due_in_s("due_running", "shard:1") >= 1
    await dispatch_again(store, redis_url, batch)
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.RECOVERY, "9999999999999 12000", px=12_000)
        assert await effects.of("claim_shard", *claim) == (["recovering"], back)
        assert effects.due_in_s("due_running", "shard:1") >= 1
        client.delete(keys.RECOVERY)
    await dispatch_again(store, redis_url, batch)
    claimed = ["", "{}", "now", "queued", "limits", "", "1-6", 6, "now", 0]
    held = {"deliveries": 1, "fence": "f1", "worker": "w1"}
    assert await effects.of("claim_shard", *claim) == (
        claimed,
        {"claims:w1": {"B:shard:1": "in"}, "dispatched": None, "live:shard:1": held},
    )
    assert await effects.of("claim_shard", *claim) == (claimed, NOTHING)
    assert await effects.of("claim_shard", *claim[:3], "f2") == (["running"], NOTHING)
    own = worker_info("w4", batch=batch, slots=0)
    await store.heartbeat(own)
    assert await effects.of("release_row", "B", "shard:1", "w1", "f1", "", 0, "", "") == (
        1,
        {"claims:w1": None, "due_running": {"shard:1": 0}, "live:shard:1": UNHELD},
    )
    await dispatch_again(store, redis_url, batch)
    assert (await effects.of("claim_shard", "B", "shard:1", "w4", "f4")).reply[0] == ""


async def test_shards_are_cut_within_their_size_and_the_number_of_rows_in_all(
    store: Store, redis_url: str
) -> None:
    """None while cuts are held."""
    effects, batch = await scene(store, redis_url, held=False)
    with redis.Redis.from_url(redis_url) as client:
        fields = {"accepted": 1, "shard_size": 4, "shard_total": 5, "cuts_held_until": 10**15}
        client.hset(keys.batch(batch), mapping=fields)
        assert (await effects.of("dispatch", "q1", 1, 12_000)).reply == []
        client.hset(keys.batch(batch), "cuts_held_until", 1)
        for number, rows in ((1, "1-4"), (2, 5)):
            cut = await effects.of("dispatch", f"q{number + 1}", number, 12_000)
            assert (cut.reply, cut.changes["shard_lines"]) == (["B", f"shard:{number}", 1, 0], {number: rows})
        assert (await effects.of("dispatch", "q4", 3, 12_000)).reply == []


async def test_a_shard_has_its_rows_in_file_order(store: Store, redis_url: str) -> None:
    """Those that wait and those that are queued."""
    effects, batch = await scene(store, redis_url, held=False)
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.part(batch, "due"), {"4": 1, "5": 2})
        client.set(keys.part(batch, "status"), "qqqwwq")
        client.hset(keys.part(batch, "counters"), mapping={"q": 4, "w": 2})
        client.hset(keys.batch(batch), "shard_size", 4)
    assert (await effects.of("dispatch", "q1", 1, 12_000)).changes["shard_lines"] == {1: "1-2,4-5"}


async def test_a_shard_has_no_more_rows_than_shards_grow_to(store: Store, redis_url: str) -> None:
    """The scripts and the worker agree on the number; each row is counted once when the shard is sent."""
    batch = await submit_batch(store, MOST_ROWS + 1, profile=Profile(service_tier="batch"))
    await store.heartbeat(worker_info(slots=0))
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "accepted", 1)
    effects = Effects(store, redis_url, batch)
    _, changes = await effects.of("dispatch", "q1", 2, 12_000)
    assert changes["shard_lines"] == {1: f"1-{MOST_ROWS}", 2: MOST_ROWS + 1}
    await effects.of("claim_shard", "B", "shard:1", "w1", "f1")
    reply, changes = await effects.of("save_shard", *step("send", MOST_ROWS))
    assert (reply, changes["counters"], changes["status"]) == (
        [1, "saved"],
        {"p": 1, "r": MOST_ROWS},
        "r" * MOST_ROWS + "p",
    )


async def test_a_shard_is_bought_within_the_budget_and_while_the_batch_runs(
    store: Store, redis_url: str
) -> None:
    """Its rows run from the mark before its create on; a create that is given up puts them back and frees its money."""
    effects, batch = await scene(store, redis_url, budget_usd=100e-9)
    upload = (*HELD, "state", "", "file-1", "1-3,6,4-5", 6, "", "file-1,file-0", "requests", 2)
    assert await effects.of("save_shard", *upload) == (
        SAVED,
        {
            "counters": {"requests": 2},
            "live:shard:1": {"last_save": "hash", "state": "state"},
            "resources": {"file:file-0": "", "file:file-1": ""},
            "shard_lines": {1: "1-3,6,4-5"},
            "shards": {"file:file-1": 1},
        },
    )
    assert await effects.of("save_shard", "B", 1, "f0", *upload[3:]) == ([0, ""], NOTHING)
    assert await effects.of("save_shard", *step("send", 5, 60)) == ([1, "rows_changed"], NOTHING)
    assert await effects.of("save_shard", *step("send", 6, 101)) == ([1, "budget"], NOTHING)
    send = (*step("send", 6, 100), "requests", 1)
    assert await effects.of("save_shard", *send) == (
        SAVED,
        {
            "counters": {**ALL_RUN, "requests": 3, "reserved_nano": 100},
            "live:shard:1": saved("send", sent=1, reserved_nano=100),
            "status": "rrrrrr",
        },
    )
    assert await effects.of("save_shard", *send) == (SAVED, NOTHING)
    assert await effects.of("save_shard", *step("send", 6, 90)) == (
        SAVED,
        {"counters": {"reserved_nano": 90}, "live:shard:1": {"last_save": "hash", "reserved_nano": 90}},
    )
    assert await effects.of("save_shard", *step("unsent")) == (
        SAVED,
        {
            "counters": {"p": 6, "r": 0, "reserved_nano": 0},
            "live:shard:1": saved("unsent", sent=None, reserved_nano=0),
            "status": "pppppp",
        },
    )
    again = (*HELD, "state again", "unsent", "", "", 6, "", "")
    unsent = {"live:shard:1": {"last_save": "hash", "state": "state again"}}
    assert await effects.of("save_shard", *again) == (SAVED, unsent)
    await effects.of("save_shard", *step("send", 6, 80))
    assert await effects.of("save_shard", *step("created")) == (
        SAVED,
        {
            "batch:B": {"accepted": 1, "started_at": "now", "state": "running"},
            "counters": {"runs": 0},
            "live:shard:1": saved("created"),
        },
    )
    await store.pause(batch, "a pause")
    assert await effects.of("save_shard", *step("send", 6, 70)) == ([1, "stopped"], NOTHING)
    await store.cancel(batch)
    assert await effects.of("save_shard", *step("send", 6, 70)) == ([1, "stopped"], NOTHING)


async def test_a_budget_that_others_hold_is_free_later(store: Store, redis_url: str) -> None:
    """Not so where it is spent."""
    effects, batch = await scene(store, redis_url, budget_usd=100e-9)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.part(batch, "counters"), "reserved_nano", 50)
        assert await effects.of("save_shard", *step("send", 6, 51)) == ([1, "budget_later"], NOTHING)
        client.hset(keys.part(batch, "counters"), mapping={"assumed_nano": 20, "spent_nano": 29})
        assert await effects.of("save_shard", *step("send", 6, 51)) == ([1, "budget_later"], NOTHING)
        client.hset(keys.part(batch, "counters"), mapping={"reserved_nano": 0, "cost_nano": 1})
        assert await effects.of("save_shard", *step("send", 6, 51)) == ([1, "budget"], NOTHING)
        client.hset(keys.part(batch, "counters"), "spent_nano", 0)
    assert (await effects.of("save_shard", *step("send", 6, 79))).reply == SAVED


async def test_a_death_counts_under_the_crash_mark_alone(store: Store, redis_url: str) -> None:
    """Against the shard, and the row whose line went on, while the row is in it."""
    effects, batch = await scene(store, redis_url)
    assert await effects.of("mark_shard", *HELD, "begin", "") == (1, {"live:shard:1": {"crash_mark": 1}})
    assert await effects.of("mark_shard", *HELD, "begin", 2) == (1, {"live:shard:1": {"crash_row": 2}})
    crashed = {"live:2": {"crashes": 1}, "live:shard:1": {**UNMARKED, "crashes": 1}}
    assert await effects.of("mark_shard", *HELD, "crash", "") == (1, crashed)
    assert await effects.of("mark_shard", *HELD, "crash", "") == (1, NOTHING)
    await effects.of("mark_shard", *HELD, "begin", "")
    assert await effects.of("mark_shard", *HELD, "end", "") == (1, {"live:shard:1": {"crash_mark": None}})
    assert await effects.of("mark_shard", "B", 1, "f0", "begin", "") == (0, NOTHING)
    await effects.of("mark_shard", *HELD, "begin", 9)
    assert await effects.of("release_row", "B", "shard:1", "w1", "f1", "state", 7000, "", "") == (
        1,
        {
            "claims:w1": None,
            "due_running": {"shard:1": 7000},
            "live:shard:1": {**UNHELD, **UNMARKED, "state": "state"},
        },
    )
    await dispatch_again(store, redis_url, batch)
    await store.pause(batch, "a pause")
    claimed = ["", "state", "now", "paused", "limits", "a pause", "1-6", 6, "now", 1]
    assert (await effects.of("claim_shard", "B", "shard:1", "w1", "f2")).reply == claimed
    await effects.of("mark_shard", "B", 1, "f2", "begin", 3)
    expire_worker(redis_url, "w1")
    await store.heartbeat(worker_info("w2", slots=0))
    assert await effects.of("reap_workers", "w2", 12_000, 100, 60_000) == (
        [1, ["w1"], []],
        {
            "claims:w1": None,
            "due_running": {"shard:1": 0},
            "live:3": {"crashes": 1},
            "live:shard:1": {**UNHELD, **UNMARKED, "crashes": 2},
            "worker:w1": {"reaped": 1},
            "workers": {"w1": None},
        },
    )


async def test_rows_end_or_wait_and_the_shard_ends_after_them(store: Store, redis_url: str) -> None:
    """Each call once; the last shard closes the batch; sizes change only if nobody else has changed them."""
    effects, batch = await scene(store, redis_url)
    await effects.of("save_shard", *step("send", 6, 80, "file-1"))
    await effects.of("save_shard", *step("created", file="file-0"))
    ends = (*(1, "c", "result 1", "", 0), *(3, "f", "result 3", "", 0))
    waits = (*(2, "w", "state 2", 11, 5000), *(4, "w", "", "", 0))
    call = (*HELD, 4, "cost_nano", 5, "prompt", 7, *ends, *waits)
    assert await effects.of("end_rows", *call) == (
        4,
        {
            "counters": {"c": 1, "cost_nano": 5, "f": 1, "prompt": 7, "r": 2, "spent_nano": 11, "w": 2},
            "due": {2: 5000, 4: 0},
            "live:2": {"spent_nano": 11, "state": "state 2"},
            "live:shard:1": {"rows": 2},
            "results": {1: "result 1", 3: "result 3"},
            "shard_rows": {1: None, 2: None, 3: None, 4: None},
            "status": "cwfwrr",
            "throughput": {"now": 2},
        },
    )
    assert await effects.of("end_rows", *call) == (0, NOTHING)
    assert await effects.of("end_rows", "B", 1, "f0", 0, 5, "c", "result 5", "", 0) == (-1, NOTHING)
    assert await effects.of("end_shard", "B", 1, "w1", "f1", "done", 0, "", "", "", 0) == (-1, NOTHING)
    rest = (*HELD, 0, *(5, "c", "result 5", "", 0), *(6, "x", "result 6", "", 0))
    assert await effects.of("end_rows", *rest) == (
        2,
        {
            "counters": {"c": 2, "r": 0, "x": 1},
            "live:shard:1": {"rows": 0},
            "results": {5: "result 5", 6: "result 6"},
            "shard_rows": None,
            "status": "cwfwcx",
            "throughput": {"now": 4},
        },
    )
    end = ("B", 1, "w1", "f1", "done", 3000, 50, 100, ",", 1, "file-0", "requests", 3)
    assert await effects.of("end_shard", *end) == (
        1,
        {
            "batch:B": {"cuts_held_until": "now", "shard_size": 50, "shard_total": 100},
            "claims:w1": None,
            "counters": {"open_shards": 0, "requests": 3, "reserved_nano": 0},
            "live:shard:1": None,
            "shards": {1: "done", "file:file-0": None},
        },
    )
    with redis.Redis.from_url(redis_url) as client:
        held_until_ms = int(client.hget(keys.batch(batch), "cuts_held_until") or 0)
    assert held_until_ms >= effects.started_s * 1000 + 2999
    assert await effects.of("end_shard", *end) == (1, NOTHING)
    assert await effects.of("end_shard", *end[:4], "other", *end[5:]) == (0, NOTHING)
    with redis.Redis.from_url(redis_url) as client:
        assert await store.dispatch(1) == []
        client.hset(keys.batch(batch), "cuts_held_until", 1)
        client.zadd(keys.part(batch, "due"), {"2": 0})
    await store.dispatch(1)
    assert (await effects.of("claim_shard", "B", "shard:2", "w1", "g")).reply[6:8] == ["2,4", 2]
    await effects.of("end_rows", "B", 2, "g", 0, *(2, "c", "result 2", "", 0), *(4, "c", "result 4", "", 0))
    assert await effects.of("end_shard", "B", 2, "w1", "g", "done", 0, 70, 140, "1,2", 0) == (
        1,
        {
            "batch:B": {"cuts_held_until": None, "finished_at": "now", "state": "done"},
            "claims:w1": None,
            "counters": {"open_shards": 0},
            "live:shard:2": None,
            "open": None,
            "shards": {2: "done"},
        },
    )


async def test_rows_of_a_cancelled_shard_end_or_go_to_a_worker(store: Store, redis_url: str) -> None:
    """A row with earlier attempts is stored with them by a worker; the batch ends with its last shard."""
    effects, batch = await scene(store, redis_url)
    await effects.of("save_shard", *step("send"))
    await store.cancel(batch)
    call = (*HELD, 0, *(1, "w", "", "", 9000), *(4, "w", "state 4", 3, 9000), *(6, "x", "result 6", "", 0))
    assert await effects.of("end_rows", *call) == (
        3,
        {
            "counters": {"r": 3, "spent_nano": 3, "w": 1, "x": 2},
            "due_running": {4: 0},
            "live:4": {"spent_nano": 3, "state": "state 4"},
            "live:shard:1": {"rows": 3},
            "results": {6: "result 6"},
            "shard_rows": {1: None, 4: None, 6: None},
            "status": "xrrwrx",
            "throughput": {"now": 1},
        },
    )
    for row in (2, 3, 5):
        assert await effects.of("end_shard", *HELD[:2], "w1", "f1", "done", 0, "", "", "", 0) == (-1, NOTHING)
        await effects.of("end_rows", *HELD, 0, row, "x", "result", "", 0)
    await store.dispatch(1)
    await effects.of("claim", "B", 4, "w1", "f4")
    await effects.of("finish", "B", 4, "w1", "f4", "x", "result 4", "", 0)
    assert await effects.of("end_shard", "B", 1, "w1", "f1", "done", 0, "", "", "", 0) == (
        1,
        {
            "batch:B": {"finished_at": "now"},
            "claims:w1": None,
            "counters": {"open_shards": 0},
            "live:shard:1": None,
            "open": None,
            "shards": {1: "done"},
        },
    )

"""Scripts of rows that decide about money and fences: their complete replies, and all that they change in Redis.

Each line of them is a mutant that some test must catch (docs/decisions/mutation-tests.md).
"""

from typing import Any

import pytest
import redis

from askmill.jobs.model.models import Limits
from askmill.jobs.store import Store, keys
from askmill.jobs.store.records import NewRow
from tests.helpers.batches import submit_batch, worker_info
from tests.store.script_effects import Effects

NOTHING: dict[str, Any] = {}
CLAIMED = {"deliveries": 1, "fence": "f2", "worker": "w1"}
UNHELD = {"fence": None, "last_save": None, "worker": None}


async def scene(
    store: Store, url: str, rows: int, *, accepted: bool = True, **changed: Any
) -> tuple[Effects, str]:
    """A batch of which w1 holds row 1, whose run was accepted; the others are dispatched."""
    turns = changed.pop("conversation", None)
    questions = [NewRow([f"question {row}"], conversation=turns) for row in range(1, rows + 1)]
    batch = await submit_batch(store, questions, **changed)
    await store.heartbeat(worker_info())
    effects = Effects(store, url, batch)
    await store.dispatch(1)
    if accepted:
        await effects.of("claim", "B", 1, "w1", "f1")
        await effects.of("save", "B", 1, "f1", "hash 0", "state 0", 1, 1, "", "", "")
        await store.dispatch(1)
    return effects, batch


async def test_a_row_from_its_claim_to_its_result(store: Store, redis_url: str) -> None:
    """Reserved before the create, counted as a run after it, each time once, and freed at the end."""
    effects, _ = await scene(store, redis_url, 2, accepted=False, limits=Limits(budget_usd=100e-9))
    held = ("B", 1, "f1")
    claimed = ["", "", "", 0, "packed", "", "now", "queued", "limits", "", 0, 1, "", "", "", ""]
    assert await effects.of("claim", "B", 2, "w1", "f2") == (["not_published"], NOTHING)
    assert await effects.of("claim", "B", 1, "w1", "f1") == (
        claimed,
        {
            "claims:w1": {"B:1": "in"},
            "counters": {"p": 0, "r": 1},
            "dispatched": None,
            "live:1": {**CLAIMED, "fence": "f1"},
            "status": "rq",
        },
    )
    assert await effects.of("claim", "B", 1, "w1", "f1") == (claimed, NOTHING)
    assert await effects.of("save", *held, "hash 1", "state 1", 0, 1, 1, 101, 9) == ([1, 0, 0, 1, 0], NOTHING)
    mark = (*held, "hash 1", "state 1", 0, 1, 1, 60, "", "requests", 2, "tokens", 3)
    marked = {"state": "state 1", "last_save": "hash 1", "run_in_flight": 1, "run_counted": 0}
    assert await effects.of("save", *mark) == (
        [1, 0, 1, 1, 1, 0],
        {
            "counters": {"requests": 2, "tokens": 3, "reserved_nano": 60},
            "live:1": {**marked, "crash_mark": 1, "reserved_nano": 60},
        },
    )
    assert await effects.of("save", *mark) == ([1, 0, 1, 1, 1], NOTHING)
    assert await effects.of("save", *held, "hash 2", "state 2", 1, 1, "", "", 30, "requests", 1) == (
        [1, 1, 1, 1, 1, 1],
        {
            "batch:B": {"state": "running", "accepted": 1, "started_at": "now"},
            "counters": {"runs": 1, "requests": 3, "spent_nano": 30},
            "live:1": {"state": "state 2", "last_save": "hash 2", "run_counted": 1, "spent_nano": 30},
        },
    )
    assert await effects.of("save", *held, "hash 3", "state 3", 1, 1, 0, 50, "") == (
        [1, 0, 1, 1, 1, 0],
        {
            "counters": {"reserved_nano": 50},
            "live:1": {"state": "state 3", "last_save": "hash 3", "crash_mark": 0, "reserved_nano": 50},
        },
    )
    assert await effects.of("save", "B", 1, "f0", "hash 4", "state 4", 1, 1, 0, 50, "") == (
        [0, 0, 1, 1, 1],
        NOTHING,
    )
    assert await effects.of("save", *held, "hash 4", "state 4", "", "", "", "", "") == (
        [1, 0, 1, 1, 1, 0],
        {"live:1": {"state": "state 4", "last_save": "hash 4"}},
    )
    assert await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 1, "cost_nano", 5) == (
        1,
        {
            "claims:w1": None,
            "counters": {"c": 1, "r": 0, "cost_nano": 5, "reserved_nano": 0, "spent_nano": 0},
            "live:1": None,
            "results": {1: "result"},
            "status": "cq",
            "throughput": {"now": 1},
        },
    )
    assert await effects.of("claim", "B", 1, "w1", "f2") == (["finished"], NOTHING)


async def test_claims_that_are_refused(store: Store, redis_url: str) -> None:
    """Each says why; a row that the worker may not have goes back to its queue, once."""
    effects, _ = await scene(store, redis_url, 3)
    for row in (0, 4, "x", 1.5):
        assert await effects.of("claim", "B", row, "w1", "f2") == (["no_such_row"], NOTHING)
    assert await effects.of("claim", "nobatch", 1, "w1", "f2") == (["gone"], NOTHING)
    assert await effects.of("claim", "B", 1, "w1", "f2") == (["running"], NOTHING)

    def put_back(row: int, due: Any, p: int, w: int, status: str) -> dict[str, Any]:
        dispatched = {f"B:{row}": None} if p else None
        return {"counters": {"p": p, "w": w}, "dispatched": dispatched, "due": {row: due}, "status": status}

    assert await effects.of("claim", "B", 2, "w9", "f2") == (["stranger"], put_back(2, 0, 1, 1, "rwp"))
    assert await effects.of("claim", "B", 2, "w1", "f2") == (["waiting"], NOTHING)
    await store.heartbeat(worker_info("w2", base_url="http://other/v1"))
    assert await effects.of("claim", "B", 3, "w2", "f2") == (["mismatch"], put_back(3, "now", 0, 2, "rww"))
    assert effects.due_in_s("due", 3) >= 1


@pytest.mark.parametrize(
    ("worker", "reply"),
    [
        ({}, "mismatch"),
        ({"functions": "ff,fff"}, "mismatch"),
        ({"functions": "ff,0f,fff"}, ""),
        ({"functions": "0f", "batch": "other"}, "mismatch"),
        ({"functions": "0f", "batch": "B"}, ""),
    ],
)
async def test_a_worker_claims_rows_whose_functions_it_allows(
    store: Store, redis_url: str, worker: dict[str, str], reply: str
) -> None:
    """And those of its own batch alone, where it has one."""
    effects, batch = await scene(store, redis_url, 1, accepted=False)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.batch(batch), "functions", "0f")
        for name, text in worker.items():
            client.hset(keys.worker("w1"), name, batch if text == "B" else text)
    assert (await effects.of("claim", "B", 1, "w1", "f1")).reply[0] == reply


async def test_nothing_is_claimed_while_others_redo_lost_writes(store: Store, redis_url: str) -> None:
    """The row waits for a second."""
    effects, _ = await scene(store, redis_url, 2, accepted=False)
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.RECOVERY, "9999999999999 12000", px=12_000)
        back = {"counters": {"p": 0, "w": 1}, "dispatched": None, "due": {1: "now"}, "status": "wq"}
        assert await effects.of("claim", "B", 1, "w1", "f1") == (["recovering"], back)
        assert effects.due_in_s("due", 1) >= 1
        client.delete(keys.RECOVERY)


async def test_a_stopped_batch_starts_no_run_and_keeps_those_in_flight(store: Store, redis_url: str) -> None:
    """Paused, then cancelled: what may be in flight keeps its reservation and is dispatched all the same."""
    effects, batch = await scene(store, redis_url, 3)
    held = ("B", 2, "f2")
    await effects.of("claim", "B", 2, "w1", "f2")
    await effects.of("save", *held, "hash 1", "state 1", 0, 1, 1, 40, 7)
    await store.pause(batch, "a pause")
    assert await effects.of("claim", "B", 3, "w1", "f3") == (
        ["paused"],
        {"counters": {"p": 0, "w": 1}, "dispatched": None, "due": {3: 0}, "status": "rrw"},
    )
    assert await effects.of("save", *held, "hash 2", "state 2", 0, 1, "", 41, 8) == ([1, 0, 1, 0, 1], NOTHING)
    assert await effects.of("save", *held, "hash 3", "state 3", 1, 1, "", 41, 8) == (
        [1, 0, 1, 1, 1, 1],
        {
            "counters": {"reserved_nano": 41, "runs": 2, "spent_nano": 8},
            "live:2": {
                "last_save": "hash 3",
                "reserved_nano": 41,
                "run_counted": 1,
                "spent_nano": 8,
                "state": "state 3",
            },
        },
    )
    release = ("B", 2, "w1", "f2", "state 4", 5000, "", 9, "requests", 3)
    assert await effects.of("release_row", *release) == (
        1,
        {
            "claims:w1": {"B:2": None},
            "counters": {"r": 1, "requests": 3, "spent_nano": 9, "w": 2},
            "due_running": {2: 5000},
            "live:2": {**UNHELD, "crash_mark": None, "spent_nano": 9, "state": "state 4"},
            "status": "rww",
        },
    )
    assert await effects.of("release_row", *release) == (0, NOTHING)
    assert await effects.of("release_row", "B", 1, "w1", "f1", "", 0, 0, "") == (
        1,
        {
            "claims:w1": None,
            "counters": {"r": 0, "w": 3},
            "due": {1: 0},
            "live:1": {**UNHELD, "run_in_flight": 0},
            "status": "www",
        },
    )
    with redis.Redis.from_url(redis_url) as client:
        client.zadd(keys.part(batch, "due_running"), {"2": 0})
    await store.dispatch(2)
    assert await effects.of("claim", "B", 2, "w1", "f5") == (
        ["", "state 4", "", 0, "packed", "", "now", "paused", "limits", "a pause", 0, 2, 1, 1, 41, 9],
        {
            "claims:w1": {"B:2": "in"},
            "counters": {"p": 0, "r": 1},
            "dispatched": None,
            "live:2": {"deliveries": 2, "fence": "f5", "worker": "w1"},
            "status": "wrw",
        },
    )
    await store.cancel(batch)
    assert await effects.of("save", "B", 2, "f5", "hash 6", "state 6", 0, 1, "", 41, 8) == (
        [1, 0, 1, 0, 1],
        NOTHING,
    )
    assert await effects.of("release_row", "B", 2, "w1", "f5", "state 7", 0, 0, "") == (
        1,
        {
            "claims:w1": None,
            "counters": {"r": 0, "reserved_nano": 0, "w": 2},
            "due_running": {2: 0},
            "live:2": {
                "fence": None,
                "worker": None,
                "reserved_nano": 0,
                "run_in_flight": 0,
                "state": "state 7",
            },
            "status": "wwx",
        },
    )


async def test_a_budget_that_another_row_holds_is_free_later(store: Store, redis_url: str) -> None:
    """Not so where no other run is in flight, or where the rest would not do."""
    effects, _ = await scene(store, redis_url, 2, limits=Limits(budget_usd=100e-9))
    await effects.of("save", "B", 1, "f1", "hash 1", "state", 1, 1, "", 60, "")
    await effects.of("claim", "B", 2, "w1", "f2")
    for nano, later in ((41, 1), (100, 1), (101, 0)):
        save = ("B", 2, "f2", f"hash {nano}", "state", 0, 1, "", nano, "")
        assert await effects.of("save", *save) == ([1, 0, 0, 1, later], NOTHING)
    await effects.of("save", "B", 2, "f2", "hash 4", "state", 0, 1, "", 40, "")
    assert (await effects.of("save", "B", 2, "f2", "hash 5", "state", 0, 1, "", 39, "")).reply == [
        1,
        0,
        1,
        1,
        1,
        0,
    ]
    assert (await effects.of("save", "B", 1, "f1", "hash 6", "state", 1, 1, "", 62, "")).reply == [
        1,
        0,
        0,
        1,
        1,
    ]


async def test_turns_of_a_conversation_follow_each_other_or_fail(store: Store, redis_url: str) -> None:
    """The next one waits with what it starts from; those behind a turn that failed fail with it, and the batch ends."""
    effects, _ = await scene(store, redis_url, 4, conversation="one")
    finish = ("B", 1, "w1", "f1", "c", "result 1", "turn 1", 0, "cost_nano", 5)
    assert await effects.of("finish", *finish) == (
        1,
        {
            "claims:w1": None,
            "counters": {"c": 1, "cost_nano": 5, "h": 2, "r": 0, "w": 1},
            "due": {2: 0},
            "live:1": None,
            "previous_turn": {2: "turn 1"},
            "results": {1: "result 1"},
            "status": "cwhh",
            "throughput": {"now": 1},
        },
    )
    assert await effects.of("finish", *finish) == (1, NOTHING)
    assert await effects.of("claim", "B", 3, "w1", "f3") == (["not_published"], NOTHING)
    assert await effects.of("finish", *finish[:5], "result 2", "", 0) == (0, NOTHING)
    assert await effects.of("finish", *finish[:4], "f", "result 1", "", 0) == (0, NOTHING)
    await store.dispatch(1)
    reply, _ = await effects.of("claim", "B", 2, "w1", "f2")
    assert reply == ["", "", "turn 1", 0, "packed", "", "now", "running", "limits", "", 0, 1, "", "", "", ""]
    assert await effects.of("finish", "B", 2, "w1", "f2", "f", "result 2", "turn 2", 1) == (
        1,
        {
            "batch:B": {"finished_at": "now", "state": "done"},
            "claims:w1": None,
            "counters": {"f": 3, "h": 0, "r": 0, "runs": 2},
            "live:2": None,
            "open": None,
            "results": {2: "result 2", 3: "!previous_turn\n", 4: "!previous_turn\n"},
            "status": "cfff",
            "throughput": {"now": 2},
        },
    )


async def test_the_last_row_ends_its_batch_and_its_retention_begins(store: Store, redis_url: str) -> None:
    """All keys of the batch and its identity expire then."""
    effects, batch = await scene(store, redis_url, 1)
    await store.update_retention(batch, 1)
    assert await effects.of("finish", "B", 1, "w1", "f1", "c", "result", "", 1) == (
        1,
        {
            "batch:B": {"finished_at": "now", "state": "done"},
            "claims:w1": None,
            "counters": {"c": 1, "r": 0},
            "live:1": None,
            "open": None,
            "results": {1: "result"},
            "status": "c",
            "throughput": {"now": 1},
        },
    )
    with redis.Redis.from_url(redis_url) as client:
        names = [*client.scan_iter(f"{keys.batch(batch)}*"), keys.identity("0" * 64).encode()]
        assert len(names) == 7
        assert all(86_000_000 < client.pttl(name) <= 86_400_000 for name in names)


async def test_rows_whose_end_was_lost_are_released_without_a_crash(store: Store, redis_url: str) -> None:
    """Those that the worker holds; one without a run frees its reservation."""
    effects, _ = await scene(store, redis_url, 3)
    await effects.of("save", "B", 1, "f1", "hash 1", "state 1", 1, 1, 1, 30, "")
    await effects.of("claim", "B", 2, "w1", "f2")
    await effects.of("save", "B", 2, "f2", "hash 2", "state 2", 0, 0, 1, 30, "")
    assert await effects.of("release_unknown", "w1", "B:1", "B:2", "B:3") == (
        2,
        {
            "claims:w1": None,
            "counters": {"r": 0, "reserved_nano": 30, "w": 2},
            "due": {2: 0},
            "due_running": {1: 0},
            "live:1": {**UNHELD, "crash_mark": None},
            "live:2": {**UNHELD, "crash_mark": None, "reserved_nano": 0},
            "status": "wwp",
        },
    )

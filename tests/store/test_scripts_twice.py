"""Every script may be sent twice, because its first reply may be lost (case C8)."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import orjson
import pytest
import redis

from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import Store, keys
from askmill.jobs.store.lua_source import script
from askmill.jobs.store.records import BatchToLoad, NewRow, ResourceKey
from askmill.jobs.store.script_pipeline import ScriptPipeline
from askmill.jobs.store.shard_records import CrashMark, CutLimits, RowEnd, ShardClaim, ShardStep
from tests.helpers.batches import claim_row, expire_worker, make_result, new_batch, submit_batch, worker_info
from tests.helpers.tcp_relay import TcpRelay

SCRIPTS = sorted(
    path.name.removesuffix(".lua")
    for path in (files("askmill.jobs.store") / "lua").iterdir()
    if path.name.endswith(".lua")
)
OTHER_SECOND_REPLY = {
    "adopt_shard": "a shard has the batch by then",
    "cancel": "the state before",
    "claim": "the time",
    "claim_shard": "the time",
    "create_failed": "only the first call pauses",
    "deregister_worker": "how many rows were released, for the log",
    "drop_batch": "the batch is gone",
    "end_rows": "the rows are no longer in the shard",
    "heartbeat": "the time",
    "reap_workers": "how many rows were released, for the log",
    "record_clock_step": "a step is recorded once",
    "release_row": "the row is no longer held",
    "release_unknown": "how many rows were released, for the log",
    "resource_release": "the lock is no longer held",
    "save": "only the first call is the first accepted run",
}
VOLATILE = {
    *("lease_from", "lease_until", "hold_until", "refusals_since", "finished_at", "heartbeats_since"),
    "cuts_held_until",
}
"""Fields that hold the time of the last call."""


def state(client: redis.Redis) -> dict[bytes, Any]:
    """All that Redis holds, without times of the last call."""
    found = dict[bytes, Any]()
    for key in client.scan_iter("askmill:*"):
        kind = client.type(key)
        if key.startswith(b"askmill:writes:") or key in {b"askmill:replicated", b"askmill:last_heartbeat"}:
            continue
        if kind == b"hash":
            found[key] = {
                k: v for k, v in client.hgetall(key).items() if k.decode(errors="replace") not in VOLATILE
            }
        elif kind == b"zset":
            scores = key != keys.WORKERS.encode()
            found[key] = client.zrange(key, 0, -1, withscores=scores)
        elif kind == b"list":
            found[key] = client.lrange(key, 0, -1)
        elif kind == b"set":
            found[key] = client.smembers(key)
        else:
            found[key] = client.get(key)
    return found


@pytest.fixture
def twice(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[Any]]]:
    """Send each script twice; yields script → (first reply, second reply, state before, state after the second)."""
    sent = dict[str, list[Any]]()
    run_once = ScriptPipeline.run

    async def run(pipeline: ScriptPipeline, name: str, *arguments: Any) -> Any:
        first = await run_once(pipeline, name, *arguments)
        before = state(client)
        second = await run_once(pipeline, name, *arguments)
        sent.setdefault(name, []).append((first, second, before, state(client)))
        return first

    with redis.Redis.from_url(redis_url) as client:
        monkeypatch.setattr(ScriptPipeline, "run", run)
        yield sent


async def play_all_scripts(store: Store, redis_url: str) -> None:
    """Send every script at least once, where it changes something."""
    loading = await store.take_identity(new_batch(identity="1" * 64))
    assert isinstance(loading, BatchToLoad)
    await store.renew_lease(loading.batch)
    await store.drop_batch(loading.batch)
    batch = (await store.take_identity(new_batch(identity="2" * 64))).batch
    await store.set_resources(batch, Resources())
    await store.set_expected(batch, Expectation("answer", "number"))
    wanted = ResourceKey(batch, "file", "ab" * 32)
    assert (await store.acquire_resource(wanted))[0]
    await store.release_resource(wanted)
    await store.acquire_resource(wanted)
    await store.store_resource(wanted, "file_1")
    await store.store_image(batch, "cd" * 32, b"data:image/png;base64,")
    rows = [NewRow([f"question {row}"], conversation="one" if row < 3 else None) for row in range(1, 9)]
    await store.add_rows(batch, 1, rows)
    await store.change_limits(batch, {"attempts": 5})
    await store.seal_batch(batch)
    await store.find_identity("2" * 64)
    await store.update_retention(batch, 1)
    await store.set_limits(requests_per_minute=600)
    await store.heartbeat(worker_info(), [batch])
    (probe,) = await store.dispatch(0)
    claim = await claim_row(store, probe)
    await store.save(claim, b"{}", run_in_flight=True, reserve_nano=5, counters={"requests": 1})
    await store.save(claim, b'{"run": 1}', run_created=True, counters={"requests": 1})
    assert await store.store_file(claim, 0, b"content", 100)
    await store.reserve_rate("requests_per_minute", 30)
    await store.throttle(0.001)
    await store.incr_counters(batch, {"late_runs": 1})
    await store.record_create_failure(batch, patience_s=100)
    dispatched = await store.dispatch(0)
    await store.requeue_lost(-1)
    assert await store.requeue_lost(-1)
    await store.release(await claim_row(store, dispatched[0]), b"{}", counters={"requests": 1})
    assert await store.finish(
        claim, make_result(1), next_turn_state=b"{}", counters={"cost_nano": 7, "requests": 1}
    )
    await claim_row(store, dispatched[1])
    await store._connection.scripts._pipeline.run("release_unknown", "w1", f"{batch}:{dispatched[1].row}")
    await reclaim(store, batch, dispatched[1].row)
    scripts, row = store._connection.scripts, dispatched[1].row
    await scripts.record_fault(batch, ("kind", "words", "create"), 1, "report 1")
    await scripts.record_polls(batch, [row, "0a", "in_progress", 5])
    await scripts.record_refusal(batch, row, "0a")
    await scripts.record_clock_step(5_000, 15_000)
    await store.pause(batch, "a pause")
    await store.resume(batch)
    await store.record_create_failure(batch, patience_s=-1)
    await store.pause_from_worker(batch, "a fault")
    expire_worker(redis_url, "w1")
    await store.heartbeat(worker_info("w2"))
    await store.reap_dead_workers("w2")
    await store.cancel(batch)
    await store.retry(batch, [JobStatus.CANCELLED])
    async for _ in store.results(batch):
        pass
    await store.cancel(batch)
    await store.deregister_worker("w2")
    for name, arguments in (("note_server", (12_000,)), ("nothing", ()), ("read_claims", ("w1",))):
        await store._connection.scripts._pipeline.run(name, *arguments)
    await store.unlink_unused(batch, [("file", "file_1")])
    await store.purge(batch)


async def play_shard_scripts(store: Store) -> None:
    """The same for the scripts of tier batch."""
    batch = await submit_batch(store, 4, profile=Profile(service_tier="batch"))
    await store.heartbeat(worker_info("w3", slots=0))
    (published,) = await store.dispatch(1)
    assert published.shard is not None
    claim = await store.claim_shard(batch, published.shard, "w3")
    assert isinstance(claim, ShardClaim)
    for step in (CrashMark.BEGIN, CrashMark.CRASH, CrashMark.BEGIN, CrashMark.END):
        assert await store.mark_shard(claim, step, 2)
    await store.adopt_shard(batch, "batch-1", "file-1", b"{}", [4], 5)
    sent = (1, 2, 3)
    await store.save_shard(
        claim, b"{}", ShardStep.SEND, file_id="file-2", lines=sent, reserve_nano=5, counters={"requests": 1}
    )
    ends = [RowEnd(1, make_result(1)), RowEnd(2, state=b"{}", spent_nano=3), RowEnd(3)]
    await store.end_rows(claim, ends, counters={"runs": 1})
    await store.end_shard(claim, b"{}", limits=CutLimits(5, 2, 3), counters={"requests": 1})
    await store.purge(batch)


async def reclaim(store: Store, batch: str, row: int) -> None:
    """Claim a row again, with a lost run and counters."""
    entry = {
        "request": "0a1",
        "batch": batch,
        "row": row,
        "fence": "0a",
        "generation": 0,
        "deliveries": 9,
        "live": {"run_counted": "1", "reserved_nano": 3},
        "runs": 1,
        "writes": 2,
        "counters": {"requests": 2},
    }
    await store._connection.scripts._pipeline.run("reclaim_rows", "w1", orjson.dumps(entry), b"{}")


async def test_each_script_sent_twice_is_done_once(
    store: Store, redis_url: str, twice: dict[str, list[Any]]
) -> None:
    """State and reply after the second call are those after the first, for every script there is."""
    await play_shard_scripts(store)
    await play_all_scripts(store, redis_url)
    assert sorted(twice) == SCRIPTS, "each script has its place in `play_all_scripts`"
    faults = dict[str, Any]()
    for name, calls in twice.items():
        for first, second, before, after in calls:
            if before != after:
                faults[name] = {
                    key: (before.get(key), after.get(key))
                    for key in before | after
                    if before.get(key) != after.get(key)
                }
            elif first != second and name not in OTHER_SECOND_REPLY:
                faults[name] = (first, second)
    assert faults == {}


async def test_every_script_is_sent_again_when_its_reply_is_cut_off(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wire is cut at the reply of each call of every script there is: each goes on as if nothing had happened."""
    run_once, names = ScriptPipeline.run, list[str]()

    async def run(pipeline: ScriptPipeline, name: str, *arguments: Any) -> Any:
        relay.cut_next_reply()
        names.append(name)
        return await run_once(pipeline, name, *arguments)

    with TcpRelay(redis_url) as relay, redis.Redis.from_url(redis_url) as client:
        for name in SCRIPTS:  # so that the reply that is cut off is the script's
            client.script_load(script(name).text)
        async with await Store.open(relay.url) as store:
            with monkeypatch.context() as patch:
                patch.setattr(ScriptPipeline, "run", run)
                await play_shard_scripts(store)
                await play_all_scripts(store, redis_url)
    assert sorted(set(names)) == SCRIPTS
    assert relay.replies_cut == len(names)


async def test_a_reply_that_is_cut_off_changes_nothing(redis_url: str) -> None:
    """A row's whole life through a relay that cuts the wire at the reply of each script in turn."""
    with TcpRelay(redis_url) as relay:
        async with await Store.open(relay.url) as store:
            batch = await submit_batch(store, 2)
            await store.heartbeat(worker_info())
            relay.cut_next_reply()
            (probe,) = await store.dispatch(0)
            relay.cut_next_reply()
            claim = await claim_row(store, probe)
            relay.cut_next_reply()
            assert (await store.save(claim, b"{}", run_created=True, counters={"requests": 1})).held
            relay.cut_next_reply()
            await store.incr_counters(batch, {"late_runs": 1})
            relay.cut_next_reply()
            assert await store.finish(claim, make_result(1), counters={"requests": 1})
            relay.cut_next_reply()
            assert await store.retry(batch, [JobStatus.COMPLETED]) == 1
            relay.cut_next_reply()
            assert await store.pause(batch, "a pause")
            relay.cut_next_reply()
            assert await store.resume(batch)
            counts = await store.counts(batch)
    assert {name: counts.totals.get(name) for name in ("runs", "requests", "late_runs")} == {
        "runs": 1,
        "requests": 2,
        "late_runs": 1,
    }
    assert counts.rows_by_byte == {**dict.fromkeys(counts.rows_by_byte, 0), "q": 2}
    assert relay.replies_cut == 8

"""The layout in Redis is frozen: what a released version has stored, this one reads, continues and collects.

tests/store/layouts/N/ is what a version with layout N has stored (tests/store/layouts/record.py).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from openai import AsyncOpenAI

from askmill.jobs.model.models import BatchState, JobStatus, Limits
from askmill.jobs.store import Store, keys
from askmill.jobs.store.records import NewBatch
from askmill.worker.execution.stored_state import STATE_JSON
from askmill.worker.lifecycle.state import Phase
from tests.stack import QUICK, Stack
from tests.store.layouts.fixture import ADDRESS, FOLDER, layout_names, restore
from tests.store.layouts.record import results
from tests.support import wait_until, wait_until_async

BETA = {"OpenAI-Beta": "assistants=v2"}
LAYOUTS = sorted(int(folder.name) for folder in FOLDER.iterdir() if folder.name.isdigit())
CHANGED = """The layout in jobs/store/keys.py has changed:
{changes}
Batches of released versions are in Redis now. What to do:
- A key or field was added, older batches lack it, and the code reads them all the same: write the names to
  tests/store/layouts/{layout}/names.txt. Workers of both versions must go on working together.
- Anything else: raise SCHEMA_VERSION, read or convert the layout before it (docs/how-to/upgrade.md promises it),
  add a line to the table of that page, and run `python -m tests.store.layouts.record` for the new fixture."""


def stored(layout: int, name: str) -> Any:
    """Return the content of a fixture's JSON file."""
    return json.loads((FOLDER / str(layout) / name).read_text(encoding="utf-8"))


def test_this_layout_is_recorded() -> None:
    """Each SCHEMA_VERSION since 1.0 has its fixture, the one in use too."""
    assert keys.SCHEMA_VERSION in LAYOUTS, "run `python -m tests.store.layouts.record`"


def test_the_layout_has_not_changed() -> None:
    """A key, a type or a field that comes, goes or is renamed needs a decision; the message says which."""
    recorded = (FOLDER / str(keys.SCHEMA_VERSION) / "names.txt").read_text(encoding="utf-8").splitlines()
    present = layout_names().splitlines()
    changes = [f"+ {name}" for name in present if name not in recorded]
    changes += [f"- {name}" for name in recorded if name not in present]
    assert not changes, CHANGED.format(changes="\n".join(changes), layout=keys.SCHEMA_VERSION)


def test_the_table_names_what_is_stored() -> None:
    """Each recorded key has the type of the table, and each field of a batch and of a row in progress a name in it."""
    fields = set(layout_names().splitlines())
    fields |= {field.name for kind in (NewBatch, Limits) for field in dataclasses.fields(kind)}
    for key, entry in stored(keys.SCHEMA_VERSION, "redis.json").items():
        if key != "askmill":  # the queue of Celery
            assert keys.type_of(key) == entry["type"], key
        if entry["type"] == "hash" and (key.count(":") == 2 or ":live:" in key) and ":batch:" in key:
            assert set(entry["value"]) <= fields, key


def states_in_flight(dump: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the saved states of rows whose run had an id when the workers were killed."""
    states = [json.loads(entry["value"].get("state", "{}")) for key, entry in dump.items() if ":live:" in key]
    return [state for state in states if "run_id" in state]


async def recreate_runs(stack: Stack, dump: dict[str, Any]) -> dict[str, str]:
    """Create the assistant and the runs in flight at this emulator; returns the new ids by the recorded ones."""
    (assistant,) = (
        entry["value"] for key, entry in dump.items() if key.startswith(keys.resource("assistant", ""))
    )
    async with AsyncOpenAI(base_url=stack.base_url, api_key="offline", default_headers=BETA) as client:

        async def post(path: str, **body: Any) -> str:
            return str((await client.post(path, body=body, cast_to=httpx2.Response)).json()["id"])

        ids = {assistant: await post("/assistants", model="gpt-5-mini")}
        for state in states_in_flight(dump):
            thread = await post("/threads", messages=[{"role": "user", "content": "What is 2 + 2?"}])
            run = await post(f"/threads/{thread}/runs", assistant_id=ids[assistant])
            ids |= {state["thread_id"]: thread, state["run_id"]: run}
    return ids


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_what_a_released_version_stored_is_continued_and_collected(layout: int, tmp_path: Path) -> None:
    """All batches of the fixture: the ended one reads as recorded, the others end with every row completed.

    Runs that were in flight are followed to their end, and no row of theirs is asked again.
    """
    batches = stored(layout, "batches.json")
    dump = stored(layout, "redis.json")
    with Stack(tmp_path) as stack:
        runs = await recreate_runs(stack, dump)
        with redis.Redis.from_url(stack.redis_url) as client:
            restore(client, dump, {ADDRESS: stack.base_url, **runs})
        done = b"".join(await results(stack.redis_url, batches["done"]))
        assert done == (FOLDER / str(layout) / "done.jsonl").read_bytes()
        async with await Store.open(stack.redis_url) as store:
            assert {batch.id for batch in await store.list_batches()} == set(batches.values())
            assert (await store.status(batches["paused"])).batch.state is BatchState.PAUSED
            await store.resume(batches["paused"])
            for api in ("assistants", "chat", "responses"):
                stack.api = api
                stack.worker(concurrency=20, times=QUICK, ASKMILL_BATCH_LIST_S="0.3")

            async def ended() -> bool:
                return all([(await store.counts(batch)).unfinished == 0 for batch in batches.values()])

            await wait_until_async(ended, "every batch of the fixture has ended", 120)
            for kind in ("open", "paused", "chat", "shards"):
                view = await store.status(batches[kind])
                assert view.counts.by_status[JobStatus.COMPLETED] == view.batch.rows, (kind, view.counts)
            followed = {view.row: view.result async for view in store.results(batches["open"])}
        for state in states_in_flight(dump):
            assert any(result and result.run_id == runs[state["run_id"]] for result in followed.values())


async def test_a_worker_that_cannot_read_a_batch_leaves_its_rows(tmp_path: Path) -> None:
    """A newer command has stored a key of a profile that this worker does not have: no row ends or is lost.

    The row that it has claimed is due again soon, for a newer worker; its attempts are not used up.
    """
    with Stack(tmp_path) as stack:
        batch = await stack.submit(["What is 2 + 2?"])
        with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
            profile = json.loads(client.hget(keys.batch(batch), "profile"))
            client.hset(keys.batch(batch), "profile", json.dumps({**profile, "of_a_later_version": 1}))
            worker = stack.worker(times=QUICK)
            wait_until(
                lambda: "job.crashed" in worker.log.read_text(), "the worker could not read the batch", 60
            )
            wait_until(lambda: client.get(keys.part(batch, "status")) == "w", "the row waits again", 30)
            assert not client.hget(keys.live(batch, 1), "crashes")
            assert client.hget(keys.batch(batch), "state") == "queued"


def test_a_state_of_a_later_version_is_read() -> None:
    """A field that a newer worker has saved with a row is left out by an older one, which continues the row."""
    state = STATE_JSON.validate_json('{"phase":"polling","run_id":"run_1","of_a_later_version":1}')
    assert (state.phase, state.run_id) == (Phase.POLLING, "run_1")

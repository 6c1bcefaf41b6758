"""Record what this version stores: `python -m tests.store.layouts.record`, once for each SCHEMA_VERSION.

It writes tests/store/layouts/{SCHEMA_VERSION}/: redis.json, what Redis holds when all workers are killed in the
middle of batches of each kind; batches.json, their ids; done.jsonl, the results of the one that has ended;
names.txt, keys and fields of the layout.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import orjson
import redis

from askmill.jobs.model.models import Api, InputSpec, JobStatus, Limits
from askmill.jobs.model.profile import OpeningMessage, Profile, Resources
from askmill.jobs.store import Store, keys
from askmill.jobs.store.broker import publish
from askmill.jobs.store.records import NewBatch, NewRow
from tests.stack import QUICK, Stack
from tests.store.layouts.fixture import FOLDER, dump, layout_names
from tests.support import wait_until_async

DEADLINE_S = 3e9
"""The runs in the fixture are years old when a test continues them."""
SLOW = """[latency]
median_s = 86400.0
[http]
only = ["POST /files"]
slow_s = 86400.0
"""
"""From here on no run ends whose question does not say when, and no shard is uploaded."""
AT_ONCE = "[emulate: completed after=0.01]"
DONE = [
    "What is 12 * (3 + 4)?",
    "What is 7 * 8? [emulate: failed(server_error), completed(file)]",
    "What is 9 * 9? [emulate: failed(content_policy)]",
]


async def _conversations(stack: Stack) -> str:
    """Two conversations on chat completions, of two turns each; the second turns do not end here."""
    rows = [
        ("ann", f"What is 2 + 2? {AT_ONCE}"),
        ("bob", f"What is 3 + 3? {AT_ONCE}"),
        ("ann", "What is 4 + 4?"),
        ("bob", "What is 5 + 5?"),
    ]
    profile = Profile(model="local-7b", messages=(OpeningMessage(role="user", content="Be brief."),))
    new = NewBatch(
        name="chat",
        file="chat.csv",
        spec=InputSpec(("chat", "question"), "question", conversation_column="chat"),
        profile=profile,
        resources=Resources(),
        api="chat",
        base_url=stack.base_url,
        model="local-7b",
        limits=Limits(deadline_s=DEADLINE_S),
        identity=os.urandom(32).hex(),
    )
    async with await Store.open(stack.redis_url) as store:
        batch = await store.create_batch(new)
        await store.add_rows(batch, 1, [NewRow([chat, text], conversation=chat) for chat, text in rows])
        await store.seal_batch(batch)
        publish(stack.redis_url, await store.dispatch(20))
    return batch


async def _wait_for_running(stack: Stack, batch: str, rows: int) -> None:
    async def running() -> bool:
        return (await stack.status(batch)).counts.by_status[JobStatus.RUNNING] == rows

    await wait_until_async(running, f"{rows} rows of {batch} run", 30)


async def _wait_for_shard(stack: Stack, batch: str) -> None:
    async def claimed() -> bool:
        async with await Store.open(stack.redis_url) as store:
            return (
                bool(await store.list_shards(batch)) and stack.stats()["requests"].get("POST /files", 0) > 0
            )

    await wait_until_async(claimed, "a worker uploads the shard", 30)


async def record(stack: Stack) -> dict[str, str]:
    """Submit a batch of each kind, let workers run them in part, and kill them. Returns the ids by kind."""
    batches: dict[str, str] = {}

    def use(api: Api) -> None:
        stack.api = api
        stack.worker(concurrency=4, times=QUICK, ASKMILL_BATCH_LIST_S="0.3")

    use("assistants")
    batches["done"] = await stack.submit(DONE)
    await stack.wait_for(batches["done"])
    stack.scenario(SLOW)
    batches["open"] = await stack.submit([f"What is {n} * {n}?" for n in range(1, 8)], deadline_s=DEADLINE_S)
    await _wait_for_running(stack, batches["open"], 4)
    batches["paused"] = await stack.submit(["What is 5 * 5?", "What is 6 * 6?"])
    async with await Store.open(stack.redis_url) as store:
        await store.pause(batches["paused"], "budget: a person has to look")
    use("chat")
    batches["chat"] = await _conversations(stack)
    await _wait_for_running(stack, batches["chat"], 2)
    use("responses")
    tier = Profile(model="gpt-5-mini", service_tier="batch")
    batches["shards"] = await stack.submit([f"What is {n} + {n}?" for n in range(1, 6)], tier)
    await _wait_for_shard(stack, batches["shards"])
    for worker in stack.workers:
        worker.kill()
    return batches


async def results(url: str, batch: str) -> list[bytes]:
    """Return each row of a batch with its stored result, as a line of JSON."""
    async with await Store.open(url) as store:
        options = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        return [
            orjson.dumps([view.row, view.cells, view.status, view.stored], option=options)
            async for view in store.results(batch)
        ]


def main() -> int:
    """Record the fixture of this version; refuses to replace one."""
    target = FOLDER / str(keys.SCHEMA_VERSION)
    target.mkdir(exist_ok=True)
    if (target / "redis.json").exists():
        sys.stderr.write(f"{target} is there: a layout that was released does not change.\n")
        return 1
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        batches = asyncio.run(record(stack))
        with redis.Redis.from_url(stack.redis_url) as client:
            stored = dump(client, stack.base_url)
        (target / "done.jsonl").write_bytes(b"".join(asyncio.run(results(stack.redis_url, batches["done"]))))
    for name, content in (("redis.json", stored), ("batches.json", batches)):
        (target / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (target / "names.txt").write_text(layout_names(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

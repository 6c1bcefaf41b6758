"""Heartbeats come first: a connection of their own, and nothing large shares a round trip with other scripts."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from askmill.jobs.store import Store, script_pipeline
from askmill.jobs.store.lua_source import Script
from askmill.jobs.store.script_pipeline import ScriptPipeline
from tests.helpers.batches import claim_row, make_result, submit_batch, worker_info
from tests.helpers.tcp_relay import CHUNK_BYTES, TcpRelay
from tests.support import RedisServer, wait_until_async

MEGABYTE = 1 << 20


class SlowForFiles(TcpRelay):
    """A line on which a connection that has sent a megabyte stands still until `release`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.standing = 0
        self._may_go_on = asyncio.Event()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *_: object) -> None:
        passed = 0
        while chunk := await reader.read(CHUNK_BYTES):
            passed += len(chunk)
            if passed > MEGABYTE and not self._may_go_on.is_set():
                self.standing += 1
                await self._may_go_on.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._may_go_on.set)


@pytest.fixture
async def slow_store(redis_server: RedisServer) -> AsyncIterator[tuple[Store, SlowForFiles]]:
    with SlowForFiles(redis_server.url) as relay:
        async with await Store.open(relay.url) as store:
            yield store, relay


async def test_neither_heartbeats_nor_scripts_wait_for_files(
    slow_store: tuple[Store, SlowForFiles],
) -> None:
    """Case C6: generated files over a slow line delayed a heartbeat by 73 s, and claims were lost."""
    store, relay = slow_store
    batch = await submit_batch(store, 2)
    await store.heartbeat(worker_info())
    first = await claim_row(store, (await store.dispatch(1))[0])
    await store.save(first, b"{}", run_created=True)
    second = await claim_row(store, (await store.dispatch(1))[0])
    files = [
        asyncio.create_task(store.store_file(first, number, bytes(4 * MEGABYTE), 100 * MEGABYTE))
        for number in range(2)
    ]

    async def file_is_held_up() -> bool:
        return relay.standing > 0

    await wait_until_async(file_is_held_up, "a file is on its way")
    for _ in range(3):
        assert (await store.heartbeat(worker_info(), [batch])).alive
    assert await store.finish(second, make_result(second.row))
    assert not any(file.done() for file in files)
    relay.release()
    assert await asyncio.gather(*files) == [True, True]


async def test_heartbeats_need_no_place_in_the_pool(store: Store) -> None:
    """Thirty long commands at once fill the pool of all other calls."""
    await store.heartbeat(worker_info())
    busy = [
        asyncio.create_task(store._connection.execute("BLPOP", f"askmill:never:{number}", 2))
        for number in range(30)
    ]
    await asyncio.sleep(0)
    assert (await store.heartbeat(worker_info())).alive
    assert not any(task.done() for task in busy)
    await asyncio.gather(*busy)


async def test_a_pipeline_is_bounded_in_bytes(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large results share no round trip, small ones do, and each caller gets its own reply."""
    pipelines = list[list[int]]()

    class Recording(ScriptPipeline):
        async def _send(self, calls: Any) -> list[Any]:
            pipelines.append([len(arguments[0]) for _, arguments in calls])
            return await super()._send(calls)

    text = "return #ARGV[1]"
    size_of = Script(text, hashlib.sha1(text.encode()).hexdigest())
    monkeypatch.setattr(script_pipeline, "script", lambda _: size_of)
    sizes = [10, *[700_000] * 4, 10, 10, 3 * MEGABYTE, 10]
    async with Redis.from_url(redis_url) as redis:
        pipeline = Recording(redis, redis_url, 12_000)
        await pipeline.run("size", b"")
        pipelines.clear()
        calls = [pipeline.run("size", bytes(size)) for size in sizes]
        assert await asyncio.gather(*calls) == sizes
    assert [size for sent in pipelines for size in sent] == sizes
    assert all(sum(sent) <= MEGABYTE or len(sent) == 1 for sent in pipelines)
    assert len(pipelines) < len(sizes)


async def test_a_server_that_was_replaced_is_left_by_every_connection(redis_server: RedisServer) -> None:
    """Case D5, when a heartbeat meets another server: calls in flight are repeated, the next ones connect anew."""
    with redis.Redis.from_url(redis_server.url) as client:
        others = _connections(client)
        async with await Store.open(redis_server.url) as store:
            brokers_left = list[bool]()
            store.enable_write_recovery(lambda: brokers_left.append(True))
            await submit_batch(store, 1)
            await store.heartbeat(worker_info())
            before = _connections(client) - others
            store._server_id = "the one before"
            waiting = [asyncio.create_task(store.list_batches()) for _ in range(20)]
            await asyncio.sleep(0)
            assert (await store.heartbeat(worker_info())).other_server
            assert all(len(batches) == 1 for batches in await asyncio.gather(*waiting))
            assert not (await store.heartbeat(worker_info())).other_server
            assert brokers_left == [True]
            assert not before & _connections(client)


def _connections(client: "redis.Redis") -> set[str]:
    return {connection["id"] for connection in client.client_list(_type="normal")}

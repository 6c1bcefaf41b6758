"""A Redis that forgets is named before rows are stored; one that cannot give the durability asked for is refused."""

import asyncio
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from askmill.config.settings import Durability
from askmill.jobs.local.ports import free_port
from askmill.jobs.local.redis_service import server_binary
from askmill.jobs.model.errors import RedisUnavailable, UsageError
from askmill.jobs.store import Store, script_pipeline
from askmill.worker.process.durability_check import DurabilityCheck
from tests.helpers.batches import claim_row, submit_batch, worker_info
from tests.helpers.tcp_relay import TcpRelay
from tests.support import RedisServer, wait_until

DISK, PROCESS, REPLICA = Durability.DISK, Durability.PROCESS, Durability.REPLICA
ALWAYS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


@contextmanager
def configured(server: RedisServer, **values: str) -> Iterator[None]:
    """The server with these settings; the old ones come back afterwards."""
    with redis.Redis.from_url(server.url) as client:
        before = {name: client.config_get(name)[name] for name in _dashes(values)}
        try:
            for name, value in _dashes(values).items():
                client.config_set(name, value)
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


def _dashes(values: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in values.items()}


async def said(url: str, durability: Durability = PROCESS) -> str:
    async with await Store.open(url, durability=durability) as store:
        return "\n".join(weakness.sentence for weakness in await store.check_server())


async def test_a_redis_that_forgets_is_named(redis_server: RedisServer) -> None:
    """Cases D3 and D16: no append-only file, and an evicting policy, but only where memory has a limit."""
    assert "keeps no append-only file (AOF)" in await said(redis_server.url)
    with configured(redis_server, appendonly="yes", maxmemory_policy="allkeys-lru"):
        assert await said(redis_server.url) == ""
        with configured(redis_server, maxmemory="100mb"):
            assert "may evict batches" in await said(redis_server.url)
    with configured(redis_server, appendonly="yes", maxmemory="100mb"):
        assert await said(redis_server.url) == ""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"appendonly": "no"}, "appendonly yes"),
        ({"appendfsync": "everysec"}, "appendfsync always"),
        ({"no-appendfsync-on-rewrite": "yes"}, "no-appendfsync-on-rewrite no"),
    ],
)
async def test_disk_needs_a_redis_that_writes_through(
    redis_server: RedisServer, changed: dict[str, str], named: str
) -> None:
    """What to set is named, and nothing that is set already."""
    with configured(redis_server, **ALWAYS):
        await said(redis_server.url, DISK)
        with configured(redis_server, **changed):
            with pytest.raises(UsageError, match=f"Set {named} there, or set ASKMILL_DURABILITY=process"):
                await said(redis_server.url, DISK)
            await said(redis_server.url, PROCESS)


async def test_where_config_is_forbidden_info_decides(redis_server: RedisServer) -> None:
    """As on managed Redis: what INFO has is used, what it has not is unknown, and `disk` is refused for it."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "mill", "on", "nopass", "~*", "+@all", "-config")
    url = redis_server.url.replace("://", "://mill:any@")
    try:
        with configured(redis_server, **ALWAYS):
            assert await said(url) == ""
            with pytest.raises(UsageError, match=r"does not let it be read.*\+config\|get"):
                await said(url, DISK)
            assert "min-replicas-to-write be read" in await said(url, REPLICA)
        assert "keeps no append-only file" in await said(url)
    finally:
        with redis.Redis.from_url(redis_server.url) as client:
            client.execute_command("ACL", "DELUSER", "mill")


async def test_a_status_without_workers_says_why_redis_takes_no_changes(redis_server: RedisServer) -> None:
    """Case D14: workers cannot send heartbeats, so none is alive; the status has Redis' own reason."""
    async with await Store.open(redis_server.url) as store:
        batch = await submit_batch(store, 1)
        assert (await store.status(batch)).write_refusal is None
        with configured(redis_server, maxmemory="1"):
            assert "is full" in str((await store.status(batch)).write_refusal)
        await store.heartbeat(worker_info())
        with configured(redis_server, maxmemory="1"):
            assert (await store.status(batch)).write_refusal is None


@contextmanager
def limitable_server(folder: Path) -> Iterator[tuple[str, int]]:
    """The address and process id of a Redis whose writes past RLIMIT_FSIZE fail, as on a full disk."""
    port = free_port()
    command = [str(server_binary()), "--port", str(port), "--appendonly", "yes", "--appendfsync", "everysec"]
    # Python ignores SIGXFSZ, and the server inherits that.
    with (
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, restore_signals=False) as server,
        redis.Redis(port=port) as client,
    ):
        try:
            wait_until(lambda: _reads(client), "the server answers")
            yield f"redis://127.0.0.1:{port}/0", server.pid
        finally:
            server.kill()


async def test_a_redis_with_a_full_disk_can_be_read(tmp_path: Path) -> None:
    """Case D14, at night: `status`, `list` and `collect` work, although Redis refuses each change, and PING."""
    with limitable_server(tmp_path) as (url, pid), redis.Redis.from_url(url) as client:
        async with await Store.open(url) as store:
            batch = await submit_batch(store, 1)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        wait_until(lambda: not _takes_changes(client), "the server refuses changes")

        async with await Store.open(url) as store:
            status = await store.status(batch)
            assert [stored.id for stored in await store.list_batches()] == [batch]
            assert [view.row async for view in store.results(batch)] == [1]
            with pytest.raises(RedisUnavailable, match=r"cannot write to its disk .*: free space there"):
                await store.pause(batch, "requested by a user")
        assert "free space there" in str(status.write_refusal)


def _reads(client: redis.Redis) -> bool:
    try:
        return bool(client.time())
    except redis.ConnectionError:
        return False


def _takes_changes(client: redis.Redis) -> bool:
    try:
        return bool(client.set("askmill:filler", "x" * 1000, px=1))
    except redis.ResponseError:
        return False


async def test_another_redis_is_checked_as_the_first_one(redis_server: RedisServer) -> None:
    """`disk`, in a worker that has met another server: no run is created, and the batch says why, until it is set."""
    with configured(redis_server, **ALWAYS):
        store = await Store.open(redis_server.url, durability=DISK)
        batch, check = await submit_batch(store, 1), DurabilityCheck(store)
        assert await check.allows_creates([batch])
        check.is_due = True
    async with store:
        with configured(redis_server, appendonly="yes", appendfsync="everysec"):
            assert not await check.allows_creates([batch])
            fault = (await store.batch(batch)).last_fault
            assert fault is not None
            assert "Set appendfsync always there" in fault.words
        with configured(redis_server, appendonly="yes", appendfsync="always"):
            assert await check.allows_creates([batch])
        assert await check.allows_creates([batch])


async def test_a_mark_on_a_redis_that_gives_less_is_no_mark(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """`disk`: after a failover no mark counts, before any heartbeat has noticed it, until that Redis is set up."""
    successor = RedisServer(tmp_path)
    successor.start()
    try:
        with configured(redis_server, **ALWAYS), TcpRelay(redis_server.url) as name:
            async with await Store.open(name.url, durability=DISK) as store:
                batch, check = await submit_batch(store, 1), DurabilityCheck(store)
                await store.heartbeat(worker_info())
                claim = await claim_row(store, (await store.dispatch(1))[0])
                successor.take_over_from(redis_server)
                name.switch_to(successor.url, cut=True)

                with pytest.raises(RedisUnavailable, match="does not write through what it confirms"):
                    await store.save(claim, b'{"mark":1}', run_in_flight=True)
                with pytest.raises(RedisUnavailable, match="does not write through what it confirms"):
                    await store.ensure_durable()
                assert (await store.save(claim, b'{"run":1}', run_created=True)).held
                assert not await check.allows_creates([batch])
                with configured(successor, **ALWAYS):
                    assert await check.allows_creates([batch])
                    await store.ensure_durable()
    finally:
        successor.kill()


async def test_a_batch_says_that_a_replica_is_missing(redis_server: RedisServer) -> None:
    """`replica`: a worker that starts beside a single Redis reports at each heartbeat why no run is created."""
    async with await Store.open(redis_server.url, durability=REPLICA) as store:
        batch, check = await submit_batch(store, 1), DurabilityCheck(store)
        await check.check()
        assert await check.allows_creates([batch])
        fault = (await store.batch(batch)).last_fault
        assert fault is not None
        assert fault.words.startswith("No run is created: Redis at ")
        assert "needs two" in fault.words


async def test_a_mark_without_a_replica_is_no_mark(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`replica`: the save before a create fails and may be repeated; everything else goes on meanwhile."""
    monkeypatch.setattr(script_pipeline, "REPLICA_WAIT_MS", 200)
    async with await Store.open(redis_server.url, durability=REPLICA) as store:
        assert "has no replica" in "\n".join(one.sentence for one in await store.check_server())
        batch = await submit_batch(store, 1)
        await store.heartbeat(worker_info())
        claim = await claim_row(store, (await store.dispatch(1))[0])
        for _ in range(2):
            mark = asyncio.create_task(store.save(claim, b'{"mark":1}', run_in_flight=True))
            assert (await store.heartbeat(worker_info(), [batch])).alive
            assert not mark.done()
            with pytest.raises(RedisUnavailable, match=r"no replica of Redis at .* acknowledges"):
                await mark
        assert (await store.save(claim, b'{"run":1}', run_created=True)).held
        with pytest.raises(RedisUnavailable, match="acknowledges"):
            await store.ensure_durable()

"""The master moves while workers are at work: planned, killed, or with old connections left open. Nothing hangs."""

import asyncio
import contextlib
from pathlib import Path

import pytest
import redis

from askmill.config.settings import Durability
from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.redis_service import server_binary
from askmill.jobs.model.errors import RedisUnavailable
from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import Store
from tests.chaos.support import questions_lasting
from tests.helpers.sentinels import Sentinels
from tests.helpers.tcp_relay import TcpRelay
from tests.stack import QUICK, Child, Stack
from tests.support import wait_until, wait_until_async

ROWS, IN_FLIGHT = 200, 20


async def wait_for_rows(stack: Stack, batch: str, rows: int) -> None:
    """Wait until so many rows have completed, also while Redis cannot be reached."""

    async def reached() -> bool:
        with contextlib.suppress(RedisUnavailable):
            return (await stack.status(batch)).counts.by_status[JobStatus.COMPLETED] >= rows
        return False

    await wait_until_async(reached, f"{rows} rows have completed", 60)


def paid_twice(stack: Stack) -> dict[str, int]:
    """The rows with more than one run, and their runs."""
    return {row: runs for row, runs in stack.stats()["runs_by_job"].items() if runs != 1}


@pytest.mark.parametrize("killed", [False, True], ids=["planned", "killed"])
async def test_a_failover_by_sentinels_is_followed(tmp_path: Path, killed: bool) -> None:
    """Cases D4, D5, D7: store and broker follow the master, every row completes, and none is paid twice.

    `replica` durability and `min-replicas-to-write 1`. A master that has died has confirmed nothing that its
    successor lacks. One that is demoted confirms marks with the other replica until that one is moved, about a
    second: the worker, which lives, writes them again.
    """
    with Stack(tmp_path) as stack, Sentinels(stack) as sentinels:
        sentinels.configure(min_replicas_to_write="1")
        worker = stack.worker(IN_FLIGHT, QUICK, ASKMILL_DURABILITY="replica")
        batch = await stack.submit(questions_lasting(0.7, ROWS))
        await wait_for_rows(stack, batch, 20)
        await asyncio.to_thread(sentinels.kill_master if killed else sentinels.fail_over)
        await wait_for_rows(stack, batch, ROWS)

        assert worker.alive
        assert paid_twice(stack) == {}


async def test_a_replica_is_waited_for(tmp_path: Path) -> None:
    """`replica`: a mark is confirmed with a replica, refused without one, and confirmed when it is back."""
    with Stack(tmp_path) as stack, Sentinels(stack) as sentinels:
        replicas = [node for port, node in sentinels.nodes.items() if port != sentinels.master_port]
        async with await Store.open(sentinels.url, durability=Durability.REPLICA) as store:
            await store.ensure_durable()
            for replica in replicas:
                replica.freeze()
            with pytest.raises(RedisUnavailable, match="acknowledges"):
                await store.ensure_durable()
            for replica in replicas:
                replica.thaw()
            await wait_until_async(lambda: _durable(store), "a replica acknowledges again", 30)


async def _durable(store: Store) -> bool:
    with contextlib.suppress(RedisUnavailable):
        await store.ensure_durable()
        return True
    return False


def _link(client: redis.Redis) -> str | None:
    with contextlib.suppress(redis.ConnectionError):
        return client.info("replication").get("master_link_status")
    return None


class MovableName(TcpRelay):
    """One name for a server: new connections go to the new server, old ones stay open."""

    def move_to(self, port: int) -> None:
        self._upstream_port = port


async def test_old_connections_to_a_demoted_master_are_left(tmp_path: Path) -> None:
    """Case D6: a planned REPLICAOF behind one name, and nothing cuts the old connections."""
    with Stack(tmp_path) as stack, MovableName(stack.redis_url) as name:
        direct_url = stack.redis_url
        old_port = int(stack.redis_url.rpartition(":")[2].partition("/")[0])
        new_port, folder = free_port(), tmp_path / "new"
        folder.mkdir()
        command = [str(server_binary()), "--port", str(new_port), "--bind", HOST, "--dir", str(folder)]
        command += ["--appendonly", "yes", "--save", "", "--replicaof", HOST, str(old_port)]
        new = Child([*command, "--repl-diskless-sync-delay", "0"], folder / "log").start()
        worker = stack.worker(20, QUICK, ASKMILL_REDIS_URL=name.url)
        try:
            batch = await stack.submit(questions_lasting(0.7, 100))
            await wait_for_rows(stack, batch, 20)
            old_client, new_client = redis.Redis(HOST, old_port), redis.Redis(HOST, new_port)
            wait_until(lambda: _link(new_client) == "up", "it is a replica")
            with old_client, new_client:
                old_client.execute_command("CLIENT", "PAUSE", "2000", "WRITE")
                offset = old_client.info("replication")["master_repl_offset"]
                wait_until(
                    lambda: new_client.info("replication")["slave_repl_offset"] >= offset, "all is replicated"
                )
                name.move_to(new_port)
                new_client.replicaof("NO", "ONE")
                old_client.replicaof(HOST, str(new_port))
            stack.redis_url = name.url
            await wait_for_rows(stack, batch, 100)

            assert worker.alive
            assert paid_twice(stack) == {}
        finally:
            worker.kill()
            stack.redis_url = direct_url
            new.kill()

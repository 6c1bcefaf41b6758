"""A stack whose machines fail: its Redis may lose power or its disk, be replaced by a replica, or tell a wrong time.

worker, test ─▶ relay (switches, blocks) ─▶ Redis ◀─ relay (holds back) ◀─ replica, started when needed
worker       ─▶ relay (blocks)           ─▶ emulator
"""

import resource
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import redis

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.model.models import Api
from tests.helpers.clocks import WallClock
from tests.helpers.tcp_relay import TcpRelay
from tests.helpers.write_history import WriteHistory
from tests.stack import QUICK, Child, Stack
from tests.support import wait_until

IGNORING_FILE_LIMITS = ["sh", "-c", 'trap "" XFSZ; exec "$@"', "sh"]
"""Starts a command for which a file that may grow no more is an error of its write, as a full disk is."""
RDB_ONLY = {"--appendonly": "no", "--save": "5 1"}
"""Snapshots alone: after 5 s with a change."""


class MachineStack(Stack):
    """As `Stack`, with everything between its processes in the test's hands.

    Args:
        folder: where all files go.
        api: the API of the batches.
        scenario: the emulator's, TOML.
        persistence: changed options of Redis, as `RDB_ONLY`.
        clock: the wall clock of Redis; needs libfaketime.
        times: time constants of the workers; None: the real ones.
    """

    def __init__(
        self,
        folder: Path,
        api: Api = "assistants",
        scenario: str = "",
        *,
        persistence: dict[str, str] | None = None,
        clock: WallClock | None = None,
        times: dict[str, float] | None = QUICK,
    ) -> None:
        super().__init__(folder, api, scenario)
        self.times, self.clock = times, clock
        self.slots, self.durability = 50, "process"
        self.batch = ""
        """The batch that is measured."""
        self._persistence = persistence or {}
        self._resources = ExitStack()
        self._servers = [self.redis]
        self._replica: tuple[Child, TcpRelay] | None = None
        self.redis.command = self._server_command(self.redis.command)
        self.data = folder / "redis"
        if clock is not None:
            self.redis.env = clock.redis_env()
        self.redis_relay, self.api_relay = TcpRelay(self.redis_url), TcpRelay(self.base_url)
        self.redis_url = self.redis_relay.url
        self.base_url = f"http://{HOST}:{self.api_relay.port}/v1"
        self.history = WriteHistory(folder)

    def __enter__(self) -> Self:
        for part in (self.redis_relay, self.api_relay, self.history):
            self._resources.enter_context(part)
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._resources:
            try:
                super().__exit__(kind, *rest)
            finally:
                for server in self._servers:
                    server.kill()

    def settings(self) -> dict[str, str]:
        return {**super().settings(), "ASKMILL_DURABILITY": self.durability}

    def start_workers(self, count: int = 1, clock: WallClock | None = None) -> None:
        """Start workers, with a wall clock that the test sets if it gives one."""
        for _ in range(count):
            if clock is None:
                self.worker(self.slots, self.times)
            else:
                clock.worker(self, self.slots, self.times)

    def connect(self) -> "redis.Redis":
        """A client of the present master."""
        return self._client_of(self.redis)

    # ── power ──

    def lose_power(self, lost_s: float, *, workers: bool = False) -> int:
        """kill -9 of Redis, whose file loses its last `lost_s`; it starts again. Returns the bytes lost.

        `workers`: all workers die at the same moment, and as many new ones start. With durability `disk` the
        file is whole: what Redis has confirmed is on its disk.
        """
        dying = [worker for worker in self.workers if worker.alive] if workers else []
        killed_s = self.kill_together(*dying, self.redis)
        lost = self.history.cut(self.data, killed_s, lost_s) if lost_s and self.durability != "disk" else 0
        self.redis.start()
        self.wait_for_servers()
        self.start_workers(len(dying))
        return lost

    def kill_together(self, *children: Child) -> float:
        """kill -9 of all of them at one moment, which is returned (monotonic clock)."""
        for child in children:
            assert child.process is not None
            child.process.kill()
        killed_s = time.monotonic()
        for child in children:
            child.kill()
        return killed_s

    # ── replicas ──

    def take_replica(self) -> tuple[Child, TcpRelay]:
        """The replica started before, or else now."""
        replica = self._replica or self.start_replica()
        self._replica = None
        return replica

    def start_replica(self, clock: WallClock | None = None) -> tuple[Child, TcpRelay]:
        """A replica that has received everything, and the relay by which it receives more.

        `clock` is its wall clock; None: that of the others.
        """
        port, number = free_port(), len(self._servers)
        data = self.folder / f"redis-{number}"
        data.mkdir()
        link = self._resources.enter_context(TcpRelay(_url_of(self.redis)))
        command = _with_options(
            self.redis.command,
            {"--port": str(port), "--dir": str(data), "--replicaof": f"{HOST} {link.port}"},
        )
        command = _with_options(command, {"--repl-diskless-sync-delay": "0"})
        replica = replace(self.redis, command=command, log=self.folder / f"redis-{number}.log", process=None)
        if (clock := clock or self.clock) is not None:
            replica.env = clock.redis_env()
        self._servers.append(replica.start())
        with self._client_of(replica) as client:
            wait_until(lambda: _is_in_sync(client), "the replica has received everything", 30)
        self._replica = replica, link
        return self._replica

    def promote(self, replica: Child, *, cut: bool = True) -> None:
        """Make it the master to which new connections go; `cut`: old connections are closed."""
        with self._client_of(replica) as client:
            client.replicaof("NO", "ONE")
        self.redis = replica
        options = dict(zip(replica.command, replica.command[1:], strict=False))
        self.data = Path(options["--dir"])
        # It starts as a master from now on.
        at = replica.command.index("--replicaof")
        del replica.command[at : at + 2]
        self.redis_relay.switch_to(_url_of(replica), cut=cut)

    def demote(self, master: Child) -> None:
        """Make it a replica of the present master. Its connections stay open, as `REPLICAOF` leaves them."""
        with self._client_of(master) as client:
            client.replicaof(HOST, str(_port_of(self.redis)))

    # ── disk ──

    def fill_disk(self) -> None:
        """The append-only file of Redis may grow no more."""
        self._limit_files(sum(self.history.sizes(self.data).values()) + 1000)

    def clear_disk(self) -> None:
        """There is room again, and the file is rewritten, as docs/how-to/own-redis.md says.

        A server that has rewritten its file leaves NULs in it after a write that a full disk has cut short, with
        which it would not start again (Valkey 9.1).
        """
        self._limit_files(resource.RLIM_INFINITY)
        with self._client_of(self.redis) as client:
            wait_until(lambda: _is_writable(client), "Redis takes writes", 30)
            client.bgrewriteaof()
            wait_until(lambda: not _is_rewriting(client), "the file is rewritten", 30)

    def _limit_files(self, size: int) -> None:
        assert self.redis.process is not None
        resource.prlimit(self.redis.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def _server_command(self, command: list[str]) -> list[str]:
        return _with_options([*IGNORING_FILE_LIMITS, *command], self._persistence)

    def _client_of(self, server: Child) -> "redis.Redis":
        return redis.Redis.from_url(_url_of(server))


def _with_options(command: list[str], options: dict[str, str]) -> list[str]:
    """The command with these options changed or added."""
    command = list(command)
    for name, value in options.items():
        if name in command:
            command[command.index(name) + 1] = value
        else:
            command += [name, value]
    return command


def _port_of(server: Child) -> int:
    return int(server.command[server.command.index("--port") + 1])


def _url_of(server: Child) -> str:
    return f"redis://{HOST}:{_port_of(server)}/0"


def _is_writable(client: "redis.Redis") -> bool:
    try:
        return bool(client.set("askmill:replicated", 1, px=1))
    except redis.RedisError:
        return False


def _is_rewriting(client: "redis.Redis") -> bool:
    state = client.info("persistence")
    return bool(state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])


def _is_in_sync(client: "redis.Redis") -> bool:
    try:
        return client.info("replication").get("master_link_status") == "up"
    except redis.RedisError:
        return False

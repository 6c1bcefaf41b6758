"""A master, two replicas and three Sentinels on loopback: real servers that fail over."""

import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import redis
from redis.sentinel import Sentinel

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.redis_service import server_binary
from tests.stack import Child, Stack
from tests.support import wait_until

SERVICE, USER = "answers", "mill"
HOW_TO = Path(__file__).parents[2] / "docs/how-to/own-redis.md"
CONFIGURATION = """\
port {port}
bind {host}
sentinel monitor {service} {host} {master} 2
sentinel down-after-milliseconds {service} {down_ms}
sentinel failover-timeout {service} 10000
sentinel parallel-syncs {service} 2
requirepass {password}
sentinel sentinel-pass {password}
"""


class Sentinels:
    """The stack's own Redis becomes the master of two replicas, watched by three Sentinels.

    The Sentinels have a password, and the address has a user with the rights that docs/how-to/own-redis.md names.
    Within the block the stack's address is that of the service. `down_ms`: how long a master may not answer
    until it is taken for dead; a busy machine needs seconds.
    """

    def __init__(self, stack: Stack, down_ms: int = 2500) -> None:
        self._stack, self._own_url, self._down_ms = stack, stack.redis_url, down_ms
        self._password = secrets.token_hex(8)
        self.master_port = int(stack.redis_url.rpartition(":")[2].partition("/")[0])
        self.ports = [free_port() for _ in range(3)]
        places = ",".join(f"{HOST}:{port}" for port in self.ports)
        self.url = f"redis+sentinel://{USER}:{self._password}@{places}/{SERVICE}/0?sentinel_password={self._password}"
        self.nodes: dict[int, Child] = {self.master_port: stack.redis}
        self._sentinels: list[Child] = []
        self._client = Sentinel(  # type: ignore[no-untyped-call]
            [(HOST, port) for port in self.ports],
            sentinel_kwargs={"password": self._password, "socket_timeout": 2},
        )

    def __enter__(self) -> Self:
        for number in (1, 2):
            port = free_port()
            folder = self._folder(f"replica-{number}")
            command = [str(server_binary()), "--port", str(port), "--bind", HOST, "--dir", str(folder)]
            command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
            command += ["--replicaof", HOST, str(self.master_port), "--repl-diskless-sync-delay", "0"]
            self.nodes[port] = Child(command, folder / "log").start()
        for number, port in enumerate(self.ports):
            folder = self._folder(f"sentinel-{number}")
            (folder / "sentinel.conf").write_text(
                CONFIGURATION.format(
                    port=port,
                    host=HOST,
                    service=SERVICE,
                    master=self.master_port,
                    down_ms=self._down_ms,
                    password=self._password,
                )
            )
            command = [str(server_binary()), str(folder / "sentinel.conf"), "--sentinel"]
            self._sentinels.append(Child(command, folder / "log").start())
        wait_until(self._complete, "the Sentinels know each other and the replicas", 30)
        rights = re.search(r"ACL SETUSER mill on >PASSWORD (.+)", HOW_TO.read_text())
        assert rights
        for port in self.nodes:
            with redis.Redis(HOST, port) as client:
                client.execute_command("ACL", "SETUSER", USER, "on", f">{self._password}", *rights[1].split())
        self._stack.redis_url = self.url
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.redis_url = self._own_url
        for worker in self._stack.workers:
            worker.kill()
        for child in [*self._sentinels, *self.nodes.values()]:
            child.kill()

    def configure(self, **values: str) -> None:
        """CONFIG SET on all three servers; an underscore is a dash."""
        for port in self.nodes:
            with redis.Redis(HOST, port) as client:
                for name, value in values.items():
                    client.config_set(name.replace("_", "-"), value)

    def master(self) -> int:
        """The port of the master that the Sentinels name."""
        return int(self._client.discover_master(SERVICE)[1])

    def fail_over(self) -> None:
        """A planned failover; returns when the Sentinels name another master."""
        before = self.master()

        def accepted() -> bool:
            with (
                suppress(redis.ResponseError),
                redis.Redis(HOST, self.ports[0], password=self._password) as client,
            ):
                return bool(client.execute_command("SENTINEL", "FAILOVER", SERVICE))
            return False

        wait_until(accepted, "a Sentinel accepts the failover", 30)
        self.wait_for_another(before)

    def kill_master(self) -> float:
        """Kill the master; returns the seconds until the Sentinels name another one."""
        before, start = self.master(), time.monotonic()
        self.nodes[before].kill()
        self.wait_for_another(before)
        return time.monotonic() - start

    def wait_for_another(self, before: int) -> None:
        def moved() -> bool:
            with suppress(redis.ConnectionError):
                return self.master() != before
            return False

        wait_until(moved, "the Sentinels name another master", 60)

    def _complete(self) -> bool:
        try:
            for port in self.ports:
                with redis.Redis(HOST, port, password=self._password) as client:
                    state = client.sentinel_master(SERVICE)
                    if state["num-other-sentinels"] != 2 or state["num-slaves"] != 2:
                        return False
            with redis.Redis(HOST, self.master_port) as client:
                return (
                    len(
                        [
                            1
                            for name, value in client.info("replication").items()
                            if name.startswith("slave")
                            and isinstance(value, dict)
                            and value["state"] == "online"
                        ]
                    )
                    == 2
                )
        except redis.RedisError:
            return False

    def _folder(self, name: str) -> Path:
        folder = self._stack.folder / name
        folder.mkdir()
        return folder

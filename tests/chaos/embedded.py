"""The servers that `askmill run` starts without settings: their processes and the emulator's counters."""

import subprocess
from pathlib import Path
from typing import Any

import httpx2
import psutil

from askmill.jobs.local import EmulatorService, emulator_process
from tests.helpers.command_line import CommandLine

SERVERS = ("redis", "emulator")


def _data_dir(user: CommandLine) -> Path:
    return Path(user.settings["ASKMILL_DATA_DIR"])


def pid_of(user: CommandLine, server: str) -> int:
    """The process id of one of `SERVERS`."""
    return int((_data_dir(user) / "locks" / f"{server}.server").read_text())


def stats(user: CommandLine) -> dict[str, Any]:
    """The emulator's counters; empty while it does not run."""
    try:
        address = EmulatorService(_data_dir(user)).address()
        return dict(httpx2.get(address.replace("/v1", "/emulator/stats"), timeout=5).json())
    except (httpx2.HTTPError, OSError, KeyError, ValueError):
        return {}


def stats_after_end(user: CommandLine) -> dict[str, Any]:
    """The emulator's counters after the command and its emulator have ended, from a new one with its state."""
    with emulator_process(_data_dir(user)) as address:
        return dict(httpx2.get(address.replace("/v1", "/emulator/stats")).json())


def kill_everything(user: CommandLine, running: "subprocess.Popen[str]") -> None:
    """kill -9 of command, worker, supervisors, Redis and emulator at once, and reap them."""
    processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    for server in SERVERS:
        process = psutil.Process(pid_of(user, server))
        processes += [process, *filter(None, [process.parent()])]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=20)
    running.communicate()

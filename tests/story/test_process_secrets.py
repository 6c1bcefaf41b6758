"""Secrets are in no process that does not need them: neither in its arguments nor in its environment."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine, terminal
from tests.stack import Stack
from tests.support import wait_until

KEY = "Zq7.distinctive.KEY.0123456789"
"""Nothing about it looks like a key."""
SERVER = "jobs/local/supervisor.py"
WORKER = "askmill.worker"
LONG_ROW = "[emulate: completed after=60] What is 1 + 1?"

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")


def processes_of(data: Path, command: int) -> list[tuple[str, str]]:
    """Arguments and environment of each process, except `command`, that works in the data folder or names it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            environment = (process / "environ").read_text(errors="replace")
            folder = str((process / "cwd").readlink())
            if str(data) in f"{arguments} {environment} {folder}" and int(process.name) != command:
                found.append((arguments, environment))
    return found


def password_of(data: Path) -> str:
    found = re.search(r"[0-9a-f]{64}", (data / "redis" / "server.conf").read_text())
    assert found
    return found[0]


def run_processes(user: CommandLine, expected: tuple[str, ...], *options: str) -> list[tuple[str, str]]:
    """The processes of `askmill run` while a row runs, once all the expected ones are there."""
    data = Path(user.settings["ASKMILL_DATA_DIR"])
    user.write("q.csv", "question", LONG_ROW)
    # Not forked from the template of the tests, whose arguments and environment /proc would show.
    run = replace(user, fresh=True).start("run", "q.csv", *options)
    try:

        def complete() -> list[tuple[str, str]] | None:
            found = processes_of(data, run.pid)
            arguments = [text for text, _ in found]
            missing = [name for name in expected if not any(name in text for text in arguments)]
            # A child has the arguments of its parent until it executes its own program.
            forked = any("askmill run" in text for text in arguments)
            return None if missing or forked else found

        return wait_until(complete, "the worker and the servers have started", 20) or []
    finally:
        run.terminate()
        run.communicate(timeout=60)


def holders(secret: str, processes: list[tuple[str, str]]) -> list[str]:
    """The arguments of each process that has the secret in them or in its environment."""
    return [arguments for arguments, environment in processes if secret in arguments + environment]


def test_offline_no_process_gets_the_key(tmp_path: Path) -> None:
    """15.1: `run --offline` with a key set: worker, emulator, Redis and supervisors have neither key nor password."""
    user = terminal(tmp_path).with_settings(OPENAI_API_KEY=KEY)
    expected = (WORKER, "askmill.emulator", "valkey-server", SERVER)

    processes = run_processes(user, expected, "--offline")

    assert holders(KEY, processes) == []
    assert holders(password_of(Path(user.settings["ASKMILL_DATA_DIR"])), processes) == []


def test_only_the_worker_gets_the_key(tmp_path: Path) -> None:
    """15.1: `run` at an API: the worker has the key in its environment, no process has it in its arguments."""
    with Stack(tmp_path) as stack:
        settings = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": stack.base_url}
        user = terminal(tmp_path).with_settings(**settings)

        processes = run_processes(user, (WORKER, "valkey-server", SERVER))

        with_key = holders(KEY, processes)
        assert len(with_key) == 1
        assert WORKER in with_key[0]
        assert [arguments for arguments, _ in processes if KEY in arguments] == []
        assert holders(password_of(Path(user.settings["ASKMILL_DATA_DIR"])), processes) == []

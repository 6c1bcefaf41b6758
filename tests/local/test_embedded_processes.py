"""The emulator and the worker of a command: at a lasting address, and gone when they should be."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from askmill.jobs.local import EmulatorService, RedisService, ServiceLease, emulator_process
from askmill.jobs.model.errors import LocalFault
from tests.helpers.local_commands import Command, kill_all, processes_in
from tests.support import wait_until


def call(address: str, path: str, **fields: object) -> dict[str, object]:
    """POST with fields, GET without."""
    headers = {
        "Authorization": "Bearer any",
        "OpenAI-Beta": "assistants=v2",
        "Content-Type": "application/json",
    }
    data = json.dumps(fields).encode() if fields else None
    with urllib.request.urlopen(urllib.request.Request(address + path, data, headers), timeout=10) as reply:
        return dict(json.load(reply))


def answers(address: str) -> bool:
    try:
        return bool(call(address, "/models"))
    except OSError:
        return False


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "locks" / "emulator.server").read_text())


def test_commands_share_one_emulator_whose_objects_and_address_last(tmp_path: Path) -> None:
    """Two commands, one emulator; it ends with the last; the next has its objects at the same address."""
    first, second = (Command(tmp_path / "data", "emulator_process") for _ in range(2))
    thread = call(first.address, "/threads", metadata={"kept": "yes"})

    assert second.address == first.address
    assert first.end() == 0
    assert call(second.address, f"/threads/{thread['id']}")["metadata"] == {"kept": "yes"}
    assert second.end() == 0
    assert processes_in(tmp_path) == []
    with emulator_process(tmp_path / "data") as address:
        assert address == first.address
        assert call(address, f"/threads/{thread['id']}")["metadata"] == {"kept": "yes"}


def test_a_killed_emulator_comes_back_at_its_address(tmp_path: Path) -> None:
    """kill -9 of the emulator under its users: the keeper starts it again with its objects."""
    with emulator_process(tmp_path) as address:
        thread = call(address, "/threads", metadata={"kept": "yes"})
        killed = psutil.Process(server_pid(tmp_path))
        killed.kill()

        wait_until(lambda: server_pid(tmp_path) != killed.pid and answers(address), "it answers again")
        assert call(address, f"/threads/{thread['id']}")["metadata"] == {"kept": "yes"}
    # The helper of the killed one notices when it has imported all it needs.
    wait_until(lambda: not processes_in(tmp_path), "keeper, emulator and helpers have ended")


def test_everything_of_the_emulator_killed_is_no_hindrance(tmp_path: Path) -> None:
    """User, keeper, emulator and its helpers killed together: the next start is as any other."""
    command = Command(tmp_path / "data", "emulator_process")
    address = command.address
    kill_all([psutil.Process(command.process.pid), *processes_in(tmp_path)])
    command.kill()

    with emulator_process(tmp_path / "data") as again:
        assert again == address


def test_a_taken_port_is_left_to_its_owner_and_the_new_one_lasts(tmp_path: Path) -> None:
    """Somebody listens at the old address: another port is chosen and kept from then on."""
    with emulator_process(tmp_path) as first:
        pass
    with socket.create_server(("127.0.0.1", urlsplit(first).port or 0)), emulator_process(tmp_path) as second:
        assert answers(second)
    with emulator_process(tmp_path) as third:
        assert third == second != first


def test_an_emulator_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    """Its state folder is full of something else: exit 3, with what it said last and its log's name."""
    with emulator_process(tmp_path) as address:
        call(address, "/threads", metadata={"kept": "yes"})
    for path in (tmp_path / "emulator").iterdir():
        if path.is_file():
            path.unlink()
            path.mkdir()

    # On a busy machine it takes a second to fail, and is started again as one that ran (supervisor.py).
    message = (
        r"emulator in .* (could not be started|has not answered for 30 s): .*Is a directory.*emulator\.log"
    )
    with pytest.raises(LocalFault, match=message) as fault, emulator_process(tmp_path):
        pass
    assert fault.value.exit_code == 3


def test_both_services_start_side_by_side(tmp_path: Path) -> None:
    """Entering waits for neither; the emulator's address is known, and right, before it is ready."""
    with ServiceLease(RedisService(tmp_path)) as redis, ServiceLease(EmulatorService(tmp_path)) as emulator:
        early = emulator.address()

        assert redis.wait_ready().startswith("redis://")
        assert emulator.wait_ready() == early
        assert answers(early)


_RUN = """
import sys, time
from pathlib import Path
from askmill.jobs.local import embedded_redis, emulator_process, interruptible, worker_process
data = Path(sys.argv[1])
with interruptible(), emulator_process(data) as api:
    own = {"OPENAI_BASE_URL": api, "OPENAI_API_KEY": "offline", "ASKMILL_DATA_DIR": str(data)}
    with worker_process(data, ["--concurrency", "3"], own) as worker, embedded_redis(data):
        print(worker.pid, flush=True)
        while True:
            worker.check()
            time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_ends_with_its_command_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    """Told to end, or kill -9: no worker, server or keeper stays."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("ASKMILL_", "OPENAI_"))}
    script = [sys.executable, "-c", _RUN, str(tmp_path / "data")]
    with subprocess.Popen(
        script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=bare
    ) as command:
        assert command.stdout
        pid = command.stdout.readline().strip()
        assert pid, command.stderr.read() if command.stderr else ""
        worker = psutil.Process(int(pid))
        log = tmp_path / "data" / "logs" / "worker.log"
        wait_until(lambda: "ready" in log.read_text() or command.poll() is not None, "the worker works", 20)
        password = (
            (tmp_path / "data" / "redis" / "server.conf").read_text().split("requirepass ")[1].split()[0]
        )

        assert command.poll() is None, command.stderr.read() if command.stderr else ""
        assert password not in json.dumps([worker.cmdline(), worker.environ()])
        command.send_signal(number)
        command.communicate(timeout=30)
    wait_until(lambda: not worker.is_running(), "the worker has ended", 20)
    wait_until(lambda: not processes_in(tmp_path), "keepers and servers have ended", 20)

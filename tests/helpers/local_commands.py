"""Commands that use the embedded processes, as real processes of their own that tests may kill."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import redis

_USER = """
import sys
from pathlib import Path
from jobs.local import {service}, interruptible
with interruptible(), {service}(Path(sys.argv[1])) as address:
    print(address, flush=True)
    sys.stdin.read()
"""


class Command:
    """Some command: uses the service from its start until `end`, as `askmill status --watch` would."""

    def __init__(self, data_dir: Path, service: str = "embedded_redis", **options: Any) -> None:
        script = [sys.executable, "-c", _USER.format(service=service), str(data_dir)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(script, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)
        self._address = ""

    @property
    def address(self) -> str:
        """Waits until the service is ready."""
        assert self.process.stdout
        assert self.process.stderr
        self._address = self._address or self.process.stdout.readline().strip()
        assert self._address, self.process.stderr.read()
        return self._address

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.address, decode_responses=True)

    def answers(self) -> bool:
        try:
            with self.redis() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def end(self) -> int:
        """Ends as a command does whose work is done; its exit code."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.communicate(timeout=20)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)

    def interrupt(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.end()


def processes_in(folder: Path) -> list[psutil.Process]:
    """Keepers and servers that work in a folder below `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_all(processes: list[psutil.Process]) -> None:
    """kill -9, all before any is waited for."""
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)

"""Processes that use the embedded Redis or emulator, for tests to interrupt and kill."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.helpers import preloaded

_PROGRAM = str(Path(__file__).parent / "workers" / "service_user.py")


class Command:
    """A command that uses the service until `end`, as `askmill status --watch` does."""

    def __init__(self, data_dir: Path, service: str = "embedded_redis", **options: Any) -> None:
        script = [sys.executable, "-P", _PROGRAM, str(data_dir), service]
        pipe = subprocess.PIPE
        self.process = preloaded.Popen(script, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)
        self._address = ""

    @property
    def address(self) -> str:
        """The service's URL; waits until the service is ready."""
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
        """Let the command return normally; return its exit code."""
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
    """Processes whose working folder is `folder` or below it: supervisors and servers."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_all(processes: list[psutil.Process]) -> None:
    """SIGKILL all of them, then wait."""
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)

"""The worker of `run`, a child process that ends with its command, and the signals that end a command."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from askmill.jobs.local import data_dir as folders
from askmill.jobs.model.errors import LocalFault
from askmill.jobs.store.views import WorkerInfo

_GRACE_S = 20.0
"""Longest time that a worker may take to release its rows."""


def died_here(worker: WorkerInfo) -> bool:
    """Return whether this worker belongs to this machine and its process has ended.

    Where that is unknown it counts as alive: its heartbeat decides.
    """
    if worker.host != socket.gethostname():
        return False
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Child:
    """A child process of this command, with its output in a log file."""

    def __init__(self, title: str, process: "subprocess.Popen[bytes]", log: tuple[Path, int]) -> None:
        self.title = title
        self.pid = process.pid
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raise LocalFault with the last line of its log if it has ended."""
        code = self._process.poll()
        if code is not None:
            ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise LocalFault(
                f"The {self.title} {ended}: {folders.last_log_line(*self._log)} (log: {self._log[0]}). "
                "Nothing is lost. Run the same command again to resume."
            )

    def send_line(self, text: str) -> None:
        """Write a line to its stdin. One that has ended is noticed by `check`."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(f"{text}\n".encode())
                self._process.stdin.flush()

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """Send SIGTERM; after `grace_s` seconds or a second Ctrl-C, SIGKILL to its whole process group."""
        try:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        finally:
            if self._process.poll() is None:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()


@contextmanager
def worker_process(
    data_dir: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    drain_s: float = 0.0,
) -> Iterator[Child]:
    """Yield a worker that runs while the block runs; `environment` is added to the command's own.

    `drain_s`: how long its calls may take to end before it releases its rows.

    Does not wait for its heartbeat, so that the command can work while the worker imports its modules. Call
    `check()` while waiting. Without ASKMILL_REDIS_URL the worker finds the embedded Redis by itself, so no
    password is in its environment.

    Raises:
        UsageError, LocalFault: the log cannot be written.
    """
    command = [sys.executable, "-P", "-m", "askmill.worker", "--exit-with-parent", *arguments]
    with folders.oserror_to_fault(data_dir):
        log, path, size = folders.open_log(data_dir, "worker")
    try:
        # Only this process holds its stdin, a pipe: when this process dies, the worker reads the end of it
        # and stops. Its own session keeps Ctrl-C in the terminal from it; `stop` sends the signal.
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    child = Child("worker", process, (path, size))
    try:
        yield child
    finally:
        child.stop(_GRACE_S + drain_s)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block as Ctrl-C does, so that every started process is stopped.

    A signal that was ignored at the start of this process (nohup) stays ignored.
    """

    def interrupt(_signal: int, frame: FrameType | None) -> None:
        # While asyncio.run runs, it has a handler of its own, which cancels the main task: a task that is
        # interrupted elsewhere may not get as far as its clean-up.
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(on_ctrl_c):
            raise KeyboardInterrupt
        on_ctrl_c(signal.SIGINT, frame)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handled = [s for s in map(signal.Signals.__getitem__, names) if signal.getsignal(s) != signal.SIG_IGN]
    previous = {number: signal.signal(number, interrupt) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

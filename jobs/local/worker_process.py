"""The worker of `run`: a child that ends with its command, and the signals that end a command."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from askmill.jobs.local import data_dir as folders
from askmill.jobs.model.errors import LocalFault

_GRACE_S = 20.0
"""Longest time a worker may take to hand over its runs."""


class Child:
    """A process of this command, with its output in a log file."""

    def __init__(self, title: str, process: "subprocess.Popen[bytes]", log: tuple[Path, int]) -> None:
        self.title = title
        self.pid = process.pid
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raise LocalFault if it has ended, with the last it said."""
        code = self._process.poll()
        if code is not None:
            ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise LocalFault(
                f"The {self.title} {ended}: {folders.last_line(*self._log)} (log: {self._log[0]}). "
                "Nothing is lost; the same command goes on."
            )

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """SIGTERM, and SIGKILL to all its processes after `grace_s` or a second Ctrl-C."""
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
    data_dir: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """A worker with `arguments` and `environment` over the command's own, for as long as the block runs.

    Does not wait for its heartbeat: what the command does meanwhile runs beside the worker's slow imports.
    Call `check()` while waiting. Without ASKMILL_REDIS_URL the worker uses the embedded Redis by itself, so
    no password passes through its environment.

    Raises:
        UsageError, LocalFault: the log cannot be written.
    """
    command = [sys.executable, "-P", "-m", "askmill.worker", "--exit-with-parent", *arguments]
    with folders.fit(data_dir):
        log, path, size = folders.open_log(data_dir, "worker")
    try:
        # Its stdin is a pipe that only we hold: however we die, it reads the end and ends itself. A session
        # of its own keeps the terminal's Ctrl-C from it; `stop` tells it.
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
        child.stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that all that was started is stopped.

    A signal that was ignored when we were started (nohup) stays ignored.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heeded = [s for s in map(signal.Signals.__getitem__, names) if signal.getsignal(s) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

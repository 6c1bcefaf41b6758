"""One server for all commands on a data directory: the first user starts it, the last one stops it.

A user holds a shared flock on locks/NAME.users, which the kernel releases however the user dies. The process
that gets the exclusive flock on locks/NAME.server may start the server; supervisor and server inherit that
lock.

    enter ─▶ shared lock on .users ─▶ ┌ .server free: configure, start the supervisor ──┐
                                      └ .server held: it is starting or running ────────┴▶ probe until ready
    exit ─▶ exclusive lock on .users?  no: others use it · yes: stop it, wait until .server is free
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import ClassVar, Protocol, Self

from askmill.jobs.local import data_dir as folders
from askmill.jobs.model.errors import LocalFault

if sys.platform != "win32":
    import fcntl

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_POLL_S = 0.005
_STARTS = 3
"""How often one command starts a server that ends at once; its port may be taken between check and bind."""
_READY_S = 30.0
"""Longest wait for a server that does not answer. One that reports loading may take any time."""
_END_S = 5.0
_LOCK_S = 30.0

_PASSED_VARIABLES = frozenset(
    {"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
)
_PASSED_PREFIXES = ("LC_", "PYTHON")


class Readiness(Enum):
    """Result of a probe."""

    NONE = "nobody answers"
    LOADING = "reading its data"
    READY = "ready"


class Service(Protocol):
    """A server that commands can share."""

    name: ClassVar[str]
    """Name of its locks, its log and its working folder under the data directory."""
    title: ClassVar[str]
    """Name in messages."""
    instead: ClassVar[str]
    """What to do if it is not available, as a sentence."""
    last_resort: ClassVar[tuple[str, ...]]
    """Arguments with which it runs for a while after it has exited with an error; see supervisor.py."""
    data_dir: Path

    def configure(self) -> list[str]:
        """Choose the port, write the configuration, return the command. Called with the .server lock held."""

    def address(self) -> str:
        """Return its URL."""

    def probe(self) -> Readiness:
        """Ask the server whether it is ready, within a second."""

    def request_shutdown(self) -> bool:
        """Ask it to shut down, if it has a command for that. False: the caller sends SIGTERM."""


class ServiceLease:
    """Use of a service by this process while the `with` block runs.

    Entering starts the server if necessary and does not wait for it, so that several servers start in
    parallel:

        with ServiceLease(RedisService(folder)) as redis, ServiceLease(EmulatorService(folder)) as emulator:
            with worker_process(folder, environment={"OPENAI_BASE_URL": emulator.address()}):
                url = redis.wait_ready()

    Every method raises LocalFault if the server is not available, and UsageError if the data directory cannot
    be used.
    """

    def __init__(self, service: Service) -> None:
        folders.require_posix(service.title, service.instead)
        self._service = service
        self._users = -1
        self._starter: subprocess.Popen[bytes] | None = None
        self._log: tuple[Path, int] | None = None

    def __enter__(self) -> Self:
        try:
            self._acquire()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def address(self) -> str:
        """Return the server's URL, which is fixed before the server is ready."""
        with folders.oserror_to_fault(self._service.data_dir):
            if self._starter is None:
                _wait(lambda: self._lock_path("server").read_text() or self._is_free(), _LOCK_S)
            return self._service.address()

    def _acquire(self) -> None:
        """Register as a user, and start the server unless it is running."""
        data_dir, name = self._service.data_dir, self._service.name
        with folders.oserror_to_fault(data_dir):
            folders.ensure_private_dir(data_dir / name)
            folders.ensure_private_dir(data_dir / "locks")
            self._users = os.open(self._lock_path("users"), os.O_RDWR | os.O_CREAT, 0o600)
            if not _wait(lambda: _try_lock(self._users, fcntl.LOCK_SH), _LOCK_S):
                raise LocalFault(
                    f"The {self._service.title} in {data_dir} has been stopping for {_LOCK_S:g} s."
                )
            self._start_if_free()

    def wait_ready(self) -> str:
        """Wait until the server answers, and return its URL."""
        self._wait_for_starter()
        starts, deadline = 1, time.monotonic() + _READY_S
        with folders.oserror_to_fault(self._service.data_dir):
            while (answer := self._service.probe()) is not Readiness.READY:
                if answer is Readiness.LOADING:
                    deadline = time.monotonic() + _READY_S
                elif time.monotonic() > deadline:
                    raise self._fault(f"has not answered for {_READY_S:g} s")
                elif starts < _STARTS:
                    starts += self._start_if_free()
                elif self._is_free():
                    raise self._fault("could not be started")
                time.sleep(_POLL_S)
            return self._service.address()

    def _release(self) -> None:
        """Unregister; the last user shuts the server down and waits for its end."""
        if self._users < 0:
            return
        try:
            self._wait_for_starter()
            if _try_lock(self._users, fcntl.LOCK_EX) and not self._is_free():
                self._shut_down()
        finally:
            # If anything above fails, the supervisor stops the unused server.
            os.close(self._users)
            self._users = -1

    def _lock_path(self, kind: str) -> Path:
        return self._service.data_dir / "locks" / f"{self._service.name}.{kind}"

    def _open_server_lock(self) -> int:
        return os.open(self._lock_path("server"), os.O_RDWR | os.O_CREAT, 0o600)

    def _is_free(self) -> bool:
        """Whether neither supervisor nor server is running."""
        lock = self._open_server_lock()
        try:
            return _try_lock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def _start_if_free(self) -> bool:
        lock = self._open_server_lock()
        try:
            if not _try_lock(lock, fcntl.LOCK_EX):
                return False
            self._start(lock)
        finally:
            os.close(lock)
        return True

    def _wait_for_starter(self) -> None:
        """Wait for the process that forked the supervisor; it exits 20 ms after its start."""
        if self._starter:
            self._starter.wait()
            self._starter = None

    def _start(self, server_lock: int) -> None:
        self._wait_for_starter()
        service = self._service
        # An empty file tells `address` of other users that the server is not configured yet.
        os.ftruncate(server_lock, 0)
        command = service.configure()
        log, path, size = folders.open_log(service.data_dir, service.name)
        self._log = (path, size)
        supervisor = [sys.executable, "-I", "-S", str(_SUPERVISOR), str(self._lock_path("users").resolve())]
        try:
            # Its own session, so that Ctrl-C in the terminal does not reach the supervisor.
            self._starter = subprocess.Popen(
                [*supervisor, str(server_lock), " ".join(service.last_resort), *command],
                pass_fds=[server_lock],
                cwd=service.data_dir / service.name,
                env=_bare_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(log)

    def _shut_down(self) -> None:
        if not self._service.request_shutdown():
            with suppress(OSError, ValueError):
                os.kill(int(self._lock_path("server").read_text()), signal.SIGTERM)
        _wait(self._is_free, _END_S)

    def _fault(self, problem: str) -> LocalFault:
        service = self._service
        message = f"The {service.title} in {service.data_dir} {problem}"
        if self._log:
            message += f": {folders.last_log_line(*self._log)} (log: {self._log[0]})"
        return LocalFault(f"{message}. {service.instead}")


@contextmanager
def share(service: Service) -> Iterator[str]:
    """Yield the service's URL; the service runs while the block runs."""
    with ServiceLease(service) as lease:
        yield lease.wait_ready()


def _try_lock(handle: int, kind: int) -> bool:
    """Take the flock without waiting; return whether it was free."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: Callable[[], object], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _bare_environment() -> dict[str, str]:
    """Return the variables that a server needs. It outlives the command and must not get the user's keys."""
    return {k: v for k, v in os.environ.items() if k in _PASSED_VARIABLES or k.startswith(_PASSED_PREFIXES)}

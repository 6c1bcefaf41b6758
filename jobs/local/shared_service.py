"""One server for all commands on a data directory: first in starts it, last out ends it; the dead count not.

A user holds a shared flock on locks/NAME.users; the kernel drops it however the user dies. Whoever gets the
exclusive flock on locks/NAME.server may start the server, and hands that very lock to keeper and server.

    enter ─▶ shared lock on .users ─▶ ┌ .server free: ours; configure, start the keeper ───┐
                                     └ .server held: somebody's is starting or running ───┴▶ probe until ready
    exit ─▶ exclusive lock on .users?  no: others go on · yes: end it, wait until .server is free
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

_KEEPER = Path(__file__).with_name("supervisor.py")
_POLL_S = 0.005
_STARTS = 3
"""Times one command tries to start a server that ends at once; a port may be snatched between two looks."""
_READY_S = 30.0
"""Longest silence of a server that starts; one that says it is loading its data may take any time."""
_END_S = 5.0
_LOCK_S = 30.0

_KEPT_VARIABLES = frozenset({"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"})
_KEPT_PREFIXES = ("LC_", "PYTHON")


class Answer(Enum):
    """What a server says when asked whether it is ready."""

    NONE = "nobody answers"
    LOADING = "reading its data"
    READY = "ready"


class Service(Protocol):
    """A server that commands can share."""

    name: ClassVar[str]
    """Of its locks, its log and its working folder under the data directory."""
    title: ClassVar[str]
    """In sentences."""
    instead: ClassVar[str]
    """What a person can do when it cannot be had, as a sentence."""
    data_dir: Path

    def configure(self) -> list[str]:
        """Settle the port, and return the command. Only the holder of the .server lock calls it."""

    def address(self) -> str:
        """Where it answers, as a URL."""

    def probe(self) -> Answer:
        """Ask it, waiting a second at most."""

    def ask_to_end(self) -> bool:
        """Whether it has its own way of being told to end, and was told; else SIGTERM is sent."""


class ServiceLease:
    """The use of a service by this process, for as long as the `with` block runs.

    Entering starts the server if need be and does not wait for it, so that several start side by side:

        with Lease(RedisService(folder)) as redis, Lease(EmulatorService(folder)) as emulator:
            with worker_process(folder, environment={"OPENAI_BASE_URL": emulator.address()}):
                url = redis.wait_ready()

    Every method raises LocalFault when the server cannot be had and UsageError when the data directory
    cannot be used.
    """

    def __init__(self, service: Service) -> None:
        folders.require_posix(service.title, service.instead)
        self._service = service
        self._users = -1
        self._starter: subprocess.Popen[bytes] | None = None
        self._log: tuple[Path, int] | None = None

    def __enter__(self) -> Self:
        try:
            self._join()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def address(self) -> str:
        """Where it will answer: settled before it is ready."""
        with folders.fit(self._service.data_dir):
            if self._starter is None:
                _wait(lambda: self._lock_path("server").read_text() or self._is_free(), _LOCK_S)
            return self._service.address()

    def _join(self) -> None:
        """Become a user, and start the server unless one is there."""
        data_dir, name = self._service.data_dir, self._service.name
        with folders.fit(data_dir):
            folders.private(data_dir / name)
            folders.private(data_dir / "locks")
            self._users = os.open(self._lock_path("users"), os.O_RDWR | os.O_CREAT, 0o600)
            if not _wait(lambda: _locked(self._users, fcntl.LOCK_SH), _LOCK_S):
                raise LocalFault(
                    f"The {self._service.title} in {data_dir} has been stopping for {_LOCK_S:g} s."
                )
            self._start_if_free()

    def wait_ready(self) -> str:
        """The address, once the server answers."""
        self._reap_starter()
        starts, deadline = 1, time.monotonic() + _READY_S
        with folders.fit(self._service.data_dir):
            while (answer := self._service.probe()) is not Answer.READY:
                if answer is Answer.LOADING:
                    deadline = time.monotonic() + _READY_S
                elif time.monotonic() > deadline:
                    raise self._fault(f"has not answered for {_READY_S:g} s")
                elif starts < _STARTS:
                    starts += self._start_if_free()
                elif self._is_free():
                    raise self._fault("could not be started")
                time.sleep(_POLL_S)
            return self._service.address()

    def _leave(self) -> None:
        """Stop being a user; the last one ends the server and waits for that."""
        if self._users < 0:
            return
        try:
            self._reap_starter()
            if _locked(self._users, fcntl.LOCK_EX) and not self._is_free():
                self._end()
        finally:
            # Should anything above fail, the keeper ends a server that nobody uses.
            os.close(self._users)
            self._users = -1

    def _lock_path(self, kind: str) -> Path:
        return self._service.data_dir / "locks" / f"{self._service.name}.{kind}"

    def _open_server_lock(self) -> int:
        return os.open(self._lock_path("server"), os.O_RDWR | os.O_CREAT, 0o600)

    def _is_free(self) -> bool:
        """Whether neither keeper nor server lives."""
        lock = self._open_server_lock()
        try:
            return _locked(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def _start_if_free(self) -> bool:
        lock = self._open_server_lock()
        try:
            if not _locked(lock, fcntl.LOCK_EX):
                return False
            self._start(lock)
        finally:
            os.close(lock)
        return True

    def _reap_starter(self) -> None:
        """Wait for the process that forked the keeper, 20 ms after its start."""
        if self._starter:
            self._starter.wait()
            self._starter = None

    def _start(self, server_lock: int) -> None:
        self._reap_starter()
        service = self._service
        # No pid: not configured yet, says `address` of another user.
        os.ftruncate(server_lock, 0)
        command = service.configure()
        log, path, size = folders.open_log(service.data_dir, service.name)
        self._log = (path, size)
        keeper = [sys.executable, "-I", "-S", str(_KEEPER), str(self._lock_path("users").resolve())]
        try:
            # A session of its own: a terminal's Ctrl-C must not reach the keeper.
            self._starter = subprocess.Popen(
                [*keeper, str(server_lock), *command],
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

    def _end(self) -> None:
        if not self._service.ask_to_end():
            with suppress(OSError, ValueError):
                os.kill(int(self._lock_path("server").read_text()), signal.SIGTERM)
        _wait(self._is_free, _END_S)

    def _fault(self, what: str) -> LocalFault:
        service = self._service
        said = f"The {service.title} in {service.data_dir} {what}"
        if self._log:
            said += f": {folders.last_line(*self._log)} (log: {self._log[0]})"
        return LocalFault(f"{said}. {service.instead}")


@contextmanager
def share(service: Service) -> Iterator[str]:
    """The service's address, for as long as the block runs."""
    with ServiceLease(service) as lease:
        yield lease.wait_ready()


def _locked(handle: int, kind: int) -> bool:
    """Whether the flock could be had at once."""
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
    """What a server needs to run: it outlives the command, and the person's keys are none of its business."""
    return {k: v for k, v in os.environ.items() if k in _KEPT_VARIABLES or k.startswith(_KEPT_PREFIXES)}

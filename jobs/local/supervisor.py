"""Run one shared server while anybody uses it: `python -I -S keeper.py USERS_LOCK SERVER_LOCK_FD COMMAND…`.

Started by file name and without site-packages (10 ms sooner), so only the standard library may be imported.
Users hold a shared lock on USERS_LOCK. The exclusive lock on SERVER_LOCK_FD comes from the starter and is
inherited by the server: it is free exactly when neither keeper nor server lives, whoever was killed, and
while it is held its file has the server's pid.

    start ─▶ server runs ──killed or crashed──▶ started again, same command
                │  └──ended as told, or exited within a second of its start──▶ keeper ends
                └──nobody has held USERS_LOCK for IDLE_S, or SIGTERM──▶ SIGTERM, SIGKILL, keeper ends
"""

import fcntl
import os
import select
import signal
import sys
import time
from contextlib import suppress

IDLE_S = 2.0
POLL_S = 0.2
GRACE_S = 15.0
SHORTEST_LIFE_S = 1.0
"""A server that exits sooner could not start: its starter reads the log."""
SHORT_LIVES = 5
"""Times in a row that a server may be killed so soon: one too big for the memory would be, for ever."""


def main(arguments: list[str]) -> None:
    """Leave the starter, which so need not reap us, and keep the server."""
    users, server_lock, *command = arguments
    if os.fork() == 0:
        ServerSupervisor(users, int(server_lock), command).run()
    os._exit(0)


class ServerSupervisor:
    """The life of one server."""

    def __init__(self, users: str, server_lock: int, command: list[str]) -> None:
        self._users = os.open(users, os.O_RDWR | os.O_CREAT, 0o600)
        self._server_lock = server_lock
        self._command = command
        self._told_to_end = False
        self._wake = self._wake_on_signals()

    def run(self) -> None:
        """Until the server has ended for good."""
        short_lives = 0
        while short_lives < SHORT_LIVES:
            started = time.monotonic()
            code = self._watch(self._start())
            if time.monotonic() - started > SHORTEST_LIFE_S:
                short_lives = 0
            elif code > 0:
                return
            short_lives += 1
            # uvicorn ends itself with the very signal that told it to.
            if code in {0, -signal.SIGTERM}:
                return

    def _start(self) -> int:
        # Not subprocess, which takes 6 ms to import.
        pid = os.fork()
        if pid == 0:
            with suppress(OSError):
                os.execvp(self._command[0], self._command)  # noqa: S606 -- no shell is wanted
            os.write(2, f"{self._command[0]} cannot be run\n".encode())
            os._exit(127)
        # On a full disk nobody else learns the pid, and the server ends for want of users.
        with suppress(OSError):
            # One write over the last one: a reader never sees half of it.
            os.pwrite(self._server_lock, b"%-20d\n" % pid, 0)
        return pid

    def _watch(self, pid: int) -> int:
        """The server's exit code, negative for a signal; 0 when it has been stopped here."""
        last_used = time.monotonic()
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if self._used():
                last_used = time.monotonic()
            if self._told_to_end or (time.monotonic() - last_used > IDLE_S and self._lock_users_out()):
                self._stop(pid)
                return 0
            self._sleep()

    def _used(self) -> bool:
        if not self._lock_users_out():
            return True
        fcntl.flock(self._users, fcntl.LOCK_UN)
        return False

    def _lock_users_out(self) -> bool:
        """Take the users' lock if nobody has it. While it is kept, newcomers wait for our end."""
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            self._sleep()

    def _wake_on_signals(self) -> int:
        """A descriptor that gets a byte for each signal, so that `_sleep` ends with the server."""
        wake, writer = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        return wake

    def _sleep(self) -> None:
        if select.select([self._wake], [], [], POLL_S)[0]:
            os.read(self._wake, 512)

    def _end(self, *_: object) -> None:
        self._told_to_end = True


if __name__ == "__main__":
    main(sys.argv[1:])

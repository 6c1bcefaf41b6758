"""Run one shared server while it has users: `python -I -S supervisor.py USERS_LOCK SERVER_LOCK RESORT CMD…`.

RESORT are arguments, separated by spaces, with which a server that exits with an error is started for a
while: the embedded Redis exits when it cannot write to its disk, and then at least its data can be read.

Started by file name and without site-packages (10 ms faster), so only the standard library may be imported.
Users hold a shared lock on USERS_LOCK. The exclusive lock on the descriptor SERVER_LOCK comes from the
starter and is inherited by the server. It is free exactly when neither supervisor nor server is running,
whichever was killed, and while it is held its file has the server's pid.

    start ─▶ server runs ──killed or crashed──▶ started again, same command
                │  ├──exited with an error──▶ started with RESORT; after 5 to 60 s again without
                │  └──shut down, or exited within a second of its start──▶ supervisor exits
                └──USERS_LOCK free for IDLE_S, or SIGTERM──▶ SIGTERM, SIGKILL, supervisor exits
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
"""A server that exits sooner could not start; its starter reads the log."""
SHORT_LIVES = 5
"""How often in a row a server may be killed so soon, for example because the memory is too small."""
FIRST_RESORT_S, LONGEST_RESORT_S = 5.0, 60.0
"""How long a server runs with RESORT; each time in a row twice as long."""
PERIOD_OVER = 256
"""No exit code: the server has run with RESORT for long enough."""


def main(arguments: list[str]) -> None:
    """Detach from the starter, which then need not wait for this process, and run the server."""
    users, server_lock, last_resort, *command = arguments
    if os.fork() == 0:
        ServerSupervisor(users, int(server_lock), command, last_resort.split()).run()
    os._exit(0)


class ServerSupervisor:
    """Starts, restarts and stops one server."""

    def __init__(self, users: str, server_lock: int, command: list[str], last_resort: list[str]) -> None:
        self._users = os.open(users, os.O_RDWR | os.O_CREAT, 0o600)
        self._server_lock = server_lock
        self._command, self._last_resort = command, last_resort
        self._stop_requested = False
        self._wake = self._wake_on_signals()

    def run(self) -> None:
        """Run until the server has ended and is not restarted."""
        short_lives, resort_s, in_resort = 0, FIRST_RESORT_S, False
        while short_lives < SHORT_LIVES:
            started = time.monotonic()
            command = self._command + (self._last_resort if in_resort else [])
            code = self._watch(self._start(command), resort_s if in_resort else float("inf"))
            life_s = time.monotonic() - started
            # uvicorn re-raises the signal that stopped it.
            if code in {0, -signal.SIGTERM}:
                return
            if code == PERIOD_OVER:
                resort_s, in_resort = min(LONGEST_RESORT_S, resort_s * 2), False
                continue
            if code > 0 and self._last_resort and not in_resort:
                resort_s, in_resort = FIRST_RESORT_S if life_s > LONGEST_RESORT_S else resort_s, True
                continue
            if life_s > SHORTEST_LIFE_S:
                short_lives = 0
            elif code > 0:
                return
            short_lives, in_resort = short_lives + 1, False

    def _start(self, command: list[str]) -> int:
        # Not subprocess, which takes 6 ms to import.
        pid = os.fork()
        if pid == 0:
            with suppress(OSError):
                os.execvp(command[0], command)  # noqa: S606 -- no shell is wanted
            os.write(2, f"{command[0]} cannot be run\n".encode())
            os._exit(127)
        # On a full disk no other process learns the pid; the server stops when it has no users.
        with suppress(OSError):
            # One write over the old one, so that a reader never sees half of it.
            os.pwrite(self._server_lock, b"%-20d\n" % pid, 0)
        return pid

    def _watch(self, pid: int, period_s: float) -> int:
        """Return the server's exit code, negative for a signal, 0 if it was stopped here, or PERIOD_OVER."""
        started = last_used = time.monotonic()
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if self._is_used():
                last_used = time.monotonic()
            if self._stop_requested or (time.monotonic() - last_used > IDLE_S and self._try_lock_users()):
                self._stop(pid)
                return 0
            if time.monotonic() - started > period_s:
                self._stop(pid)
                return PERIOD_OVER
            self._sleep()

    def _is_used(self) -> bool:
        if not self._try_lock_users():
            return True
        fcntl.flock(self._users, fcntl.LOCK_UN)
        return False

    def _try_lock_users(self) -> bool:
        """Take the users' lock if it is free. While it is held, new users wait until this process exits."""
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
        """Return a descriptor that gets a byte for each signal, so that `_sleep` ends with the server."""
        wake, writer = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._request_stop)
        return wake

    def _sleep(self) -> None:
        if select.select([self._wake], [], [], POLL_S)[0]:
            os.read(self._wake, 512)

    def _request_stop(self, *_: object) -> None:
        self._stop_requested = True


if __name__ == "__main__":
    main(sys.argv[1:])

"""Start askmill's programs from a process that has imported them already: 20 ms of CPU instead of 500 to 3,000.

`Popen` and `run` are those of `subprocess`, but for the programs below: those are forked from one template
process (template_process.py). Everything else is as in a process started the usual way: arguments, environment,
working folder, standard streams, signals, process id, exit code.

    test ──arguments, environment, folder, three descriptors──▶ template ──fork──▶ the program
         ◀──process id, later the exit status──────────────────          ──fork──▶ `run`'s own worker

The commands of a shell are forked too if `shell_folder` comes first in its PATH.

A test that depends on how Python starts (its path, its imports, its parent) starts a fresh process by `subprocess`.
"""

import fcntl
import json
import os
import select
import shlex
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

TEMPLATE_PROCESS = Path(__file__).with_name("template_process.py")
FORKED_COMMAND = Path(__file__).with_name("forked_command.py")
DEVNULL = subprocess.DEVNULL
HELPER = "askmill.emulator.tutor.sympy_helper"
MODULES = frozenset({"askmill.worker", "askmill.emulator", HELPER})
SCRIPTS = frozenset({"quick_worker.py", "hasty_worker.py", "service_user.py"})
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "DYLD_", "TZ")
"""Variables that the interpreter reads when it starts: a program with others than the template's is not forked."""
HASH_SEED = {"PYTHONHASHSEED": "0"}
"""The template's; the tutor's helper needs it, the other programs do not depend on it."""
LENGTH = struct.Struct("!i")
STATUS = struct.Struct("!id")
_template: "Template | None" = None
_forked: dict[int, "Popen"] = {}
"""By process id, what is awaited by `waitpid`."""
cpu_s = 0.0
"""CPU seconds of all forked programs that have ended; `resource` counts them as the template's children, not ours."""


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`, which forks a program of ours from the template."""

    def __init__(
        self, args: Sequence[str | os.PathLike[str]], *, fresh: bool = False, **options: Any
    ) -> None:
        self._fresh = fresh
        self._status: socket.socket | None = None
        super().__init__(args, **options)

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Overridden: `subprocess` has made the pipes; `rest` has its arguments in its order."""
        _, preexec_fn, close_fds, pass_fds, folder, environment, _, _, shell, *rest_fds = rest
        pipes, (restore_signals, *ids, start_new_session, process_group) = rest_fds[:6], rest_fds[6:]
        plain = not (preexec_fn or pass_fds or shell) and close_fds and restore_signals
        plain = plain and set(ids) <= {None, -1, ()} and process_group in {-1, None}
        env = dict(os.environ if environment is None else environment)
        if self._fresh or _template is None or not (plain and is_ours(args) and _starts_alike(env)):
            super()._execute_child(args, *rest)
            return
        stdin, _, _, stdout, _, stderr = pipes
        request = {
            "args": [os.fspath(arg) for arg in args],
            "env": env,
            "folder": os.fspath(folder or Path.cwd()),
            "session": bool(start_new_session),
            "parent": os.getpid(),
            "ends_with_requester": False,
        }
        descriptors = [
            number if given == -1 else given for number, given in enumerate((stdin, stdout, stderr))
        ]
        try:
            self._status = _template.fork(request, descriptors)
            self.pid = LENGTH.unpack(read_exactly(self._status, LENGTH.size))[0]
            self._child_created = True
            _forked[self.pid] = self
        finally:
            self._close_pipe_fds(*pipes)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Overridden: the template is the parent of what it forks, and reports the exit status."""
        if self._status is None:
            return super()._try_wait(wait_flags)
        if wait_flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        global cpu_s  # noqa: PLW0603 -- one per process
        status, used_s = STATUS.unpack(read_exactly(self._status, STATUS.size))
        cpu_s += used_s
        self._status.close()
        del _forked[self.pid]
        return self.pid, status

    def _internal_poll(self, *args: Any, **options: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(*args, **options)
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def waitpid(pid: int, options: int) -> tuple[int, int]:
    """`os.waitpid`, by which asyncio awaits its processes, also of one forked from the template."""
    forked = _forked.get(pid)
    return _waitpid(pid, options) if forked is None else forked._try_wait(options)


_waitpid = os.waitpid


def run(
    args: list[str],
    *,
    input: str | None = None,  # noqa: A002 -- as subprocess.run has it
    timeout: float | None = None,
    **options: Any,
) -> "subprocess.CompletedProcess[Any]":
    """`subprocess.run(args, capture_output=True)` of a program that may be forked from the template."""
    pipe = subprocess.PIPE
    with Popen(args, stdin=None if input is None else pipe, stdout=pipe, stderr=pipe, **options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(args, process.returncode, stdout, stderr)


def is_ours(args: Any) -> bool:
    """Whether this command line is one of the programs that the template has imported."""
    match [os.fspath(arg) for arg in args]:
        case [script, *_] if script == str(Path(sys.executable).with_name("askmill")):
            return True
        case [sys.executable, "-P", "-m", module, *_]:
            return module in MODULES
        case [sys.executable, "-P", script, *_]:
            return Path(script).name in SCRIPTS
        case [sys.executable, program]:
            return program.endswith(".py")  # a user's program, which imports askmill
    return False


def _starts_alike(environment: Mapping[str, str]) -> bool:
    def relevant(variables: Mapping[str, str]) -> dict[str, str]:
        read = {name: value for name, value in variables.items() if name.startswith(READ_AT_START)}
        return read | HASH_SEED

    return relevant(environment) == relevant(os.environ)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size:
        more = connection.recv(size - len(read))
        assert more, "the template process has died"
        read += more
    return read


class Template:
    """The template process of this run of the tests, shared by all its pytest processes.

    `folder` has its socket. Whoever needs it first starts it; it ends when `owner`, the first pytest process, ends.
    """

    def __init__(self, folder: Path, owner: int) -> None:
        self._folder, self._owner = folder, owner
        self.address = str(folder / "socket")

    def fork(self, request: dict[str, Any], descriptors: list[int]) -> socket.socket:
        """The connection that tells process id and exit status."""
        connection = self._connected()
        body = json.dumps(request).encode()
        socket.send_fds(connection, [LENGTH.pack(len(body))], descriptors)
        connection.sendall(body)
        return connection

    def ensure_started(self) -> None:
        self._connected().close()

    def _connected(self) -> socket.socket:
        with suppress(OSError):
            return _connect(self.address)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(OSError):
                return _connect(self.address)  # another was quicker
            self._start()
        return _connect(self.address)

    def _start(self) -> None:
        Path(self.address).unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-P", str(TEMPLATE_PROCESS), self.address, str(self._owner)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, **HASH_SEED},
        )
        assert process.stdout is not None
        with process.stdout as said:
            assert said.readline() == b"ready\n", "the template process cannot be started"
        process.returncode = 0  # nobody waits for it, since it outlives this process; else Python would warn


def _connect(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def shell_folder() -> Path:
    """A folder for `PATH` whose `askmill`, and `python -`, are forked from the template, if there is one.

    forked_command.py does that.
    """
    script = Path(sys.executable).with_name("askmill")
    if _template is None:
        return script.parent
    folder = Path(_template.address).parent / "bin"
    folder.mkdir(exist_ok=True)
    forked = shlex.join([sys.executable, "-IS", str(FORKED_COMMAND), _template.address])
    askmill, python = shlex.quote(str(script)), shlex.quote(sys.executable)
    _write_program(folder / "askmill", f'exec {forked} {askmill} "$@"')
    _write_program(folder / "python", f'[ "$*" = - ] && exec {forked} {python} -\nexec {python} "$@"')
    _template.ensure_started()
    return folder


def _write_program(path: Path, script: str) -> None:
    """Another pytest process may write the same at the same time."""
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text(f"#!/bin/sh\n{script}\n")
    written.chmod(0o700)
    written.rename(path)


def use_template(folder: Path, owner: int) -> None:
    """Fork askmill's programs from the template in this folder; before this call all are started afresh."""
    global _template  # noqa: PLW0603 -- one per process
    _template = Template(folder, owner)

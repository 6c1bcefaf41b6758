"""`python -P template_process.py SOCKET OWNER`: imports askmill once, then forks its programs on request.

The other end is tests/helpers/preloaded.py. It has a single thread, so that a fork copies all there is. It ends
when the process OWNER has ended; the programs that it has forked go on.
"""

import array
import atexit
import gc
import importlib
import importlib.metadata
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections import defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = str(Path(__file__).parents[2])
sys.path.insert(0, ROOT)
from askmill.emulator.tutor import sympy_helper  # noqa: E402 -- by the path of the line above
from tests.helpers import preloaded  # noqa: E402
from tests.helpers.preloaded import LENGTH, STATUS, read_exactly  # noqa: E402

sys.path.remove(ROOT)

ACT_WHEN_IMPORTED = ("__main__", ".celery_app", ".celery.tasks")
LIBRARIES = (
    "anyio._backends._asyncio",
    "billiard.dummy",
    "billiard.pool",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.events.receiver",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "encodings.idna",
    "genai_prices.data",
    "genai_prices.decompose",
    "genai_prices.update_prices",
    "httpcore2",
    "kombu.matcher",
    "kombu.transport.redis",
    "openai.resources.files",
    "openai.resources.vector_stores.file_batches",
    "openai.resources.vector_stores.files",
    "truststore",
)
"""What askmill's programs import when they start work: half the CPU of a command, and of a worker that answers a few rows."""
OWNER_POLL_S = 2.0


class TemplateProcess:
    """Serves requests until the owner has ended; `serve` also returns in each forked program, at its end."""

    def __init__(self, address: str, owner: int) -> None:
        self.address, self.owner = address, owner
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(address)
        self.listener.listen(64)
        self.wake, self.waker = os.pipe()
        for descriptor in (self.wake, self.waker):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the programs
        self.programs: dict[int, tuple[socket.socket, int]] = {}
        """Process id → its requester's connection, and the process that requested it."""
        self.bound = set[int]()
        """Process ids of programs that end with their requester."""
        self.children_s = defaultdict[int, float](float)
        """Process id → CPU seconds of ended programs that it requested itself."""

    def serve(self) -> None:
        os.write(1, b"ready\n")
        while _is_alive(self.owner):
            requesters = {self.programs[pid][0]: pid for pid in self.bound}
            readable, _, _ = select.select([self.listener, self.wake, *requesters], [], [], OWNER_POLL_S)
            if self.wake in readable:
                os.read(self.wake, 4096)
            for requester in requesters.keys() & set(readable):
                os.kill(requesters[requester], signal.SIGKILL)
                self.bound.remove(requesters[requester])
            self._report_ended()
            if self.listener in readable and self._fork(self.listener.accept()[0]):
                return

    def _report_ended(self) -> None:
        while self.programs:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            connection, parent = self.programs.pop(pid)
            self.bound.discard(pid)
            used_s = used.ru_utime + used.ru_stime + self.children_s.pop(pid, 0.0)
            if parent in self.programs:
                self.children_s[parent] += used_s
            with suppress(OSError), connection:
                connection.sendall(STATUS.pack(status, used_s))

    def _fork(self, connection: socket.socket) -> bool:
        """Returns True in the program, when it has ended."""
        try:
            request, descriptors = _receive(connection)
        except IndexError:  # closed without a request
            connection.close()
            return False
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._close()
            _become(request, descriptors)
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        self.programs[pid] = (connection, request["parent"])
        if request["ends_with_requester"]:
            self.bound.add(pid)
        with suppress(OSError):
            connection.sendall(LENGTH.pack(pid))
        return False

    def _close(self) -> None:
        """In the program: nothing of the template's stays open."""
        for connection, _ in self.programs.values():
            connection.close()
        self.listener.close()
        signal.set_wakeup_fd(-1)
        os.close(self.wake)
        os.close(self.waker)
        preloaded.use_template(Path(self.address).parent, self.owner)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The request, and the descriptors of the program's stdin, stdout and stderr."""
    size = socket.CMSG_SPACE(3 * array.array("i").itemsize)
    head, ancillary, _, _ = connection.recvmsg(LENGTH.size, size)
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    length = LENGTH.unpack(head + read_exactly(connection, LENGTH.size - len(head)))[0]
    return json.loads(read_exactly(connection, length)), list(descriptors)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run the program in this process as if Python had been started with it: a file, `-m`, or `-` for stdin."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if request["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    _open_standard_streams()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # The worker of `run` and the tutor's helper are forked too.
    subprocess.Popen, os.waitpid = preloaded.Popen, preloaded.waitpid  # type: ignore[misc]
    program, *words = request["args"]
    if program != sys.executable:
        sys.argv = [program, *words]
        sys.exit(importlib.import_module("askmill.__main__").main())
    if words == ["-"]:
        sys.argv = words
        sys.path.insert(0, "")
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
    elif len(words) == 1:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")
    elif words[1:3] == ["-m", preloaded.HELPER]:
        sympy_helper.main()
    elif words[1] == "-m":
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")


def _open_standard_streams() -> None:
    """As the interpreter does when it starts: on a terminal, stdout is written line by line."""
    text = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors}
    buffering = 1 if os.isatty(1) else -1
    sys.stdin = open(0, closefd=False, **text)  # type: ignore[call-overload] # noqa: SIM115 -- for all its life
    sys.stdout = open(1, "w", buffering, closefd=False, **text)  # type: ignore[call-overload] # noqa: SIM115
    text["errors"] = "backslashreplace"
    sys.stderr = open(2, "w", 1, closefd=False, **text)  # type: ignore[call-overload] # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _import_all() -> None:
    """Every module of askmill that does nothing when imported, and what its programs import when they start work."""
    # Celery and kombu look for plugins in the metadata of every installed distribution, several times a process.
    # So does redis-py for its own version, at each new connection.
    importlib.metadata.entry_points = cache(importlib.metadata.entry_points)
    importlib.metadata.version = cache(importlib.metadata.version)
    package = importlib.import_module("askmill")
    names = [module.name for module in pkgutil.walk_packages(package.__path__, "askmill.")]
    for name in [*(name for name in names if not name.endswith(ACT_WHEN_IMPORTED)), *LIBRARIES]:
        importlib.import_module(name)
    sympy_helper.warm_up()


def _end(ended_by: BaseException | None) -> NoReturn:
    """End this process as Python does, without freeing its objects one by one.

    That would take 0.12 s of CPU, more than most programs here: it copies each page of the template.
    """
    match ended_by:
        case None | SystemExit(code=None):
            code = 0
        case SystemExit(code=int(code)):
            pass
        case SystemExit(code=message):
            print(message, file=sys.stderr)
            code = 1
        case _:
            sys.excepthook(type(ended_by), ended_by, ended_by.__traceback__)
            code = 1
    threading._shutdown()  # type: ignore[attr-defined] # as the interpreter does: it waits for threads
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        traceback.print_exc()
        code = 120
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    if isinstance(ended_by, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    _import_all()
    gc.collect()
    gc.freeze()  # else the first collection in each program would copy all pages
    try:
        TemplateProcess(sys.argv[1], int(sys.argv[2])).serve()
    except BaseException as ended_by:  # noqa: BLE001 -- as the interpreter does
        _end(ended_by)
    _end(None)

r"""The helper process: imports SymPy once and forks a child, under limits, for each question that needs one.

    stdin   {"id": 7, "problem": {...}}\\n
    stdout  {"id": 7, "text": ..., "code": ..., "logs": ...}\\n     or  {"id": 7, "error": "..."}\\n
    start   {"ready": true}\\n, once SymPy is imported

It ends when its stdin closes, so an emulator killed with -9 leaves no orphan. Its caller bounds how many
questions are open at a time; a child's own limits are kernel timers, so no code of ours has to stop it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import selectors
import signal
import sys
from dataclasses import asdict
from functools import cache
from typing import Any

from askmill.emulator.tutor.parse.question import read_question
from askmill.emulator.tutor.problem import Problem
from askmill.emulator.tutor.solve.dispatch import solve
from askmill.emulator.tutor.solve.inline import runs_inline
from askmill.emulator.tutor.solve.to_sympy import UnansweredError

# The processor's time is what a computation costs; the wall's also counts waiting on a busy machine.
CPU_LIMIT_S = 2
WALL_LIMIT_S = 20.0
MEMORY_LIMIT_BYTES = 1 << 30
# Enough for SymPy's own late imports; nothing is ever written (RLIMIT_FSIZE is 0).
OPEN_FILES_LIMIT = 32
MAX_REPLY_BYTES = 200_000
LIMIT_MESSAGE = "This takes more time or memory than the offline tutor gives to one question."

_WARM_UP = (
    "Solve 2x^2 - 3x - 7 = 0",
    "Solve 3x + 11 = 14",
    "Solve x + y = 3 and x - y = 1",
    "What is sqrt(8) * sin(pi/3) / 7?",
    "Simplify (x^2 - 1)/(x - 1) + sin(x)^2 + cos(x)^2",
    "Factor x^3 - 1",
    "Expand (x + 1)^3",
    "Differentiate x^2 sin(2x)/(x + 1)",
    "Integrate x sin(x)",
    "Integrate x^2 + e^x from 0 to 3",
    "limit of sin(x)/x as x approaches 0",
    "sum of k^2 for k from 1 to n",
)


def main() -> None:
    """Serve until stdin ends."""
    # Ctrl-C in the terminal is the emulator's to handle; closing stdin ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Helper().serve()


@cache
def warm_up() -> None:
    """Fill SymPy's caches and late imports once for all children; arithmetic needs none."""
    for question in _WARM_UP:
        solve(read_question(question))
    # Frozen objects are not touched by the children's collector, so their pages stay shared.
    gc.collect()
    gc.freeze()


class _Helper:
    """Reads questions, forks children, and passes each child's one line of JSON on."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._received = b""
        self._children: dict[int, tuple[int, int, bytearray]] = {}  # pipe -> (question id, pid, reply so far)

    def serve(self) -> None:
        self._selector.register(0, selectors.EVENT_READ)
        _send({"ready": True})
        while True:
            for key, _ in self._selector.select():
                if key.fd != 0:
                    self._read_child(key.fd)
                elif not self._read_requests():
                    self._end_children()
                    return

    def _read_requests(self) -> bool:
        data = os.read(0, 1 << 16)
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            question = json.loads(line)
            if runs_inline(Problem.from_json(question["problem"])):
                _send({"id": question["id"], **_reply_to(question)})
            else:
                self._fork_child(question)
        return bool(data)

    def _fork_child(self, question: dict[str, Any]) -> None:
        warm_up()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run_child(question, writing)
        os.close(writing)
        self._children[reading] = (question["id"], pid, bytearray())
        self._selector.register(reading, selectors.EVENT_READ)

    def _read_child(self, pipe: int) -> None:
        question_id, pid, reply = self._children[pipe]
        data = os.read(pipe, 1 << 16)
        reply += data
        if data:
            return
        self._selector.unregister(pipe)
        os.close(pipe)
        del self._children[pipe]
        os.waitpid(pid, 0)
        # A child stopped by a limit has written nothing, or half a line.
        complete = reply.endswith(b"\n") and len(reply) <= MAX_REPLY_BYTES
        _send({"id": question_id, **(json.loads(reply) if complete else {"error": LIMIT_MESSAGE})})

    def _end_children(self) -> None:
        for _, pid, _ in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _run_child(question: dict[str, Any], pipe: int) -> None:
    """Answer one question and end, whatever happens: a forked child must never return into the loop."""
    try:
        _limit_this_process()
        reply = _reply_to(question)
        with open(pipe, "wb") as stream:
            stream.write(json.dumps(reply).encode() + b"\n")
    finally:
        os._exit(0)


def _limit_this_process() -> None:
    # A collection would copy every page it touches, and the process ends soon anyway.
    gc.disable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, WALL_LIMIT_S)
    sys.dont_write_bytecode = True
    limits = {
        resource.RLIMIT_CPU: CPU_LIMIT_S,
        resource.RLIMIT_AS: MEMORY_LIMIT_BYTES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES_LIMIT,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        # Some systems know a limit but do not let it be set; the other limits still hold.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))


def _reply_to(question: dict[str, Any]) -> dict[str, Any]:
    try:
        return asdict(solve(Problem.from_json(question["problem"])))
    except UnansweredError as unanswered:
        return {"error": str(unanswered)}
    except (MemoryError, RecursionError):
        return {"error": LIMIT_MESSAGE}
    except Exception as failure:  # noqa: BLE001 (SymPy raises nearly anything; the person gets a sentence)
        return {"error": f"SymPy could not do this one ({type(failure).__name__})."}


if __name__ == "__main__":
    main()

"""Client of the helper process: starts it, sends problems as JSON lines, restarts it when it dies.

    absent -- begin() --> starting -- "ready" --> answering -- end of its stdout --> absent

`sympy_helper.py` is the other end and specifies the lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from typing import Any

# More children than this at a time only share the same cores.
MAX_OPEN_QUESTIONS = min(4, os.cpu_count() or 1)
START_LIMIT_S = 60.0
# The child's own limits end it well before; past this the helper itself is stuck.
ANSWER_LIMIT_S = 40.0
CLOSE_LIMIT_S = 5.0
MAX_LINE_BYTES = 1 << 20

_COMMAND = (sys.executable, "-P", "-m", "askmill.emulator.tutor.sympy_helper")
NO_HELPER = "The offline tutor's helper process is not running, so this was not computed."
_NO_REPLY: dict[str, str] = {"error": NO_HELPER}


class HelperProcess:
    """One helper at a time, on one event loop."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_OPEN_QUESTIONS)
        self._ids = itertools.count(1)
        self._open: dict[int, asyncio.Future[dict[str, str]]] = {}
        self._starting: asyncio.Task[asyncio.subprocess.Process | None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False

    def begin(self) -> None:
        """Start the helper in the background unless one is there or on its way."""
        if self._starting is None and not self._is_closed:
            self._starting = asyncio.create_task(self._start(), name="tutor helper start")

    async def ask(self, problem: dict[str, Any]) -> dict[str, str]:
        """The helper's reply: `text`, `code` and `logs`, or `error`. Never raises.

        If the helper dies meanwhile, the problem is sent once more, to a new helper.
        """
        async with self._slots:
            reply = await self._ask_once(problem)
            return await self._ask_once(problem) if reply is _NO_REPLY else reply

    async def _ask_once(self, problem: dict[str, Any]) -> dict[str, str]:
        self.begin()
        if self._starting is None:
            return _NO_REPLY
        starting = self._starting
        # wait(), unlike await, neither cancels the start for others nor passes on that `close` cancelled it.
        await asyncio.wait([starting])
        process = None if starting.cancelled() else starting.result()
        if process is None or process.stdin is None:
            if self._starting is starting:
                self._starting = None
            return _NO_REPLY
        question_id = next(self._ids)
        future: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._open[question_id] = future
        try:
            line = json.dumps({"id": question_id, "problem": problem}) + "\n"
            process.stdin.write(line.encode())
            async with asyncio.timeout(ANSWER_LIMIT_S):
                return await future
        except TimeoutError:
            _kill(process)
            return _NO_REPLY
        finally:
            del self._open[question_id]

    async def _start(self) -> asyncio.subprocess.Process | None:
        """Start a helper and wait until it is ready; None if it fails."""
        try:
            process = await asyncio.create_subprocess_exec(
                *_COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                # SymPy orders some results by hash: the same question has the same answer every time.
                env=os.environ | {"PYTHONHASHSEED": "0"},
            )
        except OSError:
            return None
        if not await _is_ready(process):
            _kill(process)
            await process.wait()
            return None
        self._reading = asyncio.create_task(self._read_replies(process), name="tutor helper replies")
        return process

    async def _read_replies(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            reply = json.loads(line)
            future = self._open.get(reply["id"])
            if future is not None and not future.done():
                future.set_result(reply)
        await process.wait()
        self._starting = None
        for future in self._open.values():
            if not future.done():
                future.set_result(_NO_REPLY)

    async def close(self) -> None:
        self._is_closed = True
        starting, self._starting = self._starting, None
        if starting is None:
            return
        if not starting.done():
            starting.cancel()
        process = (await asyncio.gather(starting, return_exceptions=True))[0]
        if not isinstance(process, asyncio.subprocess.Process) or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await process.wait()
        except TimeoutError:
            _kill(process)
        if self._reading is not None:
            await self._reading


async def _is_ready(process: asyncio.subprocess.Process) -> bool:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_LIMIT_S):
            return bool(await process.stdout.readline())
    except TimeoutError:
        return False
    except asyncio.CancelledError:
        _kill(process)
        raise


def _kill(process: asyncio.subprocess.Process) -> None:
    # Not process.kill(): that reaps a process that has just died, under the feet of asyncio's own watcher.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

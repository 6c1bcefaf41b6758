"""The recovery of a worker's writes, when Redis has gone back in time: a power loss, a replica's takeover.

    a pipeline finds its number too low, or a heartbeat another server ─▶ all pipelines of the worker stop,
    connect anew and look ─▶ rows in hand and rows that ended lately are written again ─▶ what the store says
    we hold and we do not is released ─▶ go on

After a planned failover some connections may still lead to the old master, which may still take writes. So
all are opened anew before anything is compared or written again.

Meanwhile no worker claims rows (jobs/store/lua/lib/recovery.lua).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from askmill.config.log_warning import log_warning
from askmill.jobs.store.lost_writes import Call, Redo, WriteLog

if TYPE_CHECKING:
    from askmill.jobs.store.script_pipeline import ScriptPipeline


_REPEATED_AFTER_LOSS = frozenset({"save", "finish", "release_row", "store_file"})
"""Scripts that were refused only because their claim was lost."""
_ROWS_PER_SCRIPT, _SCRIPTS_PER_PIPELINE = 100, 50


class WriteRecovery:
    """What the pipelines of one worker share: the log of their writes, and its redoing.

    `leave_server`: closes all connections, so that the next use of each looks the master up again.
    """

    def __init__(self, leave_server: Callable[[], Awaitable[None]]) -> None:
        self.log = WriteLog()
        self._leave_server = leave_server
        self.pipelines: list[ScriptPipeline] = []
        self._sending = 0
        self._changed = asyncio.Condition()
        self._redoing = False
        self._redone = 0
        """How often lost writes were redone."""

    async def send(self, pipeline: "ScriptPipeline", calls: list[Call]) -> list[Any]:
        """The replies to the calls. What Redis has lost is redone before, and refused calls are repeated."""
        async with self._as_sender():
            redone = self._redone
            replies = await pipeline.send(calls)
            refused = [at for at, call in enumerate(calls) if _is_refused(call, replies[at])]
            accepted = [at for at in range(len(calls)) if at not in refused]
            self._record(pipeline, [(calls[at], replies[at]) for at in accepted])
        # A refused claim may be one that was lost, with the writes of another pipeline, whose sender may have
        # redone them meanwhile.
        if refused or pipeline.lost:
            await self.check()
        if refused and self._redone != redone:
            async with self._as_sender():
                again = await pipeline.send([calls[at] for at in refused])
            for at, reply in zip(refused, again, strict=True):
                replies[at] = reply
        self._record(pipeline, [(calls[at], replies[at]) for at in refused])
        return replies

    async def check(self, *, moved: bool = False) -> None:
        """Look in all pipelines whether writes were lost, and redo them.

        What fails here is redone with the next pipeline.

        Args:
            moved: another server has answered than before.
        """
        async with self._alone():
            if not moved:
                await self._poll_numbers()
            if moved or any(pipeline.lost for pipeline in self.pipelines):
                await self._leave_server()
                await self._poll_numbers()
            while lost := {pipeline: pipeline.lost for pipeline in self.pipelines if pipeline.lost}:
                for pipeline in lost:
                    pipeline.lost = None
                try:
                    await self._redo_all(list(lost.values()))
                except BaseException:
                    for pipeline, numbers in lost.items():
                        pipeline.add_lost(numbers)
                    raise
                self._redone += 1

    async def _poll_numbers(self) -> None:
        for pipeline in self.pipelines:
            await pipeline.send([])

    async def _redo_all(self, lost: list[range]) -> None:
        steps = self.log.plan(lost)
        rows = sum([await self._redo(step) for step in steps])
        released = await self._release_unknown()
        self.log.redone(lost, self.pipelines[0].acknowledged)
        calls = sum(len(step.calls) for step in steps)
        log_warning("redis.lost_writes", rows_saved=rows, scripts_repeated=calls, rows_released=released)

    async def _redo(self, step: Redo) -> int:
        rows, pipeline = 0, self.pipelines[0]
        for at in range(0, len(step.rows), _ROWS_PER_SCRIPT):
            parts = (part for row in step.rows[at : at + _ROWS_PER_SCRIPT] for part in row)
            reclaim = "reclaim_rows", (self.log.worker, *parts)
            rows += _raise_error(await pipeline.send([reclaim]))[0]
        for at in range(0, len(step.calls), _SCRIPTS_PER_PIPELINE):
            _raise_error(await pipeline.send(step.calls[at : at + _SCRIPTS_PER_PIPELINE]))
        return rows

    async def _release_unknown(self) -> int:
        """Release the rows that the store says this worker holds, and that it does not."""
        pipeline, worker = self.pipelines[0], self.log.worker
        (names,) = _raise_error(await pipeline.send([("read_claims", (worker,))]))
        unknown = [name for name in names if not self._holds(name)]
        if not unknown:
            return 0
        return int(_raise_error(await pipeline.send([("release_unknown", (worker, *unknown))]))[0])

    def _holds(self, name: bytes) -> bool:
        batch, _, row = name.decode(errors="replace").rpartition(":")
        return row.isdigit() and self.log.holds(batch, int(row))

    def _record(self, pipeline: "ScriptPipeline", replied: Iterable[tuple[Call, Any]]) -> None:
        now_s = time.monotonic()
        for call, reply in replied:
            if not isinstance(reply, Exception):
                self.log.record(pipeline.acknowledged, now_s, call, reply)

    # ── one at a time while writes are redone ──

    @asynccontextmanager
    async def _as_sender(self) -> AsyncIterator[None]:
        async with self._changed:
            while self._redoing:
                await self._changed.wait()
            self._sending += 1
        try:
            yield
        finally:
            self._sending -= 1
            async with self._changed:
                self._changed.notify_all()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._changed:
            while self._redoing:
                await self._changed.wait()
            self._redoing = True
            try:
                while self._sending:
                    await self._changed.wait()
            except BaseException:
                self._redoing = False
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            self._redoing = False
            async with self._changed:
                self._changed.notify_all()


def _raise_error(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _is_refused(call: Call, reply: Any) -> bool:
    """Whether a script has changed nothing because its claim no longer held the row."""
    if call[0] not in _REPEATED_AFTER_LOSS or isinstance(reply, Exception):
        return False
    return not (reply[0] if isinstance(reply, list) else reply)

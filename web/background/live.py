"""Progress for viewers: one reader per batch polls Redis, however many people watch the batch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from askmill.jobs.model.errors import AskmillError, NotFound
from askmill.jobs.model.models import BatchState
from askmill.jobs.run.watch import is_over
from askmill.jobs.store.views import StatusView

POLL_S, IDLE_POLL_S = 0.5, 2.0
"""Interval between two reads of a batch that runs, and of one that is paused or cancelled."""
KEEP_ALIVE_S = 15.0
"""A line is sent after this time without news, so that proxies keep the connection."""


@dataclass
class _Reader:
    """The reader of one batch: its newest view, numbered, and how many people wait for the next."""

    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    version: int = 0
    view: StatusView | None = None
    fault: AskmillError | None = None
    viewers: int = 0
    task: "asyncio.Task[None] | None" = None


class LiveBatches:
    """Readers by batch, which poll with `read`. Each starts with its first viewer and ends with its last."""

    def __init__(self, read: Callable[[str], Awaitable[StatusView]]) -> None:
        self._read_status = read
        self._readers: dict[str, _Reader] = {}
        self._closing = False

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closing = True
        for reader in list(self._readers.values()):
            if reader.task is not None:
                reader.task.cancel()

    @property
    def readers(self) -> int:
        """How many batches are being read."""
        return len(self._readers)

    async def views(self, batch: str) -> AsyncIterator[StatusView | None]:
        """Yield the batch's progress now and after each change; None when there was no news for a while.

        Ends when the batch is done. Raises what the store raises: NotFound for a batch that is purged.
        """
        reader = self._readers.setdefault(batch, _Reader())
        reader.viewers += 1
        if reader.task is None:
            reader.task = asyncio.create_task(self._read(batch, reader), name=f"live {batch}")
        try:
            sent = 0
            while True:
                async with reader.changed:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(KEEP_ALIVE_S):
                            while reader.version == sent and reader.fault is None and not self._closing:
                                await reader.changed.wait()
                if self._closing:
                    return
                if reader.fault is not None:
                    raise reader.fault
                if reader.version == sent:
                    yield None
                    continue
                sent, view = reader.version, reader.view
                yield view
                if view is not None and view.batch.state is BatchState.DONE:
                    return
        finally:
            reader.viewers -= 1
            if not reader.viewers and self._readers.get(batch) is reader:
                del self._readers[batch]
                reader.task.cancel()

    async def events(self, batch: str, data_of: Callable[[StatusView], bytes]) -> AsyncIterator[bytes]:
        """Yield server-sent events: `status` with the data of each view, then `end`. A purge ends it too."""
        number = 0
        yield b"retry: 2000\n\n"
        try:
            async for view in self.views(batch):
                if view is None:
                    yield b": no news\n\n"
                    continue
                number += 1
                yield b"id: %d\nevent: status\ndata: %b\n\n" % (number, data_of(view))
        except NotFound:
            pass
        yield b"event: end\ndata: {}\n\n"

    async def _read(self, batch: str, reader: _Reader) -> None:
        """Poll the batch until it is gone or nobody watches it."""
        try:
            await self._poll(batch, reader)
        finally:
            async with reader.changed:
                reader.changed.notify_all()

    async def _poll(self, batch: str, reader: _Reader) -> None:
        before = None
        while True:
            try:
                view = await self._read_status(batch)
            except AskmillError as fault:
                reader.fault = fault
                self._readers.pop(batch, None)
                return
            now = view.to_json()
            if now != before:
                before = now
                async with reader.changed:
                    reader.version, reader.view = reader.version + 1, view
                    reader.changed.notify_all()
            await asyncio.sleep(IDLE_POLL_S if is_over(view) else POLL_S)

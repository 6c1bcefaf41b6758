"""The accuracy of a batch while it is watched: its answers are judged beside the watching."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

from askmill.jobs.model.expected import Accuracy
from askmill.jobs.results.collect import with_accuracy
from askmill.jobs.store import Store
from askmill.jobs.store.views import StatusView

REST = 20.0
"""Rest after a pass over the rows, in times of its duration: judging takes 5 % of the time at most."""


class LiveAccuracy:
    """Adds the accuracy of the last pass over the rows to each view; a pass runs as a task of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._task: asyncio.Task[Accuracy | None] | None = None
        self._last: Accuracy | None = None
        self._next_s = 0.0

    def added_to(self, view: StatusView) -> StatusView:
        """The view with the last accuracy; starts the next pass when it is due."""
        if view.batch.expected is None:
            return view
        if self._task is not None and self._task.done():
            self._last, self._task = self._task.result(), None
        if self._task is None and time.monotonic() >= self._next_s:
            self._task = asyncio.create_task(self._pass(view))
        return replace(view, accuracy=self._last)

    async def _pass(self, view: StatusView) -> Accuracy | None:
        started_s = time.monotonic()
        judged = await with_accuracy(self._store, view)
        ended_s = time.monotonic()
        self._next_s = ended_s + REST * (ended_s - started_s)
        return judged.accuracy

    async def close(self) -> None:
        """End a pass that is still running."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task

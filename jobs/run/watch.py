"""Looks at a batch until nothing more is to come: for `run`, `collect --wait` and `status --watch`."""

import asyncio
from collections.abc import AsyncIterator
from itertools import zip_longest

from askmill.config.text import one_line
from askmill.jobs.model.models import FINISHED, STATUS_OF_BYTE, BatchState, JobStatus
from askmill.jobs.store import Store
from askmill.jobs.store.records import StatusView

FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 1.0


async def watch(store: Store, batch: str, *, manned: bool = False) -> AsyncIterator[StatusView]:
    """Views of the batch, the last one when it `is_over`. Short batches are looked at more often."""
    wait_s = FIRST_LOOK_S
    while True:
        view = await store.status(batch)
        yield view
        if is_over(view, manned=manned):
            return
        await asyncio.sleep(wait_s)
        wait_s = min(LONGEST_LOOK_S, wait_s * 1.1)


class Answers:
    """What has been answered since the last look, as lines to scroll by; `since_start`: from the first on."""

    MOST = 5
    """Lines a look; more could not be read."""

    def __init__(self, store: Store, batch: str, *, since_start: bool) -> None:
        self._store, self._batch = store, batch
        self._before: str | None = "" if since_start else None

    async def lines(self) -> list[str]:
        """The newest rows that ended, and how many more did."""
        after = await self._store.statuses(self._batch)
        before, self._before = self._before, after
        if before is None or before == after:
            return []
        pairs = enumerate(zip_longest(before, after), 1)
        ended = [row for row, (was, now) in pairs if was != now and STATUS_OF_BYTE[now] in FINISHED]
        shown = [await self._line(row) for row in ended[-self.MOST :]]
        return ([f"… {len(ended) - len(shown):,} more"] if len(ended) > len(shown) else []) + shown

    async def _line(self, row: int) -> str:
        view = (await self._store.row(self._batch, row)).view
        question = one_line((await self._store.batch(self._batch)).spec.question(view.cells), 50)
        told = view.stored or {}
        return one_line(f"{row} {view.status}: {question} → {told.get('answer') or told.get('error') or ''}")


def is_over(view: StatusView, *, manned: bool = False) -> bool:
    """Done; or paused or cancelled, and what is in flight has ended or nobody is there to end it.

    `manned`: whoever asks starts a worker where none is alive, so a cancelled batch comes to its end.
    """
    counts, state = view.counts, view.batch.state
    if state is BatchState.DONE:
        return True
    if state is BatchState.CANCELLED:
        return not counts.unfinished or not (view.workers or manned)
    return state is BatchState.PAUSED and not (counts.by_status[JobStatus.RUNNING] and view.workers)


def exit_code(view: StatusView) -> int:
    """0 every row completed · 1 done or cancelled, some did not · 3 paused."""
    if view.batch.state is BatchState.PAUSED:
        return 3
    return 0 if view.counts.by_status[JobStatus.COMPLETED] == view.batch.rows else 1

"""Polls a batch until it is over: for `run`, `collect --wait` and `status --watch`."""

import asyncio
from collections.abc import AsyncIterator
from itertools import zip_longest

from askmill.config.text import one_line
from askmill.jobs.model.errors import NotFound, Unavailable
from askmill.jobs.model.models import FINISHED, STATUS_OF_BYTE, BatchState, JobStatus
from askmill.jobs.run.live_accuracy import LiveAccuracy
from askmill.jobs.store import Store
from askmill.jobs.store.views import StatusView

MIN_INTERVAL_S, MAX_INTERVAL_S = 0.05, 1.0


async def watch(store: Store, batch: str, *, worker_expected: bool = False) -> AsyncIterator[StatusView]:
    """Yield views of the batch; the last one `is_over`. The interval grows from 0.05 to 1 second.

    Raises:
        NotFound: no such batch.
        Unavailable: the batch has vanished meanwhile.
    """
    interval_s = MIN_INTERVAL_S
    found_before, accuracy = False, LiveAccuracy(store)
    try:
        while True:
            view = accuracy.added_to(await _status(store, batch, found_before=found_before))
            found_before = True
            yield view
            if is_over(view, worker_expected=worker_expected):
                return
            await asyncio.sleep(interval_s)
            interval_s = min(MAX_INTERVAL_S, interval_s * 1.1)
    finally:
        await accuracy.close()


async def _status(store: Store, batch: str, *, found_before: bool) -> StatusView:
    try:
        return await store.status(batch)
    except NotFound:
        if not found_before:
            raise
        raise Unavailable(
            f"{batch} has vanished from Redis: a command purged it, or Redis has lost or evicted it. "
            "Give Redis an append-only file and `maxmemory-policy noeviction` (`askmill doctor` checks "
            "both), then submit the file again"
        ) from None


class NewAnswers:
    """The rows that finished since the last refresh, as lines.

    With `since_start` the first refresh includes all rows that have finished by then; without it, none.
    """

    MAX_LINES = 5
    """Lines per refresh; more could not be read."""

    def __init__(self, store: Store, batch: str, *, since_start: bool) -> None:
        self._store, self._batch = store, batch
        self._before: str | None = "" if since_start else None

    async def lines(self) -> list[str]:
        """The last rows that finished, after a line with the number of the others."""
        after = await self._store.status_bytes(self._batch)
        before, self._before = self._before, after
        if before is None or before == after:
            return []
        pairs = enumerate(zip_longest(before, after), 1)
        finished = [row for row, (old, new) in pairs if old != new and STATUS_OF_BYTE[new] in FINISHED]
        shown = [await self._line(row) for row in finished[-self.MAX_LINES :]]
        omitted = len(finished) - len(shown)
        return ([f"… {omitted:,} more"] if omitted else []) + shown

    async def _line(self, row: int) -> str:
        view = (await self._store.row(self._batch, row)).view
        question = one_line((await self._store.batch(self._batch)).spec.question(view.cells), 50)
        result = view.stored or {}
        answer = result.get("answer") or result.get("error") or ""
        return one_line(f"{row} {view.status}: {question} → {answer}")


def is_over(view: StatusView, *, worker_expected: bool = False) -> bool:
    """Whether nothing more will happen to the batch by itself.

    It is done; or it is paused without an end or cancelled, and its runs in flight have ended or no worker is
    alive to end them. `worker_expected`: the caller starts a worker if none is alive, which ends a cancelled
    batch.
    """
    counts, state = view.counts, view.batch.state
    if state is BatchState.DONE:
        return True
    if state is BatchState.CANCELLED:
        return not counts.unfinished or not (view.workers or worker_expected)
    if state is BatchState.PAUSED and view.batch.paused_until_ms is not None:
        # It resumes by itself, as long as somebody keeps a worker alive.
        return not (view.workers or worker_expected)
    return state is BatchState.PAUSED and not (counts.by_status[JobStatus.RUNNING] and view.workers)


def exit_code(view: StatusView) -> int:
    """0 every row completed · 1 done or cancelled, some did not · 3 paused."""
    if view.batch.state is BatchState.PAUSED:
        return 3
    return 0 if view.counts.by_status[JobStatus.COMPLETED] == view.batch.rows else 1

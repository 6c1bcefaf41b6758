"""One row or a page of rows as JSON, and a search as a stream of lines."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.result_fields import FIELDS
from askmill.jobs.results.columns import entry_of
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.store.row_pages import SearchStep
from askmill.jobs.store.views import RowView

MAX_ROWS = 500
"""Rows on a page."""
SEARCH_S = 2.0
"""How long a search that is not streamed reads on; its page then says from where to go on."""
PROGRESS_S = 0.1
MAX_SEARCHES = 3
"""Searches that read at a time; others wait for their turn."""

_searches = asyncio.Semaphore(MAX_SEARCHES)


def row_summary(batch: Batch, view: RowView) -> dict[str, Any]:
    """The row as `collect --format jsonl` writes it, without its steps, and with its question."""
    entry = entry_of(view)
    cells = dict(zip(batch.spec.columns, entry.cells, strict=False))
    fields = dict(zip(FIELDS, entry.fields(), strict=True))
    return {"row": entry.row, "question": batch.spec.question(entry.cells), "input": cells, **fields}


async def search(
    store: Store, batch: str, text: str, after: int, statuses: frozenset[JobStatus] | None
) -> AsyncIterator[SearchStep]:
    """`Store.search`, of which only some read at a time; others are served between two chunks."""
    async with _searches:
        async for step in store.search(batch, text, after, statuses):
            yield step
            await asyncio.sleep(0)


async def search_page(
    store: Store, query: tuple[str, str, int, frozenset[JobStatus] | None], limit: int
) -> tuple[list[RowView], int | None, int]:
    """Rows that hold the text, until there are `limit` or time is up.

    Returns:
        The rows, the row after which to go on (None at the end of the batch), the last row that was read.
    """
    batch, text, after, statuses = query
    rows, loop = list[RowView](), asyncio.get_running_loop()
    until, searched, total = loop.time() + SEARCH_S, after, (await store.batch(batch)).rows
    async for step in search(store, batch, text, after, statuses):
        searched = step.searched
        rows += step.rows
        if len(rows) > limit:
            return rows[:limit], rows[limit - 1].row, rows[limit - 1].row
        if loop.time() > until and searched < total:
            return rows, searched, searched
    return rows, None, searched


async def search_lines(
    store: Store, found: Batch, query: tuple[str, int, frozenset[JobStatus] | None], limit: int
) -> AsyncIterator[bytes]:
    """`{"searched":n,"of":n}` as the search goes on, `{"row":…}` for each row that holds the text.

    The last line says whether the search was stopped at `limit` rows: `{"searched":n,"of":n,"next":n}`.
    """
    text, after, statuses = query
    loop = asyncio.get_running_loop()
    count, reported_s = 0, -PROGRESS_S
    async for step in search(store, found.id, text, after, statuses):
        for view in step.rows:
            yield orjson.dumps(row_summary(found, view), option=orjson.OPT_APPEND_NEWLINE)
            count += 1
            if count == limit:
                yield _progress(view.row, found.rows, view.row if view.row < found.rows else None)
                return
        if loop.time() - reported_s > PROGRESS_S and step.searched < found.rows:
            reported_s = loop.time()
            yield orjson.dumps(
                {"searched": step.searched, "of": found.rows}, option=orjson.OPT_APPEND_NEWLINE
            )
    yield _progress(found.rows, found.rows, None)


def _progress(searched: int, total: int, following: int | None) -> bytes:
    last = {"searched": searched, "of": total, "next": following}
    return orjson.dumps(last, option=orjson.OPT_APPEND_NEWLINE)

"""The rows of a batch with their results, what their runs created at the API, and generated files."""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from functools import partial
from itertools import compress, count
from typing import Any

import orjson

from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.models import BY_ITEMS, STATUS_OF_BYTE, UNFINISHED, JobStatus
from askmill.jobs.store import keys
from askmill.jobs.store.codec import BLOCK_ROWS, block_of, unpack
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.queries import raise_not_found, read_batch
from askmill.jobs.store.shard_queries import shards_of_row
from askmill.jobs.store.views import RowDetail, RowView
from askmill.jobs.store.waits import poll_of

_CHUNK_ROWS = 64 * BLOCK_ROWS
"""Rows per round trip: 1,024, about half a megabyte."""


def _views(
    first: int, status: str, inputs: list[bytes], results: list[bytes | None], bytes_: set[str]
) -> Iterator[RowView]:
    """Yield the rows with these status bytes of a chunk from row `first` on; unpack only their blocks."""
    for start in range(0, len(status), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        chosen = [byte in bytes_ for byte in status[block]]
        if any(chosen):
            statuses, cells = map(STATUS_OF_BYTE.get, status[block]), unpack(inputs[start // BLOCK_ROWS])
            # `zip` and `tuple.__new__` run in C: for a million rows, RowView's constructor takes a second.
            yield from map(
                _new_view, compress(zip(count(first + start), cells, statuses, results[block]), chosen)
            )


_new_view = partial(tuple.__new__, RowView)


class RowQueryMixin:
    """Queries about rows. They raise NotFound for an unknown batch."""

    _connection: Connection

    async def status_bytes(self, batch: str) -> str:
        """Return every row's status byte (jobs/model/models.py) in file order: cheap to poll."""
        stored = await self._connection.execute("GET", keys.part(batch, "status"))
        return str(stored.decode()) if stored else await raise_not_found(self._connection, batch)

    async def results(
        self, batch: str, statuses: Collection[JobStatus] | None = None
    ) -> AsyncIterator[RowView]:
        """Yield all rows in file order, or those of these statuses; a thousand at a time are in memory."""
        async for chunk in self.result_chunks(batch, statuses):
            for view in chunk:
                yield view

    async def result_chunks(
        self, batch: str, statuses: Collection[JobStatus] | None = None
    ) -> AsyncIterator[Iterator[RowView]]:
        """Yield what `results` yields, a thousand rows at a time: one await per chunk."""
        rows = (await read_batch(self._connection, batch)).rows
        bytes_ = {byte for byte, status in STATUS_OF_BYTE.items() if statuses is None or status in statuses}
        for first in range(1, rows + 1, _CHUNK_ROWS):
            last = min(first + _CHUNK_ROWS - 1, rows)
            status, inputs, results = await self._connection.scripts.read_rows(batch, first, last, BLOCK_ROWS)
            if None in inputs:
                await raise_not_found(self._connection, batch)
            yield _views(first, status.decode(), inputs, results, bytes_)

    async def row(self, batch: str, row: int) -> RowDetail:
        """Return one row with its result and what is stored of it in progress.

        Raises:
            NotFound: no such batch, or a row number outside it.
        """
        found = await read_batch(self._connection, batch)
        if not 1 <= row <= found.rows:
            raise NotFound(f"no row {row} in batch {batch}: it has the rows 1 to {found.rows}")
        status, block, packed, live, due, due_running = await self._connection.pipeline(
            ("GETRANGE", keys.part(batch, "status"), row - 1, row - 1),
            ("HGET", keys.part(batch, "input"), block_of(row)),
            ("HGET", keys.part(batch, "results"), row),
            ("HGETALL", keys.live(batch, row)),
            ("ZSCORE", keys.part(batch, "due"), row),
            ("ZSCORE", keys.part(batch, "due_running"), row),
        )
        waits_until = due if due is not None else due_running
        worker = live.get(b"worker")
        return RowDetail(
            view=RowView(row, unpack(block)[(row - 1) % BLOCK_ROWS], STATUS_OF_BYTE[status.decode()], packed),
            state=live.get(b"state"),
            worker=worker.decode() if worker else None,
            due_ms=None if waits_until is None else int(waits_until),
            crashes=int(live.get(b"crashes", 0)),
            poll=poll_of(live) if worker else None,
            shards=tuple(await shards_of_row(self._connection, batch, row)) if found.in_shards else (),
        )

    async def find_row_by_id(self, batch: str, own_id: str) -> int:
        """Return the row whose id column has this value. Reads the batch up to it: there is no index.

        Raises:
            NotFound: no such batch or id, or the batch has no id column.
        """
        spec = (await read_batch(self._connection, batch)).spec
        if spec.id_column is None:
            raise NotFound(f"batch {batch} has no id column: name the row by its number")
        async for view in self.results(batch):
            if spec.cell(spec.id_column, view.cells) == own_id:
                return view.row
        raise NotFound(f"no row with {spec.id_column} {own_id!r} in batch {batch}")

    async def created_objects(self, batch: str) -> AsyncIterator[tuple[str, str]]:
        """Yield ("thread" | "run" | "file", id) of all that the batch's rows created at the API."""
        async for chunk in self.result_chunks(batch):
            views = list(chunk)
            states = await self._states(batch, [view.row for view in views if view.status in UNFINISHED])
            for view in views:
                stored, state = view.stored, states.get(view.row)
                # Without an attempt the answer was reused, and all ids belong to another batch.
                parts = [stored] if stored and stored.get("attempts_made") != 0 else []
                parts += [orjson.loads(state)] if state else []
                for created in dict.fromkeys(_created_in(parts)):
                    yield created

    async def unfinished_states(self, batch: str) -> AsyncIterator[tuple[int, bytes]]:
        """Yield row and saved state of the unfinished rows that have one."""
        async for chunk in self.result_chunks(batch, UNFINISHED):
            for row, state in (await self._states(batch, [view.row for view in chunk])).items():
                yield row, state

    async def _states(self, batch: str, rows: Sequence[int]) -> dict[int, bytes]:
        """Row → saved state, in one round trip."""
        if not rows:
            return {}
        states = await self._connection.pipeline(*(("HGET", keys.live(batch, row), "state") for row in rows))
        return {row: state for row, state in zip(rows, states, strict=True) if state}

    async def read_file(self, batch: str, row: int, number: int) -> bytes | None:
        """Return a generated file; None when it was not stored."""
        content: bytes | None = await self._connection.execute(
            "HGET", keys.part(batch, "files"), f"{row}:{number}"
        )
        return content


def _created_in(stored: Any) -> Iterator[tuple[str, str]]:
    """Yield the ids of what runs created, anywhere in stored JSON. Citations name the user's own files."""
    if isinstance(stored, list):
        for part in stored:
            yield from _created_in(part)
    elif isinstance(stored, dict):
        if stored.get("thread_id"):
            yield "thread", stored["thread_id"]
        # A run that is known only by the items of its conversation has no id at the API.
        if stored.get("run_id") and not stored["run_id"].startswith(BY_ITEMS):
            yield "run", stored["run_id"]
        for file in stored.get("files") or ():
            # A file in a container is deleted with the container.
            if file.get("file_id") and not file.get("container_id"):
                yield "file", file["file_id"]
        for name, part in stored.items():
            if name not in {"citations", "details", "files"}:
                yield from _created_in(part)

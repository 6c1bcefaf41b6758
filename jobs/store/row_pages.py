"""Pages of a batch's rows, by status, a sample, and a search through all of them. For the web page.

A page is found in the status bytes (one per row) and costs the same anywhere in the batch. A search reads the
batch once, a thousand rows at a time, and yields its progress after each chunk.
"""

import re
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Any, NamedTuple

import orjson

from askmill.jobs.model.models import STATUS_OF_BYTE, JobStatus, as_text
from askmill.jobs.store import keys
from askmill.jobs.store.codec import BLOCK_ROWS, block_of, raw_input, raw_result, unpack, unpack_fields
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.queries import raise_not_found
from askmill.jobs.store.views import RowView

_FIRST_WINDOW_ROWS, _WINDOW_ROWS = 1024, 65_536
"""Status bytes per round trip while rows with a status are looked for: few at first, then more and more."""
_BLOCKS_AT_ONCE = 16
_CHUNK_ROWS = 64 * BLOCK_ROWS


class RowPage(NamedTuple):
    """Rows in file order; `more`: there are others in the direction of the page."""

    rows: list[RowView]
    more: bool


class SearchStep(NamedTuple):
    """What a search has found since the step before, and the last row that it has read."""

    searched: int
    rows: list[RowView]


class RowPageMixin:
    """Each method raises NotFound for an unknown batch."""

    _connection: Connection

    async def rows_after(
        self, batch: str, after: int = 0, limit: int = 50, statuses: Collection[JobStatus] | None = None
    ) -> RowPage:
        """Return the first `limit` rows behind row `after`, of these statuses."""
        total, found = await self._row_count(batch), dict[int, str]()
        pattern, first, size = _pattern(statuses), after, _first_window(statuses, limit)
        while first < total and len(found) <= limit:
            last = min(first + size, total)
            window = await self._status_window(batch, first, last)
            for match in pattern.finditer(window):
                found[first + match.start() + 1] = match[0]
                if len(found) > limit:
                    break
            first, size = last, min(2 * size, _WINDOW_ROWS)
        numbers = list(found)[:limit]
        return RowPage(await self._read(batch, {row: found[row] for row in numbers}), len(found) > limit)

    async def rows_before(
        self, batch: str, before: int, limit: int = 50, statuses: Collection[JobStatus] | None = None
    ) -> RowPage:
        """Return the last `limit` rows in front of row `before`, of these statuses, in file order."""
        total, found = await self._row_count(batch), dict[int, str]()
        pattern, last, size = _pattern(statuses), min(before - 1, total), _first_window(statuses, limit)
        while last > 0 and len(found) <= limit:
            first = max(last - size, 0)
            window = await self._status_window(batch, first, last)
            for match in reversed(list(pattern.finditer(window))):
                found[first + match.start() + 1] = match[0]
                if len(found) > limit:
                    break
            last, size = first, min(2 * size, _WINDOW_ROWS)
        numbers = sorted(found)[-limit:]
        return RowPage(await self._read(batch, {row: found[row] for row in numbers}), len(found) > limit)

    async def sample(
        self, batch: str, rows: int, first_rows: int | None = None
    ) -> AsyncIterator[list[RowView]]:
        """Yield about so many rows, in blocks spread over the batch or its first rows; all of fewer."""
        total = await self._row_count(batch)
        total = total if first_rows is None else min(total, first_rows)
        blocks = block_of(total) + 1
        chosen = range(min(blocks, -(-rows // BLOCK_ROWS)))
        for first in range(0, len(chosen), _BLOCKS_AT_ONCE):
            some = [place * blocks // len(chosen) for place in chosen[first : first + _BLOCKS_AT_ONCE]]
            starts = [block * BLOCK_ROWS for block in some]
            windows = await self._connection.pipeline(
                *(
                    ("GETRANGE", keys.part(batch, "status"), start, min(start + BLOCK_ROWS, total) - 1)
                    for start in starts
                )
            )
            status_bytes = {
                start + place + 1: byte
                for start, window in zip(starts, windows, strict=True)
                for place, byte in enumerate(window.decode())
            }
            yield await self._read(batch, status_bytes)

    async def search(
        self, batch: str, text: str, after: int = 0, statuses: Collection[JobStatus] | None = None
    ) -> AsyncIterator[SearchStep]:
        """Look for `text`, in any case, in the cells, answers and errors of the rows behind `after`."""
        total, needle = await self._row_count(batch), _Needle(text)
        bytes_ = {byte for byte, status in STATUS_OF_BYTE.items() if statuses is None or status in statuses}
        for first in range(block_of(after + 1) * BLOCK_ROWS + 1, total + 1, _CHUNK_ROWS):
            last = min(first + _CHUNK_ROWS - 1, total)
            status, inputs, results = await self._connection.scripts.read_rows(batch, first, last, BLOCK_ROWS)
            if None in inputs:
                await raise_not_found(self._connection, batch)
            wanted = [byte in bytes_ for byte in status.decode()]
            found = needle.rows(first, status.decode(), inputs, results)
            yield SearchStep(last, [view for view in found if view.row > after and wanted[view.row - first]])

    async def _row_count(self, batch: str) -> int:
        state, rows = await self._connection.execute("HMGET", keys.batch(batch), "state", "rows")
        if state is None or state == b"loading":
            await raise_not_found(self._connection, batch)
        return int(rows)

    async def _status_window(self, batch: str, first: int, last: int) -> str:
        """Return the status bytes of the rows `first` + 1 to `last`."""
        window = await self._connection.execute("GETRANGE", keys.part(batch, "status"), first, last - 1)
        return str(window.decode())

    async def _read(self, batch: str, status_bytes: dict[int, str]) -> list[RowView]:
        """Return the rows with these numbers."""
        if not status_bytes:
            return []
        numbers = list(status_bytes)
        blocks = sorted({block_of(row) for row in numbers})
        stored, results = await self._connection.pipeline(
            ("HMGET", keys.part(batch, "input"), *blocks), ("HMGET", keys.part(batch, "results"), *numbers)
        )
        if None in stored:
            await raise_not_found(self._connection, batch)
        cells = {number: unpack(block) for number, block in zip(blocks, stored, strict=True)}
        return [
            RowView(row, cells[block_of(row)][(row - 1) % BLOCK_ROWS], STATUS_OF_BYTE[byte], packed)
            for (row, byte), packed in zip(status_bytes.items(), results, strict=True)
        ]


def _first_window(statuses: Collection[JobStatus] | None, limit: int) -> int:
    return limit + 1 if statuses is None else _FIRST_WINDOW_ROWS


def _pattern(statuses: Collection[JobStatus] | None) -> re.Pattern[str]:
    """A pattern of the status bytes that stand for these statuses."""
    bytes_ = [byte for byte, status in STATUS_OF_BYTE.items() if statuses is None or status in statuses]
    return re.compile(f"[{''.join(bytes_)}]" if bytes_ else r"(?!)")


class _Needle:
    """A text to look for: first in the stored JSON as a whole, which is quick, then in the values."""

    def __init__(self, text: str) -> None:
        self._text = text.lower()
        json = orjson.dumps(text).decode()[1:-1].lower()
        self._json = json.encode()
        # bytes.lower() knows ASCII alone.
        self._is_ascii = json.isascii()

    def rows(
        self, first: int, status: str, inputs: list[bytes], results: list[bytes | None]
    ) -> Iterator[RowView]:
        """Yield the rows of a chunk, which begins with row `first`, that hold the text."""
        for number, block in enumerate(inputs):
            start = number * BLOCK_ROWS
            in_block, cells = self._in_json(raw_input(block)), None
            for index in range(start, min(start + BLOCK_ROWS, len(status))):
                packed = results[index]
                in_result = packed is not None and self._in_json(raw_result(packed))
                if not (in_block or in_result):
                    continue
                cells = unpack(block) if cells is None else cells
                row_cells = cells[index - start]
                if self._in_cells(row_cells) or (
                    packed is not None and in_result and self._in_result(packed)
                ):
                    yield RowView(first + index, row_cells, STATUS_OF_BYTE[status[index]], packed)

    def _in_json(self, stored: bytes) -> bool:
        if self._is_ascii:
            return self._json in stored.lower()
        return self._json.decode() in stored.decode(errors="replace").lower()

    def _in_cells(self, cells: list[Any]) -> bool:
        return any(self._text in as_text(cell).lower() for cell in cells)

    def _in_result(self, packed: bytes) -> bool:
        fields, _ = unpack_fields(packed)
        return any(self._text in str(value or "").lower() for value in (fields.answer, fields.error))

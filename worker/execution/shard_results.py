"""Reading a shard's result files: downloaded to disk, read a chunk of lines at a time, rows ended in bulk.

Who takes over a shard reads the files again from their start: rows that have ended are no longer in the
shard, so no line counts twice.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import structlog

from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.shard_records import RowEnd, ShardClaim
from askmill.jobs.store.shards import ROWS_PER_CALL
from askmill.worker.backends.batch_jobs import BatchJobs, row_and_attempt
from askmill.worker.backends.batch_lines import FOUND_ID, LineContext, read_line
from askmill.worker.execution.shard_rows import ShardRows
from askmill.worker.lifecycle.shard_events import EndShard, Rest
from askmill.worker.lifecycle.shard_state import ShardState
from askmill.worker.runtime import telemetry
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext
from askmill.worker.runtime.interrupts import ClaimLost

log = structlog.get_logger()
T = TypeVar("T")


@dataclass
class ShardResults:
    """Reads what a shard's batch has answered, and ends its rows."""

    context: WorkerContext
    batch: BatchContext
    claim: ShardClaim
    jobs: BatchJobs
    counters: Counter[str] = field(default_factory=Counter)
    """What no call has counted yet."""
    pause: str | None = None
    """Why the batch must pause: a line says so."""

    def rows(self, state: ShardState) -> ShardRows:
        now_s = self.context.now_s()
        sent_at = state.sent_at or state.followed_since or now_s
        jitter = random.random()  # noqa: S311 -- jitter
        return ShardRows(self.batch, self.context.prices, self.context.clock, sent_at, now_s, jitter)

    async def read(self, state: ShardState) -> tuple[int, int]:
        """Read both files. Returns how many lines they have, and how many rows are still in the shard.

        Raises:
            ApiError: a file cannot be read.
            ClaimLost: the shard is another worker's.
        """
        lines_read = set[int]()
        with TemporaryDirectory(prefix="askmill-shard-") as folder:
            for number, file_id in enumerate((state.output_file_id, state.error_file_id)):
                if file_id is None:
                    continue
                path = Path(folder) / f"{number}.jsonl"
                await self.jobs.download(file_id, path)
                for lines in _chunks(_lines_of(path)):
                    await self._read_lines(state, lines, lines_read)
                path.unlink()
        left = 0
        for rows in _chunks(self.claim.lines):
            left += len(await self._open_rows(rows))
        return len(lines_read), left

    async def _open_rows(self, rows: Sequence[int]) -> list[Claim]:
        return await self.context.retry_on_outage(self.context.store.shard_rows, self.claim, rows)

    async def _read_lines(self, state: ShardState, lines: Sequence[bytes], lines_read: set[int]) -> None:
        """End the rows of these lines, in one call."""
        named = [(line, self._name_of(line)) for line in lines]
        fresh: dict[int, tuple[bytes, int]] = {}
        for line, name in named:
            if name is None:
                self.counters["stray_lines"] += 1
            elif name[0] in lines_read or name[0] in fresh:
                self.counters["repeated_lines"] += 1
            else:
                fresh[name[0]] = (line, name[1])
        lines_read.update(fresh)
        ends = self.rows(state)
        for claim in await self._open_rows(list(fresh)):
            line, attempt = fresh[claim.row]
            row_state = ends.state_of(claim)
            if row_state.attempt == attempt:
                context = ends.line_context(claim, row_state)
                ends.add(claim, read_line(line, partial(_same, context)))
        await self.store(ends)

    def _name_of(self, line: bytes) -> tuple[int, int] | None:
        found = FOUND_ID.search(line)
        return row_and_attempt(self.claim.batch, found[1].decode()) if found else None

    async def store(self, ends: ShardRows) -> None:
        """End these rows. Raises ClaimLost."""
        self.pause = self.pause or ends.pause
        if not ends.ends:
            self.counters.update(ends.counters)
            return
        counters = dict(ends.counters + self.counters)
        self.counters.clear()
        held = await self.context.retry_on_outage(
            self.context.store.end_rows, self.claim, ends.ends, counters=counters
        )
        if not held:
            raise ClaimLost
        for end in ends.ends:
            if end.result is not None:
                telemetry.row_finished(self.claim.batch, end.result)

    async def end_rest(self, state: ShardState, action: EndShard) -> None:
        """Store an end for every row that is left. Raises ClaimLost."""
        refused = {
            self.claim.lines[refusal.line - 1]: refusal.error
            for refusal in action.refused
            if refusal.line <= len(self.claim.lines)
        }
        for rows in _chunks(self.claim.lines):
            ends = self.rows(state)
            for claim in await self._open_rows(rows):
                if claim.row in refused:
                    ends.refuse(claim, refused[claim.row])
                else:
                    _end(ends, claim, action.rest)
            await self.store(ends)


def _end(ends: ShardRows, claim: Claim, rest: Rest) -> None:
    match rest:
        case Rest.RETURN:
            ends.ends.append(RowEnd(claim.row))
        case Rest.MISSING:
            ends.lose(claim, "the batch has ended without a line for this row")
        case Rest.EXPIRED:
            ends.expire(claim)
        case Rest.CANCELLED:
            ends.cancel(claim)


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from (line for line in lines if line.strip())


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    source = iter(values)
    while chunk := list(islice(source, ROWS_PER_CALL)):
        yield chunk


def _same(context: LineContext, _: str) -> LineContext:
    return context

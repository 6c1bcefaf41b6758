"""Reading a shard's result files: downloaded to disk, read a chunk of lines at a time, rows ended in bulk.

Who takes over a shard reads the files again from their start: rows that have ended are no longer in the
shard, so no line counts twice. A line that kills its reader fails its row (`shard_crashes`).
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

from askmill.jobs.openai_client.reply_limits import MAX_REPLY_BYTES
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.shard_records import RowEnd, ShardClaim
from askmill.jobs.store.shards import ROWS_PER_CALL
from askmill.worker.backends.batch_jobs import BatchJobs, row_and_attempt
from askmill.worker.backends.batch_lines import FOUND_ID, LineContext, read_line
from askmill.worker.execution.result_builder import internal_error
from askmill.worker.execution.shard_crashes import crash_marked, lines_per_step, poison_error
from askmill.worker.execution.shard_rows import ShardRows
from askmill.worker.lifecycle.shard_events import EndShard, Rest
from askmill.worker.lifecycle.shard_state import ShardState
from askmill.worker.runtime import telemetry
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext
from askmill.worker.runtime.interrupts import ClaimLost, Interrupts

log = structlog.get_logger()
T = TypeVar("T")


@dataclass
class ShardResults:
    """Reads what a shard's batch has answered, and ends its rows."""

    context: WorkerContext
    batch: BatchContext
    claim: ShardClaim
    interrupts: Interrupts
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
                for lines in _line_chunks(path, lines_per_step(self.claim)):
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
        if not fresh:
            return
        async with crash_marked(self.context, self.claim, self.interrupts, list(fresh)):
            ends = self.rows(state)
            for claim in await self._open_rows(list(fresh)):
                _add_line(ends, claim, *fresh[claim.row])
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
                    ends.refuse(claim, str(refused[claim.row]))
                else:
                    _end(ends, claim, action.rest)
            await self.store(ends)


def _add_line(ends: ShardRows, claim: Claim, line: bytes, attempt: int) -> None:
    """The end of a row by its line, unless the line is of another attempt."""
    state = ends.state_of(claim)
    if state.attempt != attempt:
        return
    if (error := poison_error(claim)) is not None:
        ends.fail_answered(claim, error)
        return
    try:
        ends.add(claim, read_line(line, partial(_same, ends.line_context(claim, state))))
    except Exception as crash:
        log.exception("shard.line_crashed", row=claim.row)
        ends.fail_answered(claim, internal_error(crash))


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
    """The lines of a file that are not blank; of one that is too large, its beginning."""
    with path.open("rb") as file:
        while line := file.readline(MAX_REPLY_BYTES + 1):
            if line.strip():
                yield line
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_REPLY_BYTES)


def _line_chunks(path: Path, most: int) -> Iterator[list[bytes]]:
    """At most so many lines at a time, and hardly more than MAX_REPLY_BYTES."""
    chunk, size = list[bytes](), 0
    for line in _lines_of(path):
        chunk.append(line)
        size += len(line)
        if len(chunk) >= most or size >= MAX_REPLY_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    source = iter(values)
    while chunk := list(islice(source, ROWS_PER_CALL)):
        yield chunk


def _same(context: LineContext, _: str) -> LineContext:
    return context

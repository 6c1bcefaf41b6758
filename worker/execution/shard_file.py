"""The input file of a shard: built on disk, a chunk of rows at a time, and cut where something has no room.

The rows that have no room go back to the queue: another model (a file has one), the bytes of a file, the
rest of the budget. Rows whose line cannot be built, or would alone be too large, fail.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from askmill.jobs.openai_client.pricing import Prices, estimate_tokens
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import Batch
from askmill.jobs.store.shard_records import ShardClaim
from askmill.worker.backends.batch_jobs import custom_id
from askmill.worker.backends.batch_lines import request_line
from askmill.worker.execution.chat_call import with_exchange
from askmill.worker.execution.costs import RowCosts
from askmill.worker.execution.request_builder import build_request, row_profile
from askmill.worker.execution.result_builder import internal_error
from askmill.worker.execution.shard_crashes import NOT_THE_ROW, crash_marked, lines_per_step, poison_error
from askmill.worker.execution.stored_state import initial_state
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext
from askmill.worker.runtime.interrupts import Interrupts

log = structlog.get_logger()

MAX_FILE_BYTES = 100_000_000
"""Groq and Together take 100 MB, OpenAI 200 MB."""
TOO_LARGE = "too_large: the row is too large for a file of lines"


@dataclass
class ShardFile:
    """What was built. `rows`: of its lines; `returned`: rows without room; `refused`: rows that fail.

    `worst_nano`: what the lines may cost at most; None where a price is unknown. `prompt_tokens`: estimated.
    """

    rows: list[int] = field(default_factory=list)
    returned: list[Claim] = field(default_factory=list)
    refused: list[tuple[Claim, str]] = field(default_factory=list)
    size: int = 0
    sha256: str = ""
    model: str | None = None
    worst_nano: int | None = 0
    prompt_tokens: int = 0
    full: bool = False
    over_budget: bool = False
    """Rows were returned because the budget has no room for them."""


@dataclass
class FileBuilder:
    """Builds the file of one claimed shard. `budget_nano`: what its lines may cost; None: any amount."""

    context: WorkerContext
    batch: BatchContext
    claim: ShardClaim
    interrupts: Interrupts
    budget_nano: int | None
    built: ShardFile = field(default_factory=ShardFile)

    async def build(self, path: Path) -> ShardFile:
        """Write the lines of the shard's rows. Raises ClaimLost, ShuttingDown."""
        digest, claim, step = hashlib.sha256(), self.claim, lines_per_step(self.claim)
        with path.open("wb") as target:
            for at in range(0, len(claim.lines), step):
                chunk = claim.lines[at : at + step]
                async with crash_marked(self.context, claim, self.interrupts, chunk):
                    for line in await self._lines_of(chunk):
                        digest.update(line)
                        target.write(line)
        self.built.sha256 = digest.hexdigest()
        return self.built

    async def _lines_of(self, rows: Sequence[int]) -> list[bytes]:
        """The lines of those of these rows that are in the shard and have room."""
        context, lines = self.context, list[bytes]()
        for row in await context.retry_on_outage(context.store.shard_rows, self.claim, rows):
            line = await self._line_of(row)
            if line is not None and take_row(
                self.built, self.batch.batch, context.prices, row, len(line), self.budget_nano
            ):
                lines.append(line)
        return lines

    async def _line_of(self, row: Claim) -> bytes | None:
        """The row's line; None for one that fails."""
        if (error := poison_error(row)) is not None:
            self.built.refused.append((row, error))
            return None
        batch = self.batch.batch
        try:
            state = initial_state(row, batch)
            request = build_request(batch, row, state, None)
            if batch.api == "chat":
                request = await with_exchange(request, self.context, row, self.batch)
            line_id = custom_id(batch.id, row.row, state.attempt)
            return request_line(line_id, request, batch.api, batch.base_url)
        except NOT_THE_ROW:
            raise
        except Exception as crash:
            log.exception("shard.line_crashed", shard=self.claim.number, row=row.row)
            self.built.refused.append((row, internal_error(crash)))
            return None


def take_row(
    built: ShardFile, batch: Batch, prices: Prices, row: Claim, line_bytes: int, budget_nano: int | None
) -> bool:
    """Whether the row has room in the file; notes it in either case."""
    if line_bytes > MAX_FILE_BYTES:
        built.refused.append((row, TOO_LARGE))
        return False
    profile = row_profile(batch, row)
    built.model = built.model or profile.model
    # A row of another model says nothing about the room that this file has.
    if built.full or profile.model != built.model:
        built.returned.append(row)
        return False
    worst = RowCosts(batch, row, prices).worst_case_nano(initial_state(row, batch))
    total = None if worst is None or built.worst_nano is None else built.worst_nano + worst
    built.over_budget = budget_nano is not None and (total is None or total > budget_nano)
    built.full = built.over_budget or built.size + line_bytes > MAX_FILE_BYTES
    if built.full:
        built.returned.append(row)
        return False
    built.rows.append(row.row)
    built.size += line_bytes
    built.worst_nano = total
    built.prompt_tokens += estimate_tokens(batch.spec.question(row.cells) + (profile.instructions or ""))
    return True

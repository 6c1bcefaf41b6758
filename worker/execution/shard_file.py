"""The input file of a shard: built on disk, a chunk of rows at a time, and cut where something has no room.

The rows that have no room go back to the queue: another model (a file has one), the bytes of a file, the
rest of the budget.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from askmill.jobs.openai_client.pricing import Prices, estimate_tokens
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import Batch
from askmill.jobs.store.shard_records import ShardClaim
from askmill.jobs.store.shards import ROWS_PER_CALL
from askmill.worker.backends.batch_jobs import custom_id
from askmill.worker.backends.batch_lines import request_line
from askmill.worker.execution.chat_call import with_exchange
from askmill.worker.execution.costs import RowCosts
from askmill.worker.execution.request_builder import build_request, row_profile
from askmill.worker.execution.stored_state import initial_state
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext

MAX_FILE_BYTES = 100_000_000
"""Groq and Together take 100 MB, OpenAI 200 MB."""


@dataclass
class ShardFile:
    """What was built. `rows`: of its lines; `returned`: rows without room; `too_large`: of one line alone.

    `worst_nano`: what the lines may cost at most; None where a price is unknown. `prompt_tokens`: estimated.
    """

    rows: list[int] = field(default_factory=list)
    returned: list[Claim] = field(default_factory=list)
    too_large: list[Claim] = field(default_factory=list)
    size: int = 0
    sha256: str = ""
    model: str | None = None
    worst_nano: int | None = 0
    prompt_tokens: int = 0
    full: bool = False
    over_budget: bool = False
    """Rows were returned because the budget has no room for them."""


async def build_file(
    context: WorkerContext, batch: BatchContext, claim: ShardClaim, path: Path, budget_nano: int | None
) -> ShardFile:
    """Write the lines of the shard's rows. `budget_nano`: what they may cost; None: any amount."""
    built, digest = ShardFile(), hashlib.sha256()
    with path.open("wb") as target:
        for at in range(0, len(claim.lines), ROWS_PER_CALL):
            chunk = claim.lines[at : at + ROWS_PER_CALL]
            for row in await context.retry_on_outage(context.store.shard_rows, claim, chunk):
                line = await _line_of(context, batch, row)
                if take_row(built, batch.batch, context.prices, row, len(line), budget_nano):
                    digest.update(line)
                    target.write(line)
    built.sha256 = digest.hexdigest()
    return built


async def _line_of(context: WorkerContext, batch: BatchContext, row: Claim) -> bytes:
    state = initial_state(row, batch.batch)
    request = build_request(batch.batch, row, state, None)
    if batch.batch.api == "chat":
        request = await with_exchange(request, context, row, batch)
    line_id = custom_id(batch.batch.id, row.row, state.attempt)
    return request_line(line_id, request, batch.batch.api, batch.batch.base_url)


def take_row(
    built: ShardFile, batch: Batch, prices: Prices, row: Claim, line_bytes: int, budget_nano: int | None
) -> bool:
    """Whether the row has room in the file; notes it in either case."""
    if line_bytes > MAX_FILE_BYTES:
        built.too_large.append(row)
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

"""The records of shards that the store takes and returns (`--tier batch`)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from askmill.jobs.model.models import Result
from askmill.jobs.store.records import BatchUpdate


@dataclass(frozen=True, slots=True)
class ShardClaim:
    """A shard that a worker holds, until it ends or releases it or is declared dead.

    `state`: as last saved. `lines`: the rows of its file, in the order of its lines; before the upload, the
    rows that it was cut from. `open_rows`: how many of them are still in it. `crashes`: how many workers died
    while they built or read its lines.
    """

    batch: str
    number: int
    worker: str
    fence: str
    state: bytes
    lines: tuple[int, ...]
    open_rows: int
    cut_at_ms: int
    crashes: int
    now_ms: int
    update: BatchUpdate


class ShardStep(StrEnum):
    """What a save of a shard is part of."""

    OTHER = ""
    SEND = "send"
    """Before a create: its rows are `running` from now on."""
    UNSENT = "unsent"
    """The create was refused or is given up: they are queued again, and nothing is reserved."""
    CREATED = "created"
    """The API has accepted the create."""


class CrashMark(StrEnum):
    """A step that a row may make deadly begins or ends."""

    BEGIN = "begin"
    END = "end"
    CRASH = "crash"
    """It has raised an exception, which counts as a death."""


class ShardVerdict(StrEnum):
    """Reply to a save of a shard."""

    SAVED = "saved"
    STOPPED = "stopped"
    """Before a create: the batch is paused or cancelled."""
    ROWS_CHANGED = "rows_changed"
    """Before a create: rows have left the shard since its file was built."""
    BUDGET = "budget"
    """Before a create: the budget cannot pay for it."""
    BUDGET_LATER = "budget_later"
    """Before a create: perhaps it can when what is in flight has ended."""


class RowEnd(NamedTuple):
    """What becomes of a row of a shard: `result`, or another attempt with `state` after `due_ms`.

    Without either, the row goes back to the queue as it was.
    """

    row: int
    result: Result | None = None
    state: bytes = b""
    spent_nano: int | None = None
    due_ms: int = 0


class CutLimits(NamedTuple):
    """When the next shards are cut, and how large.

    `hold_ms`: none is cut for so long, unless another shard ends before. `shard_rows`, `rows_in_all`: rows
    that one shard, and all together, may have from now on; None: as before. `before`: these numbers as
    they were read; they stay if another shard has changed them meanwhile.
    """

    hold_ms: int = 0
    shard_rows: int | None = None
    rows_in_all: int | None = None
    before: tuple[int | None, int | None] | None = None


class AdoptedShard(NamedTuple):
    """Reply to an adoption. `number` None: no row of the batch was free, or a shard has it by now.

    `duplicate`: it is counted as a duplicate, now for the first time. `robbed`: shards that have lost rows.
    """

    number: int | None
    duplicate: bool
    robbed: tuple[int, ...]


WAITS = "w"
"""The byte of a row that goes back to the queue."""

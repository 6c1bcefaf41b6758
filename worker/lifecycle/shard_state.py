"""The state of a shard: the rows of a batch that travel in one job of the Batch API (`--tier batch`).

`ShardState` is stored as JSON before each effect that costs money. Data only.
"""

from dataclasses import dataclass
from enum import StrEnum


class ShardPhase(StrEnum):
    """How far a shard is. Each phase is stored before the next effect."""

    CUT = "cut"
    """Its rows are taken from the queue; its file is not uploaded, or must be uploaded again."""
    UPLOADED = "uploaded"
    """Its file's id is stored, and nothing is bought."""
    SENT = "sent"
    """The create has been sent or is about to be sent; its reply is unknown."""
    FOLLOWED = "followed"
    """The API's batch is known, and followed to its end."""
    READING = "reading"
    """The API's batch has ended; its result files are read."""
    DONE = "done"
    """None of its rows is in it any more."""


BUYING = frozenset({ShardPhase.SENT, ShardPhase.FOLLOWED, ShardPhase.READING})
"""Phases in which the API may have the shard's batch."""


PROGRESS = {
    "failed": 0,
    "cancelled": 1,
    "cancelling": 2,
    "expired": 3,
    "validating": 4,
    "in_progress": 5,
    "finalizing": 6,
    "completed": 7,
}
"""Of two batches of the same lines the further one is kept."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """Everything stored about a shard. Times are Unix seconds of the jobs' clock. (memory): may be lost."""

    phase: ShardPhase = ShardPhase.CUT
    tries: int = 1
    """Number of the file: each create has a file of its own, `askmill-BATCH-SHARD-TRY.jsonl`."""
    sha256: str | None = None
    """Of the file's content, also in the metadata of the API's batch."""
    lines: int = 0
    prompt_tokens: int = 0
    """Estimated, of all lines: what counts towards the API's limit of enqueued tokens."""
    worst_nano: int | None = None
    """What the lines may cost at most, in nano-dollars; None where a price is unknown."""
    file_id: str | None = None
    """The identity of the create: an API batch of this file is this shard's."""
    earlier_files: tuple[str, ...] = ()
    """Files of earlier creates without a reply. A batch of one of them is a duplicate."""
    discard_file: str | None = None
    """A file to delete before the next upload: a create that arrives later then has nothing to run."""
    sent_at: float | None = None
    batch_id: str | None = None
    """The API's batch."""
    status: str | None = None
    """Its last known status."""
    completed: int | None = None
    failed: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    followed_since: float | None = None
    expires_at: float | None = None
    """When it expires at the latest."""
    cancel_sent: bool = False
    cancelled_duplicates: tuple[str, ...] = ()
    unsettled_since: float | None = None
    """Since when an ended batch has shown fewer results than it counts (memory)."""
    missing_since: float | None = None
    """Since when the API has shown nothing of the followed batch (memory)."""
    failures: int = 0
    """Consecutive failed requests (memory)."""
    failing_since: float | None = None
    """When those failures began (memory)."""

    @property
    def files(self) -> frozenset[str]:
        """The input files of all its creates."""
        return frozenset({*self.earlier_files, *([self.file_id] if self.file_id else [])})

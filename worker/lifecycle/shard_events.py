"""What may be observed of a shard, and what may follow: events, actions and the decision for one of them."""

from dataclasses import dataclass, field
from enum import StrEnum

from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.batch_types import LineRefusal, ServerBatch
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import Event
from askmill.worker.lifecycle.shard_state import ShardState


@dataclass(frozen=True, slots=True)
class ShardEvent(Event):
    """Something observed of a shard."""


@dataclass(frozen=True, slots=True)
class ShardClaimed(ShardEvent):
    """The shard is claimed, new or from another worker; or a wait is over."""


@dataclass(frozen=True, slots=True)
class FileUploaded(ShardEvent):
    """The file is at the API. The other fields are of its content, as in `ShardState`."""

    file_id: str = ""
    sha256: str = ""
    lines: int = 0
    prompt_tokens: int = 0
    worst_nano: int | None = None


@dataclass(frozen=True, slots=True)
class NothingToSend(ShardEvent):
    """No row is left in the shard: the rows were refused, cancelled, or returned for the budget."""


@dataclass(frozen=True, slots=True)
class FileDeleted(ShardEvent):
    """The file of an earlier create is deleted, or the server cannot delete it."""


@dataclass(frozen=True, slots=True)
class BatchesListed(ShardEvent):
    """The API's batches that concern this shard.

    `own`: batches of its files or with its content. `unknown`: batches with the metadata of the same askmill
    batch that no stored shard has: Redis has lost their shards. `asked_at`: when the list was asked for.
    """

    own: tuple[ServerBatch, ...] = ()
    unknown: tuple[ServerBatch, ...] = ()
    asked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchSeen(ShardEvent):
    """The reply to a create, a read or a cancel of the shard's batch; None: the API does not have it."""

    batch: ServerBatch | None = None


@dataclass(frozen=True, slots=True)
class CreateSkipped(ShardEvent):
    """The create was delayed so long that it was not sent; its mark must be stored again first."""


@dataclass(frozen=True, slots=True)
class CreateRefused(ShardEvent):
    """The store refuses the create: the batch is stopped, or its budget has no room."""


@dataclass(frozen=True, slots=True)
class DuplicateCancelled(ShardEvent):
    """A duplicate batch is cancelled, or has ended."""


@dataclass(frozen=True, slots=True)
class RowsChanged(ShardEvent):
    """Rows have left the shard for an unknown batch that has bought them: its file has too many lines."""


@dataclass(frozen=True, slots=True)
class ResultsRead(ShardEvent):
    """Both result files are read to their end, and every row that they answer is stored.

    `lines`: lines that they have. `open_rows`: rows of the shard without a line.
    """

    lines: int = 0
    open_rows: int = 0


@dataclass(frozen=True, slots=True)
class ShardRequestFailed(ShardEvent):
    """The last request failed."""

    error: ApiError = field(default_factory=lambda: ApiError(status=None))
    request: RequestKind = RequestKind.READ


class Rest(StrEnum):
    """What becomes of the rows that are still in a shard at its end."""

    RETURN = "return"
    """They were never run: they go back to the queue, without an attempt."""
    MISSING = "missing"
    """They may have been run, and have no line: unknown, counted, asked again unless `--on-unknown stop`."""
    EXPIRED = "expired"
    """The batch expired before their turn: another attempt, which costs nothing."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ShardAction:
    """One thing to do; its outcome is the next event."""


@dataclass(frozen=True, slots=True)
class UploadFile(ShardAction):
    """Build the file from the rows and upload it."""


@dataclass(frozen=True, slots=True)
class DeleteFile(ShardAction):
    """Delete the file of a create that was given up."""

    file_id: str = ""


@dataclass(frozen=True, slots=True)
class ListBatches(ShardAction):
    """After a wait, list the API's batches."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CreateBatch(ShardAction):
    """Create the API's batch: the request that costs money. Phase SENT is stored first."""


@dataclass(frozen=True, slots=True)
class RetrieveBatch(ShardAction):
    """After a wait, read the API's batch by its id."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CancelBatch(ShardAction):
    """Cancel the shard's batch: the user cancels."""


@dataclass(frozen=True, slots=True)
class CancelDuplicate(ShardAction):
    """Cancel a duplicate of the shard's batch."""

    batch_id: str = ""


@dataclass(frozen=True, slots=True)
class AdoptUnknown(ShardAction):
    """Give unknown batches a shard with those of their rows that wait, or cancel them."""

    batches: tuple[ServerBatch, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadResults(ShardAction):
    """After a wait, read both result files and store what they answer."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WaitShard(ShardAction):
    """Wait; the next event is ShardClaimed."""

    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReleaseShard(ShardAction):
    """Release the shard; it is due again after a wait. `pause`: pause the batch first, for this reason."""

    wait_s: float = 0.0
    pause: str | None = None
    resume_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class EndShard(ShardAction):
    """Store an end for every row that is left, and end the shard.

    `refused`: lines that the validation named; their rows fail. `pause`: pause the batch for this reason.
    `hold_cuts`: no shard is cut until a running one has ended; `token_limit`: the limit that the API named.
    """

    rest: Rest
    refused: tuple[LineRefusal, ...] = ()
    pause: str | None = None
    hold_cuts: bool = False
    token_limit: int | None = None


@dataclass(frozen=True, slots=True)
class ShardDecision:
    """The new state and the action that follows."""

    state: ShardState
    action: ShardAction
    store: bool = False
    """`state` must be stored before the action."""
    unknown_create: bool = False
    """A create left no trace, and is repeated or given up."""
    duplicate: ServerBatch | None = None
    """A duplicate that the action cancels; counted once."""
    create_failed: bool = False
    """Counts towards pausing the batch."""
    throttled_s: float | None = None
    """Every worker starts nothing for so long: the API asked for it."""
    throttled_by: str = ""

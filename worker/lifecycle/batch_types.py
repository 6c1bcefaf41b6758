"""A job of the Batch API as a server shows it: the same for all servers. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.retry import Fault


class BatchStatus(StrEnum):
    """The statuses of a batch job (OpenAPI: Batch.status). Other words are kept as plain text."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED_BATCH = frozenset({"failed", "completed", "expired", "cancelled"})


class FailureKind(StrEnum):
    """Why a whole job failed."""

    TOKEN_LIMIT = "token_limit"  # noqa: S105 -- no secret
    """The limit of enqueued tokens: another job must end first. Nothing ran."""
    LINES = "lines"
    """Lines are named: these rows are refused, the others may go again. Nothing ran."""
    OTHER = "other"
    """Neither: the same for every job, until somebody changes something."""


@dataclass(frozen=True, slots=True)
class LineRefusal:
    """The refusal of one line. `line` counts from 1. `fault`: what the table of faults says of a create."""

    line: int
    error: ApiError
    fault: Fault


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """Why a whole job failed: its kind, the first error, the lines, and the token limit where it is named."""

    kind: FailureKind
    error: ApiError
    fault: Fault
    lines: tuple[LineRefusal, ...] = ()
    token_limit: int | None = None


@dataclass(frozen=True, slots=True)
class ServerBatch:
    """A batch job as the server last returned it. Times are Unix seconds; unknown numbers are None."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: float | None = None
    expires_at: float | None = None
    finished_at: float | None = None
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    failure: BatchFailure | None = None
    """Set for `failed` only."""

    @property
    def has_ended(self) -> bool:
        """Whether its files are final."""
        return self.status in ENDED_BATCH

    @property
    def files_missing(self) -> bool:
        """Whether the counts name lines whose file has no id yet, as seen shortly after `completed`."""
        return (bool(self.completed) and self.output_file_id is None) or (
            bool(self.failed) and self.error_file_id is None
        )

"""A batch as it is kept, and as OpenAI or Together shows it at a moment. Pure."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.batch_manners import BatchManners

ACTIVE = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
STATES = (
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)


@dataclass(slots=True)
class Progress:
    """How far a batch is. `read`: lines taken from its file · `held`: line number → its end, Unix seconds."""

    read: int = 0
    held: dict[str, float] = field(default_factory=dict)
    given_up: int = 0
    """Lines that were not carried out when time was over."""
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(slots=True)
class Batch:
    """`began`: status → when it began. `output_id` and `error_id` name the result files from the start."""

    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Json | None
    created_at: float
    expires_at: float
    output_id: str
    error_id: str
    result_files_s: float | None = None
    """Life of the result files, where it was asked for."""
    status: str = "validating"
    began: dict[str, float] = field(default_factory=dict)
    errors: list[Json] = field(default_factory=list)
    model: str | None = None
    total: int = 0
    enqueued_tokens: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def load(cls, row: Json) -> "Batch":
        return cls(**(row | {"progress": Progress(**row["progress"])}))

    def enter(self, status: str, now: float) -> None:
        """Go on to the next state."""
        self.status = status
        self.began[status] = now

    def ended_at(self) -> float | None:
        return None if self.status in ACTIVE else self.began[self.status]

    def files(self, now: float, manners: BatchManners) -> tuple[str | None, str | None]:
        """The ids of output and error file that are shown now."""
        late_until = self.began.get("completed", 0.0) + manners.null_output_s
        if self.status == "completed" and now < late_until:
            return None, None
        return self.output_file_id, self.error_file_id

    def to_api(self, now: float, manners: BatchManners) -> Json:
        """The object that the server shows."""
        return self._together(now, manners) if manners.style == "together" else self._openai(now, manners)

    def _openai(self, now: float, manners: BatchManners) -> Json:
        output, error = self.files(now, manners)
        done = self.progress
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": output,
            "error_file_id": error,
            "created_at": int(self.created_at),
            "expires_at": int(self.expires_at),
            **{f"{state}_at": int(self.began[state]) if state in self.began else None for state in STATES},
            "request_counts": {"total": self.total, "completed": done.completed, "failed": done.failed},
            "usage": {
                "input_tokens": done.input_tokens,
                "input_tokens_details": {"cached_tokens": done.cached_tokens},
                "output_tokens": done.output_tokens,
                "output_tokens_details": {"reasoning_tokens": done.reasoning_tokens},
                "total_tokens": done.input_tokens + done.output_tokens,
            },
            "metadata": self.metadata,
        }

    def _together(self, now: float, manners: BatchManners) -> Json:
        output, error = self.files(now, manners)
        done = self.progress
        ended = self.ended_at()
        return {
            "id": self.id,
            "user_id": "user-emulator",
            "input_file_id": self.input_file_id,
            "file_size_bytes": 0,
            "status": _TOGETHER_STATES.get(self.status, self.status.upper()),
            "job_deadline": _iso(self.expires_at),
            "created_at": _iso(self.created_at),
            "completed_at": None if ended is None else _iso(ended),
            "endpoint": self.endpoint,
            "progress": 100.0 * (done.completed + done.failed) / self.total if self.total else 0.0,
            "model_id": self.model,
            "output_file_id": output,
            "error_file_id": error,
            "error": self.errors[0]["message"] if self.errors else None,
        }


# Together has no `finalizing`, and spells with one l what is being cancelled.
_TOGETHER_STATES = {"finalizing": "IN_PROGRESS", "cancelling": "CANCELING"}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")

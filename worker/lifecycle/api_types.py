"""What a backend reports of runs: their states, answers and faults, the same for every API. Data only."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from askmill.jobs.model.models import Step, Usage


class RunStatus(StrEnum):
    """The nine statuses of a run (OpenAPI: RunObject.status). Others are kept as plain text."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    REQUIRES_ACTION = "requires_action"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"


ENDED = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})


ACTIVE = frozenset({"queued", "in_progress", "requires_action", "cancelling"})


LONGEST_LIFETIME_S = 86_400.0
"""Runs live ten minutes (Assistants); what claims to live longer than a day means something else."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model asks for; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a function gave back, as text for the model."""

    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run as last seen. `status` may be a word that RunStatus does not know.

    Times are Unix seconds by the API's clock, which may be wrong: only their differences mean anything to us.
    """

    id: str
    status: str
    error_code: str | None = None
    error_message: str | None = None
    incomplete_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
    poll_after_s: float | None = None
    """The server's hint `openai-poll-after-ms` of this very reply."""

    @property
    def lifetime_s(self) -> float | None:
        """How long the API lets it live; None where it does not say so, or says what cannot be meant."""
        if self.created_at is None or self.expires_at is None:
            return None
        lifetime_s = self.expires_at - self.created_at
        return lifetime_s if 0 < lifetime_s <= LONGEST_LIFETIME_S else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run wrote.

    `text` is all its messages in order, a blank line between, footnotes in place of annotations; empty with
    `messages` 0 when it wrote none.
    """

    text: str = ""
    messages: int = 0
    refusal: bool = False
    note: str | None = None
    """What the text is not: images only, unknown content parts."""
    citations: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    """Generated files: {"file_id", "name", "container_id"?}; fetched by the runner."""
    last_message_id: str | None = None
    steps: tuple[Step, ...] = ()
    run_id: str | None = None


class LookupKind(StrEnum):
    """What a look for a run whose create got no reply has shown."""

    RUN = "run"
    """The run is there."""
    ANSWER = "answer"
    """Its answer is there, but not its id (Responses): to be adopted."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class RunLookup:
    """The result of `find_run`. `surplus` are further runs of the same attempt, to be cancelled."""

    kind: LookupKind
    run: Run | None = None
    duplicates: tuple[Run, ...] = ()
    complete_list: bool = False
    """The API lists every run: one that is not found was not made (Assistants)."""


@dataclass
class ApiError(Exception):
    """A request that did not succeed, in plain words; carries no credentials.

    `status` None: no reply. `sent` False: the request certainly never left (refused connection, DNS), so a
    create may be repeated without looking.
    """

    status: int | None
    code: str | None = None
    type: str | None = None
    message: str = ""
    param: str | None = None
    retry_after_s: float | None = None
    """From Retry-After or the x-ratelimit-reset-* headers, whichever is told."""
    sent: bool = True

    def __str__(self) -> str:
        said = self.code or self.type or (f"http_{self.status}" if self.status else "no_reply")
        return f"{said}: {self.message}" if self.message else said

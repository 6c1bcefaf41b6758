"""What a backend returns: runs, answers, lookups and errors, the same for every API. Data only."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from askmill.jobs.model.models import Step, Usage


class RunStatus(StrEnum):
    """The nine statuses of a run (OpenAPI: RunObject.status). Other statuses are kept as plain text."""

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

TOO_LARGE = "reply_too_large"
"""Code of a reply past a bound (jobs/openai_client/reply_limits.py); the message names the bound."""
LONGEST_LIFETIME_S = 86_400.0
"""Runs live ten minutes (Assistants); a lifetime of more than a day is not believed."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function that the model asks for; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The result of a function, as text for the model."""

    call_id: str
    output: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run wrote.

    `text` has all its messages in order, separated by a blank line, with footnotes in place of annotations;
    it is empty, and `messages` is 0, when the run wrote none.
    """

    text: str = ""
    messages: int = 0
    refusal: bool = False
    note: str | None = None
    """What `text` leaves out: images, unknown content parts."""
    citations: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    """Generated files: {"file_id", "name", "container_id"?}; the worker downloads them."""
    last_message_id: str | None = None
    steps: tuple[Step, ...] = ()
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the API last returned it. `status` may be a word that RunStatus does not have.

    Times are Unix seconds by the API's clock, which may be wrong: only their differences are used.
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
    tier: str | None = None
    """The service tier that the reply names (`service_tier`), which the run is charged by."""
    message_with_calls: bool = False
    """The run has completed with a message beside its calls (Responses)."""
    cancel_refusal: str | None = None
    """In the reply to a cancel: how the server refused it."""
    poll_after_s: float | None = None
    """The server's hint `openai-poll-after-ms` in this reply, in seconds."""
    age_s: float | None = None
    """How long ago it was created, by the API's own clock: the `Date` of this reply."""

    answer: Answer | None = None
    """Its answer, where the reply to the create has it (chat completions)."""
    message: dict[str, Any] | None = None
    """Chat completions: the assistant's message, verbatim."""

    @property
    def lifetime_s(self) -> float | None:
        """How long the API lets the run live; None where it does not say, or says something implausible."""
        if self.created_at is None or self.expires_at is None:
            return None
        lifetime_s = self.expires_at - self.created_at
        return lifetime_s if 0 < lifetime_s <= LONGEST_LIFETIME_S else None


class LookupKind(StrEnum):
    """The result of a search for a run whose create got no reply."""

    RUN = "run"
    """The run exists."""
    ANSWER = "answer"
    """Its answer is on the thread, but its id is unknown (Responses): the answer is adopted."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class RunLookup:
    """The result of `find_run`. `duplicates` are further runs of the same attempt, to be cancelled."""

    kind: LookupKind
    run: Run | None = None
    duplicates: tuple[Run, ...] = ()
    complete_list: bool = False
    """The API lists every run: one that is not listed was not created (Assistants)."""


@dataclass
class ApiError(Exception):
    """A request that failed. The message carries no credentials.

    `status` None: no reply. `sent` False: the request certainly never left this machine (refused connection,
    DNS), so a create may be repeated without a search for its run.
    """

    status: int | None
    code: str | None = None
    type: str | None = None
    message: str = ""
    param: str | None = None
    retry_after_s: float | None = None
    """From Retry-After, the x-ratelimit-reset-* headers or the error's details."""
    sent: bool = True
    nested_codes: tuple[str, ...] = ()
    """Codes deeper in the error object."""
    page: bool = False
    """A page for people: a proxy or a firewall answered instead of the API."""
    request: str = ""
    """The request that failed, such as `POST /conversations`."""
    began: bool = False
    """Part of the answer had arrived (chat completions)."""
    partial: Answer | None = None
    """What was read of an answer before the request for another part of it failed."""

    def __str__(self) -> str:
        code = self.code or self.type or (f"http_{self.status}" if self.status else "no_reply")
        return f"{code}: {self.message}" if self.message else code

"""What askmill needs of an API, in the words thread, run and step; each backend says it in its own API's.

A backend makes one request per call and never retries. It raises only `ApiFault`; what follows from a fault
is decided in `worker.retry` and `worker.lifecycle`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from jobs.models import Api, Step, Usage
from jobs.profile import Profile, Resources


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


@dataclass(frozen=True, slots=True)
class Ask:
    """One attempt of one job: all a backend needs to make its thread and run."""

    batch: str
    row: int
    attempt: int
    question: str
    profile: Profile
    resources: Resources = field(default_factory=Resources)
    assistant_id: str | None = None
    """The stored assistant (Assistants API only)."""
    image: str | None = None
    """A URL, or a path that `resources.row_files` knows."""
    file: str | None = None
    max_completion_tokens: int | None = None
    """The limit of this attempt, raised ones included."""
    follow_up: bool = False
    """The thread already has messages: the question goes along with the run."""
    after: str | None = None
    """With `follow_up`: `Answer.last_message_id` of the turn before; what stands behind it is this turn's."""

    @property
    def metadata(self) -> dict[str, str]:
        """What names the run as ours (at most 16 pairs, 64 and 512 characters)."""
        own = {
            "askmill_batch": self.batch,
            "askmill_row": str(self.row),
            "askmill_attempt": str(self.attempt),
        }
        return {**self.profile.metadata, **own}


class FoundKind(StrEnum):
    """What a look for a run whose create got no reply has shown."""

    RUN = "run"
    """The run is there."""
    ANSWER = "answer"
    """Its answer is there, but not its id (Responses): to be adopted."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Found:
    """The result of `find_run`. `surplus` are further runs of the same attempt, to be cancelled."""

    kind: FoundKind
    run: Run | None = None
    surplus: tuple[Run, ...] = ()
    listed: bool = False
    """The API lists every run: one that is not found was not made (Assistants)."""


@dataclass
class ApiFault(Exception):
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


class Backend(Protocol):
    """An API that can answer one question: threads hold messages, runs answer them, steps tell how."""

    api: Api

    async def ready(self, profile: Profile, resources: Resources) -> str | None:
        """Make what every run of a profile needs (Assistants: the assistant, whose id it returns)."""
        ...

    async def make_store(self, files: tuple[str, ...], name: str) -> str:
        """Make a vector store of these files and wait until it is ready. Returns its id."""
        ...

    async def make_thread(self, ask: Ask) -> str:
        """Make the thread, with the question on it; costs nothing. Returns its id."""
        ...

    async def make_run(self, ask: Ask, thread_id: str) -> Run:
        """Make the run: this is what is paid for."""
        ...

    async def find_run(self, ask: Ask, thread_id: str, known: frozenset[str]) -> Found:
        """Look for the run of this attempt, whose create got no reply.

        `known`: runs of earlier attempts, and the last ones of earlier turns on this thread.
        """
        ...

    async def look(self, ask: Ask, thread_id: str, run_id: str) -> Run:
        """Read the run once."""
        ...

    async def cancel(self, thread_id: str, run_id: str) -> Run:
        """Ask the API to end the run; it may complete all the same."""
        ...

    async def submit(self, ask: Ask, thread_id: str, run_id: str, outputs: tuple[ToolOutput, ...]) -> Run:
        """Give the outputs of all calls at once. The run that goes on may have another id (Responses)."""
        ...

    async def find_submitted(self, ask: Ask, thread_id: str, run_id: str) -> Found:
        """After a `submit` without a reply: the run that goes on, or NOTHING when outputs did not arrive."""
        ...

    async def read(self, ask: Ask, thread_id: str, run_id: str | None) -> Answer:
        """All messages of the run and all its steps. `run_id` None: adopt what stands on the thread."""
        ...

    async def clear_turn(self, thread_id: str, after: str | None, opening: int = 0) -> None:
        """Delete the messages behind `after`, which a dead run's turn left on a shared thread.

        `after` None: the first turn's, behind the profile's `opening` messages.
        """
        ...

    async def fetch_file(self, file: dict[str, Any], limit_bytes: int | None = None) -> bytes:
        """The content of a file of `Answer.files`; ApiFault `too_large` past the limit, not reading on."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...

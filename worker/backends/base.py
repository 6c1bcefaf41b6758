"""The protocol that hides which API is used: threads hold messages, runs answer them.

Each call makes the requests it needs once and never retries. It raises only `ApiError`; what follows from an
error is decided in `worker.lifecycle`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile, Resources
from askmill.worker.lifecycle.api_types import Answer, Run, RunLookup, ToolOutput


class NotSent(Exception):
    """The last check before a create failed; nothing was sent."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One attempt of one row: everything that a backend needs to create its thread and run."""

    batch: str
    row: int
    attempt: int
    question: str
    profile: Profile
    resources: Resources = field(default_factory=Resources)
    assistant_id: str | None = None
    """The stored assistant (Assistants API only)."""
    image: str | None = None
    """A URL, or a path listed in `resources.row_files`."""
    file: str | None = None
    max_completion_tokens: int | None = None
    """The token limit of this attempt, which may be higher than the profile's."""
    follow_up: bool = False
    """The thread already has messages, so the question is sent with the run."""
    after_message_id: str | None = None
    """With `follow_up`: `Answer.last_message_id` of the previous turn. Later messages are this turn's."""

    messages: tuple[dict[str, Any], ...] = ()
    """Chat completions: what follows the question, verbatim: the model's calls, their outputs, a part of the
    answer."""
    earlier_messages: tuple[dict[str, Any], ...] = ()
    """Chat completions: the messages of the conversation's earlier turns, verbatim."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Chat completions: data URLs of the images that the messages name, by path."""
    deadline_s: float | None = None
    """Chat completions: how long the call may take."""

    may_send: Callable[[], bool] | None = None
    """Called once the create holds a connection's slot; where it returns False, `NotSent` is raised. A check
    before the wait for a slot would be old by the time of the write: the wait may take a minute."""
    on_first_chunk: Callable[[], Awaitable[None]] | None = None
    """Chat completions: awaited when the first chunk has come: the server has accepted the call."""

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata that identifies the run as ours.

        Source: OpenAPI `Metadata`: at most 16 pairs, keys of 64 and values of 512 characters.
        """
        identity = {
            "askmill_batch": self.batch,
            "askmill_row": str(self.row),
            "askmill_attempt": str(self.attempt),
        }
        return {**self.profile.metadata, **identity}


class Backend(Protocol):
    """An API that answers questions: threads hold messages, runs answer them, steps show what a run did."""

    api: Api

    async def ensure_assistant(self, profile: Profile, resources: Resources) -> str | None:
        """Create what all runs of a profile share. Returns the assistant's id (Assistants API only)."""
        ...

    async def create_vector_store(self, files: tuple[str, ...], name: str) -> str:
        """Create a vector store of these files and wait until it is indexed. Returns its id."""
        ...

    async def create_thread(self, request: RunRequest) -> str:
        """Create the thread. This costs nothing. Returns its id."""
        ...

    async def create_run(self, request: RunRequest, thread_id: str) -> Run:
        """Create the run. This is the request that costs money. Raises NotSent (`RunRequest.may_send`).

        On chat completions it returns an ended run, with its answer.
        """
        ...

    async def recover_run(
        self, request: RunRequest, thread_id: str, earlier_run_ids: frozenset[str]
    ) -> RunLookup:
        """Look up the run of this attempt after a create without a reply.

        Args:
            request: The attempt.
            thread_id: Its thread.
            earlier_run_ids: Runs of earlier attempts, and the last runs of earlier turns on the thread.
        """
        ...

    async def poll_run(self, request: RunRequest, thread_id: str, run_id: str) -> Run:
        """Read the run once."""
        ...

    async def cancel(self, thread_id: str, run_id: str) -> Run:
        """Cancel the run. It may complete nevertheless."""
        ...

    async def submit(
        self, request: RunRequest, thread_id: str, run_id: str, outputs: tuple[ToolOutput, ...]
    ) -> Run:
        """Send the outputs of all function calls. The returned run may have another id (Responses)."""
        ...

    async def recover_submit(self, request: RunRequest, thread_id: str, run_id: str) -> RunLookup:
        """Look up the continued run after a `submit` without a reply; NOTHING if no output arrived."""
        ...

    async def read_answer(self, request: RunRequest, thread_id: str, run_id: str | None) -> Answer:
        """Read the run's messages and steps. Without `run_id`, adopt what is on the thread."""
        ...

    async def delete_failed_turn(
        self, thread_id: str, after_message_id: str | None, opening: int = 0
    ) -> None:
        """Delete the messages that a failed turn left on a shared thread.

        Args:
            thread_id: The thread.
            after_message_id: The last message to keep; None deletes the first turn.
            opening: How many opening messages the profile puts before the first turn.
        """
        ...

    async def download_file(self, file: dict[str, Any], limit_bytes: int | None = None) -> bytes:
        """Download a file of `Answer.files`. Raises ApiError `too_large` past the limit."""
        ...

    async def what_is_offered(self) -> str:
        """A sentence on the APIs that the server offers in place of this one; empty where none is found."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...

"""What askmill needs of an API, in the words thread, run and step; each backend says it in its own API's.

A backend makes one request per call and never retries. It raises only `ApiFault`; what follows from a fault
is decided in `worker.lifecycle.retry` and `worker.lifecycle.transitions`.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile, Resources
from askmill.worker.lifecycle.api_types import Answer, Run, RunLookup, ToolOutput


@dataclass(frozen=True, slots=True)
class RunRequest:
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


class Backend(Protocol):
    """An API that can answer one question: threads hold messages, runs answer them, steps tell how."""

    api: Api

    async def ready(self, profile: Profile, resources: Resources) -> str | None:
        """Make what every run of a profile needs (Assistants: the assistant, whose id it returns)."""
        ...

    async def make_store(self, files: tuple[str, ...], name: str) -> str:
        """Make a vector store of these files and wait until it is ready. Returns its id."""
        ...

    async def make_thread(self, ask: RunRequest) -> str:
        """Make the thread, with the question on it; costs nothing. Returns its id."""
        ...

    async def make_run(self, ask: RunRequest, thread_id: str) -> Run:
        """Make the run: this is what is paid for."""
        ...

    async def find_run(self, ask: RunRequest, thread_id: str, known: frozenset[str]) -> RunLookup:
        """Look for the run of this attempt, whose create got no reply.

        `known`: runs of earlier attempts, and the last ones of earlier turns on this thread.
        """
        ...

    async def look(self, ask: RunRequest, thread_id: str, run_id: str) -> Run:
        """Read the run once."""
        ...

    async def cancel(self, thread_id: str, run_id: str) -> Run:
        """Ask the API to end the run; it may complete all the same."""
        ...

    async def submit(
        self, ask: RunRequest, thread_id: str, run_id: str, outputs: tuple[ToolOutput, ...]
    ) -> Run:
        """Give the outputs of all calls at once. The run that goes on may have another id (Responses)."""
        ...

    async def find_submitted(self, ask: RunRequest, thread_id: str, run_id: str) -> RunLookup:
        """After a `submit` without a reply: the run that goes on, or NOTHING when outputs did not arrive."""
        ...

    async def read(self, ask: RunRequest, thread_id: str, run_id: str | None) -> Answer:
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

"""`askmill chat`: a conversation with the profile's assistant in the terminal, streamed, on each API.

ids in DATA_DIR/chat.json ─▶ still at the API? ─┬ yes: the same assistant and thread
                                                └ no: create and store them
question ─▶ stream ─▶ text and tool calls as they come ─▶ function calls? ─▶ outputs ─▶ stream ─▶ …
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import orjson
from openai import AsyncOpenAI

from askmill.jobs.functions.invoke import CALL_TIMEOUT_S
from askmill.jobs.local import data_dir as folders
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.uploads import ObjectKind, object_exists

ROUNDS = 16
"""Highest number of rounds of function calls per question."""


@dataclass(frozen=True)
class SavedThread:
    """Ids at the API that are stored between starts."""

    assistant_id: str | None = None
    thread_id: str | None = None


@dataclass(frozen=True)
class ChatTarget:
    """The client, the profile and the ids of its files."""

    client: AsyncOpenAI
    api: Api
    profile: Profile
    resources: Resources
    folder: Path = Path()
    """Where threads of chat completions are kept: their servers keep none."""
    function_limit_s: float = CALL_TIMEOUT_S


class ChatBackend(Protocol):
    """A conversation at one API."""

    async def ensure(self, saved: SavedThread) -> SavedThread:
        """Create the assistant and thread that `saved` lacks."""
        ...

    async def ask(self, saved: SavedThread, question: str) -> None:
        """Send one question and show its answer as it arrives. Raises OpenAIError."""
        ...


class Memory:
    """DATA_DIR/chat.json: the last assistant and thread for each profile and address."""

    def __init__(self, data_dir: Path, address: str, target: ChatTarget) -> None:
        self._file = data_dir / "chat.json"
        key_parts = [target.profile.sha256(), target.api, address, target.resources.model_dump()]
        self._key = hashlib.sha256(orjson.dumps(key_parts)).hexdigest()

    def load(self) -> SavedThread:
        """Return the stored ids, empty if there are none or the file cannot be read."""
        return SavedThread(**self._all().get(self._key, {}))

    def store(self, saved: SavedThread) -> None:
        """Store the ids for the next start."""
        text = orjson.dumps({**self._all(), self._key: asdict(saved)}).decode()
        with folders.oserror_to_fault(self._file.parent):
            folders.ensure_private_dir(self._file.parent)
            folders.write_private(self._file, text)

    def _all(self) -> dict[str, dict[str, str]]:
        try:
            return dict(orjson.loads(self._file.read_bytes()))
        except (OSError, ValueError):
            return {}


def thread_file(target: ChatTarget, thread_id: str) -> Path:
    """The file with the messages of a thread of chat completions."""
    return target.folder / f"{thread_id}.json"


async def _has_thread(target: ChatTarget, thread_id: str) -> bool:
    """Whether the thread still exists: at the API, or here for chat completions."""
    if target.api == "chat":
        return thread_file(target, thread_id).is_file()
    kind: ObjectKind = "thread" if target.api == "assistants" else "conversation"
    return await object_exists(target.client, kind, thread_id)


async def start_or_resume(
    target: ChatTarget, backend: ChatBackend, memory: Memory, *, new: bool
) -> tuple[SavedThread, bool]:
    """Return the assistant and thread, and whether the thread is the stored one. Raises OpenAIError."""
    saved = memory.load()
    if saved.assistant_id and not await object_exists(target.client, "assistant", saved.assistant_id):
        saved = SavedThread()
    if saved.thread_id and (new or not await _has_thread(target, saved.thread_id)):
        saved = replace(saved, thread_id=None)
    again = saved.thread_id is not None
    saved = await backend.ensure(saved)
    memory.store(saved)
    return saved, again

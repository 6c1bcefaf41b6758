"""`askmill chat`: one person and the profile's assistant, answers streamed, on either API.

kept in DATA_DIR/chat.json ─▶ there still? ─┬ yes: the same assistant and thread
└ no: made, and kept
question ─▶ stream ─▶ text and tool calls as they come ─▶ function calls? ─▶ outputs ─▶ stream ─▶ …
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import orjson
from openai import AsyncOpenAI

from askmill.jobs.chat.render import Screen
from askmill.jobs.functions.invoke import CALL_TIMEOUT_S
from askmill.jobs.local import data_dir as folders
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.uploads import ObjectKind, object_exists

ROUNDS = 16
"""How often one question may lead to function calls."""


@dataclass(frozen=True)
class SavedThread:
    """What is kept between starts: ids at the API."""

    assistant_id: str | None = None
    thread_id: str | None = None


@dataclass(frozen=True)
class ChatTarget:
    """Who is talked to: a client, the frozen profile and its files' ids."""

    client: AsyncOpenAI
    api: Api
    profile: Profile
    resources: Resources
    function_limit_s: float = CALL_TIMEOUT_S


class ChatBackend(Protocol):
    """A conversation at one API."""

    async def make(self, kept: SavedThread) -> SavedThread:
        """Make what `kept` lacks."""
        ...

    async def ask(self, kept: SavedThread, question: str) -> None:
        """One question and its answer, shown as it comes. Raises OpenAIError."""
        ...


class Memory:
    """DATA_DIR/chat.json: by content of profile and address, the assistant and thread of last time."""

    def __init__(self, data_dir: Path, address: str, partner: ChatTarget) -> None:
        self._file = data_dir / "chat.json"
        named = [partner.profile.sha256(), partner.api, address, partner.resources.model_dump()]
        self._key = hashlib.sha256(orjson.dumps(named)).hexdigest()

    def recall(self) -> SavedThread:
        """Nothing, when there is nothing or it cannot be read."""
        return SavedThread(**self._all().get(self._key, {}))

    def keep(self, kept: SavedThread) -> None:
        """For the next start."""
        text = orjson.dumps({**self._all(), self._key: asdict(kept)}).decode()
        with folders.fit(self._file.parent):
            folders.private(self._file.parent)
            folders.write_private(self._file, text)

    def _all(self) -> dict[str, dict[str, str]]:
        try:
            return dict(orjson.loads(self._file.read_bytes()))
        except (OSError, ValueError):
            return {}


async def start_or_resume(
    partner: ChatTarget, talk: ChatBackend, memory: Memory, *, new: bool
) -> tuple[SavedThread, bool]:
    """The assistant and thread, and whether the thread is that of last time. Raises OpenAIError."""
    thread: ObjectKind = "thread" if partner.api == "assistants" else "conversation"
    kept = memory.recall()
    if kept.assistant_id and not await object_exists(partner.client, "assistant", kept.assistant_id):
        kept = SavedThread()
    if kept.thread_id and (new or not await object_exists(partner.client, thread, kept.thread_id)):
        kept = replace(kept, thread_id=None)
    again = kept.thread_id is not None
    kept = await talk.make(kept)
    memory.keep(kept)
    return kept, again


def chat_backend(partner: ChatTarget, screen: Screen) -> ChatBackend:
    """How one talks at the partner's API."""
    if partner.api == "assistants":
        from askmill.jobs.chat.assistants import AssistantsTalk  # noqa: PLC0415 -- one of the two

        return AssistantsTalk(partner, screen)
    from askmill.jobs.chat.responses import ResponsesTalk  # noqa: PLC0415

    return ResponsesTalk(partner, screen)

"""Chat over chat completions: the thread is a file in the data folder; each question sends it as a whole."""

import secrets
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ROUNDS, ChatTarget, SavedThread, thread_file
from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.local import data_dir as folders
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.file_rules import image_type
from askmill.jobs.openai_client.params import chat_options, limit_name, opening_messages

THREAD = "chat_"
"""Prefix of the id of a thread, which is also its file's name."""


class CompletionsChat:
    """A conversation. Each call carries the instructions, the opening messages and all earlier messages."""

    def __init__(self, target: ChatTarget, screen: Screen) -> None:
        self._target, self._screen = target, screen
        self._limit_field = limit_name(target.profile, str(target.client.base_url))

    async def ensure(self, saved: SavedThread) -> SavedThread:
        """As the Protocol."""
        if saved.thread_id is not None:
            return saved
        thread_id = f"{THREAD}{secrets.token_hex(8)}"
        self._store(thread_id, [])
        return replace(saved, thread_id=thread_id)

    async def ask(self, saved: SavedThread, question: str) -> None:
        """As the Protocol. Only a question that is answered becomes part of the thread."""
        self._screen.begin()
        thread_id = saved.thread_id or ""
        earlier = self._load(thread_id)
        messages = [*earlier, self._question(question, first=not earlier)]
        for _ in range(ROUNDS):
            message = await self._complete(messages)
            messages.append(message)
            calls = message.get("tool_calls") or []
            if not calls:
                break
            messages += await self._outputs(calls)
        self._store(thread_id, messages)

    def _question(self, text: str, *, first: bool) -> dict[str, Any]:
        """The question as a message; the first one carries the profile's images. Raises UsageError."""
        if not first or not self._target.profile.files:
            return {"role": "user", "content": text}
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
        for path in self._target.profile.files:
            try:
                content = Path(path).expanduser().read_bytes()
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror or error}.") from None
            url = f"data:{image_type(content)};base64,{b64encode(content).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        return {"role": "user", "content": parts}

    async def _complete(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Make one call, show its answer as it arrives, and return its message."""
        profile = self._target.profile
        options: Any = chat_options(profile, self._limit_field)
        options["messages"] = [*opening_messages(profile), *messages]
        stream: Any = await self._target.client.chat.completions.create(
            **options, stream=True, extra_body=profile.extra_body
        )
        text, calls, reason = "", dict[int, dict[str, Any]](), None
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices or ():
                    reason = choice.finish_reason or reason
                    if choice.delta.content:
                        text += choice.delta.content
                        self._screen.text(choice.delta.content)
                    for call in choice.delta.tool_calls or ():
                        _add_call(calls, call.model_dump(exclude_none=True))
        self._screen.end()
        if reason not in {"stop", "tool_calls", "function_call"}:
            self._screen.ended("answer", "incomplete", reason or "the server ended the stream early")
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        return {**message, "tool_calls": [calls[at] for at in sorted(calls)]} if calls else message

    async def _outputs(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        requested = [(call["function"]["name"], call["function"].get("arguments") or "{}") for call in calls]
        functions, limit_s = self._target.profile.functions, self._target.function_limit_s
        outputs = await call_functions(functions, requested, limit_s)
        for (name, arguments), output in zip(requested, outputs, strict=True):
            self._screen.tool(f"{name} {arguments}", f"→ {output}")
        return [
            {"role": "tool", "tool_call_id": call.get("id", ""), "content": output}
            for call, output in zip(calls, outputs, strict=True)
        ]

    def _load(self, thread_id: str) -> list[dict[str, Any]]:
        try:
            return list(orjson.loads(thread_file(self._target, thread_id).read_bytes()))
        except (OSError, ValueError):
            return []

    def _store(self, thread_id: str, messages: list[dict[str, Any]]) -> None:
        file = thread_file(self._target, thread_id)
        with folders.oserror_to_fault(file.parent):
            folders.ensure_private_dir(file.parent)
            folders.write_private(file, orjson.dumps(messages).decode())


def _add_call(calls: dict[int, dict[str, Any]], delta: dict[str, Any]) -> None:
    """Add a piece of a function call: the first one names it, the others continue its arguments."""
    at = delta.pop("index", 0)
    call = calls.setdefault(at, {"type": "function", **delta, "function": {}})
    function, piece = call["function"], delta.get("function") or {}
    function["name"] = function.get("name") or piece.get("name", "")
    function["arguments"] = function.get("arguments", "") + (piece.get("arguments") or "")

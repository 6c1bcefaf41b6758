"""Chat over the Responses API: the response's stream of events, shown as it happens."""

from dataclasses import replace
from typing import Any

from openai.types.responses import Response, ResponseFunctionToolCall, ResponseOutputItem

from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ROUNDS, ChatTarget, SavedThread
from askmill.jobs.chat.thread_lock import retry_until_unlocked
from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.openai_client.params import response_options


class ResponsesChat:
    """A conversation. There is no assistant: each response has the whole profile."""

    def __init__(self, target: ChatTarget, screen: Screen) -> None:
        self._target, self._screen = target, screen
        self._cited: list[str] = []
        self._generated: list[str] = []

    async def ensure(self, saved: SavedThread) -> SavedThread:
        """As the Protocol."""
        if saved.thread_id is not None:
            return saved
        messages = self._target.profile.messages
        opening: Any = [{"type": "message", **message.model_dump()} for message in messages]
        conversation = await self._target.client.conversations.create(items=opening)
        return replace(saved, thread_id=conversation.id)

    async def ask(self, saved: SavedThread, question: str) -> None:
        """As the Protocol."""
        self._screen.begin()
        self._cited, self._generated = [], []
        items: list[Any] = [{"type": "message", "role": "user", "content": question}]
        for _ in range(ROUNDS):
            calls = await self._respond(saved, items)
            if not calls:
                break
            items = await self._outputs(calls)
        self._screen.sources(self._cited)
        self._screen.generated(self._generated)

    async def _respond(self, saved: SavedThread, items: list[Any]) -> list[ResponseFunctionToolCall]:
        """Create one response, show it, and return the function calls in it."""
        settings: Any = response_options(self._target.profile, self._target.resources)
        responses = self._target.client.responses
        stream: Any = await retry_until_unlocked(
            lambda: responses.create(
                input=items, conversation=saved.thread_id, stream=True, store=True, **settings
            ),
            responses.cancel,
            self._screen.waiting,
        )
        calls: list[ResponseFunctionToolCall] = []
        async with stream:
            async for event in stream:
                if event.type in {"response.output_text.delta", "response.refusal.delta"}:
                    self._screen.text(event.delta)
                elif event.type == "response.output_item.done":
                    calls += self._item(event.item)
                elif event.type in {"response.failed", "response.incomplete"}:
                    self._ended(event.response)
        return calls

    def _item(self, item: ResponseOutputItem) -> list[ResponseFunctionToolCall]:
        """Show a finished item. Return it if it is a function call, which needs an output."""
        if item.type == "code_interpreter_call":
            logs = [output.logs for output in item.outputs or () if output.type == "logs"]
            self._screen.tool("code interpreter", item.code or "", *(f"→ {log}" for log in logs))
        elif item.type == "file_search_call":
            self._screen.tool("file search", *item.queries)
        elif item.type == "web_search_call":
            self._screen.tool("web search")
        elif item.type == "message":
            self._screen.end()
            self._cite(item)
        elif item.type == "function_call":
            return [item]
        return []

    def _cite(self, message: Any) -> None:
        for part in message.content:
            for annotation in getattr(part, "annotations", None) or ():
                name = getattr(annotation, "filename", None) or getattr(annotation, "url", None)
                names = self._generated if annotation.type == "container_file_citation" else self._cited
                if name and name not in names:
                    names.append(name)

    async def _outputs(self, calls: list[ResponseFunctionToolCall]) -> list[Any]:
        requested = [(call.name, call.arguments) for call in calls]
        functions, limit_s = self._target.profile.functions, self._target.function_limit_s
        outputs = await call_functions(functions, requested, limit_s)
        for (name, arguments), output in zip(requested, outputs, strict=True):
            self._screen.tool(f"{name} {arguments}", f"→ {output}")
        return [
            {"type": "function_call_output", "call_id": call.call_id, "output": output}
            for call, output in zip(calls, outputs, strict=True)
        ]

    def _ended(self, response: Response) -> None:
        error = f"{response.error.code}: {response.error.message}" if response.error else ""
        reason = response.incomplete_details.reason if response.incomplete_details else None
        self._screen.ended("response", str(response.status), error or reason or "")

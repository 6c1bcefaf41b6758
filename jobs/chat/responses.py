"""Chat over the Responses API: the response's stream of events, shown as it happens."""

from dataclasses import replace
from typing import Any

from openai.types.responses import Response, ResponseFunctionToolCall, ResponseOutputItem

from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ROUNDS, ChatTarget, SavedThread
from askmill.jobs.chat.thread_lock import once_free
from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.openai_client.params import response_options


class ResponsesTalk:
    """A conversation; there is no assistant, its definition goes along with each response."""

    def __init__(self, partner: ChatTarget, screen: Screen) -> None:
        self._partner, self._screen = partner, screen
        self._cited: list[str] = []
        self._made: list[str] = []

    async def make(self, kept: SavedThread) -> SavedThread:
        """As the Protocol."""
        if kept.thread_id is not None:
            return kept
        opening: Any = [{"type": "message", **said.model_dump()} for said in self._partner.profile.messages]
        made = await self._partner.client.conversations.create(items=opening)
        return replace(kept, thread_id=made.id)

    async def ask(self, kept: SavedThread, question: str) -> None:
        """As the Protocol."""
        self._screen.begin()
        self._cited, self._made = [], []
        given: list[Any] = [{"type": "message", "role": "user", "content": question}]
        for _ in range(ROUNDS):
            calls = await self._respond(kept, given)
            if not calls:
                break
            given = await self._outputs(calls)
        self._screen.sources(self._cited)
        self._screen.made(self._made)

    async def _respond(self, kept: SavedThread, given: list[Any]) -> list[ResponseFunctionToolCall]:
        """One response; the functions it calls."""
        settings: Any = response_options(self._partner.profile, self._partner.resources)
        responses = self._partner.client.responses
        stream: Any = await once_free(
            lambda: responses.create(
                input=given, conversation=kept.thread_id, stream=True, store=True, **settings
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
        """Shows an item that is done; itself, if somebody must answer it."""
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
                noted = self._made if annotation.type == "container_file_citation" else self._cited
                if name and name not in noted:
                    noted.append(name)

    async def _outputs(self, calls: list[ResponseFunctionToolCall]) -> list[Any]:
        asked = [(call.name, call.arguments) for call in calls]
        functions, limit_s = self._partner.profile.functions, self._partner.function_limit_s
        told = await call_functions(functions, asked, limit_s)
        for (name, arguments), output in zip(asked, told, strict=True):
            self._screen.tool(f"{name} {arguments}", f"→ {output}")
        return [
            {"type": "function_call_output", "call_id": call.call_id, "output": output}
            for call, output in zip(calls, told, strict=True)
        ]

    def _ended(self, response: Response) -> None:
        error = f"{response.error.code}: {response.error.message}" if response.error else ""
        reason = response.incomplete_details.reason if response.incomplete_details else None
        self._screen.ended("response", str(response.status), error or reason or "")

"""Chat over the Assistants API: the SDK's event handler shows a run's steps and text as they happen."""

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from openai import AsyncAssistantEventHandler
from openai.types.beta.threads import Run, Text, TextDelta
from openai.types.beta.threads.runs import ToolCall
from typing_extensions import override

from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ROUNDS, ChatTarget, SavedThread
from askmill.jobs.chat.thread_lock import once_free
from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.openai_client.params import assistant_params, run_options


class Handler(AsyncAssistantEventHandler):
    """Shows what happens; keeps the cited files for the end of the answer."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen
        self.cited: list[str] = []
        self.made: list[str] = []
        self._shown: set[str] = set()

    @override
    async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        self._screen.text(delta.value or "")

    @override
    async def on_text_done(self, text: Text) -> None:
        self._screen.end()
        for annotation in text.annotations:
            if annotation.type == "file_path":
                self.made.append(PurePosixPath(annotation.text).name)
            elif annotation.file_citation.file_id not in self.cited:
                self.cited.append(annotation.file_citation.file_id)

    @override
    async def on_tool_call_done(self, tool_call: ToolCall) -> None:
        # The SDK says it again when the step is done, and when the run is.
        if tool_call.id in self._shown:
            return
        self._shown.add(tool_call.id)
        if tool_call.type == "code_interpreter":
            told = tool_call.code_interpreter
            logs = [output.logs for output in told.outputs if output.type == "logs"]
            self._screen.tool("code interpreter", told.input, *(f"→ {log}" for log in logs))
        elif tool_call.type == "file_search":
            self._screen.tool("file search")


class AssistantsTalk:
    """A thread and its assistant."""

    def __init__(self, partner: ChatTarget, screen: Screen) -> None:
        self._partner, self._screen = partner, screen
        self._beta = partner.client.beta

    async def make(self, kept: SavedThread) -> SavedThread:
        """As the Protocol; a stored assistant is taken as it is."""
        profile = self._partner.profile
        assistant_id = profile.assistant_id or kept.assistant_id
        if assistant_id is None:
            params = assistant_params(profile, self._partner.resources)
            assistant_id = (await self._beta.assistants.create(**params)).id
        thread_id = kept.thread_id
        if thread_id is None:
            opening: Any = [message.model_dump() for message in profile.messages]
            thread_id = (await self._beta.threads.create(messages=opening)).id
        return replace(kept, assistant_id=assistant_id, thread_id=thread_id)

    async def ask(self, kept: SavedThread, question: str) -> None:
        """As the Protocol."""
        assert kept.thread_id
        assert kept.assistant_id
        self._screen.begin()
        runs, thread_id = self._beta.threads.runs, kept.thread_id
        await once_free(
            lambda: self._beta.threads.messages.create(thread_id, role="user", content=question),
            lambda run_id: runs.cancel(run_id, thread_id=thread_id),
            self._screen.waiting,
        )
        settings: Any = run_options(self._partner.profile)
        handler = Handler(self._screen)
        async with runs.stream(
            thread_id=thread_id, assistant_id=kept.assistant_id, event_handler=handler, **settings
        ) as stream:
            await stream.until_done()
        for _ in range(ROUNDS):
            run = handler.current_run
            if run is None or run.status != "requires_action":
                break
            before, handler = handler, Handler(self._screen)
            handler.cited, handler.made = before.cited, before.made
            outputs: Any = await self._outputs(run)
            async with runs.submit_tool_outputs_stream(
                run_id=run.id, thread_id=thread_id, tool_outputs=outputs, event_handler=handler
            ) as stream:
                await stream.until_done()
        await self._last_word(handler)

    async def _outputs(self, run: Run) -> list[dict[str, str]]:
        assert run.required_action is not None
        calls = run.required_action.submit_tool_outputs.tool_calls
        asked = [(call.function.name, call.function.arguments) for call in calls]
        functions, limit_s = self._partner.profile.functions, self._partner.function_limit_s
        told = await call_functions(functions, asked, limit_s)
        for (name, arguments), output in zip(asked, told, strict=True):
            self._screen.tool(f"{name} {arguments}", f"→ {output}")
        return [{"tool_call_id": call.id, "output": output} for call, output in zip(calls, told, strict=True)]

    async def _last_word(self, handler: Handler) -> None:
        files = self._partner.client.files
        self._screen.sources([(await files.retrieve(file_id)).filename for file_id in handler.cited])
        self._screen.made(handler.made)
        run = handler.current_run
        if run is not None and run.status != "completed":
            error = f"{run.last_error.code}: {run.last_error.message}" if run.last_error else ""
            self._screen.ended("run", run.status, error)

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
from askmill.jobs.chat.thread_lock import retry_until_unlocked
from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.openai_client.params import assistant_params, run_options


class Handler(AsyncAssistantEventHandler):
    """Shows text and tool calls as they arrive; collects the cited files for the end of the answer."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen
        self.cited: list[str] = []
        self.generated: list[str] = []
        self._shown: set[str] = set()

    @override
    async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        self._screen.text(delta.value or "")

    @override
    async def on_text_done(self, text: Text) -> None:
        self._screen.end()
        for annotation in text.annotations:
            if annotation.type == "file_path":
                self.generated.append(PurePosixPath(annotation.text).name)
            elif annotation.file_citation.file_id not in self.cited:
                self.cited.append(annotation.file_citation.file_id)

    @override
    async def on_tool_call_done(self, tool_call: ToolCall) -> None:
        # The SDK repeats the event when the step ends and when the run ends.
        if tool_call.id in self._shown:
            return
        self._shown.add(tool_call.id)
        if tool_call.type == "code_interpreter":
            code = tool_call.code_interpreter
            logs = [output.logs for output in code.outputs if output.type == "logs"]
            self._screen.tool("code interpreter", code.input, *(f"→ {log}" for log in logs))
        elif tool_call.type == "file_search":
            self._screen.tool("file search")


class AssistantsChat:
    """A thread and its assistant."""

    def __init__(self, target: ChatTarget, screen: Screen) -> None:
        self._target, self._screen = target, screen
        self._beta = target.client.beta

    async def ensure(self, saved: SavedThread) -> SavedThread:
        """As the Protocol; a stored assistant is used unchanged."""
        profile = self._target.profile
        assistant_id = profile.assistant_id or saved.assistant_id
        if assistant_id is None:
            params = assistant_params(profile, self._target.resources)
            assistant_id = (await self._beta.assistants.create(**params)).id
        thread_id = saved.thread_id
        if thread_id is None:
            opening: Any = [message.model_dump() for message in profile.messages]
            thread_id = (await self._beta.threads.create(messages=opening)).id
        return replace(saved, assistant_id=assistant_id, thread_id=thread_id)

    async def ask(self, saved: SavedThread, question: str) -> None:
        """As the Protocol."""
        assert saved.thread_id
        assert saved.assistant_id
        self._screen.begin()
        runs, thread_id = self._beta.threads.runs, saved.thread_id
        await retry_until_unlocked(
            lambda: self._beta.threads.messages.create(thread_id, role="user", content=question),
            lambda run_id: runs.cancel(run_id, thread_id=thread_id),
            self._screen.waiting,
        )
        settings: Any = run_options(self._target.profile)
        handler = Handler(self._screen)
        async with runs.stream(
            thread_id=thread_id, assistant_id=saved.assistant_id, event_handler=handler, **settings
        ) as stream:
            await stream.until_done()
        for _ in range(ROUNDS):
            run = handler.current_run
            if run is None or run.status != "requires_action":
                break
            before, handler = handler, Handler(self._screen)
            handler.cited, handler.generated = before.cited, before.generated
            outputs: Any = await self._outputs(run)
            async with runs.submit_tool_outputs_stream(
                run_id=run.id, thread_id=thread_id, tool_outputs=outputs, event_handler=handler
            ) as stream:
                await stream.until_done()
        await self._show_end(handler)

    async def _outputs(self, run: Run) -> list[dict[str, str]]:
        assert run.required_action is not None
        calls = run.required_action.submit_tool_outputs.tool_calls
        requested = [(call.function.name, call.function.arguments) for call in calls]
        functions, limit_s = self._target.profile.functions, self._target.function_limit_s
        outputs = await call_functions(functions, requested, limit_s)
        for (name, arguments), output in zip(requested, outputs, strict=True):
            self._screen.tool(f"{name} {arguments}", f"→ {output}")
        return [
            {"tool_call_id": call.id, "output": output} for call, output in zip(calls, outputs, strict=True)
        ]

    async def _show_end(self, handler: Handler) -> None:
        files = self._target.client.files
        self._screen.sources([(await files.retrieve(file_id)).filename for file_id in handler.cited])
        self._screen.generated(handler.generated)
        run = handler.current_run
        if run is not None and run.status != "completed":
            error = f"{run.last_error.code}: {run.last_error.message}" if run.last_error else ""
            self._screen.ended("run", run.status, error)

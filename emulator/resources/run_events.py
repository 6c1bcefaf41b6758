"""A run as server-sent events, in the order and under the names of the Assistants API.

thread.run.created · queued · in_progress ·
  per step     thread.run.step.created · in_progress · delta · completed
  per message  thread.message.created · in_progress · delta… · completed | incomplete
thread.run.completed | requires_action | … · done
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator

from askmill.emulator.protocol.routing import Json, json_bytes
from askmill.emulator.resources.run_object import Run
from askmill.emulator.resources.run_output import RunWriter
from askmill.emulator.simulation.engine import Engine
from askmill.emulator.simulation.plan import TERMINAL

POLL_S = 0.05
_PIECE = re.compile(r"\s*\S+\s*?")


class RunStream:
    """Follows one run for one client."""

    def __init__(self, run: Run, writer: RunWriter, engine: Engine) -> None:
        self._run = run
        self._writer = writer
        self._engine = engine
        self._sent = {step["id"] for step in writer.steps.children(run.id) if step["status"] != "in_progress"}

    async def events(
        self, refresh: Callable[[Run, float], str], *, created: bool
    ) -> AsyncGenerator[bytes, None]:
        """Yield events until the run ends or waits for outputs. `refresh` returns the status now."""
        run = self._run
        if created:
            yield _event("thread.run.created", run.to_api(run.state.plan.marks[0][0]))
        last_status = ""
        while last_status not in TERMINAL and last_status != "requires_action":
            now = self._engine.clock.now()
            status = refresh(run, now)
            if status != last_status:
                for event in self._new_events():
                    yield event
                yield _event(f"thread.run.{status}", run.to_api(now))
                last_status = status
            elif run.state.plan.over(now):
                await self._engine.wait_answer(run.id)
            else:
                await asyncio.sleep(min(POLL_S, (run.state.plan.next_change(now) or now + POLL_S) - now))
        yield b"event: done\ndata: [DONE]\n\n"

    def _new_events(self) -> Iterator[bytes]:
        """Steps, and their messages, that have not been sent."""
        for step in self._writer.steps.children(self._run.id):
            if step["id"] in self._sent:
                continue
            self._sent.add(step["id"])
            yield from self._step(step)

    def _step(self, step: Json) -> Iterator[bytes]:
        initial = step | {"status": "in_progress", "completed_at": None, "usage": None}
        if step["type"] == "tool_calls":
            initial |= {"step_details": {"type": "tool_calls", "tool_calls": []}}
        yield _event("thread.run.step.created", initial)
        yield _event("thread.run.step.in_progress", initial)
        if step["type"] == "tool_calls":
            calls = [call | {"index": i} for i, call in enumerate(step["step_details"]["tool_calls"])]
            details = {"type": "tool_calls", "tool_calls": calls}
            yield _event("thread.run.step.delta", _delta(step, {"step_details": details}))
        else:
            message = self._writer.threads.messages.get(
                step["step_details"]["message_creation"]["message_id"]
            )
            if message is not None:
                yield from _message(message)
        if step["status"] != "in_progress":
            yield _event(f"thread.run.step.{step['status']}", step)


def _message(message: Json) -> Iterator[bytes]:
    empty = message | {"status": "in_progress", "content": [], "completed_at": None, "incomplete_at": None}
    yield _event("thread.message.created", empty)
    yield _event("thread.message.in_progress", empty)
    for i, part in enumerate(message["content"]):
        for piece in _pieces(part):
            yield _event("thread.message.delta", _delta(message, {"content": [piece | {"index": i}]}))
    yield _event(f"thread.message.{message['status']}", message)


def _pieces(part: Json) -> Iterator[Json]:
    if part["type"] != "text":
        yield part
        return
    text = part["text"]
    for piece in split_text(text["value"]):
        yield {"type": "text", "text": {"value": piece}}
    if text["annotations"]:
        indexed = [annotation | {"index": i} for i, annotation in enumerate(text["annotations"])]
        yield {"type": "text", "text": {"value": "", "annotations": indexed}}


def split_text(text: str) -> list[str]:
    """Split the text into words; joined they are the text."""
    pieces = _PIECE.findall(text)
    rest = text[sum(map(len, pieces)) :]
    return [*pieces, rest] if rest else pieces


def _delta(row: Json, delta: Json) -> Json:
    return {"id": row["id"], "object": f"{row['object']}.delta", "delta": delta}


def _event(name: str, data: Json) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + json_bytes(data) + b"\n\n"

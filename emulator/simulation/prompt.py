"""From a thread's messages and a run's settings to what the run is asked.

A run that follows a cut answer with a request to go on (`continue`) is asked the earlier question again, and
goes on where the cut answer stopped, so that the pieces join to the whole.
"""

import re
from dataclasses import dataclass
from typing import Any

from askmill.emulator.protocol.routing import Json
from askmill.emulator.resources.threads import text_of
from askmill.emulator.simulation.answer import Ask
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import Engine, read_tokens

_GO_ON = re.compile(r"\b(continue|go on|carry on|keep going)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """One turn as both APIs have it. `cut`: an answer that a limit ended."""

    role: str
    text: str
    cut: bool = False


def current_question(turns: list[Said]) -> tuple[str, str]:
    """The question to answer and what has been said of its answer so far."""
    already: list[str] = []
    asked = [i for i, turn in enumerate(turns) if turn.role == "user"]
    if not asked:
        return "", ""
    at = asked[-1]
    while at > 0 and turns[at - 1].cut and _GO_ON.search(turns[at].text):
        at -= 1
        while at > 0 and turns[at].role != "user":
            already.insert(0, turns[at].text)
            at -= 1
    return turns[at].text, "".join(already)


def ask_of(
    engine: Engine, fields: Json, owners: tuple[Json, Json], messages: list[Json]
) -> tuple[Ask, tuple[Outcome, ...]]:
    """What a run on a thread is asked, and the outcomes directed. `owners` are its assistant and thread."""
    texts = [text_of(message) for message in messages]
    turns = [
        Said(message["role"], text, cut=message["role"] == "assistant" and message["status"] == "incomplete")
        for message, text in zip(messages, texts, strict=True)
    ]
    directed, already = current_question(turns)
    outcomes, question = engine.directions(directed)
    schema, as_object = wanted_format(fields["response_format"])
    ask = Ask(
        question=question,
        already=already,
        tools=tuple(tool["type"] for tool in fields["tools"]),
        vector_store_ids=tuple(store_id for owner in owners for store_id in _store_ids(owner)),
        file_ids=tuple(file_id for message in messages for file_id in _searchable(message)),
        max_tokens=fields["max_completion_tokens"],
        schema=schema,
        as_object=as_object,
        prompt_tokens=read_tokens([fields["instructions"], *texts]),
    )
    return ask, outcomes


def wanted_format(response_format: Any) -> tuple[Json | None, bool]:
    """(JSON schema or None, whether any JSON object will do) of a `response_format` or `text.format`."""
    if not isinstance(response_format, dict):
        return None, False
    if response_format.get("type") == "json_schema":
        return (response_format.get("json_schema") or response_format).get("schema") or {}, False
    return None, response_format.get("type") == "json_object"


def _store_ids(owner: Json) -> list[str]:
    ids: list[str] = ((owner.get("tool_resources") or {}).get("file_search") or {}).get(
        "vector_store_ids"
    ) or []
    return ids


def _searchable(message: Json) -> list[str]:
    return [
        attachment["file_id"]
        for attachment in message["attachments"] or []
        if any(tool.get("type") == "file_search" for tool in attachment.get("tools") or [])
    ]

"""What a run or response has to answer, read from its turns.

A run that follows a truncated answer with a request to go on (`continue`) answers the earlier question again
from where the truncated answer stopped, so that the pieces join to the whole answer.
"""

import re
from dataclasses import dataclass
from typing import Any

from askmill.emulator.protocol.errors import bad_directive, content_refused
from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.directives import DirectiveError, Outcome, parse_directives

_GO_ON = re.compile(r"\b(continue|go on|carry on|keep going)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one run answers; fixed at its creation, except for `outputs`.

    `answer_so_far`: text of an earlier, truncated answer to the same question. `outputs`: what the functions
    that it called returned. `max_tokens`: limit of completion tokens. `prompt_tokens`: size of its input.
    """

    question: str
    answer_so_far: str = ""
    tools: tuple[str, ...] = ()
    vector_store_ids: tuple[str, ...] = ()
    file_ids: tuple[str, ...] = ()
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    json_object: bool = False
    outputs: tuple[str, ...] = ()
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of either API. `truncated`: an answer that a limit ended."""

    role: str
    text: str
    truncated: bool = False


def current_question(turns: list[Turn]) -> tuple[str, str]:
    """Find the question to answer and the part of its answer that is already there."""
    answer_so_far: list[str] = []
    questions = [i for i, turn in enumerate(turns) if turn.role == "user"]
    if not questions:
        return "", ""
    at = questions[-1]
    while at > 0 and turns[at - 1].truncated and _GO_ON.search(turns[at].text):
        at -= 1
        while at > 0 and turns[at].role != "user":
            answer_so_far.insert(0, turns[at].text)
            at -= 1
    return turns[at].text, "".join(answer_so_far)


def split_directives(question: str) -> tuple[tuple[Outcome, ...], str]:
    """Split a question into its directed outcomes and the rest.

    Raises ApiError: 400 for a misspelt directive, and the reply of `refused(...)`.
    """
    try:
        outcomes, rest = parse_directives(question)
    except DirectiveError as error:
        raise bad_directive(str(error)) from None
    if outcomes and outcomes[0].name == "refused":
        raise content_refused(outcomes[0].arg)
    return outcomes, rest


def output_format(response_format: Any) -> tuple[Json | None, bool]:
    """(JSON schema or None, whether any JSON object will do) of a `response_format` or `text.format`."""
    if not isinstance(response_format, dict):
        return None, False
    if response_format.get("type") == "json_schema":
        return (response_format.get("json_schema") or response_format).get("schema") or {}, False
    return None, response_format.get("type") == "json_object"

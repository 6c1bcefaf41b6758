"""What a call generated, as a chat completion and as chunks of a stream. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.resources.chat_request import ChatRequest, signature_of
from askmill.emulator.resources.response_object import REASONING_TOKENS
from askmill.emulator.resources.run_events import split_text
from askmill.emulator.simulation.answer import Answer, count_tokens, truncate_text
from askmill.emulator.simulation.chat_manners import ChatManners
from askmill.emulator.simulation.directives import Outcome

REASONING = "Let me read the question again, work out each step, and check the result before I answer."
FINGERPRINT = "fp_emulator"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The reasoning before an answer. `text` is empty where the server does not show it."""

    text: str = ""
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """What the model wrote. `calls` are tool calls as the API shows them."""

    text: str | None
    refusal: str | None
    reasoning: Reasoning
    calls: tuple[Json, ...]
    finish_reason: str
    completion_tokens: int


def reason(outcome: Outcome, manners: ChatManners, limit: int | None) -> Reasoning:
    """The reasoning of a call; the output limit cuts it too."""
    if manners.reasoning == "none":
        tokens = REASONING_TOKENS if outcome.arg == "reasoning" else 0
        return Reasoning("", tokens if limit is None else min(tokens, limit))
    tokens = count_tokens(REASONING)
    if limit is None or tokens <= limit:
        return Reasoning(REASONING, tokens)
    return Reasoning(truncate_text(REASONING, limit), limit)


def generated(
    answer: Answer, outcome: Outcome, reasoning: Reasoning, limit: int | None, *, forced_tool: bool
) -> Generated:
    """What a call generated. `limit`: tokens left after the reasoning."""
    calls, call_tokens, calls_cut = _calls(outcome, limit)
    truncated = answer.truncated or calls_cut
    text: str | None = "\n\n".join(answer.messages)
    if not answer.messages and (calls or answer.refusal or truncated):
        text = None
    return Generated(
        text=text,
        refusal=answer.refusal or None,
        reasoning=reasoning,
        calls=calls,
        finish_reason=_finish_reason(outcome, bool(calls) and not forced_tool, truncated),
        completion_tokens=answer.completion_tokens + call_tokens + reasoning.tokens,
    )


def _finish_reason(outcome: Outcome, calls: bool, truncated: bool) -> str:
    match outcome.name:
        case "unknown":
            return outcome.arg
        case "cancelled":
            return "abort"
        case "incomplete" if outcome.arg == "content_filter":
            return "content_filter"
    if truncated:
        return "length"
    return "tool_calls" if calls else "stop"


def _calls(outcome: Outcome, limit: int | None) -> tuple[tuple[Json, ...], int, bool]:
    """The tool calls, their tokens, and whether the limit cut them, in the middle of their arguments."""
    calls: list[Json] = []
    tokens = 0
    for name, arguments in outcome.calls:
        wrote = count_tokens(arguments)
        cut = limit is not None and tokens + wrote > limit
        if cut:
            assert limit is not None
            arguments = truncate_text(arguments, limit - tokens)  # noqa: PLW2901
        tokens = limit if cut and limit is not None else tokens + wrote
        function = {"name": name, "arguments": arguments}
        calls.append({"id": new_id("call_"), "type": "function", "function": function})
        if cut:
            return tuple(calls), tokens, True
    return tuple(calls), tokens, False


def usage_of(request: ChatRequest, done: Generated, manners: ChatManners) -> Json:
    """Token counts of a call; three numbers without details where the server has none."""
    read, wrote = request.prompt.prompt_tokens, done.completion_tokens
    usage: Json = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    if manners.usage == "no_details":
        return usage
    written = {"accepted_prediction_tokens": 0, "audio_tokens": 0, "rejected_prediction_tokens": 0}
    return usage | {
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": request.cached_tokens},
        "completion_tokens_details": written | {"reasoning_tokens": done.reasoning.tokens},
    }


def envelope(call_id: str, created: int, request: ChatRequest, kind: str) -> Json:
    """The fields that a completion and its chunks share."""
    return {
        "id": call_id,
        "object": kind,
        "created": created,
        "model": request.model,
        "service_tier": request.service_tier,
        "system_fingerprint": FINGERPRINT,
    }


def message_of(done: Generated, manners: ChatManners) -> Json:
    """The assistant message of an unstreamed completion."""
    message: Json = {
        "role": "assistant",
        "content": done.text,
        "refusal": done.refusal,
        "annotations": [],
    }
    if done.calls:
        message["tool_calls"] = [_signed(call, i, manners) for i, call in enumerate(done.calls)]
    text = done.reasoning.text
    match manners.reasoning:
        case "reasoning" | "reasoning_content" as name:
            message[name] = text
        case "think":
            message["content"] = f"{_think(text)}{done.text or ''}"
        case "chunks":
            message["content"] = [_thinking(text), *([_text_chunk(done.text)] if done.text else [])]
    return message


def deltas_of(done: Generated, manners: ChatManners) -> Iterator[Json]:
    """The deltas of a streamed completion, the role first."""
    yield {"role": "assistant", "content": None if done.calls else "", "refusal": None}
    text = done.reasoning.text
    match manners.reasoning:
        case "reasoning" | "reasoning_content":
            name: str = manners.reasoning
            yield from ({name: piece} for piece in split_text(text))
        case "think":
            yield from ({"content": piece} for piece in split_text(_think(text)))
        case "chunks":
            yield from ({"content": [_thinking(piece)]} for piece in split_text(text))
    yield from ({"content": piece} for piece in split_text(done.text or ""))
    yield from ({"refusal": piece} for piece in split_text(done.refusal or ""))
    for i, call in enumerate(done.calls):
        function = call["function"]
        opened = {"index": i, **_signed(call, i, manners), "function": function | {"arguments": ""}}
        yield {"tool_calls": [opened]}
        for piece in split_text(function["arguments"]):
            yield {"tool_calls": [{"index": i, "function": {"arguments": piece}}]}


def _signed(call: Json, i: int, manners: ChatManners) -> Json:
    """The call, the first one with its signature where the server signs."""
    if manners.echo != "thought_signature" or i:
        return call
    return call | {"extra_content": {"google": {"thought_signature": signature_of(call)}}}


def _think(text: str) -> str:
    return f"<think>\n{text}\n</think>\n\n"


def _thinking(text: str) -> Json:
    return {"type": "thinking", "thinking": [_text_chunk(text)]}


def _text_chunk(text: str | None) -> dict[str, Any]:
    return {"type": "text", "text": text}

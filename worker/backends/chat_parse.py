"""Parsing of a chat completion: the call is a run that has ended, its message is the answer. Pure.

finish_reason                                     Run.status
any, with function calls in the message           requires_action
stop, tool_calls, …                               completed
length                                            incomplete: max_completion_tokens
content_filter                                    incomplete: content_filter
abort, error, insufficient_system_resource        failed: server_error (the server gave up; ask again)
any other word                                    incomplete, with that word

`reasoning`, `reasoning_content` and a leading `<think>…</think>` are steps, no part of the answer.
"""

import re
from dataclasses import replace
from typing import Any

import orjson

from askmill.jobs.model.models import Step, Usage
from askmill.worker.backends.answer_builder import bounded_calls, tool_call
from askmill.worker.backends.coerce import (
    Json,
    identifier,
    json_object,
    json_objects,
    optional_text,
    parse_tier,
    parse_token_count,
    plain_text,
    shallow,
)
from askmill.worker.backends.errors import bad_reply
from askmill.worker.lifecycle.api_types import Answer, Run, RunStatus, ToolCall

COMPLETED = frozenset({"stop", "tool_calls", "function_call", "eos", "stop_sequence", "end_turn"})
"""`eos`: Together; `stop_sequence`: TGI (reference: chat-and-batch.md, part A)."""
LENGTH = frozenset({"length", "max_tokens"})
GIVEN_UP = frozenset({"abort", "error", "insufficient_system_resource"})
"""vLLM and SGLang when they are stopped, OpenRouter and Mistral, DeepSeek."""
THINK = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)
REASONING_FIELDS = ("reasoning", "reasoning_content")


def parse_completion(data: Json, attempt: int, *, streamed: bool) -> Run:
    """Parse a completion as a run that has ended, with its answer and its message.

    Args:
        data: The completion; a streamed one has a `finish_reason`.
        attempt: Its attempt, for the steps.
        streamed: Without streaming, the reply is whole although some servers send `finish_reason: null`.

    Raises:
        ApiError: `bad_reply` for an object that is no completion.
    """
    choice = next(iter(json_objects(data.get("choices"))), None)
    if choice is None:
        raise bad_reply(200, f"no completion: its fields are {', '.join(sorted(data))[:2000]}")
    run_id, reason = identifier(data.get("id")) or "", optional_text(choice.get("finish_reason"))
    message = with_call_ids(_without_nulls(shallow(json_object(choice, "message"))))
    text, reasoning, refusal = read_message(message)
    calls = tool_calls(message)
    usage = parse_usage(json_object(data, "usage"))
    run = replace(
        _ended(reason, calls, streamed=streamed),
        id=run_id,
        model=optional_text(data.get("model")),
        usage=usage,
        tier=parse_tier(data),
        message=message,
    )
    waiting = run.status == RunStatus.REQUIRES_ACTION
    steps = _steps(run, attempt, text or refusal, reasoning)
    shown = refusal or text
    answer = Answer(
        text=shown,
        messages=1 if shown else 0,
        refusal=bool(refusal),
        steps=steps,
        run_id=run_id or None,
    )
    return replace(run, answer=answer, tool_calls=calls if waiting else ())


def _ended(reason: str | None, calls: tuple[ToolCall, ...], *, streamed: bool) -> Run:
    """How the call has ended. A limit may have cut the arguments of the last function call."""
    cut = reason in LENGTH and bool(calls) and not _is_json(calls[-1].arguments)
    if calls and not cut and reason not in {"content_filter", *GIVEN_UP}:
        return Run("", RunStatus.REQUIRES_ACTION)
    if reason in COMPLETED or (reason is None and not streamed):
        return Run("", RunStatus.COMPLETED)
    if reason in GIVEN_UP:
        words = f"the server gave the call up (finish_reason {reason})"
        return Run("", RunStatus.FAILED, error_code="server_error", error_message=words)
    word = "max_completion_tokens" if reason in LENGTH else reason
    return Run("", RunStatus.INCOMPLETE, incomplete_reason=word)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _without_nulls(message: Json) -> Json:
    """The message as it goes back to the server. DeepSeek refuses `reasoning_content: null`."""
    kept = {name: value for name, value in message.items() if value is not None or name == "content"}
    return {"role": "assistant", **kept}


def with_call_ids(message: Json) -> Json:
    """The message with an id for each function call: some servers send none, and outputs need it."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or all(identifier(call.get("id")) for call in json_objects(calls)):
        return message
    named = [
        {**call, "id": identifier(call.get("id")) or f"call_{number}"}
        for number, call in enumerate(json_objects(calls), 1)
    ]
    return {**message, "tool_calls": named}


def tool_calls(message: Json) -> tuple[ToolCall, ...]:
    """The function calls of a message that has ids for them."""
    return bounded_calls(
        tool_call(identifier(call.get("id")) or "", json_object(call, "function"))
        for call in json_objects(message.get("tool_calls"))
        if json_object(call, "function")
    )


def read_message(message: Json) -> tuple[str, str, str]:
    """The text of a message, its reasoning, and its refusal; each empty where there is none."""
    texts, thoughts = _read_content(message.get("content"))
    thoughts = [*(plain_text(message.get(name)) for name in REASONING_FIELDS), *thoughts]
    text = "".join(texts)
    if thought := THINK.match(text):
        text = text[thought.end() :]
        thoughts.append(thought[1].strip())
    reasoning = "\n".join(dict.fromkeys(thought for thought in thoughts if thought))
    return text, reasoning, plain_text(message.get("refusal"))


def _read_content(content: Any) -> tuple[list[str], list[str]]:
    """The texts and the thoughts of a message's content: a text, or a list of parts (Mistral)."""
    if isinstance(content, str):
        return [content], []
    texts, thoughts = [], []
    for part in json_objects(content):
        if part.get("type") == "thinking":
            inner, _ = _read_content(part.get("thinking"))
            thoughts.append("".join(inner))
        else:
            texts.append(plain_text(part.get("text")))
    return texts, ["".join(thoughts)]


def parse_usage(usage: Json) -> Usage:
    """The tokens of a call; None where the server does not say."""
    prompt, completion = (
        json_object(usage, "prompt_tokens_details"),
        json_object(usage, "completion_tokens_details"),
    )
    return Usage(
        parse_token_count(usage.get("prompt_tokens")),
        parse_token_count(usage.get("completion_tokens")),
        _first_count(
            prompt.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens")
        ),
        parse_token_count(prompt.get("cache_write_tokens")),
        _first_count(completion.get("reasoning_tokens"), usage.get("reasoning_tokens")),
    )


def _first_count(*values: Any) -> int | None:
    """The first that is a number of tokens. DeepSeek, Moonshot and SGLang have fields of their own."""
    return next((count for count in map(parse_token_count, values) if count is not None), None)


def _steps(run: Run, attempt: int, text: str, reasoning: str) -> tuple[Step, ...]:
    """The reasoning and the message of a call. Its functions become steps when they have been called."""
    steps = []
    if reasoning:
        steps.append(Step(run.id or None, attempt, "reasoning", "completed", details={"text": reasoning}))
    if text:
        status = "incomplete" if run.status == RunStatus.INCOMPLETE else "completed"
        steps.append(
            Step(run.id or None, attempt, "message", status, usage=run.usage, details={"text": text})
        )
    return tuple(steps)

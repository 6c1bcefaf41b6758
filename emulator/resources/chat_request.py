"""A request for a chat completion: checked as the server checks it, and what it asks."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from askmill.emulator.protocol.chat_errors import (
    bad_image,
    both_limits,
    context_exceeded,
    no_reasoning_echoed,
    no_signature_echoed,
    options_without_stream,
    orphan_result,
    unanswered_calls,
    unsupported,
)
from askmill.emulator.protocol.errors import no_model
from askmill.emulator.protocol.routing import Json
from askmill.emulator.protocol.validation import (
    ANY_OBJECT,
    EFFORT,
    FLAG,
    METADATA,
    TEMPERATURE,
    TEXT,
    TOP_P,
    Rule,
    Shape,
    check,
    each,
    object_of,
)
from askmill.emulator.simulation.answer import count_tokens
from askmill.emulator.simulation.chat_manners import ChatManners
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.prompt import (
    Prompt,
    Turn,
    current_question,
    output_format,
    split_directives,
)
from askmill.emulator.simulation.tiers import ASKED_TIERS, served_tier

MESSAGE: Shape = {
    "role": Rule(
        (str,),
        required=True,
        null=False,
        values=("system", "developer", "user", "assistant", "tool", "function"),
    ),
    "content": Rule((str, list)),
    "tool_calls": Rule((list,), low=1, inside=each(Rule((dict,), null=False))),
    "tool_call_id": TEXT,
}
TOOL_CALL: Shape = {
    "id": TEXT,
    "function": Rule((dict,), required=True, null=False, inside=object_of({"name": TEXT, "arguments": TEXT})),
    "extra_content": ANY_OBJECT,
}
PART: Shape = {
    "type": Rule((str,), required=True, null=False),
    "text": Rule((str,), null=False),
    "image_url": Rule((dict,), null=False),
}
CREATE_BODY: Shape = {
    "model": Rule((str,), required=True, null=False),
    "messages": Rule((list,), required=True, null=False, low=1, inside=each(Rule((dict,), null=False))),
    "frequency_penalty": Rule((float,), low=-2, high=2),
    "logit_bias": ANY_OBJECT,
    "logprobs": FLAG,
    "max_completion_tokens": Rule((int,), low=1),
    "max_tokens": Rule((int,), low=1),
    "metadata": METADATA,
    "modalities": Rule((list,)),
    "n": Rule((int,), low=1, high=1),
    "parallel_tool_calls": FLAG,
    "prediction": ANY_OBJECT,
    "presence_penalty": Rule((float,), low=-2, high=2),
    "prompt_cache_key": TEXT,
    "prompt_cache_options": ANY_OBJECT,
    "prompt_cache_retention": TEXT,
    "reasoning_effort": EFFORT,
    "response_format": Rule(
        (dict,),
        inside=object_of(
            {
                "type": Rule((str,), required=True, values=("text", "json_object", "json_schema")),
                "json_schema": ANY_OBJECT,
            }
        ),
    ),
    "safety_identifier": Rule((str,), high=64),
    "seed": Rule((int,)),
    "service_tier": Rule((str,), values=ASKED_TIERS),
    "stop": Rule((str, list)),
    "store": FLAG,
    "stream": FLAG,
    "stream_options": Rule((dict,), inside=object_of({"include_usage": FLAG, "include_obfuscation": FLAG})),
    "temperature": TEMPERATURE,
    "tool_choice": Rule((str, dict)),
    "tools": Rule((list,), high=128, inside=each(Rule((dict,), null=False))),
    "top_logprobs": Rule((int,), low=0, high=20),
    "top_p": TOP_P,
    "user": TEXT,
    "verbosity": Rule((str,), values=("low", "medium", "high")),
}
IMAGE_TOKENS = 85
# OpenAI caches prefixes of at least 1024 tokens, in steps of 128.
CACHED_LEAST, CACHED_STEP = 1024, 128
_IMAGE = re.compile(r"data:image/(?:png|jpeg|jpg|webp|gif);base64,(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What one call asks. `results`: tool results since the last user message."""

    model: str
    prompt: Prompt
    outcomes: tuple[Outcome, ...]
    results: int
    continues: bool
    """The last message is a tool result."""
    question_key: str
    """Identifies a question whose directive has several outcomes; empty for others."""
    stream: bool
    include_usage: bool
    service_tier: str
    forced_tool: bool
    cached_tokens: int


def read_chat_request(body: Json, manners: ChatManners) -> ChatRequest:
    """The request; ApiError for what this server refuses."""
    ignored = {*manners.ignores, *(("stream_options",) if "stream" in manners.ignores else ())}
    body = {name: value for name, value in body.items() if name not in ignored}
    for name in manners.refuses:
        if body.get(name) is not None and body[name] is not False:
            raise unsupported(name)
    _check_body(body, manners)
    messages: list[Json] = body["messages"]
    results = _check_tool_results(messages)
    _check_echo(messages, manners.echo)
    texts, prompt_tokens = _fitted(messages, manners)
    directed, answer_so_far = current_question(
        [Turn(m["role"], text, truncated=m["role"] == "assistant") for m, text in texts]
    )
    outcomes, question = split_directives(directed)
    schema, json_object = output_format(body.get("response_format"))
    prompt = Prompt(
        question=question,
        answer_so_far=answer_so_far,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        schema=schema,
        json_object=json_object,
        outputs=tuple(results),
        prompt_tokens=prompt_tokens,
    )
    return ChatRequest(
        model=body["model"],
        prompt=prompt,
        outcomes=outcomes,
        results=_count_results(messages),
        continues=messages[-1]["role"] == "tool",
        question_key=hashlib.sha256(directed.encode()).hexdigest()[:16] if len(outcomes) > 1 else "",
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        service_tier=served_tier(body.get("service_tier")),
        forced_tool=isinstance(body.get("tool_choice"), dict),
        cached_tokens=_cached_tokens(messages),
    )


def signature_of(call: Json) -> str:
    """The signature that a tool call is sent with and has to come back with."""
    function = call["function"]
    signed = f"{call.get('id')} {function.get('name')} {function.get('arguments')}"
    return base64.b64encode(hashlib.sha256(signed.encode()).digest()).decode()


def text_of(message: Json) -> str:
    """All text of a message; reasoning and images are none."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content if part["type"] == "text")
    return content or ""


def _check_body(body: Json, manners: ChatManners) -> None:
    checked = body if manners.error_shape == "openai" else {k: body[k] for k in body if k in CREATE_BODY}
    check(checked, CREATE_BODY)
    for i, message in enumerate(body["messages"]):
        _check_known(message, MESSAGE, f"messages[{i}].")
        for j, call in enumerate(message.get("tool_calls") or []):
            _check_known(call, TOOL_CALL, f"messages[{i}].tool_calls[{j}].")
        _check_parts(message.get("content"), f"messages[{i}].content")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise both_limits()
    if body.get("stream_options") is not None and not body.get("stream"):
        raise options_without_stream()
    check_served(body["model"], manners)


def check_served(model: str, manners: ChatManners) -> None:
    """Refuse a model that this server does not have."""
    there = model in manners.models if manners.models else not model.startswith("no-such")
    if not there:
        refusal = no_model(model)
        refusal.status = manners.no_model_status
        raise refusal


def _check_known(value: Json, shape: Shape, at: str) -> None:
    """Check the fields of the shape; others pass, because messages come back with what servers added."""
    check({name: one for name, one in value.items() if name in shape}, shape, at)


def _check_parts(content: Any, at: str) -> None:
    for i, part in enumerate(content if isinstance(content, list) else ()):
        check({f"{i}": part}, {f"{i}": Rule((dict,), null=False)}, f"{at}.")
        _check_known(part, PART, f"{at}[{i}].")
        if part["type"] == "image_url":
            url = (part.get("image_url") or {}).get("url")
            if not isinstance(url, str) or not _is_image(url):
                raise bad_image(f"{at}[{i}].image_url.url")


def _is_image(url: str) -> bool:
    if url.startswith(("http://", "https://")):
        return True
    data = _IMAGE.fullmatch(url)
    try:
        return data is not None and bool(base64.b64decode(data[1], validate=True))
    except binascii.Error:
        return False


def _check_tool_results(messages: list[Json]) -> list[str]:
    """Each call must be answered before any other message. Returns the results of the last round."""
    calls: dict[str, Json] = {}
    lines: dict[str, str] = {}
    for i, message in enumerate(messages):
        if message["role"] != "tool":
            if missing := [call_id for call_id in calls if call_id not in lines]:
                raise unanswered_calls(missing, i)
            calls = {str(call.get("id")): call for call in message.get("tool_calls") or []}
            lines = {}
        elif (call := calls.get(str(message.get("tool_call_id")))) is None:
            raise orphan_result(i)
        else:
            called = f"{call['function'].get('name')}({call['function'].get('arguments')})"
            lines[str(call.get("id"))] = f"{called} = {text_of(message)}"
    if missing := [call_id for call_id in calls if call_id not in lines]:
        raise unanswered_calls(missing, len(messages))
    return list(lines.values())


def _check_echo(messages: list[Json], echo: str) -> None:
    for i, message in enumerate(messages):
        calls = message.get("tool_calls") or []
        if not calls or message["role"] != "assistant":
            continue
        if echo == "reasoning_content" and not isinstance(message.get("reasoning_content"), str):
            raise no_reasoning_echoed(i)
        if echo == "thought_signature":
            google = (calls[0].get("extra_content") or {}).get("google")
            if google != {"thought_signature": signature_of(calls[0])}:
                raise no_signature_echoed(str(calls[0]["function"].get("name")), i)


def _fitted(messages: list[Json], manners: ChatManners) -> tuple[list[tuple[Json, str]], int]:
    """Messages with their texts, and their tokens; too long a prompt is refused, or cut without a word."""
    texts = [(message, text_of(message)) for message in messages]
    limit = manners.context_tokens
    tokens = sum(_tokens(message, text) for message, text in texts)
    if not limit or tokens <= limit:
        return texts, tokens
    if "context_tokens" not in manners.ignores:
        raise context_exceeded(limit, tokens)
    droppable = [one for one in texts[:-1] if one[0]["role"] not in {"system", "developer"}]
    while droppable and tokens > limit:
        oldest = droppable.pop(0)
        texts.remove(oldest)
        tokens -= _tokens(*oldest)
    if tokens > limit:
        message, text = texts[-1]
        room = max(0, limit - (tokens - count_tokens(text)))
        texts[-1] = (message, _last_words(text, room))
        tokens = limit
    return texts, tokens


def _last_words(text: str, tokens: int) -> str:
    keep = max(1, tokens * 3 // 4)
    return " ".join(text.split()[-keep:])


def _tokens(message: Json, text: str) -> int:
    calls = message.get("tool_calls") or []
    arguments = " ".join(str(call["function"].get("arguments")) for call in calls)
    content = message.get("content")
    images = sum(part["type"] == "image_url" for part in content) if isinstance(content, list) else 0
    return count_tokens(text) + count_tokens(arguments) + images * IMAGE_TOKENS


def _count_results(messages: list[Json]) -> int:
    """Count the tool results since the last user message."""
    roles = [message["role"] for message in messages]
    since = len(roles) - roles[::-1].index("user") if "user" in roles else 0
    return roles[since:].count("tool")


def _cached_tokens(messages: list[Json]) -> int:
    """Tokens of what an earlier call has sent: all before the last assistant message."""
    answered = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    sent = sum(_tokens(m, text_of(m)) for m in messages[: answered[-1]]) if answered else 0
    return sent // CACHED_STEP * CACHED_STEP if sent >= CACHED_LEAST else 0

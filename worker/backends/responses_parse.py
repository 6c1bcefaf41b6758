"""Parsing of the Responses API's JSON: a response is a run, its items are messages and steps.

response.status           Run.status
queued, in_progress       the same
completed                 completed, or requires_action while it has function calls
incomplete                incomplete; max_output_tokens is called max_completion_tokens
failed, cancelled         the same
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from askmill.jobs.model.models import Step, Usage
from askmill.worker.backends.answer_builder import (
    INPUT_ROLES,
    Draft,
    TextPart,
    api_text,
    bounded_calls,
    parse_annotations,
    part_kind,
    text_parts,
    tool_call,
)
from askmill.worker.backends.coerce import (
    Json,
    bounded,
    identifier,
    json_object,
    json_objects,
    optional_text,
    parse_tier,
    parse_timestamp,
    parse_token_count,
    plain_text,
)
from askmill.worker.backends.errors import bad_reply
from askmill.worker.backends.footnotes import without_markers
from askmill.worker.lifecycle.api_types import Run, RunStatus, ToolCall

PREVIOUS_KEY = "askmill_previous"
"""Metadata of a response that continues after function calls: the id of the response that called."""
SPENT_KEY = "askmill_spent"
"""Metadata of such a response: what the responses before it have used, as `SPENT_FIELDS` and the tier."""
SPENT_FIELDS = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "longest_prompt_tokens",
)
WRITES_FILE = re.compile(r"/mnt|open|save|write|dump|export|copy|zip|system|subprocess|\.to_|\.\w{1,8}[\"']")
"""In code: a path, a call that writes, or a name with an extension. Other code needs no list of files."""
STEP_TYPES = {
    "message": "message",
    "reasoning": "reasoning",
    "code_interpreter_call": "code_interpreter",
    "file_search_call": "file_search",
    "function_call": "function",
    "web_search_call": "web_search",
}


def parse_run(data: Json) -> Run:
    """Parse a response as a run. Raises ApiError `bad_reply` for an object that is not a response."""
    run_id, status = identifier(data.get("id")), plain_text(data.get("status"))
    if not run_id or not status:
        raise bad_reply(200, f"no response: its fields are {', '.join(sorted(data))[:2000]}")
    error = json_object(data, "error")
    reason, api_reason = _incomplete_reason(data)
    calls = tool_calls(response_items(data)) if status == "completed" else ()
    return Run(
        id=run_id,
        status=RunStatus.REQUIRES_ACTION if calls else status,
        error_code=optional_text(error.get("code")),
        error_message=api_text(error.get("message") or api_reason),
        incomplete_reason=reason,
        tool_calls=calls,
        message_with_calls=bool(calls) and any(_is_message(item) for item in response_items(data)),
        created_at=parse_timestamp(data.get("created_at")),
        finished_at=parse_timestamp(data.get("completed_at")),
        model=optional_text(data.get("model")),
        usage=_spent_before(data).plus_request(_own_usage(data)),
        tier=_join_tiers(_spent_parts(data)[-1], parse_tier(data)),
    )


def _incomplete_reason(data: Json) -> tuple[str | None, str | None]:
    """The reason by its Assistants name, and the API's own name where that differs."""
    reason = optional_text(json_object(data, "incomplete_details").get("reason"))
    if reason == "max_output_tokens":
        return "max_completion_tokens", reason
    return reason, None


def _own_usage(data: Json) -> Usage:
    usage = json_object(data, "usage")
    details = json_object(usage, "input_tokens_details")
    return Usage(
        parse_token_count(usage.get("input_tokens")),
        parse_token_count(usage.get("output_tokens")),
        parse_token_count(details.get("cached_tokens")),
        parse_token_count(details.get("cache_write_tokens")),
        parse_token_count(json_object(usage, "output_tokens_details").get("reasoning_tokens")),
    )


def _join_tiers(before: str, own: str | None) -> str | None:
    """The tiers of all responses of a run: `flex+default` where the second was served by another one."""
    tiers = [*before.split("+"), own or ""]
    return "+".join(dict.fromkeys(tier for tier in tiers if tier)) or None


def _spent_parts(data: Json) -> list[str]:
    """What the responses that this one continues have used: a text for each of `Usage`'s fields, the tier."""
    parts = str(json_object(data, "metadata").get(SPENT_KEY) or "").split(",")
    return [*parts, *[""] * len(SPENT_FIELDS)][: len(SPENT_FIELDS) + 1]


def _spent_before(data: Json) -> Usage:
    """Tokens of the responses that this one continues."""
    counts = map(parse_token_count, _spent_parts(data))
    return Usage(**dict(zip(SPENT_FIELDS, counts, strict=False)))


def previous_response_id(data: Json) -> str | None:
    """The id of the response that this one continues."""
    return identifier(json_object(data, "metadata").get(PREVIOUS_KEY))


def continuation_metadata(run: Run) -> dict[str, str]:
    """The metadata of a response that continues `run`, with its usage and tier up to there."""
    counts = [getattr(run.usage, name) for name in SPENT_FIELDS]
    spent = ["" if count is None else str(count) for count in counts]
    return {PREVIOUS_KEY: run.id, SPENT_KEY: ",".join([*spent, run.tier or ""])}


def response_items(data: Json) -> list[Json]:
    """The items that a response wrote."""
    return json_objects(data.get("output"))


def without_input(items: Iterable[Json]) -> list[Json]:
    """A conversation's items without those of its questions."""
    return [item for item in items if plain_text(item.get("role")) not in INPUT_ROLES]


def tool_calls(items: Iterable[Json]) -> tuple[ToolCall, ...]:
    """The function calls among the items that have no output yet."""
    items = list(items)
    outputs = function_outputs(items)
    return bounded_calls(
        tool_call(call_id, item)
        for item in items
        if item.get("type") == "function_call"
        and (call_id := identifier(item.get("call_id"))) is not None
        and call_id not in outputs
    )


def function_outputs(items: Iterable[Json]) -> dict[str, Any]:
    """The outputs of functions by call id."""
    return {
        str(identifier(item.get("call_id"))): item.get("output")
        for item in items
        if item.get("type") == "function_call_output"
    }


def items_after_question(items: list[Json], question: str) -> list[Json]:
    """The items after the last message with this question; none if the question is not there."""
    for index in range(len(items) - 1, -1, -1):
        if items[index].get("role") == "user" and question in _texts(items[index]):
            return items[index + 1 :]
    return []


def container_ids(items: Iterable[Json]) -> list[str]:
    """Containers where code may have written files, each once."""
    ids = (
        identifier(item.get("container_id"))
        for item in items
        if item.get("type") == "code_interpreter_call" and WRITES_FILE.search(str(item.get("code") or ""))
    )
    return list(dict.fromkeys(container_id for container_id in ids if container_id))


def draft_from_items(items: Iterable[Json]) -> Draft:
    """The content of the messages among the items, without commentary if there is a final answer."""
    messages = [item for item in without_input(items) if _is_message(item)]
    has_final = any(message.get("phase") == "final_answer" for message in messages)
    draft = Draft()
    for message in messages:
        if has_final and message.get("phase") == "commentary":
            continue
        draft.messages.append(text_parts(message.get("content"), draft, _text_part))
        draft.message_ids.append(str(identifier(message.get("id"))))
    return draft


def _is_message(item: Json) -> bool:
    """Whether the item is a message; one without a type is one if it has content."""
    kind = item.get("type")
    return kind == "message" or (not isinstance(kind, str) and bool(item.get("content")))


def _text_part(part: Json, draft: Draft) -> TextPart | None:
    kind = part_kind(part)
    if kind in {"output_text", "text"}:
        text = plain_text(part.get("text"))
        return TextPart(text, parse_annotations(part.get("annotations"), draft, text))
    if kind == "refusal":
        draft.refusal = True
        return TextPart(plain_text(part.get("refusal")))
    draft.unknown.append(kind)
    return None


def parse_step(
    item: Json, run_id: str | None, attempt: int, outputs: Mapping[str, Any], texts: Mapping[str, str]
) -> Step | None:
    """Parse an item as a step; None for an input. Items carry neither times nor tokens.

    Args:
        item: The item.
        run_id: Its response.
        attempt: The response's attempt.
        outputs: The outputs of functions by call id.
        texts: The answer's messages by id, with footnotes.
    """
    if item.get("type") == "function_call_output" or plain_text(item.get("role")) in INPUT_ROLES:
        return None
    kind = "message" if _is_message(item) else STEP_TYPES.get(str(item.get("type")), "other")
    details = (
        _message_details(item, texts) if kind == "message" else bounded(_step_details(kind, item, outputs))
    )
    return Step(
        run_id=run_id,
        attempt=attempt,
        type=kind,
        status=optional_text(item.get("status")) or "completed",
        details={name: value for name, value in details.items() if value is not None},
    )


def parse_steps(
    items: Iterable[tuple[Json, str | None]],
    attempt: int,
    outputs: Mapping[str, Any],
    texts: Mapping[str, str],
) -> tuple[Step, ...]:
    """The steps of items, each with the id of its response. Arguments as for `parse_step`."""
    steps = (parse_step(item, run_id, attempt, outputs, texts) for item, run_id in items)
    return tuple(step for step in steps if step is not None)


def _message_details(item: Json, texts: Mapping[str, str]) -> Json:
    message_id = identifier(item.get("id"))
    text = texts.get(str(message_id)) or without_markers("\n".join(_texts(item)))
    return {"message_id": message_id, "text": text, "phase": optional_text(item.get("phase"))}


def _step_details(kind: str, item: Json, outputs: Mapping[str, Any]) -> Json:
    if kind == "reasoning":
        parts = [*json_objects(item.get("summary")), *json_objects(item.get("content"))]
        return {"text": "\n".join(plain_text(part.get("text")) for part in parts)}
    if kind == "code_interpreter":
        return _code_details(item)
    if kind == "file_search":
        return {"queries": item.get("queries"), "results": item.get("results") or []}
    if kind == "function":
        output = outputs.get(str(identifier(item.get("call_id"))))
        return {"name": item.get("name"), "arguments": item.get("arguments"), "output": output}
    if kind == "web_search":
        return _web_details(json_object(item, "action"))
    # `result` is left out: an image is sent there as base64, far too large for a step.
    return {"kind": item.get("type"), **{name: item[name] for name in item if name not in {"type", "result"}}}


def _code_details(item: Json) -> Json:
    outputs = json_objects(item.get("outputs"))
    logs = [plain_text(output.get("logs")) for output in outputs if output.get("type") == "logs"]
    images = [output.get("url") for output in outputs if output.get("type") == "image"]
    return {"code": item.get("code"), "logs": "\n".join(logs), "images": images}


def _web_details(action: Json) -> Json:
    query = action.get("query")
    return {
        "action": action.get("type"),
        "queries": action.get("queries") or ([query] if query else []),
        "results": action.get("sources") or [],
        "url": action.get("url"),
    }


def _texts(item: Json) -> list[str]:
    """The texts of a message's parts, of whatever type: a question's are `input_text`."""

    def text_of(part: Json, _: Draft) -> TextPart:
        return TextPart(plain_text(part.get("text")) or plain_text(part.get("refusal")))

    return [part.text for part in text_parts(item.get("content"), Draft(), text_of)]

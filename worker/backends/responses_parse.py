"""The Responses API's JSON as ours: a response is a run, its items are messages and steps.

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
from askmill.jobs.openai_client.client import redact_api_text
from askmill.worker.backends.answer_builder import Draft, Passage, marks_of
from askmill.worker.backends.coerce import count_of, moment_of
from askmill.worker.backends.errors import bad_reply
from askmill.worker.lifecycle.api_types import Run, RunStatus, ToolCall

Json = dict[str, Any]
PREVIOUS = "askmill_previous"
"""Metadata of a response that goes on after function calls: the response that called."""
SPENT = "askmill_spent"
"""Metadata of such a response: tokens of those before it, `prompt,completion`."""
ASKED = frozenset({"user", "system", "developer"})
NAMES_FILE = re.compile(r"/mnt|open|save|write|dump|export|copy|zip|system|subprocess|\.to_|\.\w{1,8}[\"']")
"""In code: a path, a call that writes, or a name with an extension. Spares a request where there is none."""
STEP_TYPES = {
    "message": "message",
    "reasoning": "reasoning",
    "code_interpreter_call": "code_interpreter",
    "file_search_call": "file_search",
    "function_call": "function",
    "web_search_call": "web_search",
}


def run_of(data: Json, poll_after_s: float | None = None) -> Run:
    """The run that a response is. Raises ApiFault `bad_reply` for an object that is none."""
    run_id, status = data.get("id"), data.get("status")
    if not run_id or not status:
        raise bad_reply(200, f"no response: its fields are {', '.join(sorted(data))[:200]}")
    error = _object(data, "error")
    reason, original = _incomplete_reason(data)
    calls = tool_calls(output_of(data)) if status == "completed" else ()
    return Run(
        id=str(run_id),
        status=RunStatus.REQUIRES_ACTION if calls else str(status),
        error_code=_text(error.get("code")),
        error_message=redact_api_text(str(error.get("message") or original or "")) or None,
        incomplete_reason=reason,
        tool_calls=calls,
        created_at=moment_of(data.get("created_at")),
        finished_at=moment_of(data.get("completed_at")),
        model=_text(data.get("model")),
        usage=spent_before(data).plus(_own_usage(data)),
        poll_after_s=poll_after_s,
    )


def _incomplete_reason(data: Json) -> tuple[str | None, str | None]:
    """The reason in the words of both APIs, and the API's own where they differ."""
    reason = _text(_object(data, "incomplete_details").get("reason"))
    if reason == "max_output_tokens":
        return "max_completion_tokens", reason
    return reason, None


def _own_usage(data: Json) -> Usage:
    usage = _object(data, "usage")
    return Usage(count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens")))


def spent_before(data: Json) -> Usage:
    """Tokens of the responses that this one goes on from."""
    told = str(_object(data, "metadata").get(SPENT) or ",").split(",")
    return Usage(*(count_of(count) for count in [*told, "", ""][:2]))


def previous_of(data: Json) -> str | None:
    """The response that this one goes on from."""
    return _object(data, "metadata").get(PREVIOUS)


def going_on(run_id: str, spent: Usage) -> dict[str, str]:
    """The metadata of a response that goes on from `run_id`, until which `spent` was used."""
    counts = ("" if count is None else str(count) for count in (spent.prompt_tokens, spent.completion_tokens))
    return {PREVIOUS: run_id, SPENT: ",".join(counts)}


def output_of(data: Json) -> list[Json]:
    """The items that a response wrote."""
    return [item for item in data.get("output") or () if isinstance(item, dict)]


def written(items: Iterable[Json]) -> list[Json]:
    """Of a conversation's items, those that no question is made of."""
    return [item for item in items if item.get("role") not in ASKED]


def tool_calls(items: Iterable[Json]) -> tuple[ToolCall, ...]:
    """The function calls among the items whose output is not there."""
    found = list(items)
    answered = outputs_of(found)
    return tuple(
        ToolCall(str(item.get("call_id")), str(item.get("name")), item.get("arguments") or "{}")
        for item in found
        if item.get("type") == "function_call" and item.get("call_id") not in answered
    )


def outputs_of(items: Iterable[Json]) -> dict[str, Any]:
    """The outputs of functions, by call id."""
    return {str(item.get("call_id")): item.get("output") for item in items if _is_output(item)}


def behind_question(items: list[Json], question: str) -> list[Json]:
    """The items behind the last message that asks this question; none when it does not stand there."""
    for place in range(len(items) - 1, -1, -1):
        if items[place].get("role") == "user" and question in _texts(items[place]):
            return items[place + 1 :]
    return []


def containers_of(items: Iterable[Json]) -> list[str]:
    """Containers whose code may have left files there, each once: code that names no file has left none."""
    found = (
        item.get("container_id")
        for item in items
        if item.get("type") == "code_interpreter_call" and NAMES_FILE.search(str(item.get("code") or ""))
    )
    return list(dict.fromkeys(str(container_id) for container_id in found if container_id))


def draft_of(items: Iterable[Json]) -> Draft:
    """What the messages among the items hold; beside a final answer, commentary is left to the steps."""
    messages = [item for item in items if item.get("type") == "message" and item.get("role") not in ASKED]
    final = any(message.get("phase") == "final_answer" for message in messages)
    draft = Draft()
    for message in messages:
        if final and message.get("phase") == "commentary":
            continue
        passages = (_passage(part, draft) for part in message.get("content") or ())
        draft.messages.append([passage for passage in passages if passage is not None])
        draft.message_ids.append(str(message.get("id")))
    return draft


def _passage(part: Json, draft: Draft) -> Passage | None:
    kind = part.get("type")
    if kind in {"output_text", "text"}:
        text = str(part.get("text") or "")
        return Passage(text, marks_of(part.get("annotations"), draft, text))
    if kind == "refusal":
        draft.refusal = True
        return Passage(str(part.get("refusal") or ""))
    draft.unknown.append(str(kind))
    return None


def step_of(item: Json, run_id: str | None, attempt: int, outputs: Mapping[str, Any]) -> Step | None:
    """The step that an item is, without time and tokens, which items do not carry. None: an input of ours."""
    if _is_output(item) or item.get("role") in ASKED:
        return None
    kind = STEP_TYPES.get(str(item.get("type")), "other")
    return Step(
        run_id=run_id,
        attempt=attempt,
        type=kind,
        status=str(item.get("status") or "completed"),
        details={name: value for name, value in _details(kind, item, outputs).items() if value is not None},
    )


def _details(kind: str, item: Json, outputs: Mapping[str, Any]) -> Json:
    if kind == "message":
        text = "\n".join(_texts(item))
        return {"message_id": item.get("id"), "text": text, "phase": item.get("phase")}
    if kind == "reasoning":
        parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
        return {"text": "\n".join(str(part.get("text") or "") for part in parts)}
    if kind == "code_interpreter":
        return _code_details(item)
    if kind == "file_search":
        return {"queries": item.get("queries"), "results": item.get("results") or []}
    if kind == "function":
        output = outputs.get(str(item.get("call_id")))
        return {"name": item.get("name"), "arguments": item.get("arguments"), "output": output}
    if kind == "web_search":
        return _web_details(_object(item, "action"))
    # An image comes as base64 inside the item: far too much for a step.
    return {"kind": item.get("type"), **{name: item[name] for name in item if name not in {"type", "result"}}}


def _code_details(item: Json) -> Json:
    outputs = item.get("outputs") or ()
    logs = [str(output.get("logs") or "") for output in outputs if output.get("type") == "logs"]
    images = [output.get("url") for output in outputs if output.get("type") == "image"]
    return {"code": item.get("code"), "logs": "\n".join(logs), "images": images}


def _web_details(action: Json) -> Json:
    query = action.get("query")
    queries = action.get("queries") or ([query] if query else [])
    return {
        "action": action.get("type"),
        "queries": queries,
        "results": action.get("sources") or [],
        "url": action.get("url"),
    }


def _texts(item: Json) -> list[str]:
    content = item.get("content")
    if isinstance(content, str):
        return [content]
    return [str(part.get("text") or part.get("refusal") or "") for part in content or ()]


def _is_output(item: Json) -> bool:
    return item.get("type") == "function_call_output"


def _object(data: Any, name: str) -> Json:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

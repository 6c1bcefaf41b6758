"""Parsing of the Assistants API's JSON: runs, messages, steps. A missing or null field counts as unknown.

Compatible servers leave out `usage`, `expires_at` or `run_id`, use statuses and error codes of their own, and
send a message's content as plain text. Only a run's status is required.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from askmill.jobs.model.models import Step, Usage
from askmill.jobs.openai_client.client import redact_api_text
from askmill.worker.backends.answer_builder import Draft, TextPart, parse_annotations
from askmill.worker.backends.coerce import (
    Json,
    json_object,
    optional_text,
    parse_tier,
    parse_timestamp,
    parse_token_count,
)
from askmill.worker.backends.errors import bad_reply
from askmill.worker.backends.http import Reply
from askmill.worker.lifecycle.api_types import ENDED, Run, ToolCall

IDENTITY_KEYS = ("askmill_batch", "askmill_row", "askmill_attempt")
END_TIMES = ("completed_at", "failed_at", "cancelled_at", "expired_at")


def parse_run(reply: Reply, run_id: str | None = None) -> Run:
    """Parse a reply that is a run; `run_id` is used where the server sends no id.

    Raises:
        ApiError: `bad_reply` for an object that is not a run.
    """
    data = reply.data
    id_, status = data.get("id") or run_id, data.get("status")
    if not id_ or not status:
        raise bad_reply(200, f"no run: {orjson.dumps(data)[:200].decode('utf-8', 'replace')}")
    return _run(data, str(id_), str(status), reply.poll_after_s)


def parse_listed_run(data: Json) -> Run:
    """Parse a run of a list."""
    return _run(data, str(data.get("id")), str(data.get("status")), None)


def _run(data: Json, run_id: str, status: str, poll_after_s: float | None) -> Run:
    error, incomplete = json_object(data, "last_error"), json_object(data, "incomplete_details")
    return Run(
        id=run_id,
        status=status,
        error_code=optional_text(error.get("code")),
        error_message=redact_api_text(str(error.get("message") or "")) or None,
        incomplete_reason=optional_text(incomplete.get("reason")),
        tool_calls=_tool_calls(data),
        created_at=parse_timestamp(data.get("created_at")),
        started_at=parse_timestamp(data.get("started_at")),
        finished_at=_finished_at(data),
        expires_at=parse_timestamp(data.get("expires_at")),
        model=optional_text(data.get("model")),
        usage=_usage(data),
        tier=parse_tier(data),
        poll_after_s=poll_after_s,
    )


def _finished_at(data: Json) -> float | None:
    timestamps = (parse_timestamp(data.get(name)) for name in END_TIMES)
    return next((timestamp for timestamp in timestamps if timestamp), None)


def _tool_calls(data: Json) -> tuple[ToolCall, ...]:
    calls = json_object(json_object(data, "required_action"), "submit_tool_outputs").get("tool_calls") or ()
    return tuple(
        ToolCall(
            str(call.get("id")),
            str(json_object(call, "function").get("name")),
            _arguments(json_object(call, "function")),
        )
        for call in calls
    )


def _arguments(function: Json) -> str:
    """A function's arguments as JSON text. Some servers send them parsed."""
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        return arguments or "{}"
    return orjson.dumps(arguments or {}).decode()


def _usage(data: Json) -> Usage:
    """Tokens of a run or a step: null while it runs, and always null on some servers.

    OpenAI's description has no details; Azure sends `prompt_token_details`, others the names of the chat API.
    """
    usage = json_object(data, "usage")
    prompt = json_object(usage, "prompt_tokens_details") or json_object(usage, "prompt_token_details")
    completion = json_object(usage, "completion_tokens_details")
    return Usage(
        parse_token_count(usage.get("prompt_tokens")),
        parse_token_count(usage.get("completion_tokens")),
        parse_token_count(prompt.get("cached_tokens")),
        parse_token_count(prompt.get("cache_write_tokens")),
        parse_token_count(completion.get("reasoning_tokens")),
    )


def matches_metadata(data: Json, metadata: Mapping[str, str]) -> bool | None:
    """Whether a run has the metadata of our attempt; None if it has no askmill metadata at all."""
    run_metadata = json_object(data, "metadata")
    if not any(key in run_metadata for key in IDENTITY_KEYS):
        return None
    return all(str(run_metadata.get(key)) == metadata[key] for key in IDENTITY_KEYS)


def created_at(data: Json) -> float:
    """Sort key of a list, oldest first: some servers ignore the order."""
    return parse_timestamp(data.get("created_at")) or 0.0


def possible_new_runs(runs: list[Json], earlier_run_ids: frozenset[str]) -> list[Json]:
    """The runs that may be a new attempt's: not in `earlier_run_ids`, and not older than all of those."""
    first = next((index for index, run in enumerate(runs) if run.get("id") in earlier_run_ids), 0)
    return [run for run in runs[first:] if run.get("id") not in earlier_run_ids]


def run_preference(run: Run) -> int:
    """Sort key of the runs of one attempt: completed before running before failed."""
    return 0 if run.status == "completed" else 1 if run.status not in ENDED else 2


def messages_of_run(messages: list[Json], run_id: str) -> list[Json]:
    """The messages that the run wrote, oldest first.

    Some servers ignore the `run_id` filter, some ignore the order. If no message has a run id, the messages
    after the last question count as the run's.
    """
    times = [created_at(message) for message in messages]
    if times and times[0] > times[-1]:
        messages = sorted(messages, key=created_at)
    written = [message for message in messages if message.get("role") == "assistant"]
    if any(message.get("run_id") for message in written):
        return [message for message in written if message.get("run_id") == run_id]
    questions = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    later = messages[questions[-1] + 1 :] if questions else messages
    return [message for message in later if message.get("role") == "assistant"]


def draft_from_messages(messages: list[Json]) -> Draft:
    """The content of the messages of one run."""
    draft = Draft()
    for message in messages:
        draft.messages.append(_text_parts(message.get("content"), draft))
        for attachment in message.get("attachments") or ():
            draft.add_file(attachment.get("file_id"))
        draft.message_ids.append(str(message.get("id")))
    return draft


def _text_parts(content: Any, draft: Draft) -> list[TextPart]:
    if isinstance(content, str):
        return [TextPart(content)]
    parts = (_text_part(part, draft) for part in content or ())
    return [part for part in parts if part is not None]


def _text_part(part: Any, draft: Draft) -> TextPart | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        text = part.get("text")
        value = str(text.get("value") or "") if isinstance(text, dict) else str(text or "")
        annotations = text.get("annotations") if isinstance(text, dict) else None
        return TextPart(value, parse_annotations(annotations, draft, value))
    if kind == "refusal":
        draft.refusal = True
        return TextPart(str(part.get("refusal") or ""))
    if kind == "image_file":
        draft.add_file(json_object(part, "image_file").get("file_id"))
    elif kind == "image_url":
        return TextPart(str(json_object(part, "image_url").get("url") or ""))
    else:
        draft.unknown.append(str(kind))
    return None


def parse_steps(data: Json, run_id: str, attempt: int, texts: Mapping[str, str]) -> list[Step]:
    """Parse one run step into one step per tool call.

    Args:
        data: The run step.
        run_id: Its run.
        attempt: The run's attempt.
        texts: The answer's messages by id, for the steps that wrote them.

    Returns:
        The steps. The first has the tokens, which the API counts for all calls together.
    """
    step_details = json_object(data, "step_details")
    if data.get("type") == "message_creation" or "message_creation" in step_details:
        message_id = json_object(step_details, "message_creation").get("message_id")
        parts = [("message", {"message_id": message_id, "text": texts.get(str(message_id), "")})]
    elif step_details.get("tool_calls"):
        parts = [_tool_call_details(call) for call in step_details["tool_calls"]]
    else:
        parts = [("other", {"kind": str(data.get("type"))})]
    error = json_object(data, "last_error")
    failure = {"error": f"{error.get('code')}: {error.get('message')}"} if error else {}
    return [
        Step(
            run_id=run_id,
            attempt=attempt,
            type=kind,
            status=str(data.get("status")),
            started_at=parse_timestamp(data.get("created_at")),
            finished_at=_finished_at(data),
            usage=_usage(data) if index == 0 else Usage(),
            details={**details, **failure},
        )
        for index, (kind, details) in enumerate(parts)
    ]


def _tool_call_details(call: Json) -> tuple[str, Json]:
    kind = str(call.get("type"))
    data = json_object(call, kind)
    if kind == "code_interpreter":
        outputs = data.get("outputs") or ()
        logs = [output.get("logs") or "" for output in outputs if output.get("type") == "logs"]
        images = [
            json_object(output, "image").get("file_id") for output in outputs if output.get("type") == "image"
        ]
        return kind, {"code": data.get("input"), "logs": "\n".join(logs), "images": images}
    if kind == "file_search":
        return kind, {"results": [_search_result(result) for result in data.get("results") or ()]}
    if kind == "function":
        return kind, {
            "name": data.get("name"),
            "arguments": _arguments(data),
            "output": data.get("output"),
        }
    return "other", {"kind": kind, **data}


def _search_result(data: Json) -> Json:
    texts = [part.get("text") or "" for part in data.get("content") or ()]
    result = {"file_id": data.get("file_id"), "filename": data.get("file_name"), "score": data.get("score")}
    return {**result, "text": "\n".join(texts)} if texts else result

"""The Assistants API's JSON as ours: runs, messages, steps. Missing or null is unknown, never an error.

Compatible servers leave out `usage`, `expires_at`, `run_id`, answer statuses and error codes of their own,
and write a message's content as plain text. The one thing a run cannot lack is its status.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from askmill.jobs.model.models import Step, Usage
from askmill.jobs.openai_client.client import redact_api_text
from askmill.worker.backends.answer_builder import Draft, Passage, marks_of
from askmill.worker.backends.coerce import count_of, moment_of
from askmill.worker.backends.errors import bad_reply
from askmill.worker.backends.http import Reply
from askmill.worker.lifecycle.api_types import ENDED, Run, ToolCall

Json = dict[str, Any]


def run_of(reply: Reply, run_id: str | None = None) -> Run:
    """The run of a reply. Raises ApiFault `bad_reply` for an object that is no run."""
    data = reply.data
    found, status = data.get("id") or run_id, data.get("status")
    if not found or not status:
        raise bad_reply(200, f"no run: {orjson.dumps(data)[:200].decode('utf-8', 'replace')}")
    return _run(data, str(found), str(status), reply.poll_after_s)


def listed_run(data: Json) -> Run:
    """A run of a list."""
    return _run(data, str(data.get("id")), str(data.get("status")), None)


def _run(data: Json, run_id: str, status: str, poll_after_s: float | None) -> Run:
    error, incomplete = _object(data, "last_error"), _object(data, "incomplete_details")
    ended = (moment_of(data.get(name)) for name in ("completed_at", "failed_at", "cancelled_at"))
    return Run(
        id=run_id,
        status=status,
        error_code=_text(error.get("code")),
        error_message=redact_api_text(str(error.get("message") or "")) or None,
        incomplete_reason=_text(incomplete.get("reason")),
        tool_calls=_tool_calls(data),
        created_at=moment_of(data.get("created_at")),
        started_at=moment_of(data.get("started_at")),
        finished_at=next((moment for moment in ended if moment), None),
        expires_at=moment_of(data.get("expires_at")),
        model=_text(data.get("model")),
        usage=usage_of(data),
        poll_after_s=poll_after_s,
    )


def _tool_calls(data: Json) -> tuple[ToolCall, ...]:
    asked = _object(_object(data, "required_action"), "submit_tool_outputs").get("tool_calls") or ()
    return tuple(
        ToolCall(
            str(call.get("id")),
            str(_object(call, "function").get("name")),
            arguments_of(_object(call, "function")),
        )
        for call in asked
    )


def arguments_of(function: Json) -> str:
    """The arguments as JSON text; some servers send them parsed."""
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        return arguments or "{}"
    return orjson.dumps(arguments or {}).decode()


def usage_of(data: Json) -> Usage:
    """Tokens of a run or a step; null while it runs, and always on some servers."""
    usage = _object(data, "usage")
    return Usage(count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens")))


def is_ours(data: Json, metadata: Mapping[str, str]) -> bool | None:
    """Whether a run carries the metadata of our attempt; None when it carries none of ours at all."""
    told = _object(data, "metadata")
    names = ("askmill_batch", "askmill_row", "askmill_attempt")
    if not any(name in told for name in names):
        return None
    return all(str(told.get(name)) == metadata[name] for name in names)


def age_of(data: Json) -> float:
    """Sorts the runs of a list, oldest first, whatever order the server keeps."""
    return moment_of(data.get("created_at")) or 0.0


def unknown_of(listed: list[Json], known: frozenset[str]) -> list[Json]:
    """The runs that may be a new attempt's: none of `known`, and none older than they all are."""
    first = next((place for place, run in enumerate(listed) if run.get("id") in known), 0)
    return [run for run in listed[first:] if run.get("id") not in known]


def worth_of(run: Run) -> int:
    """Which of several runs for one attempt to keep: one with an answer, else one that may still give it."""
    return 0 if run.status == "completed" else 1 if run.status not in ENDED else 2


def messages_of_run(messages: list[Json], run_id: str) -> list[Json]:
    """The messages that the run wrote, oldest first.

    Some servers ignore the `run_id` filter and some the order. Where no message names its run at all, those
    behind the last question are the newest run's.
    """
    times = [age_of(message) for message in messages]
    if times and times[0] > times[-1]:
        messages = sorted(messages, key=age_of)
    written = [message for message in messages if message.get("role") == "assistant"]
    if any(message.get("run_id") for message in written):
        return [message for message in written if message.get("run_id") == run_id]
    asked = [place for place, message in enumerate(messages) if message.get("role") == "user"]
    behind = messages[asked[-1] + 1 :] if asked else messages
    return [message for message in behind if message.get("role") == "assistant"]


def draft_of(messages: list[Json]) -> Draft:
    """What the messages of one run hold."""
    draft = Draft()
    for message in messages:
        draft.messages.append(_passages(message.get("content"), draft))
        for attached in message.get("attachments") or ():
            draft.add_file(attached.get("file_id"))
        draft.message_ids.append(str(message.get("id")))
    return draft


def _passages(content: Any, draft: Draft) -> list[Passage]:
    if isinstance(content, str):
        return [Passage(content)]
    passages = (_passage(part, draft) for part in content or ())
    return [passage for passage in passages if passage is not None]


def _passage(part: Any, draft: Draft) -> Passage | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        text = part.get("text")
        value = str(text.get("value") or "") if isinstance(text, dict) else str(text or "")
        annotations = text.get("annotations") if isinstance(text, dict) else None
        return Passage(value, marks_of(annotations, draft, value))
    if kind == "refusal":
        draft.refusal = True
        return Passage(str(part.get("refusal") or ""))
    if kind == "image_file":
        draft.add_file(_object(part, "image_file").get("file_id"))
    elif kind == "image_url":
        return Passage(str(_object(part, "image_url").get("url") or ""))
    else:
        draft.unknown.append(str(kind))
    return None


def steps_of(data: Json, run_id: str, attempt: int, texts: Mapping[str, str]) -> list[Step]:
    """The steps of one run step: one a tool call. The tokens, told for all its calls, stand on the first.

    `texts` are the answer's messages by id, for the steps that wrote them.
    """
    details = _object(data, "step_details")
    if data.get("type") == "message_creation" or "message_creation" in details:
        message_id = _object(details, "message_creation").get("message_id")
        found = [("message", {"message_id": message_id, "text": texts.get(str(message_id), "")})]
    elif details.get("tool_calls"):
        found = [_tool_details(call) for call in details["tool_calls"]]
    else:
        found = [("other", {"kind": str(data.get("type"))})]
    error = _object(data, "last_error")
    failure = {"error": f"{error.get('code')}: {error.get('message')}"} if error else {}
    ends = ("completed_at", "failed_at", "cancelled_at", "expired_at")
    ended = (moment_of(data.get(name)) for name in ends)
    finished_at = next((moment for moment in ended if moment), None)
    return [
        Step(
            run_id=run_id,
            attempt=attempt,
            type=kind,
            status=str(data.get("status")),
            started_at=moment_of(data.get("created_at")),
            finished_at=finished_at,
            usage=usage_of(data) if first == 0 else Usage(),
            details={**said, **failure},
        )
        for first, (kind, said) in enumerate(found)
    ]


def _tool_details(call: Json) -> tuple[str, Json]:
    kind = str(call.get("type"))
    told = _object(call, kind)
    if kind == "code_interpreter":
        outputs = told.get("outputs") or ()
        logs = [output.get("logs") or "" for output in outputs if output.get("type") == "logs"]
        images = [
            _object(output, "image").get("file_id") for output in outputs if output.get("type") == "image"
        ]
        return kind, {"code": told.get("input"), "logs": "\n".join(logs), "images": images}
    if kind == "file_search":
        return kind, {"results": [_search_result(result) for result in told.get("results") or ()]}
    if kind == "function":
        arguments = arguments_of(told)
        return kind, {"name": told.get("name"), "arguments": arguments, "output": told.get("output")}
    return "other", {"kind": kind, **told}


def _search_result(result: Json) -> Json:
    texts = [part.get("text") or "" for part in result.get("content") or ()]
    told = {
        "file_id": result.get("file_id"),
        "filename": result.get("file_name"),
        "score": result.get("score"),
    }
    return {**told, "text": "\n".join(texts)} if texts else told


def _object(data: Any, name: str) -> Json:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

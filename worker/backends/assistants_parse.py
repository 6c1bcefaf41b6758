"""Parsing of the Assistants API's JSON: runs, messages, steps. A missing or null field counts as unknown.

Compatible servers leave out `usage`, `expires_at` or `run_id`, use statuses and error codes of their own, and
send a message's content as plain text. Only a run's status is required.
"""

from collections.abc import Mapping

from askmill.jobs.model.models import Step, Usage
from askmill.worker.backends.answer_builder import (
    INPUT_ROLES,
    Draft,
    TextPart,
    api_text,
    bounded_calls,
    parse_annotations,
    parse_arguments,
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
    json_text,
    optional_text,
    parse_tier,
    parse_timestamp,
    parse_token_count,
    plain_text,
)
from askmill.worker.backends.errors import bad_reply
from askmill.worker.backends.reply import Reply
from askmill.worker.lifecycle.api_types import ENDED, Run, ToolCall

IDENTITY_KEYS = ("askmill_batch", "askmill_row", "askmill_attempt")
END_TIMES = ("completed_at", "failed_at", "cancelled_at", "expired_at")


def parse_run(reply: Reply, run_id: str | None = None) -> Run:
    """Parse a reply that is a run; `run_id` is used where the server sends no id.

    Raises:
        ApiError: `bad_reply` for an object that is not a run.
    """
    data = reply.data
    id_, status = identifier(data.get("id")) or run_id, plain_text(data.get("status"))
    if not id_ or not status:
        raise bad_reply(200, f"no run: {json_text(data)[:2000]}")
    return reply.timed(_run(data, id_, status))


def parse_listed_run(data: Json) -> Run:
    """Parse a run of a list."""
    return _run(data, str(identifier(data.get("id"))), plain_text(data.get("status")))


def _run(data: Json, run_id: str, status: str) -> Run:
    error, incomplete = json_object(data, "last_error"), json_object(data, "incomplete_details")
    return Run(
        id=run_id,
        status=status,
        error_code=optional_text(error.get("code")),
        error_message=api_text(error.get("message")),
        incomplete_reason=optional_text(incomplete.get("reason")),
        tool_calls=_tool_calls(data),
        created_at=parse_timestamp(data.get("created_at")),
        started_at=parse_timestamp(data.get("started_at")),
        finished_at=_finished_at(data),
        expires_at=parse_timestamp(data.get("expires_at")),
        model=optional_text(data.get("model")),
        usage=_usage(data),
        tier=parse_tier(data),
    )


def _finished_at(data: Json) -> float | None:
    timestamps = (parse_timestamp(data.get(name)) for name in END_TIMES)
    return next((timestamp for timestamp in timestamps if timestamp), None)


def _tool_calls(data: Json) -> tuple[ToolCall, ...]:
    """The calls of functions; one without an id cannot be answered."""
    calls = json_object(json_object(data, "required_action"), "submit_tool_outputs").get("tool_calls")
    return bounded_calls(
        tool_call(id_, json_object(call, "function"))
        for call in json_objects(calls)
        if (id_ := identifier(call.get("id"))) is not None
    )


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
    ids = [identifier(run.get("id")) for run in runs]
    first = next((index for index, id_ in enumerate(ids) if id_ in earlier_run_ids), 0)
    return [run for run, id_ in zip(runs[first:], ids[first:], strict=True) if id_ not in earlier_run_ids]


def run_preference(run: Run) -> int:
    """Sort key of the runs of one attempt: completed before running before failed."""
    return 0 if run.status == "completed" else 1 if run.status not in ENDED else 2


def messages_of_run(messages: list[Json], run_id: str) -> list[Json]:
    """The messages that the run wrote, oldest first.

    Some servers ignore the `run_id` filter, some ignore the order. A message without a run id counts as the
    run's if it stands after the last question.
    """
    times = [created_at(message) for message in messages]
    if times and times[0] > times[-1]:
        messages = sorted(messages, key=created_at)
    questions = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    later = questions[-1] + 1 if questions else 0
    return [
        message
        for index, message in enumerate(messages)
        if plain_text(message.get("role")) not in INPUT_ROLES
        and (identifier(message.get("run_id")) or (run_id if index >= later else None)) == run_id
    ]


def draft_from_messages(messages: list[Json]) -> Draft:
    """The content of the messages of one run."""
    draft = Draft()
    for message in messages:
        draft.messages.append(text_parts(message.get("content"), draft, _text_part))
        for attachment in json_objects(message.get("attachments")):
            draft.add_file(identifier(attachment.get("file_id")))
        draft.message_ids.append(str(identifier(message.get("id"))))
    return draft


def _text_part(part: Json, draft: Draft) -> TextPart | None:
    kind = part_kind(part)
    if kind == "text":
        text = part.get("text")
        value = plain_text(text.get("value") if isinstance(text, dict) else text)
        annotations = text.get("annotations") if isinstance(text, dict) else None
        return TextPart(value, parse_annotations(annotations, draft, value))
    if kind == "refusal":
        draft.refusal = True
        return TextPart(plain_text(part.get("refusal")))
    if kind == "image_file":
        draft.add_file(identifier(json_object(part, "image_file").get("file_id")))
    elif kind == "image_url":
        return TextPart(plain_text(json_object(part, "image_url").get("url")))
    else:
        draft.unknown.append(kind)
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
        message_id = identifier(json_object(step_details, "message_creation").get("message_id"))
        parts = [("message", {"message_id": message_id, "text": texts.get(str(message_id), "")})]
    else:
        calls = json_objects(step_details.get("tool_calls"))
        parts = [_tool_call_details(call) for call in calls] or [
            ("other", {"kind": optional_text(data.get("type"))})
        ]
    error = json_object(data, "last_error")
    failure = (
        {"error": f"{optional_text(error.get('code'))}: {api_text(error.get('message'))}"} if error else {}
    )
    return [
        Step(
            run_id=run_id,
            attempt=attempt,
            type=kind,
            status=str(optional_text(data.get("status"))),
            started_at=parse_timestamp(data.get("created_at")),
            finished_at=_finished_at(data),
            usage=_usage(data) if index == 0 else Usage(),
            details={**(details if kind == "message" else bounded(details)), **failure},
        )
        for index, (kind, details) in enumerate(parts)
    ]


def _tool_call_details(call: Json) -> tuple[str, Json]:
    kind = str(optional_text(call.get("type")))
    data = json_object(call, kind)
    if kind == "code_interpreter":
        outputs = json_objects(data.get("outputs"))
        logs = [plain_text(output.get("logs")) for output in outputs if output.get("type") == "logs"]
        images = [
            identifier(json_object(output, "image").get("file_id"))
            for output in outputs
            if output.get("type") == "image"
        ]
        return kind, {"code": data.get("input"), "logs": "\n".join(logs), "images": images}
    if kind == "file_search":
        return kind, {"results": [_search_result(result) for result in json_objects(data.get("results"))]}
    if kind == "function":
        return kind, {
            "name": data.get("name"),
            "arguments": parse_arguments(data.get("arguments")),
            "output": data.get("output"),
        }
    return "other", {"kind": kind, **data}


def _search_result(data: Json) -> Json:
    texts = [plain_text(part.get("text")) for part in json_objects(data.get("content"))]
    result = {"file_id": data.get("file_id"), "filename": data.get("file_name"), "score": data.get("score")}
    return {**result, "text": "\n".join(texts)} if texts else result

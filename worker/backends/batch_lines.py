"""The lines of a batch job's files: a row as a line of the input, a line of the results as an outcome. Pure.

input     {"custom_id", "method": "POST", "url": "/v1/responses", "body": {…}}
result    {"id", "custom_id", "response": {"status_code", "request_id", "body"} or null, "error": {…} or null}

The body is what the live backend sends, without what belongs to a live request. A refused line has no
`error` but a `status_code` of 400 and an error object as its body. Groq, Together, Mistral and vLLM send the
same shape with fewer fields. Source: OpenAI's Batch API guide and its OpenAPI description.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import orjson

from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.params import Params
from askmill.jobs.openai_client.reply_limits import ReplyTooLarge, check_size, check_values
from askmill.worker.backends.answer_builder import build_answer
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.chat_parse import parse_completion
from askmill.worker.backends.chat_request import chat_body
from askmill.worker.backends.coerce import (
    Json,
    bounded,
    identifier,
    json_object,
    json_objects,
    parse_number,
    plain_text,
)
from askmill.worker.backends.errors import error_from_object, error_from_reply, error_in_ok_reply
from askmill.worker.backends.reply import parse_json
from askmill.worker.backends.request_body import conversation_params, response_params, response_question
from askmill.worker.backends.responses_parse import draft_from_items, parse_run, parse_steps, response_items
from askmill.worker.lifecycle.api_types import ENDED, ApiError, Run, RunStatus
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind
from askmill.worker.lifecycle.retry import Fault, fault_of

ENDPOINTS: dict[Api, str] = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}
"""The `endpoint` of a batch job and the `url` of its lines. The Assistants API has none."""
LIVE_ONLY = frozenset(
    {"background", "background_options", "conversation", "service_tier", "stream", "stream_options"}
)
"""Fields of a live request that a line must not have: `stream` fails the whole file."""
TIER = "batch"
CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Anthropic refuses the whole batch for any other id; OpenAI names no limit."""
FOUND_ID = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')
"""The id in a line that is not JSON. Within a JSON text the quotes would be escaped."""
NOT_RUN = frozenset({"batch_expired", "batch_cancelled"})
"""Codes of lines that the job's end left out. They are not billed."""
ASKED_AGAIN = frozenset(
    {
        ErrorClass.THROTTLED,
        ErrorClass.NOT_SENT,
        ErrorClass.REPLY_LOST,
        ErrorClass.RETRY,
        ErrorClass.LOCKED,
    }
)
"""What the table of faults says of errors after which the same request may succeed: 429, 5xx."""


@dataclass(frozen=True, slots=True)
class LineContext:
    """What a result's line does not say about its row.

    Attributes:
        attempt: The attempt that the line was.
        footnotes: False for a profile with a response schema, whose answers footnotes would break.
        row_overrides: Names of the settings that the row itself overrides.
        model: The model that was asked for.
    """

    attempt: int = 1
    footnotes: bool = True
    row_overrides: frozenset[str] = frozenset()
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The line ran. `run` has ended and carries its answer, as a chat completion's does; it is billed."""

    custom_id: str
    run: Run


@dataclass(frozen=True, slots=True)
class Refused:
    """The request was refused, which is not billed. `fault`: ROW, BATCH or UNCLEAR, as for a live create."""

    custom_id: str
    error: ApiError
    fault: Fault


@dataclass(frozen=True, slots=True)
class Again:
    """The line did not run and is not billed: 429, 5xx, or the job ended before it."""

    custom_id: str
    error: ApiError


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that cannot be understood. It may be billed. `custom_id` is None where it names no row."""

    custom_id: str | None
    reason: str


Outcome: TypeAlias = Answered | Refused | Again | Unreadable


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: Any = None
    request_id: str | None = None
    line_id: str | None = None
    error: Any = field(default=None)


def request_line(custom_id: str, request: RunRequest, api: Api, base_url: str) -> bytes:
    """The line of one row, with its line break.

    Args:
        custom_id: Identifies the row within the file: 1 to 64 letters, digits, `_` and `-`.
        request: The attempt, as for the live backend; chat completions need `request.images`.
        api: `responses` or `chat`.
        base_url: The server's address; it decides which field carries the output limit of chat completions.

    Raises:
        ValueError: For another custom_id.
    """
    if not CUSTOM_ID.fullmatch(custom_id):
        raise ValueError(f"custom_id {custom_id!r} must be 1 to 64 of A-Z, a-z, 0-9, _ and -")
    line = {
        "custom_id": custom_id,
        "method": "POST",
        "url": ENDPOINTS[api],
        "body": line_body(request, api, base_url),
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def line_body(request: RunRequest, api: Api, base_url: str) -> Params:
    """The body of a line. Arguments as for `request_line`."""
    if api == "chat":
        body = chat_body(request, base_url)
    else:
        opening = conversation_params(request).get("items", [])
        body = {**response_params(request, ""), "input": [*opening, *response_question(request)]}
    return {name: value for name, value in body.items() if name not in LIVE_ONLY}


def read_line(line: bytes, context_of: Callable[[str], LineContext] = lambda _: LineContext()) -> Outcome:
    """Read one line of an output file or an error file. Raises nothing, whatever the line holds.

    Args:
        line: The line, with or without its line break.
        context_of: What is known of a custom_id's row. It is also called for an unknown id.
    """
    try:
        check_size(len(line))
        check_values(line)
        data = parse_json(line)
    except (ReplyTooLarge, ValueError, RecursionError) as error:
        found = FOUND_ID.search(line)
        return Unreadable(found[1].decode() if found else None, _unreadable_reason(error))
    custom_id = identifier(data.get("custom_id")) if isinstance(data, dict) else None
    if custom_id is None:
        return Unreadable(None, "the line has no custom_id")
    context = context_of(custom_id)
    try:
        return _outcome(custom_id, _response(data), context)
    except ApiError as error:
        if error.code == "bad_reply":
            return Unreadable(custom_id, str(error))
        return _failed(custom_id, error, context)


def _unreadable_reason(error: Exception) -> str:
    return str(error) if isinstance(error, ReplyTooLarge) else f"the line is not JSON: {str(error)[:200]}"


def _response(data: Json) -> _Response:
    """The line's response; its status is 0 where the line names none."""
    response = json_object(data, "response")
    status = parse_number(response.get("status_code"), 1000)
    return _Response(
        status=int(status or 0),
        body=response.get("body"),
        request_id=identifier(response.get("request_id")),
        line_id=identifier(data.get("id")),
        error=data.get("error"),
    )


def _outcome(custom_id: str, response: _Response, context: LineContext) -> Outcome:
    """The outcome of a line. Raises ApiError for one that did not run."""
    body = response.body
    if response.status >= 400:
        raise error_from_reply(response.status, {}, orjson.dumps(bounded(body)))
    if isinstance(body, dict) and (failed := error_in_ok_reply(body, {})) is not None:
        raise failed
    if isinstance(body, dict) and (json_objects(body.get("choices")) or "output" in body or "status" in body):
        fallback_id = response.request_id or response.line_id or custom_id
        return Answered(custom_id, _ended_run(body, fallback_id, context))
    if response.error:
        raise error_from_object(response.error, {})
    return Unreadable(custom_id, f"status {response.status} without an answer or an error")


def _failed(custom_id: str, error: ApiError, context: LineContext) -> Outcome:
    """What follows from the error of a line that did not run."""
    fault = fault_of(error, RequestKind.CREATE, context.row_overrides, context.model)
    if error.code in NOT_RUN or fault.error_class in ASKED_AGAIN:
        return Again(custom_id, error)
    return Refused(custom_id, error, fault)


def _ended_run(body: Json, fallback_id: str, context: LineContext) -> Run:
    """The body as a run that has ended, with its answer. Raises ApiError `bad_reply`."""
    if json_objects(body.get("choices")):
        run = parse_completion({"id": fallback_id, **body}, context.attempt, streamed=False)
    else:
        run = _ended_response(body, fallback_id, context)
    if run.status == RunStatus.REQUIRES_ACTION:
        # A line has no functions, and nothing could answer a call.
        run = replace(run, status=RunStatus.COMPLETED, tool_calls=())
    # The reply names the tier that it ran in, `default`; the job is what is billed.
    return replace(run, tier=TIER)


def _ended_response(body: Json, fallback_id: str, context: LineContext) -> Run:
    """A body of the Responses API. One that came back with output has ended, whatever its status."""
    items = response_items(body)
    named = {**body, "id": identifier(body.get("id")) or fallback_id}
    if items and plain_text(body.get("status")) not in ENDED:
        named["status"] = RunStatus.COMPLETED.value
    run = parse_run(named)
    answer, texts = build_answer(draft_from_items(items), {}, footnotes=context.footnotes)
    owned = [(item, run.id) for item in items]
    steps = parse_steps(owned, context.attempt, {}, texts)
    return replace(run, answer=replace(answer, run_id=run.id, steps=steps))

"""Lenient reading of batch jobs, as OpenAI, Azure, Groq, Together and Mistral send them. Pure.

OpenAI, Azure, Groq    {"id", "status": "in_progress", "input_file_id", "request_counts", "metadata", …}
Together               {"job": {…}, "warning"} for a create, a bare list, UPPERCASE statuses, ISO times
Mistral                {"status": "RUNNING", "input_files": […], "output_file", "error_file", …}
"""

import re
from datetime import UTC, datetime
from typing import Any

from askmill.worker.backends.answer_builder import api_text
from askmill.worker.backends.coerce import (
    Json,
    identifier,
    json_object,
    json_objects,
    optional_text,
    parse_timestamp,
    parse_token_count,
    plain_text,
)
from askmill.worker.backends.errors import bad_reply
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.batch_types import (
    BatchFailure,
    BatchStatus,
    FailureKind,
    LineRefusal,
    ServerBatch,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.retry import Fault, fault_of

OTHER_WORDS = {
    "queued": "validating",
    "running": "in_progress",
    "success": "completed",
    "succeeded": "completed",
    "timeout_exceeded": "expired",
    "cancellation_requested": "cancelling",
    "canceling": "cancelling",
    "canceled": "cancelled",
}
"""Mistral's and American spellings of the same statuses."""
TOKEN_LIMIT_CODE = "token_limit_exceeded"  # noqa: S105 -- a code, no secret
TOKEN_LIMIT_WORDS = re.compile(r"enqueued token limit", re.IGNORECASE)
TOKEN_LIMIT = re.compile(r"limit:?\s+([\d,]+)\s+enqueued tokens", re.IGNORECASE)
"""`Enqueued token limit reached for M in organization O. Limit: 2,000,000 enqueued tokens.` (openai-python
#2084)."""


def read_batch(reply: Any) -> ServerBatch:
    """Read a batch job. Raises ApiError `bad_reply` for an object that is none."""
    data = json_object(reply, "job") or (reply if isinstance(reply, dict) else {})
    batch_id, status = identifier(data.get("id")), _status(data)
    if batch_id is None or not status:
        raise bad_reply(200, f"no batch job: its fields are {', '.join(sorted(map(str, data)))[:200]}")
    counts = json_object(data, "request_counts") or data
    return ServerBatch(
        id=batch_id,
        status=status,
        input_file_id=_file_id(data, "input_file_id", "input_file", "input_files"),
        output_file_id=_file_id(data, "output_file_id", "output_file"),
        error_file_id=_file_id(data, "error_file_id", "error_file"),
        created_at=_time(data.get("created_at")),
        expires_at=_time(data.get("expires_at") or data.get("job_deadline")),
        finished_at=_finished_at(data),
        total=_count(counts, "total", "total_requests"),
        completed=_count(counts, "completed", "succeeded_requests"),
        failed=_count(counts, "failed", "failed_requests"),
        model=optional_text(data.get("model") or data.get("model_id")),
        metadata={str(name): plain_text(value) for name, value in json_object(data, "metadata").items()},
        failure=_failure(data) if status == BatchStatus.FAILED else None,
    )


def read_batch_list(reply: Any) -> list[ServerBatch]:
    """The jobs of a list, also of a bare one; entries that are no job are left out."""
    entries = reply.get("data") if isinstance(reply, dict) else reply
    batches = []
    for entry in json_objects(entries):
        try:
            batches.append(read_batch(entry))
        except ApiError:
            continue
    return batches


def _status(data: Json) -> str:
    word = plain_text(data.get("status")).strip().lower().replace("-", "_")
    return OTHER_WORDS.get(word, word)


def _file_id(data: Json, *names: str) -> str | None:
    for name in names:
        value = data.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if (file_id := identifier(value)) is not None:
            return file_id
    return None


def _count(counts: Json, *names: str) -> int | None:
    found = (parse_token_count(counts.get(name)) for name in names)
    return next((count for count in found if count is not None), None)


def _time(value: Any) -> float | None:
    """Unix seconds, or an ISO 8601 text (Together); UTC where it names no zone."""
    if not isinstance(value, str):
        return parse_timestamp(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return parse_timestamp(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _finished_at(data: Json) -> float | None:
    names = ("completed_at", "failed_at", "expired_at", "cancelled_at")
    return next((moment for name in names if (moment := _time(data.get(name))) is not None), None)


def _failure(data: Json) -> BatchFailure:
    """Sort the errors of a failed job."""
    errors = data.get("errors")
    listed = json_objects(errors.get("data") if isinstance(errors, dict) and "data" in errors else errors)
    entries = [(entry, _error(entry)) for entry in listed]
    if not entries:
        words = plain_text(data.get("error")) or "the batch job failed without a reason"
        entries = [({}, ApiError(400, message=api_text(words) or ""))]
    for _, error in entries:
        if error.code == TOKEN_LIMIT_CODE or TOKEN_LIMIT_WORDS.search(error.message):
            return BatchFailure(
                FailureKind.TOKEN_LIMIT, error, _fault(error), token_limit=_limit(error.message)
            )
    refusals: dict[int, LineRefusal] = {}
    for entry, error in entries:
        if line := parse_token_count(entry.get("line")):
            refusals.setdefault(line, LineRefusal(line, error, _fault(error)))
    first = entries[0][1]
    if refusals:
        return BatchFailure(FailureKind.LINES, first, _fault(first), tuple(refusals.values()))
    return BatchFailure(FailureKind.OTHER, first, _fault(first))


def _error(entry: Json) -> ApiError:
    return ApiError(
        400,
        code=optional_text(entry.get("code")),
        message=api_text(entry.get("message")) or "",
        param=optional_text(entry.get("param")),
    )


def _fault(error: ApiError) -> Fault:
    return fault_of(error, RequestKind.CREATE)


def _limit(message: str) -> int | None:
    found = TOKEN_LIMIT.search(message)
    return int(found[1].replace(",", "") or 0) or None if found else None

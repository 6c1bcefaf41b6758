"""Batch jobs of every server are read alike, and a failed job says which rows may go again."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askmill.worker.backends.batch_objects import FailureKind, ServerBatch, read_batch, read_batch_list
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.error_rule import ErrorClass
from tests.helpers.schema_values import mutated

OPENAI = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/responses",
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "in_progress",
    "output_file_id": None,
    "error_file_id": None,
    "created_at": 1_700_000_000,
    "expires_at": 1_700_086_400,
    "request_counts": {"total": 10, "completed": 3, "failed": 1},
    "metadata": {"askmill_batch": "b_1"},
    "model": "gpt-5-mini",
    "errors": None,
}
TOGETHER = {
    "job": {
        "id": "0a-1",
        "user_id": "u",
        "input_file_id": "file-1",
        "status": "IN_PROGRESS",
        "job_deadline": "2023-11-15T22:13:20Z",
        "created_at": "2023-11-14T22:13:20Z",
        "endpoint": "/v1/chat/completions",
        "progress": 40.0,
        "model_id": "m",
    },
    "warning": "",
}
MISTRAL = {
    "id": "m-1",
    "status": "RUNNING",
    "input_files": ["file-1"],
    "output_file": "file-2",
    "total_requests": 10,
    "succeeded_requests": 3,
    "failed_requests": 1,
    "created_at": 1_700_000_000,
}


def failed(*errors: dict[str, Any], **changes: Any) -> ServerBatch:
    return read_batch(
        {**OPENAI, "status": "failed", "errors": {"object": "list", "data": list(errors)}, **changes}
    )


@pytest.mark.parametrize("sent", [OPENAI, TOGETHER, MISTRAL])
def test_every_servers_job_is_read(sent: dict[str, Any]) -> None:
    """Upper-case statuses, a wrapper, other names, no metadata."""
    batch = read_batch(sent)
    assert (batch.status, batch.input_file_id, batch.created_at) == ("in_progress", "file-1", 1_700_000_000)
    assert not batch.has_ended
    if sent is OPENAI:
        assert (batch.total, batch.completed, batch.failed) == (10, 3, 1)
        assert batch.metadata == {"askmill_batch": "b_1"}
    if sent is TOGETHER:
        assert (batch.total, batch.expires_at, batch.model) == (None, 1_700_086_400, "m")
        assert batch.metadata == {}


@pytest.mark.parametrize(("word", "status"), [
    ("COMPLETED", "completed"), ("SUCCESS", "completed"), ("CANCELED", "cancelled"), ("canceling", "cancelling"),
    ("TIMEOUT_EXCEEDED", "expired"), ("QUEUED", "validating"), ("paused_for_review", "paused_for_review"),
])  # fmt: skip
def test_other_words_of_a_status(word: str, status: str) -> None:
    """An unknown word is kept: the job has not ended."""
    batch = read_batch({**OPENAI, "status": word})
    assert batch.status == status
    assert batch.has_ended == (status in {"completed", "cancelled", "expired"})


def test_a_null_file_id_is_read_again_while_counts_name_lines() -> None:
    """litellm #37713: `completed` may show null although lines succeeded; all failed is null for good."""
    ended = {**OPENAI, "status": "completed"}
    assert read_batch({**ended, "error_file_id": "file-3"}).files_missing
    counts = {"total": 1, "completed": 0, "failed": 1}
    assert not read_batch({**ended, "request_counts": counts, "error_file_id": "file-3"}).files_missing
    assert not read_batch({**ended, "request_counts": None}).files_missing


def test_the_token_limit() -> None:
    """Nothing ran: another job must end first. The limit is learned from the words."""
    message = (
        "Enqueued token limit reached for gpt-5 in organization org-1. Limit: 2,000,000 enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )
    failure = failed({"code": "token_limit_exceeded", "message": message, "line": None}).failure
    assert failure is not None
    assert (failure.kind, failure.token_limit) == (FailureKind.TOKEN_LIMIT, 2_000_000)
    by_words = failed({"code": None, "message": message}).failure
    assert by_words is not None
    assert by_words.kind is FailureKind.TOKEN_LIMIT


def test_named_lines() -> None:
    """Each with its error and its fault, each line once."""
    missing = {"code": "missing_required_parameter", "message": "Missing: input", "param": "input", "line": 3}
    model = {"code": "model_not_found", "message": "The model `x` does not exist", "line": 4}
    failure = failed(missing, {**missing, "message": "again"}, model).failure
    assert failure is not None
    assert failure.kind is FailureKind.LINES
    assert [(refusal.line, refusal.fault.error_class) for refusal in failure.lines] == [
        (3, ErrorClass.ROW),
        (4, ErrorClass.BATCH),
    ]
    assert failure.lines[0].error.message == "Missing: input"


@pytest.mark.parametrize(("changes", "words"), [
    ({"errors": {"data": [{"code": "invalid_file", "message": "No such file"}]}}, "No such file"),
    ({"errors": None}, "without a reason"),
    ({"errors": [{"message": "bare list"}]}, "bare list"),
    ({"errors": None, "error": "Together's text"}, "Together's text"),
])  # fmt: skip
def test_neither_of_both(changes: dict[str, Any], words: str) -> None:
    """The same for every job until somebody changes something; the words are kept."""
    failure = read_batch({**OPENAI, "status": "failed", **changes}).failure
    assert failure is not None
    assert failure.kind is FailureKind.OTHER
    assert words in failure.error.message


def test_a_list_of_jobs() -> None:
    """OpenAI's page, Together's bare list; what is no job is left out."""
    assert [batch.id for batch in read_batch_list({"data": [OPENAI, {"id": 7}, None]})] == ["batch_1"]
    assert [batch.id for batch in read_batch_list([TOGETHER["job"], "x"])] == ["0a-1"]
    assert read_batch_list(None) == []


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_reply_raises_anything_else(data: st.DataObject) -> None:
    """Only `bad_reply`, for what is no batch job."""
    error = {"code": "c", "message": "m", "line": 1, "param": None}
    whole = {**OPENAI, "status": "failed", "errors": {"object": "list", "data": [error]}}
    reply = data.draw(mutated(data.draw(st.sampled_from([whole, TOGETHER, MISTRAL])), most=4))
    try:
        batch = read_batch(reply)
    except ApiError as raised:
        assert raised.code == "bad_reply"  # noqa: PT017
    else:
        assert batch.status == batch.status.lower()
        assert (batch.failure is not None) == (batch.status == "failed")

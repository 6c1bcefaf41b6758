"""Refusals for money and unknown models, as servers send them, and similar errors that are neither."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.model.api_errors import (
    ErrorReport,
    clears_by_itself,
    key_refused,
    model_missing,
    money_refused,
    reason_of,
    report_of_text,
    requested_wait_s,
)
from askmill.worker.backends.errors import error_from_reply, error_in_ok_reply
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind, report_of
from askmill.worker.lifecycle.error_table import ROW_CREATES
from askmill.worker.lifecycle.retry import classify
from tests.unit.lifecycle.refusal_texts import (
    BUSY,
    CONTENT,
    KEY,
    MODEL,
    MONEY,
    NOT_MODEL,
    NOT_MONEY,
    WAITS,
    error,
)

ERROR_OBJECTS = {
    source: (status, body["error"])
    for source, (status, body) in {**MONEY, **MODEL}.items()
    if isinstance(body, dict) and isinstance(body.get("error"), dict)
}


def error_from(reply: tuple[int, object], headers: Mapping[str, str] | None = None) -> ApiError:
    """The error that a worker makes of this reply."""
    status, body = reply
    return error_from_reply(
        status, headers or {}, body.encode() if isinstance(body, str) else json.dumps(body).encode()
    )


@pytest.mark.parametrize("source", MONEY)
def test_a_refusal_for_money_is_recognized_whatever_the_status_and_code(source: str) -> None:
    """The batch pauses, at each kind of request; so does a run that ends with the same words."""
    api_error = error_from(MONEY[source])

    assert {classify(api_error, request) for request in RequestKind} == {ErrorClass.BATCH}
    assert not model_missing(report_of(api_error))
    assert money_refused(report_of_text(reason_of(report_of(api_error)))), "the reason alone is enough"


@pytest.mark.parametrize("source", NOT_MONEY)
def test_similar_errors_without_a_refusal_for_money_pause_no_batch(source: str) -> None:
    """Rate limits, quotas a minute, and questions about money that an error repeats."""
    api_error = error_from(NOT_MONEY[source])

    assert not money_refused(report_of(api_error))
    assert classify(api_error, RequestKind.CREATE) is not ErrorClass.BATCH


@pytest.mark.parametrize("source", MODEL)
def test_an_unknown_model_is_recognized_whatever_the_status_and_code(source: str) -> None:
    """The profile's: the batch pauses. The row's own: the row fails."""
    api_error = error_from(MODEL[source])

    assert classify(api_error, RequestKind.CREATE) is ErrorClass.BATCH
    assert classify(api_error, RequestKind.CREATE, frozenset({"model"})) is ErrorClass.ROW
    assert model_missing(report_of_text(reason_of(report_of(api_error)))), "the reason alone is enough"


@pytest.mark.parametrize("source", NOT_MODEL)
def test_similar_errors_without_an_unknown_model_are_not_taken_for_one(source: str) -> None:
    """Other things that are not there, models that are busy, and questions about models."""
    api_error = error_from(NOT_MODEL[source])

    assert not model_missing(report_of(api_error))


@pytest.mark.parametrize("source", ERROR_OBJECTS)
def test_an_error_under_status_200_is_the_same_error(source: str) -> None:
    """`{"error": …}` in a reply that says that all is well."""
    status, error_object = ERROR_OBJECTS[source]
    inside = {"code": status, **{name: value for name, value in error_object.items() if value is not None}}
    api_error = error_in_ok_reply({"error": inside}, {})

    assert api_error is not None
    assert classify(api_error, RequestKind.CREATE) is ErrorClass.BATCH


def test_an_error_field_of_a_real_object_is_no_refusal() -> None:
    """A response that failed has its error, and is an answer to the question how it ended."""
    failed = {
        "id": "resp_1",
        "object": "response",
        "status": "failed",
        "error": {"code": "insufficient_quota"},
    }

    assert error_in_ok_reply(failed, {}) is None
    assert error_in_ok_reply({**failed, "error": None}, {}) is None
    invalid = error_in_ok_reply({"error": {"type": "invalid_request_error", "message": "no"}}, {})
    assert invalid is not None
    assert invalid.status == 400, "A14: nothing was carried out"
    assert error_in_ok_reply({"id": "x", "error": {"code": 502, "message": "Bad Gateway"}}, {}) == ApiError(
        502, "502", message="Bad Gateway"
    )


@pytest.mark.parametrize("source", CONTENT)
def test_a_refusal_of_a_rows_content_fails_the_row_whatever_the_status(source: str) -> None:
    """A7, A8: its words, its pictures, its length; never the batch, never a wait."""
    api_error = error_from(CONTENT[source])

    for request in (RequestKind.THREAD, RequestKind.CREATE, RequestKind.SUBMIT):
        assert classify(api_error, request) is ErrorClass.ROW


@pytest.mark.parametrize("source", BUSY)
def test_a_full_queue_is_waited_for_whatever_the_status(source: str) -> None:
    """E3: a refusal for load was not carried out; a create is sent again later."""
    api_error = error_from(BUSY[source])

    assert classify(api_error, RequestKind.CREATE) is ErrorClass.THROTTLED
    assert classify(api_error, RequestKind.THREAD) is ErrorClass.THROTTLED


@pytest.mark.parametrize("source", KEY)
def test_a_refused_key_pauses_the_batch(source: str) -> None:
    """E9: under 400 and 403 too, and the reason alone tells it."""
    api_error = error_from(KEY[source])

    assert {classify(api_error, request) for request in ROW_CREATES} == {ErrorClass.BATCH}
    assert key_refused(report_of_text(reason_of(report_of(api_error))))


@pytest.mark.parametrize("words", WAITS)
def test_a_wait_is_read_from_the_words(words: str) -> None:
    """A10, A11: where no header names it."""
    assert requested_wait_s(ErrorReport(words)) == WAITS[words]
    assert requested_wait_s(ErrorReport(words, retry_after_s=3.0)) == 3.0


def test_a_wait_is_read_from_googles_details_and_is_bounded() -> None:
    """`retryDelay` in `details`; nothing is waited for longer than a week without another try."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}]
    api_error = error_from((429, [error(code=429, message="slow down", details=details)]))

    assert api_error.retry_after_s == 17.0
    assert requested_wait_s(ErrorReport("no", retry_after_s=1e9)) == 7 * 86_400


def test_a_402_with_a_retry_after_is_waited_for() -> None:
    """OpenRouter's budget of requests in flight passes; words of money beside a wait do not."""
    busy = error_from((402, error(code=402, message="Too many requests in flight")), {"retry-after": "3"})
    spent = error_from((402, error(code=402, message="Insufficient credits")), {"retry-after": "3"})

    assert clears_by_itself(report_of(busy))
    assert classify(busy, RequestKind.CREATE) is ErrorClass.THROTTLED
    assert classify(spent, RequestKind.CREATE) is ErrorClass.BATCH


@given(st.text(max_size=300), st.text(max_size=40), st.text(max_size=40))
def test_any_error_text_can_be_classified(message: str, code: str, kind: str) -> None:
    """Whatever a server sends, the result is true or false."""
    for text in (message, "Error: " * 50 + message, "{" * 3000 + message, "[" * 3000 + "{'a': " * 90 + "}"):
        report = ErrorReport(text, code, kind)
        assert isinstance(money_refused(report), bool)
        assert isinstance(model_missing(report), bool)
        assert reason_of(report)


def test_a_long_error_text_is_classified_quickly() -> None:
    """A page of a proxy, or one made to be slow to read, holds up no worker: 100 of them within a second or so."""
    for text in (
        "error: - " * 20_000,
        "\n" * 200_000,
        "' " * 100_000,
        "litellm a" + " a" * 100_000,
        "{" * 100_000 + "}",
    ):
        for _ in range(20):
            money_refused(ErrorReport(text))
            model_missing(ErrorReport(text))

"""What follows a failed request: the complete decision of each case."""

from dataclasses import replace

import pytest

from askmill.jobs.model.fault_table import FaultSubject
from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import Answer, ApiError, ToolCall
from askmill.worker.lifecycle.decision import (
    Action,
    CancelRun,
    Decision,
    Finish,
    PauseBatch,
    PollRun,
    RecordRefusal,
    RecoverRun,
    RecoverSubmit,
    Wait,
)
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind
from askmill.worker.lifecycle.events import AnswerRead, RequestFailed
from askmill.worker.lifecycle.retry import fault_of, no_such_api
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import ANSWER, CALLING_TOOLS, NOW, POLLING, READING, RUN_NOT_FOUND, SENT, P

CREATE, READ, SUBMIT, CANCEL = RequestKind.CREATE, RequestKind.READ, RequestKind.SUBMIT, RequestKind.CANCEL
FAILED_ONCE = {"failures": 1, "failing_since": NOW}
NOT_CREATED = replace(SENT, phase=Phase.NEW, **FAILED_ONCE)
RATE_LIMIT = ApiError(429, code="rate_limit_exceeded", message="slow down")
LOCK = ApiError(400, message="Thread thread_1 already has an active run run_9.")
LOCK_WITHOUT_RUN = ApiError(400, code="conversation_locked", message="busy")
UNCLEAR = ApiError(400, code="bad_request", message="no")


def failed(state: JobState, error: ApiError, on: RequestKind, at: float = NOW) -> Decision:
    """The decision after a failed request, with the longest backoff."""
    return advance(state, RequestFailed(at, jitter=1.0, error=error, request=on), P)


# ── refused ──


@pytest.mark.parametrize("param", ["max_completion_tokens", "max_output_tokens"])
def test_a_limit_that_the_row_has_doubled_is_its_own(param: str) -> None:
    """Refused, it fails the row, under the name of either API; the profile's limit pauses the batch."""
    error = ApiError(400, code="invalid_value", message="too large", param=param)
    doubled = replace(SENT, attempt=2, doubled_limits=("max_completion_tokens",))

    assert failed(doubled, error, CREATE) == Decision(
        doubled, Finish(JobStatus.FAILED, error="invalid_value: too large")
    )
    assert failed(SENT, error, CREATE) == Decision(
        replace(SENT, phase=Phase.NEW), PauseBatch("invalid_value: too large")
    )


def test_an_unclear_refusal_is_compared_with_the_other_rows() -> None:
    """Nothing was carried out; a create that was repeated stays unconfirmed."""
    assert failed(SENT, UNCLEAR, CREATE) == Decision(NOT_CREATED, RecordRefusal(error=UNCLEAR))
    repeated = replace(SENT, create_repeated=True)
    assert failed(repeated, UNCLEAR, CREATE) == Decision(
        replace(NOT_CREATED, create_repeated=True, create_unconfirmed=True), RecordRefusal(error=UNCLEAR)
    )


def test_refused_outputs_cancel_the_run() -> None:
    """The row ends with the refusal once its run has ended."""
    decision = failed(CALLING_TOOLS, UNCLEAR, SUBMIT)
    ending = replace(
        CALLING_TOOLS,
        phase=Phase.POLLING,
        outputs=(),
        cancel_error="bad_request: no",
        cancel_reason=CancelReason.ROW,
        cancel_requested_at=NOW,
    )
    assert decision == Decision(ending, CancelRun(), store=True)


@pytest.mark.parametrize(
    ("error", "on", "unknown"),
    [
        (ApiError(200, code="reply_too_large", message="n"), CREATE, True),
        (ApiError(200, code="reply_too_large", message="n"), READ, False),
        (ApiError(400, code="content_filter", message="n", param="prompt"), CREATE, False),
    ],
)
def test_only_a_create_whose_reply_is_too_large_is_unknown(
    error: ApiError, on: RequestKind, unknown: bool
) -> None:
    """It was carried out, and nobody can read what it made. A refused one made nothing."""
    state = SENT if on is CREATE else READING
    assert failed(state, error, on) == Decision(
        state, Finish(JobStatus.FAILED, error=f"{error.code}: n"), unknown_create=unknown
    )


@pytest.mark.parametrize(
    ("status", "request_text", "shown"),
    [
        (404, "POST /responses", " (POST /responses)"),
        (405, "POST /responses", " (POST /responses)"),
        (501, "POST /responses", " (POST /responses)"),
        (404, "", ""),
        (401, "POST /responses", ""),
    ],
)
def test_a_pause_names_the_request_that_the_server_does_not_have(
    status: int, request_text: str, shown: str
) -> None:
    """A wrong key is wrong for each request."""
    error = ApiError(status, message="The API key may not do that", request=request_text)
    decision = failed(SENT, error, CREATE)
    assert isinstance(decision.action, PauseBatch)
    assert decision.action.reason.endswith(f"The API key may not do that{shown}")


@pytest.mark.parametrize(
    ("error", "on", "expected"),
    [
        (ApiError(404, message="Not Found"), CREATE, True),
        (ApiError(405), CREATE, True),
        (ApiError(501), CREATE, True),
        (ApiError(400, message="You must provide the 'OpenAI-Beta' header"), CREATE, False),
        (ApiError(404, message="No assistant found with id 'asst_1'."), CREATE, False),
        (RUN_NOT_FOUND, CREATE, True),
        (ApiError(404, message="No thread found with id 'thread_1'."), READ, True),
    ],
)
def test_a_server_without_the_api_differs_from_one_that_lacks_an_object(
    error: ApiError, on: RequestKind, expected: bool
) -> None:
    """Which is asked where no run was ever made: then the advice is another API."""
    assert no_such_api(error, on) is expected


@pytest.mark.parametrize(("model", "pauses"), [("tiny", True), ("other", False), (None, False)])
def test_the_name_of_the_model_in_an_unclear_refusal_is_the_profiles(model: str | None, pauses: bool) -> None:
    """Words that only say that something is not there are about the model that was asked for, if they name it."""
    error = ApiError(400, message="the weights of model tiny are not found")
    event = RequestFailed(NOW, error=error, request=CREATE, model=model)
    assert isinstance(advance(SENT, event, P).action, PauseBatch) is pauses


@pytest.mark.parametrize(
    ("error", "subject", "words"),
    [
        (ApiError(402, message="Insufficient Balance"), FaultSubject.MONEY, "money"),
        (ApiError(401), FaultSubject.KEY, "401 is the key"),
    ],
)
def test_a_fault_names_its_subject_and_where_its_rule_comes_from(
    error: ApiError, subject: FaultSubject, words: str
) -> None:
    """What `status` and `doctor` advise depends on it."""
    fault = fault_of(error, CREATE)
    assert (fault.error_class, fault.subject) == (ErrorClass.BATCH, subject)
    assert words in fault.source


def test_a_run_that_has_ended_is_polled() -> None:
    """Outputs that are no longer accepted are settled; a refused cancel changes nothing of them."""
    calls = (ToolCall("call_1", "add", "{}"),)
    submitting = replace(CALLING_TOOLS, calls=calls, calls_are_new_at=NOW)
    late = ApiError(400, message='Runs in status "expired" do not accept tool outputs.')
    settled = replace(
        submitting,
        phase=Phase.POLLING,
        calls=(),
        outputs=(),
        answered_calls=calls,
        answered_run_id="run_1",
        calls_are_new_at=None,
    )
    assert failed(submitting, late, SUBMIT) == Decision(settled, PollRun(after_s=0.0))

    ending = replace(POLLING, cancel_reason=CancelReason.USER, calls_are_new_at=NOW)
    over = ApiError(400, message="Cannot cancel run with status 'completed'.")
    assert failed(ending, over, CANCEL) == Decision(
        replace(ending, cancel_refusal=str(over)), PollRun(after_s=0.0)
    )


# ── asked to wait ──


def test_a_long_wait_pauses_the_batch_until_then() -> None:
    """Ten minutes are still waited for; a run that exists is looked at meanwhile, at least every ten minutes."""
    reason = "rate_limit_exceeded: slow down"
    for wait_s in (601.0, 7000.0):
        error = replace(RATE_LIMIT, retry_after_s=wait_s)
        assert failed(SENT, error, CREATE) == Decision(
            NOT_CREATED, PauseBatch(reason, wait_s=0.0, resume_after_s=wait_s)
        )
        assert failed(POLLING, error, READ) == Decision(
            replace(POLLING, **FAILED_ONCE), PauseBatch(reason, wait_s=600.0, resume_after_s=wait_s)
        )
    assert failed(POLLING, replace(RATE_LIMIT, retry_after_s=600.0), READ) == Decision(
        replace(POLLING, **FAILED_ONCE),
        PollRun(after_s=660.0),
        throttled_s=600.0,
        throttled_by=reason,
    )


@pytest.mark.parametrize(
    ("error", "wait_s", "hold_s"),
    [
        (RATE_LIMIT, 2.0, 2.0),
        (replace(RATE_LIMIT, retry_after_s=3.0), 3.0, 3.0),
        (ApiError(503, message="Overloaded, please retry later"), 2.0, 0.2),
        (ApiError(503, message="Overloaded", retry_after_s=3.0), 3.0, 3.0),
    ],
)
def test_new_runs_of_all_workers_are_held(error: ApiError, wait_s: float, hold_s: float) -> None:
    """As long as the server asks; a full queue that names no time holds them shortly, a 429 for the row's wait."""
    decision = failed(SENT, error, CREATE)
    assert decision == Decision(
        NOT_CREATED, Wait(wait_s=wait_s * 1.1), throttled_s=hold_s, throttled_by=str(error)
    )


@pytest.mark.parametrize(
    ("error", "wait_s", "hold_s"),
    [
        (ApiError(500, message="An error. Try again in 20s"), 20.0, 20.0),
        (ApiError(500, message="An error.", retry_after_s=20.0), 20.0, 20.0),
        (ApiError(500, message="An error. Try again in 20s", retry_after_s=700.0), 600.0, 600.0),
        (ApiError(500, message="An error. Please try again later"), 0.5, 0.2),
    ],
)
def test_a_server_that_fails_and_asks_for_time_gets_it(error: ApiError, wait_s: float, hold_s: float) -> None:
    """The create may have been carried out: it is searched for by then, and new runs are held."""
    assert failed(SENT, error, CREATE) == Decision(
        replace(SENT, create_fault=str(error), **FAILED_ONCE),
        RecoverRun(after_s=wait_s),
        create_failed=True,
        throttled_s=hold_s,
        throttled_by=str(error),
    )


@pytest.mark.parametrize(("requested_s", "wait_s"), [(None, 0.5), (0.1, 0.5), (20.0, 20.0), (9000.0, 600.0)])
def test_a_read_that_fails_is_repeated_when_the_server_says(requested_s: float | None, wait_s: float) -> None:
    """It holds nobody else: the run goes on whether it is read or not."""
    error = ApiError(503, message="Overloaded", retry_after_s=requested_s)
    assert failed(POLLING, error, READ) == Decision(replace(POLLING, **FAILED_ONCE), PollRun(after_s=wait_s))


# ── a locked thread ──

WAITS = {**FAILED_ONCE, "locked_since": NOW}


@pytest.mark.parametrize(
    ("state", "error", "expected", "action"),
    [
        (CALLING_TOOLS, LOCK, replace(CALLING_TOOLS, **FAILED_ONCE), RecoverSubmit(after_s=0.5)),
        (
            replace(SENT, shared_thread=True),
            LOCK,
            replace(SENT, shared_thread=True, phase=Phase.NEW, **WAITS),
            Wait(wait_s=0.5),
        ),
        (
            replace(SENT, shared_thread=True, create_repeated=True),
            LOCK,
            replace(SENT, shared_thread=True, create_repeated=True, **WAITS),
            RecoverRun(after_s=0.5),
        ),
        (
            SENT,
            LOCK_WITHOUT_RUN,
            replace(SENT, create_sent_at=None, **WAITS),
            RecoverRun(),
        ),
        (
            replace(SENT, create_repeated=True),
            LOCK_WITHOUT_RUN,
            replace(SENT, create_repeated=True, **WAITS),
            RecoverRun(after_s=0.5),
        ),
    ],
)
def test_a_locked_thread_is_waited_for_or_searched(
    state: JobState, error: ApiError, expected: JobState, action: Action
) -> None:
    """A create that was repeated may be the run that locks it: its time is kept for the search."""
    on = SUBMIT if state.phase is Phase.CALLING_TOOLS else CREATE
    assert failed(state, error, on) == Decision(expected, action)


# ── 404, and what cannot be read ──


def test_a_create_whose_thread_is_gone_gets_another() -> None:
    """The row's own thread; a conversation's row fails."""
    gone = ApiError(404, message="No thread found with id 'thread_1'.")
    assert failed(SENT, gone, CREATE) == Decision(
        replace(NOT_CREATED, thread_id=None), Wait(wait_s=0.5), create_failed=True
    )
    shared = replace(SENT, shared_thread=True)
    assert failed(shared, gone, CREATE) == Decision(
        shared, Finish(JobStatus.FAILED, error=f"thread_gone: {gone.message}")
    )


def test_a_search_that_meets_404_for_long_goes_on_until_the_creates_time() -> None:
    """With a backoff of its own."""
    state = replace(SENT, not_found_since=NOW - P.not_found_grace_s)
    assert failed(state, RUN_NOT_FOUND, READ) == Decision(
        replace(state, **FAILED_ONCE), RecoverRun(after_s=0.5)
    )


@pytest.mark.parametrize(("since", "ends"), [(NOW - P.partial_s, False), (NOW - P.partial_s - 1, True)])
def test_the_rest_of_an_answer_is_asked_for_two_minutes(since: float, ends: bool) -> None:
    """Then the row ends with what is read."""
    event = RequestFailed(
        NOW, error=ApiError(500), request=READ, partial=AnswerRead(NOW, answer=replace(ANSWER, text="half"))
    )
    action = advance(replace(READING, failing_since=since), event, P).action
    assert isinstance(action, Finish) is ends
    without = replace(event, partial=AnswerRead(NOW, answer=Answer()))
    assert not isinstance(advance(replace(READING, failing_since=since), without, P).action, Finish)

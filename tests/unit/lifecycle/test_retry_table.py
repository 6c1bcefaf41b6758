"""The error table, rule by rule, with the real messages of the APIs: the class of each error."""

import pytest

from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind
from askmill.worker.lifecycle.error_table import TABLE
from askmill.worker.lifecycle.retry import (
    RetryPolicy,
    assistant_missing,
    blocking_run,
    classify,
    is_transient,
    vector_store_missing,
)

RATE = "You've exceeded the rate limit, please slow down and try again later."
QUOTA = "You exceeded your current quota, please check your plan and billing details."
BUSY = "Thread thread_abc already has an active run run_xyz."
WHILE = "Can't add messages to thread_abc while a run run_xyz is active."
LOCK = "Another process is currently operating on this conversation. Please retry in a few seconds."
MODEL = "The model `gpt-9` does not exist or you do not have access to it."
LATE = 'Runs in status "expired" do not accept tool outputs.'
OVER = "Cannot cancel run with status 'completed'."
NO_ASSISTANT = "No assistant found with id 'asst_1'."
NO_STORE = "Vector store with id ['vs_1'] not found."
NO_THREAD = "No thread found with id 'thread_1'."
NO_RUN = "No run found with id 'run_1'."
BETA = "You must provide the 'OpenAI-Beta' header to access the Assistants API."
URL = "Unknown request URL: POST /v1/assistants. Please check the URL for typos."
NO_FILE = "No such File object: file-x"
MOVED = "POST is redirected (302) to https://api.example.com/v1/threads, which is not followed"
QUEUE = "The request queue is full (max 100). Try again later."
TOO_LARGE = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 61337."
LONG = "Invalid 'input': string too long. Expected a string with maximum length 10485760."

ERRORS = [
    # ── money, key, model, server: the batch ──
    (ApiError(200, code="reply_too_large", message="MAX_REPLY_BYTES"), RequestKind.READ, ErrorClass.ROW),
    (ApiError(498), RequestKind.CREATE, ErrorClass.THROTTLED),
    (ApiError(429, code="insufficient_quota", message=QUOTA), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(429, type="insufficient_quota", message=QUOTA), RequestKind.READ, ErrorClass.BATCH),
    (ApiError(400, code="billing_hard_limit_reached"), RequestKind.THREAD, ErrorClass.BATCH),
    (ApiError(429, code="billing_not_active"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(402, code="credit_balance_exhausted"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(403, code="organization_spend_limit_exceeded"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(429, code="project_spend_limit_exceeded"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(429, code="organization_usage_limit_exceeded"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(401, code="invalid_api_key", message="Incorrect API key provided"), RequestKind.READ, ErrorClass.BATCH),
    (ApiError(403, code="unsupported_country_region_territory"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(404, code="model_not_found", message=MODEL), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(400, code="model_not_found", message=MODEL), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(400, message=NO_ASSISTANT), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(404, message=NO_ASSISTANT), RequestKind.THREAD, ErrorClass.BATCH),
    (ApiError(404, message=NO_STORE), RequestKind.SUBMIT, ErrorClass.BATCH),
    (ApiError(400, message=NO_STORE), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(404, message="No vector store found with id 'vs_1'."), RequestKind.THREAD, ErrorClass.BATCH),
    (ApiError(404, "vector_store", message="not made again: no such file"), RequestKind.SUBMIT, ErrorClass.BATCH),
    (ApiError(None, "no_vector_store_yet", sent=False), RequestKind.CREATE, ErrorClass.NOT_SENT),
    (ApiError(400, code="invalid_beta", message=BETA), RequestKind.READ, ErrorClass.BATCH),
    (ApiError(404, message=URL), RequestKind.THREAD, ErrorClass.BATCH),
    (ApiError(405), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(501), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(400, code="organization_spend_limit_exceeded"), RequestKind.CREATE, ErrorClass.BATCH),
    # ── the way to the API: the batch ──
    (ApiError(302, code="redirected", message=MOVED), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(307, code="redirected", message=MOVED), RequestKind.READ, ErrorClass.BATCH),
    (ApiError(303, code="redirected", message=MOVED), RequestKind.CANCEL, ErrorClass.BATCH),
    (ApiError(None, code="proxy_refused", message="the proxy wants a user", sent=False), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(404, message="Invalid URL (POST /v1/threads/thread_1/runs)"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(404, message=NO_THREAD), RequestKind.THREAD, ErrorClass.BATCH),
    (ApiError(404, message=NO_FILE), RequestKind.SETUP, ErrorClass.BATCH),
    (ApiError(404, message=NO_FILE, param="tool_resources.code_interpreter.file_ids"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(405, param="messages"), RequestKind.THREAD, ErrorClass.BATCH),
    # ── locks ──
    (ApiError(400, message=BUSY), RequestKind.CREATE, ErrorClass.LOCKED),
    (ApiError(400, message=WHILE), RequestKind.THREAD, ErrorClass.LOCKED),
    (ApiError(400, code="conversation_locked", message=LOCK, param="conversation"), RequestKind.CREATE, ErrorClass.LOCKED),
    (ApiError(409, code="conversation_locked", message=LOCK), RequestKind.SUBMIT, ErrorClass.LOCKED),
    # ── wait ──
    (ApiError(429, code="rate_limit_exceeded", message=RATE), RequestKind.CREATE, ErrorClass.THROTTLED),
    (ApiError(429), RequestKind.READ, ErrorClass.THROTTLED),
    (ApiError(402, message="Too many requests in flight", retry_after_s=3.0), RequestKind.CREATE, ErrorClass.THROTTLED),
    # ── the run has ended meanwhile ──
    (ApiError(400, message=LATE), RequestKind.SUBMIT, ErrorClass.ENDED),
    (ApiError(409, message=LATE), RequestKind.SUBMIT, ErrorClass.ENDED),
    (ApiError(400, message=OVER), RequestKind.CANCEL, ErrorClass.ENDED),
    (ApiError(409), RequestKind.CANCEL, ErrorClass.ENDED),
    (ApiError(404, message=NO_RUN), RequestKind.CANCEL, ErrorClass.ENDED),
    (ApiError(422), RequestKind.CANCEL, ErrorClass.ENDED),
    # ── gone ──
    (ApiError(404, message=NO_RUN), RequestKind.READ, ErrorClass.GONE),
    (ApiError(404, message=NO_RUN), RequestKind.SUBMIT, ErrorClass.GONE),
    (ApiError(404, message=NO_THREAD), RequestKind.CREATE, ErrorClass.GONE),
    (ApiError(400, message=NO_THREAD), RequestKind.CREATE, ErrorClass.GONE),
    (ApiError(404, message="Conversation with id 'conv_1' not found."), RequestKind.CREATE, ErrorClass.GONE),
    # ── never sent, lost, again ──
    (ApiError(None, code="not_connected", sent=False), RequestKind.CREATE, ErrorClass.NOT_SENT),
    (ApiError(None, code="not_connected", sent=False), RequestKind.READ, ErrorClass.NOT_SENT),
    *[(ApiError(status), RequestKind.CREATE, ErrorClass.REPLY_LOST) for status in (None, 200, 408, 409, 500, 502, 503, 504, 529)],
    *[(ApiError(status), RequestKind.SUBMIT, ErrorClass.REPLY_LOST) for status in (None, 200, 408, 500, 503)],
    *[(ApiError(status), RequestKind.READ, ErrorClass.RETRY) for status in (None, 200, 408, 409, 500, 502, 503, 504)],
    *[(ApiError(status), RequestKind.THREAD, ErrorClass.RETRY) for status in (None, 200, 408, 409, 500, 503)],
    *[(ApiError(status), RequestKind.CANCEL, ErrorClass.RETRY) for status in (None, 200, 408, 500, 503)],
    (ApiError(400, message="what a look cannot mean"), RequestKind.READ, ErrorClass.RETRY),
    (ApiError(418), RequestKind.CANCEL, ErrorClass.RETRY),
    # ── this row's input ──
    (ApiError(400, code="invalid_prompt"), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(400, message=LONG, param="input"), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(422, param="messages[0].content"), RequestKind.THREAD, ErrorClass.ROW),
    (ApiError(400, message="No tool output found for function call call_1.", param="input"), RequestKind.SUBMIT, ErrorClass.ROW),
    (ApiError(404, message=NO_FILE, param="messages[0].attachments[0].file_id"), RequestKind.THREAD, ErrorClass.ROW),
    (ApiError(404, message=NO_FILE, param="input[0].content[1].file_id"), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(413), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(422), RequestKind.SUBMIT, ErrorClass.ROW),
    (ApiError(405), RequestKind.SUBMIT, ErrorClass.ROW),
    (ApiError(400, param="prompt", code="content_filter"), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(400, param="url", message="Something about the picture"), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(429, code="rate_limit_exceeded", message=TOO_LARGE), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(413, message=TOO_LARGE), RequestKind.CREATE, ErrorClass.ROW),
    (ApiError(403, message="blocked", page=True), RequestKind.SUBMIT, ErrorClass.ROW),
    # ── a full queue under any status ──
    (ApiError(400, message=QUEUE), RequestKind.CREATE, ErrorClass.THROTTLED),
    (ApiError(500, message="llm server loading model"), RequestKind.CREATE, ErrorClass.THROTTLED),
    (ApiError(503, message="Try again later."), RequestKind.CREATE, ErrorClass.THROTTLED),
    (ApiError(500, message="Internal error, try again later."), RequestKind.CREATE, ErrorClass.REPLY_LOST),
    (ApiError(400, message="No deployments, Try again in 60 seconds."), RequestKind.CREATE, ErrorClass.THROTTLED),
    (ApiError(503, message=QUEUE), RequestKind.READ, ErrorClass.RETRY),
    # ── the key ──
    (ApiError(400, code="400", message="API key not valid. Please pass a valid API key."), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(403, message="You have insufficient permissions for this operation."), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(403, message="Forbidden"), RequestKind.READ, ErrorClass.BATCH),
    (ApiError(403, message="Forbidden"), RequestKind.SUBMIT, ErrorClass.BATCH),
    (ApiError(403, message="Access denied", page=True), RequestKind.READ, ErrorClass.RETRY),
    # ── nothing says whose fault it is ──
    (ApiError(403, message="Access denied", page=True), RequestKind.CREATE, ErrorClass.UNCLEAR),
    (ApiError(403, message="Forbidden"), RequestKind.THREAD, ErrorClass.UNCLEAR),
    (ApiError(400, message="Bad Request"), RequestKind.CREATE, ErrorClass.UNCLEAR),
    (ApiError(400, message="Bad Request", param="mystery"), RequestKind.CREATE, ErrorClass.UNCLEAR),
    (ApiError(404, message=NO_FILE), RequestKind.THREAD, ErrorClass.UNCLEAR),
    # ── what all rows share ──
    (ApiError(400, message="Bad Request"), RequestKind.SETUP, ErrorClass.BATCH),
    # ── a setting of the profile ──
    (ApiError(400, param="temperature"), RequestKind.CREATE, ErrorClass.BATCH),
    (ApiError(400, param="tools[0].container"), RequestKind.CREATE, ErrorClass.BATCH),
]  # fmt: skip


@pytest.mark.parametrize(("error", "request_kind", "error_class"), ERRORS, ids=str)
def test_each_error_has_one_class(
    error: ApiError, request_kind: RequestKind, error_class: ErrorClass
) -> None:
    """By the request that failed."""
    assert classify(error, request_kind) is error_class


@pytest.mark.parametrize("request_kind", RequestKind)
@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (ApiError(429, code="insufficient_quota", message=QUOTA), ErrorClass.BATCH),
        (ApiError(401, code="invalid_api_key"), ErrorClass.BATCH),
        (ApiError(404, code="model_not_found", message=MODEL), ErrorClass.BATCH),
        (ApiError(404, message=NO_ASSISTANT), ErrorClass.BATCH),
        (ApiError(400, code="invalid_beta", message=BETA), ErrorClass.BATCH),
        (ApiError(400, code="conversation_locked", message=LOCK), ErrorClass.LOCKED),
        (ApiError(400, message=BUSY), ErrorClass.LOCKED),
        (ApiError(429, code="rate_limit_exceeded", message=RATE), ErrorClass.THROTTLED),
        (ApiError(409, message=LATE), ErrorClass.ENDED),
        (ApiError(None, code="not_connected", sent=False), ErrorClass.NOT_SENT),
    ],
)
def test_some_errors_have_the_same_class_for_every_request(
    error: ApiError, request_kind: RequestKind, error_class: ErrorClass
) -> None:
    """Key, money, lock, rate limit and network."""
    assert classify(error, request_kind) is error_class


@pytest.mark.parametrize("request_kind", RequestKind)
def test_every_5xx_is_retried_or_looked_up(request_kind: RequestKind) -> None:
    """Any number: read again, or search first where a run may have been created."""
    paid = (
        ErrorClass.REPLY_LOST
        if request_kind in {RequestKind.CREATE, RequestKind.SUBMIT}
        else ErrorClass.RETRY
    )

    assert {classify(ApiError(status), request_kind) for status in range(500, 600) if status != 501} == {paid}


def test_any_words_of_a_missing_model_count_beside_its_name() -> None:
    """E7: whatever the code, if the words name the profile's model and that it is not there; busy is another thing."""
    missing = ApiError(400, message="Sorry: no such thing, model acme/large-2 not found in registry")
    busy = ApiError(503, message="the model acme/large-2 is unknown to this node")

    assert classify(missing, RequestKind.CREATE, model="acme/large-2") is ErrorClass.BATCH
    assert classify(missing, RequestKind.CREATE, model="acme/large") is ErrorClass.UNCLEAR
    assert classify(busy, RequestKind.CREATE, model="acme/large-2") is ErrorClass.REPLY_LOST


def test_every_rule_of_the_table_is_used_and_names_its_source() -> None:
    """Each rule decides at least one error of ERRORS, and says where it comes from."""
    matched = {
        next(rule for rule in TABLE if rule.matches(error, request_kind)) for error, request_kind, _ in ERRORS
    }

    assert [rule.source for rule in TABLE if rule not in matched] == []
    assert all(len(rule.source) > 20 for rule in TABLE)


@pytest.mark.parametrize(
    ("error", "override"),
    [
        (ApiError(404, code="model_not_found", message=MODEL), "model"),
        (ApiError(400, param="temperature"), "temperature"),
        (ApiError(400, param="max_completion_tokens"), "max_completion_tokens"),
    ],
)
def test_a_refused_override_fails_the_row(error: ApiError, override: str) -> None:
    """Of the profile, the same setting pauses the batch."""
    assert classify(error, RequestKind.CREATE, frozenset({override})) is ErrorClass.ROW
    assert classify(error, RequestKind.CREATE, frozenset({"other"})) is ErrorClass.BATCH


def test_a_row_with_its_own_model_still_has_the_batchs_errors() -> None:
    """Only an unknown model fails the row; a wrong key pauses the batch."""
    assert classify(ApiError(401), RequestKind.CREATE, frozenset({"model"})) is ErrorClass.BATCH


@pytest.mark.parametrize(
    ("text", "run"),
    [
        (BUSY, "run_xyz"),
        (WHILE, "run_xyz"),
        ("Thread t already has an active run 17-ab.", "17-ab"),
        ("Thread t already has an active run `run_1`. Wait 2 minutes.", "run_1"),
        ("Thread t already has an active run.", None),
        ("Thread t already has an active run. 2 others wait.", None),
        ("Can't add messages to thread_1 while a run is active.", None),
        (LOCK, None),
    ],
)
def test_the_lock_names_the_run(text: str, run: str | None) -> None:
    """Case A20: the id of the blocking run is read where one stands, whatever ids the server makes."""
    assert blocking_run(ApiError(400, message=text)) == run


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (ApiError(404, message=NO_ASSISTANT), True),
        (ApiError(400, message=NO_ASSISTANT), False),
        (ApiError(404, message=NO_THREAD), False),
    ],
)
def test_a_deleted_assistant_is_distinguished_from_a_deleted_thread(error: ApiError, missing: bool) -> None:
    """By status and text: only then is another made."""
    assert assistant_missing(error) is missing


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (ApiError(404, message=NO_STORE), True),
        (ApiError(400, message=NO_STORE), True),
        (ApiError(404, message="No vector store found with id 'vs_1'."), True),
        (ApiError(500, message=NO_STORE), False),
        (ApiError(404, message="Vector store with id ['vs_2'] not found."), False),
        (ApiError(404, message="No thread found with id 'vs_1'."), False),
    ],
)
def test_a_deleted_vector_store_is_recognized_by_its_id(error: ApiError, missing: bool) -> None:
    """Only the batch's own is made again, and only when the API says that it is not there."""
    assert vector_store_missing(error, "vs_1") is missing
    assert not vector_store_missing(error, None)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        *[(ApiError(status), True) for status in (None, 200, 408, 429, 500, 503)],
        *[(ApiError(status), False) for status in (400, 403, 404, 501)],
        (ApiError(200, code="too_large"), False),
    ],
)
def test_transient_errors_of_a_download_are_retried(error: ApiError, transient: bool) -> None:
    """A missing or too large file is not retried."""
    assert is_transient(error) is transient


def test_waits_double_up_to_their_cap_with_jitter() -> None:
    """Half to the whole of base times two a try; never more than the cap; other waits between attempts."""
    policy = RetryPolicy(base_s=0.5, cap_s=30.0, attempt_base_s=1.0, attempt_cap_s=60.0)

    assert [policy.wait_s(tries, 1.0) for tries in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [policy.wait_s(tries, 0.0) for tries in (0, 3, 1000)] == [0.25, 2, 15]
    assert [policy.attempt_wait_s(attempt, 1.0) for attempt in (1, 2, 3, 9)] == [1, 2, 4, 60]


def test_the_defaults_are_as_documented() -> None:
    """Three attempts, a minute for a create, 30 s of grace: what the documentation says."""
    policy = RetryPolicy()

    assert (policy.attempts, policy.create_limit_s, policy.not_found_grace_s, policy.cancel_grace_s) == (
        3,
        60,
        30,
        30,
    )
    assert (policy.tool_rounds, policy.slot_wait_s, policy.unreadable_s) == (64, 5, 3600)
    assert (policy.base_s, policy.cap_s, policy.attempt_base_s, policy.attempt_cap_s) == (0.5, 30, 1, 60)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ApiError(None), "no_reply"),
        (ApiError(None, message="reset"), "no_reply: reset"),
        (ApiError(503), "http_503"),
        (ApiError(400, type="kind", message="no"), "kind: no"),
        (ApiError(400, code="code", type="kind"), "code"),
    ],
)
def test_an_error_is_named_by_its_code_its_type_or_its_status(error: ApiError, words: str) -> None:
    """Before the server's words, if there are any."""
    assert str(error) == words

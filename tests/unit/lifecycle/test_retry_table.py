"""The table of faults, row by row, with the real texts of the APIs: what each means, and who owns the retry."""

import pytest

from askmill.worker.lifecycle.api_types import ApiFault
from askmill.worker.lifecycle.retry import (
    TABLE,
    On,
    RetryPolicy,
    Verdict,
    assistant_gone,
    blocking_run,
    classify,
    may_pass,
    store_gone,
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
LONG = "Invalid 'input': string too long. Expected a string with maximum length 10485760."

FAULTS = [
    # ── money, key, model, server: the batch ──
    (ApiFault(429, code="insufficient_quota", message=QUOTA), On.CREATE, Verdict.BATCH),
    (ApiFault(429, type="insufficient_quota", message=QUOTA), On.READ, Verdict.BATCH),
    (ApiFault(400, code="billing_hard_limit_reached"), On.THREAD, Verdict.BATCH),
    (ApiFault(429, code="billing_not_active"), On.CREATE, Verdict.BATCH),
    (ApiFault(402, code="credit_balance_exhausted"), On.CREATE, Verdict.BATCH),
    (ApiFault(403, code="organization_spend_limit_exceeded"), On.CREATE, Verdict.BATCH),
    (ApiFault(429, code="project_spend_limit_exceeded"), On.CREATE, Verdict.BATCH),
    (ApiFault(429, code="organization_usage_limit_exceeded"), On.CREATE, Verdict.BATCH),
    (ApiFault(401, code="invalid_api_key", message="Incorrect API key provided"), On.READ, Verdict.BATCH),
    (ApiFault(403, code="unsupported_country_region_territory"), On.CREATE, Verdict.BATCH),
    (ApiFault(404, code="model_not_found", message=MODEL), On.CREATE, Verdict.BATCH),
    (ApiFault(400, code="model_not_found", message=MODEL), On.CREATE, Verdict.BATCH),
    (ApiFault(400, message=NO_ASSISTANT), On.CREATE, Verdict.BATCH),
    (ApiFault(404, message=NO_ASSISTANT), On.THREAD, Verdict.BATCH),
    (ApiFault(404, message=NO_STORE), On.SUBMIT, Verdict.BATCH),
    (ApiFault(400, message=NO_STORE), On.CREATE, Verdict.BATCH),
    (ApiFault(404, message="No vector store found with id 'vs_1'."), On.THREAD, Verdict.BATCH),
    (ApiFault(404, "vector_store", message="not made again: no such file"), On.SUBMIT, Verdict.BATCH),
    (ApiFault(None, "no_vector_store_yet", sent=False), On.CREATE, Verdict.UNSENT),
    (ApiFault(400, code="invalid_beta", message=BETA), On.READ, Verdict.BATCH),
    (ApiFault(404, message=URL), On.THREAD, Verdict.BATCH),
    (ApiFault(405), On.CREATE, Verdict.BATCH),
    (ApiFault(501), On.CREATE, Verdict.BATCH),
    (ApiFault(400, code="organization_spend_limit_exceeded"), On.CREATE, Verdict.BATCH),
    # ── the way to the API: the batch ──
    (ApiFault(302, code="redirected", message=MOVED), On.CREATE, Verdict.BATCH),
    (ApiFault(307, code="redirected", message=MOVED), On.READ, Verdict.BATCH),
    (ApiFault(303, code="redirected", message=MOVED), On.CANCEL, Verdict.BATCH),
    (ApiFault(None, code="proxy_refused", message="the proxy wants a user", sent=False), On.CREATE, Verdict.BATCH),
    (ApiFault(404, message="Invalid URL (POST /v1/threads/thread_1/runs)"), On.CREATE, Verdict.BATCH),
    (ApiFault(404, message=NO_THREAD), On.THREAD, Verdict.BATCH),
    (ApiFault(404, message=NO_FILE), On.THREAD, Verdict.BATCH),
    (ApiFault(404, message=NO_FILE, param=""), On.CREATE, Verdict.BATCH),
    (ApiFault(404, message=NO_FILE, param="tool_resources.code_interpreter.file_ids"), On.CREATE, Verdict.BATCH),
    (ApiFault(405, param="messages"), On.THREAD, Verdict.BATCH),
    # ── locks ──
    (ApiFault(400, message=BUSY), On.CREATE, Verdict.LOCKED),
    (ApiFault(400, message=WHILE), On.THREAD, Verdict.LOCKED),
    (ApiFault(400, code="conversation_locked", message=LOCK, param="conversation"), On.CREATE, Verdict.LOCKED),
    (ApiFault(409, code="conversation_locked", message=LOCK), On.SUBMIT, Verdict.LOCKED),
    # ── wait ──
    (ApiFault(429, code="rate_limit_exceeded", message=RATE), On.CREATE, Verdict.THROTTLED),
    (ApiFault(429), On.READ, Verdict.THROTTLED),
    (ApiFault(402, message="Too many requests in flight", retry_after_s=3.0), On.CREATE, Verdict.THROTTLED),
    # ── the run has ended meanwhile ──
    (ApiFault(400, message=LATE), On.SUBMIT, Verdict.ENDED),
    (ApiFault(409, message=LATE), On.SUBMIT, Verdict.ENDED),
    (ApiFault(400, message=OVER), On.CANCEL, Verdict.ENDED),
    (ApiFault(409), On.CANCEL, Verdict.ENDED),
    (ApiFault(404, message=NO_RUN), On.CANCEL, Verdict.ENDED),
    (ApiFault(422), On.CANCEL, Verdict.ENDED),
    # ── gone ──
    (ApiFault(404, message=NO_RUN), On.READ, Verdict.GONE),
    (ApiFault(404, message=NO_RUN), On.SUBMIT, Verdict.GONE),
    (ApiFault(404, message=NO_THREAD), On.CREATE, Verdict.GONE),
    (ApiFault(404, message="Conversation with id 'conv_1' not found."), On.CREATE, Verdict.GONE),
    # ── never sent, lost, again ──
    (ApiFault(None, code="not_connected", sent=False), On.CREATE, Verdict.UNSENT),
    (ApiFault(None, code="not_connected", sent=False), On.READ, Verdict.UNSENT),
    *[(ApiFault(status), On.CREATE, Verdict.LOST) for status in (None, 200, 408, 409, 500, 502, 503, 504, 529)],
    *[(ApiFault(status), On.SUBMIT, Verdict.LOST) for status in (None, 200, 408, 500, 503)],
    *[(ApiFault(status), On.READ, Verdict.AGAIN) for status in (None, 200, 408, 409, 500, 502, 503, 504)],
    *[(ApiFault(status), On.THREAD, Verdict.AGAIN) for status in (None, 200, 408, 409, 500, 503)],
    *[(ApiFault(status), On.CANCEL, Verdict.AGAIN) for status in (None, 200, 408, 500, 503)],
    (ApiFault(400, message="what a look cannot mean"), On.READ, Verdict.AGAIN),
    (ApiFault(418), On.CANCEL, Verdict.AGAIN),
    # ── this row's input ──
    (ApiFault(400, code="invalid_prompt"), On.CREATE, Verdict.ROW),
    (ApiFault(400, message=LONG, param="input"), On.CREATE, Verdict.ROW),
    (ApiFault(422, param="messages[0].content"), On.THREAD, Verdict.ROW),
    (ApiFault(400, message="No tool output found for function call call_1.", param="input"), On.SUBMIT, Verdict.ROW),
    (ApiFault(404, message=NO_FILE, param="messages[0].attachments[0].file_id"), On.THREAD, Verdict.ROW),
    (ApiFault(404, message=NO_FILE, param="input[0].content[1].file_id"), On.CREATE, Verdict.ROW),
    (ApiFault(413), On.CREATE, Verdict.ROW),
    (ApiFault(400, message=NO_THREAD), On.CREATE, Verdict.ROW),
    (ApiFault(422), On.SUBMIT, Verdict.ROW),
    (ApiFault(405), On.SUBMIT, Verdict.ROW),
    # ── a setting of the profile ──
    (ApiFault(400, param="temperature"), On.CREATE, Verdict.BATCH),
    (ApiFault(400, param="tools[0].container"), On.CREATE, Verdict.BATCH),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "on", "verdict"), FAULTS, ids=str)
def test_each_fault_means_one_thing(fault: ApiFault, on: On, verdict: Verdict) -> None:
    """What the fault is taken for, by the request that met it."""
    assert classify(fault, on) is verdict


@pytest.mark.parametrize("on", On)
@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (ApiFault(429, code="insufficient_quota", message=QUOTA), Verdict.BATCH),
        (ApiFault(401, code="invalid_api_key"), Verdict.BATCH),
        (ApiFault(404, code="model_not_found", message=MODEL), Verdict.BATCH),
        (ApiFault(404, message=NO_ASSISTANT), Verdict.BATCH),
        (ApiFault(400, code="invalid_beta", message=BETA), Verdict.BATCH),
        (ApiFault(400, code="conversation_locked", message=LOCK), Verdict.LOCKED),
        (ApiFault(400, message=BUSY), Verdict.LOCKED),
        (ApiFault(429, code="rate_limit_exceeded", message=RATE), Verdict.THROTTLED),
        (ApiFault(409, message=LATE), Verdict.ENDED),
        (ApiFault(None, code="not_connected", sent=False), Verdict.UNSENT),
    ],
)
def test_some_faults_mean_the_same_whichever_request_meets_them(
    fault: ApiFault, on: On, verdict: Verdict
) -> None:
    """Key, money, lock, rate and network are nobody's own: every request learns of them alike."""
    assert classify(fault, on) is verdict


@pytest.mark.parametrize("on", On)
def test_every_trouble_of_a_server_is_trouble(on: On) -> None:
    """Whatever number a proxy makes up: read again, or look first where a run may have been made."""
    paid = Verdict.LOST if on in {On.CREATE, On.SUBMIT} else Verdict.AGAIN

    assert {classify(ApiFault(status), on) for status in range(500, 600) if status != 501} == {paid}


def test_every_row_of_the_table_is_met_and_names_its_source() -> None:
    """No row of the table is there without a fault that it alone decides, and a source to look it up."""
    met = {next(rule for rule in TABLE if rule.fits(fault, on)) for fault, on, _ in FAULTS}

    assert [rule.source for rule in TABLE if rule not in met] == []
    assert all(len(rule.source) > 20 for rule in TABLE)


@pytest.mark.parametrize(
    ("fault", "chosen"),
    [
        (ApiFault(404, code="model_not_found", message=MODEL), "model"),
        (ApiFault(400, param="temperature"), "temperature"),
        (ApiFault(400, param="max_completion_tokens"), "max_completion_tokens"),
    ],
)
def test_what_the_row_chose_itself_fails_the_row(fault: ApiFault, chosen: str) -> None:
    """An `--override` that the API refuses is the row's fault; from the profile it would be the batch's."""
    assert classify(fault, On.CREATE, frozenset({chosen})) is Verdict.ROW
    assert classify(fault, On.CREATE, frozenset({"other"})) is Verdict.BATCH


def test_a_row_with_its_own_model_still_meets_the_batchs_faults() -> None:
    """Only an unknown model is its own; a wrong key is everybody's."""
    assert classify(ApiFault(401), On.CREATE, frozenset({"model"})) is Verdict.BATCH


@pytest.mark.parametrize(
    ("text", "run"),
    [
        (BUSY, "run_xyz"),
        (WHILE, "run_xyz"),
        ("Thread t already has an active run 17-ab.", "17-ab"),
        (LOCK, None),
    ],
)
def test_the_lock_names_the_run(text: str, run: str | None) -> None:
    """The id of the blocking run is in the text, whatever ids the server makes."""
    assert blocking_run(ApiFault(400, message=text)) == run


@pytest.mark.parametrize(
    ("fault", "gone"),
    [
        (ApiFault(404, message=NO_ASSISTANT), True),
        (ApiFault(400, message=NO_ASSISTANT), False),
        (ApiFault(404, message=NO_THREAD), False),
    ],
)
def test_a_deleted_assistant_is_told_from_a_deleted_thread(fault: ApiFault, gone: bool) -> None:
    """By status and text: only then is another made."""
    assert assistant_gone(fault) is gone


@pytest.mark.parametrize(
    ("fault", "gone"),
    [
        (ApiFault(404, message=NO_STORE), True),
        (ApiFault(400, message=NO_STORE), True),
        (ApiFault(404, message="No vector store found with id 'vs_1'."), True),
        (ApiFault(500, message=NO_STORE), False),
        (ApiFault(404, message="Vector store with id ['vs_2'] not found."), False),
        (ApiFault(404, message="No thread found with id 'vs_1'."), False),
    ],
)
def test_a_deleted_vector_store_is_known_by_its_name(fault: ApiFault, gone: bool) -> None:
    """Only the batch's own is made again, and only when the API says that it is not there."""
    assert store_gone(fault, "vs_1") is gone
    assert not store_gone(fault, None)


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        *[(ApiFault(status), True) for status in (None, 200, 408, 429, 500, 503)],
        *[(ApiFault(status), False) for status in (400, 403, 404, 501)],
        (ApiFault(200, code="too_large"), False),
    ],
)
def test_a_file_is_fetched_again_where_that_may_help(fault: ApiFault, again: bool) -> None:
    """Trouble passes; a file that is gone or too large stays so."""
    assert may_pass(fault) is again


def test_waits_double_up_to_their_cap_with_jitter() -> None:
    """Half to the whole of base times two a try; never more than the cap; other waits between attempts."""
    policy = RetryPolicy(base_s=0.5, cap_s=30.0, attempt_base_s=1.0, attempt_cap_s=60.0)

    assert [policy.wait_s(tries, 1.0) for tries in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [policy.wait_s(tries, 0.0) for tries in (0, 3, 1000)] == [0.25, 2, 15]
    assert [policy.attempt_wait_s(attempt, 1.0) for attempt in (1, 2, 3, 9)] == [1, 2, 4, 60]


def test_the_defaults_are_the_contracts() -> None:
    """Three attempts, a minute for a create, 30 s of grace: what the documentation says."""
    policy = RetryPolicy()

    assert (policy.attempts, policy.create_limit_s, policy.gone_grace_s, policy.cancel_grace_s) == (
        3,
        60,
        30,
        30,
    )
    assert (policy.tool_rounds, policy.slot_wait_s, policy.unreadable_s) == (64, 5, 3600)
    assert (policy.base_s, policy.cap_s, policy.attempt_base_s, policy.attempt_cap_s) == (0.5, 30, 1, 60)

"""What follows from a failed request of a shard, and from a failed validation: the complete decision."""

from dataclasses import replace

import pytest

from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.batch_types import BatchFailure, FailureKind, LineRefusal, ServerBatch
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.retry import fault_of
from askmill.worker.lifecycle.shard_events import (
    EndShard,
    ListBatches,
    ReleaseShard,
    Rest,
    ShardAction,
    ShardDecision,
    ShardRequestFailed,
    WaitShard,
)
from askmill.worker.lifecycle.shard_on_failed import on_validation_failed
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_state import ShardPhase, ShardState
from askmill.worker.lifecycle.shard_transitions import advance_shard
from tests.unit.lifecycle.shard_world import failure

POLICY = ShardPolicy()
CUT = ShardState(lines=3)
SENT = replace(CUT, phase=ShardPhase.SENT, file_id="file-1", sent_at=100.0)
UPLOADED = replace(SENT, phase=ShardPhase.UPLOADED)
"""Uploaded, or back from a create that was not carried out."""
FOLLOWED = replace(SENT, phase=ShardPhase.FOLLOWED, batch_id="batch-1", status="in_progress")
READING = replace(FOLLOWED, phase=ShardPhase.READING)
DISCARDING = replace(CUT, discard_file="file-0")
SETUP, CREATE, READ, CANCEL = RequestKind.SETUP, RequestKind.CREATE, RequestKind.READ, RequestKind.CANCEL
NO_REPLY, UNSENT = ApiError(None), ApiError(None, sent=False)
KEY = ApiError(401, message="no")
NO_API = ApiError(404, message="Not Found", request="POST /batches")
FULL = ApiError(429, message="slow down")
"""Its wait is the backoff."""
WAIT_S = 0.75
"""The first backoff at the middle jitter: between 0.5 and 1 of a second."""


def failed(error: ApiError, request: RequestKind, at: float = 200.0) -> ShardRequestFailed:
    return ShardRequestFailed(at, error=error, request=request)


def pause(reason: str, look_s: float = 0.0, resume_after_s: float | None = None) -> ReleaseShard:
    return ReleaseShard(look_s, pause=reason, resume_after_s=resume_after_s)


def counted(state: ShardState) -> ShardState:
    """The state with its first failure."""
    return replace(state, failures=1, failing_since=200.0)


WAITS = WaitShard(WAIT_S)


@pytest.mark.parametrize(
    ("state", "error", "request_kind", "after", "action", "create_failed"),
    [
        (SENT, NO_REPLY, CREATE, SENT, ListBatches(WAIT_S), True),
        (SENT, UNSENT, CREATE, UPLOADED, WAITS, True),
        (SENT, KEY, CREATE, UPLOADED, pause("http_401: no"), False),
        (SENT, NO_API, CREATE, UPLOADED, pause("http_404: Not Found (POST /batches)"), False),
        (SENT, replace(NO_API, status=405), CREATE, UPLOADED, pause("http_405: Not Found (POST /batches)"), False),
        (SENT, replace(NO_API, status=501), CREATE, UPLOADED, pause("http_501: Not Found (POST /batches)"), False),
        (SENT, replace(NO_API, request=""), CREATE, UPLOADED, pause("http_404: Not Found"), False),
        (SENT, replace(NO_API, status=400), CREATE, UPLOADED, pause("http_400: Not Found"), False),
        (CUT, KEY, SETUP, CUT, pause("http_401: no"), False),
        (CUT, ApiError(413, message="big"), SETUP, CUT, pause("http_413: big"), False),
        (CUT, NO_REPLY, SETUP, CUT, WAITS, True),
        (CUT, NO_REPLY, READ, CUT, WAITS, False),
        (UPLOADED, NO_REPLY, READ, UPLOADED, WAITS, True),
        (UPLOADED, ApiError(404, message="no"), READ, UPLOADED, pause("http_404: no"), False),
        (UPLOADED, ApiError(403, message="a page", page=True), READ, UPLOADED, WAITS, True),
        (UPLOADED, KEY, READ, UPLOADED, pause("http_401: no"), False),
        (FOLLOWED, NO_REPLY, READ, FOLLOWED, WAITS, False),
        (FOLLOWED, ApiError(404, message="no"), READ, FOLLOWED, WAITS, False),
        (FOLLOWED, KEY, READ, FOLLOWED, pause("http_401: no", 60.0), False),
        (SENT, KEY, READ, SENT, pause("http_401: no", 60.0), False),
        (READING, KEY, READ, READING, pause("http_401: no", 60.0), False),
        (FOLLOWED, NO_REPLY, CANCEL, FOLLOWED, WAITS, False),
    ],
)  # fmt: skip
def test_each_failure_in_each_phase(
    state: ShardState,
    error: ApiError,
    request_kind: RequestKind,
    after: ShardState,
    action: ShardAction,
    create_failed: bool,
) -> None:
    """A create that may have been carried out is listed; what every shard would meet pauses the batch."""
    expected = ShardDecision(counted(after), action, create_failed=create_failed)
    assert advance_shard(state, failed(error, request_kind), POLICY) == expected


def test_waits_grow_with_the_failures_in_a_row() -> None:
    """Doubled from a second up to a minute; when they began is kept."""
    state = replace(FOLLOWED, failures=2, failing_since=150.0)
    decision = advance_shard(state, failed(NO_REPLY, READ), POLICY)
    assert decision.action == WaitShard(3.0)
    assert (decision.state.failures, decision.state.failing_since) == (3, 150.0)
    assert [POLICY.wait_s(tries, 1.0) for tries in (0, 1, 5, 6, 9)] == [1.0, 2.0, 32.0, 60.0, 60.0]
    assert POLICY.wait_s(0, 0.0) == 0.5
    assert (
        advance_shard(replace(state, failing_since=0.0), failed(NO_REPLY, READ), POLICY).state.failing_since
        == 0
    )


def test_a_failing_server_that_names_a_time_gets_it() -> None:
    """Before the next read, and before the search for a batch whose create got an error."""
    error = ApiError(503, message="boom", retry_after_s=20.0)
    assert advance_shard(FOLLOWED, failed(error, READ), POLICY).action == WaitShard(20.0)
    lost = replace(error, status=500)
    assert advance_shard(SENT, failed(lost, CREATE), POLICY).action == ListBatches(20.0)


def test_unreadable_results_are_given_up_after_an_hour() -> None:
    """Counted from the first failure; elsewhere a failure has no such end."""
    state = replace(READING, failures=7, failing_since=200.0)
    assert isinstance(advance_shard(state, failed(NO_REPLY, READ, 3800.0), POLICY).action, WaitShard)
    late = failed(NO_REPLY, READ, 3800.5)
    ended = advance_shard(state, late, POLICY)
    assert ended == ShardDecision(replace(state, failures=8), EndShard(Rest.MISSING))
    assert isinstance(
        advance_shard(replace(state, phase=ShardPhase.FOLLOWED), late, POLICY).action, WaitShard
    )


@pytest.mark.parametrize(
    ("failures", "error", "given_up"),
    [
        (0, ApiError(404, message="no such file"), True),
        (0, ApiError(409, message="gone"), True),
        (0, NO_REPLY, False),
        (1, FULL, False),
        (2, NO_REPLY, True),
        (2, KEY, True),
    ],
)
def test_a_file_that_cannot_be_deleted_is_left(failures: int, error: ApiError, given_up: bool) -> None:
    """At once where it is gone, else after three tries: `purge` tries again."""
    state = replace(DISCARDING, failures=failures, failing_since=200.0)
    decision = advance_shard(state, failed(error, CANCEL), POLICY)
    kept = ShardDecision(replace(state, failures=failures + 1), WaitShard(WAIT_S * 2**failures))
    left = ShardDecision(replace(state, discard_file=None, failures=0), WaitShard(0.0))
    assert decision == (left if given_up else kept)


@pytest.mark.parametrize(
    ("state", "request_kind"), [(DISCARDING, READ), (replace(DISCARDING, phase=ShardPhase.FOLLOWED), CANCEL)]
)
def test_only_the_delete_of_a_file_gives_it_up(state: ShardState, request_kind: RequestKind) -> None:
    """Another request, or a cancel of the batch, leaves it to be deleted."""
    tried = replace(state, failures=5)
    assert advance_shard(tried, failed(NO_REPLY, request_kind), POLICY).state.discard_file == "file-0"


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [(FULL, WAIT_S), (replace(FULL, retry_after_s=20.0), 20.0), (replace(FULL, retry_after_s=0.1), WAIT_S)],
)
@pytest.mark.parametrize(
    ("state", "request_kind", "after"),
    [(SENT, CREATE, UPLOADED), (SENT, READ, SENT), (FOLLOWED, READ, FOLLOWED), (CUT, SETUP, CUT)],
)
def test_a_rate_limit_slows_everybody_down(
    state: ShardState, request_kind: RequestKind, after: ShardState, error: ApiError, wait_s: float
) -> None:
    """For the longer of the backoff and the wait that the server asks for. A refused create was not sent."""
    expected = ShardDecision(
        counted(after), WaitShard(wait_s), throttled_s=wait_s, throttled_by="http_429: slow down"
    )
    assert advance_shard(state, failed(error, request_kind), POLICY) == expected


@pytest.mark.parametrize(
    ("state", "request_kind", "after", "look_s"),
    [
        (CUT, SETUP, CUT, 0.0),
        (SENT, CREATE, UPLOADED, 0.0),
        (FOLLOWED, READ, FOLLOWED, 60.0),
        (READING, READ, READING, 60.0),
    ],
)
def test_a_long_wait_pauses_the_batch_until_then(
    state: ShardState, request_kind: RequestKind, after: ShardState, look_s: float
) -> None:
    """More than ten minutes. What the API has is looked at all the same."""
    long = replace(FULL, retry_after_s=600.5)
    expected = ShardDecision(counted(after), pause("http_429: slow down", look_s, 600.5))
    assert advance_shard(state, failed(long, request_kind), POLICY) == expected
    short = replace(FULL, retry_after_s=600.0)
    assert advance_shard(state, failed(short, request_kind), POLICY).throttled_s == 600.0


BAD_LINE = failure(FailureKind.LINES, [1])


def refusing(*errors: ApiError) -> BatchFailure:
    """A validation that names a line for each error."""
    fault = fault_of(errors[0], CREATE)
    lines = tuple(LineRefusal(number, error, fault) for number, error in enumerate(errors, 1))
    return BatchFailure(FailureKind.LINES, errors[0], fault, lines)


@pytest.mark.parametrize(
    ("lines", "why", "policy", "refused"),
    [
        (3, failure(FailureKind.LINES, [1, 3]), POLICY, [1, 3]),
        (3, failure(FailureKind.LINES, [0, 3, 4]), POLICY, [3]),
        (1, BAD_LINE, POLICY, [1]),
        (2, failure(FailureKind.LINES, [1, 2]), POLICY, []),
        (0, BAD_LINE, POLICY, []),
        (3, refusing(KEY), POLICY, []),
        (3, refusing(BAD_LINE.error, KEY), POLICY, []),
        (3, refusing(ApiError(400, param="temperature", message="bad")), POLICY, []),
        (
            3,
            refusing(ApiError(400, param="temperature", message="bad")),
            ShardPolicy(row_overrides=frozenset({"temperature"})),
            [1],
        ),
    ],
)
def test_lines_fail_alone_unless_all_would(
    lines: int, why: BatchFailure, policy: ShardPolicy, refused: list[int]
) -> None:
    """Lines of the file only. All lines, or a refusal of what all lines have, pause the batch."""
    state = replace(FOLLOWED, lines=lines)
    decision = on_validation_failed(state, ServerBatch("batch-1", "failed", failure=why), policy)
    named = tuple(refusal for refusal in why.lines if refusal.line in refused)
    pauses = EndShard(Rest.RETURN, pause=f"batch_failed: {why.error}")
    expected = EndShard(Rest.RETURN, refused=named) if refused else pauses
    assert decision == ShardDecision(state, expected)


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        (None, EndShard(Rest.RETURN, pause="batch_failed: the API gives no reason")),
        (
            failure(FailureKind.TOKEN_LIMIT, token_limit=7),
            EndShard(Rest.RETURN, hold_cuts=True, token_limit=7),
        ),
    ],
)
def test_a_failed_validation_keeps_the_state(why: BatchFailure | None, expected: EndShard) -> None:
    """The rows return."""
    batch = ServerBatch("batch-1", "failed", failure=why)
    assert on_validation_failed(FOLLOWED, batch, POLICY) == ShardDecision(FOLLOWED, expected)

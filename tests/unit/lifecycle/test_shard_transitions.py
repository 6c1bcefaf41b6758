"""Single transitions of a shard: what holds in every state, and events that histories seldom reach."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.batch_types import BatchFailure, FailureKind, LineRefusal, ServerBatch
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.retry import fault_of
from askmill.worker.lifecycle.shard_events import (
    BatchesListed,
    BatchSeen,
    CancelBatch,
    CancelDuplicate,
    CreateBatch,
    CreateRefused,
    CreateSkipped,
    DuplicateCancelled,
    EndShard,
    FileDeleted,
    FileUploaded,
    ListBatches,
    NothingToSend,
    ReadResults,
    ReleaseShard,
    Rest,
    ResultsRead,
    RowsChanged,
    ShardClaimed,
    ShardEvent,
    ShardRequestFailed,
    UploadFile,
    WaitShard,
)
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_state import ShardPhase, ShardState
from askmill.worker.lifecycle.shard_transitions import advance_shard
from tests.unit.lifecycle.shard_world import failure

POLICY = ShardPolicy()
STATUSES = (
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)
FOLLOWED = ShardState(
    ShardPhase.FOLLOWED, file_id="file-1", batch_id="batch-1", lines=3, status="in_progress"
)
LINE_2 = failure(FailureKind.LINES, [2])
SENT = ShardState(ShardPhase.SENT, file_id="file-1", lines=3, sent_at=100.0)

batches = st.builds(
    ServerBatch,
    id=st.sampled_from(["batch-1", "batch-2"]),
    status=st.sampled_from([*STATUSES, "queued_by_vendor"]),
    input_file_id=st.sampled_from([None, "file-1", "file-0"]),
    output_file_id=st.sampled_from([None, "file-out"]),
    completed=st.sampled_from([None, 0, 2]),
    failed=st.sampled_from([None, 0, 1]),
    failure=st.sampled_from([None, *(failure(kind, [1]) for kind in FailureKind)]),
)
errors = st.builds(
    ApiError,
    status=st.sampled_from([None, 400, 401, 404, 408, 409, 429, 500, 503]),
    message=st.sampled_from(["", "try again in 20s", "insufficient_quota"]),
    sent=st.booleans(),
)
at = st.floats(0.0, 1e5)
events: st.SearchStrategy[ShardEvent] = st.one_of(
    *(st.builds(kind, at=at) for kind in (ShardClaimed, NothingToSend, FileDeleted, CreateSkipped)),
    *(st.builds(kind, at=at) for kind in (CreateRefused, DuplicateCancelled, RowsChanged)),
    st.builds(FileUploaded, at=at, file_id=st.just("file-1"), sha256=st.just("s"), lines=st.just(3)),
    st.builds(BatchesListed, at=at, own=st.lists(batches, max_size=2).map(tuple), asked_at=at),
    st.builds(BatchSeen, at=at, batch=st.none() | batches),
    st.builds(ResultsRead, at=at, lines=st.integers(0, 3), open_rows=st.integers(0, 3)),
    st.builds(ShardRequestFailed, at=at, error=errors, request=st.sampled_from(RequestKind)),
)
states = st.builds(
    ShardState,
    phase=st.sampled_from(ShardPhase),
    tries=st.integers(1, 3),
    lines=st.just(3),
    file_id=st.sampled_from([None, "file-1"]),
    earlier_files=st.sampled_from([(), ("file-0",)]),
    discard_file=st.sampled_from([None, "file-0"]),
    sent_at=st.none() | at,
    batch_id=st.sampled_from([None, "batch-1"]),
    unsettled_since=st.none() | at,
    missing_since=st.none() | at,
    failing_since=st.none() | at,
)
policies = st.builds(ShardPolicy, paused=st.booleans(), cancelled=st.booleans())


@given(states, events, policies)
def test_every_event_is_handled_in_every_phase(
    state: ShardState, event: ShardEvent, policy: ShardPolicy
) -> None:
    """A create is stored as sent, with its file, and none is made in a stopped batch; waits are finite."""
    decision = advance_shard(state, event, policy)
    match decision.action:
        case CreateBatch():
            assert decision.store
            assert decision.state.phase is ShardPhase.SENT
            assert decision.state.sent_at == event.at
            assert not policy.paused
            assert not policy.cancelled
        case UploadFile():
            assert not policy.paused
            assert not policy.cancelled
        case ListBatches(after_s=wait_s) | WaitShard(wait_s=wait_s) | ReadResults(after_s=wait_s):
            assert 0 <= wait_s <= 1800
    if decision.state.file_id != state.file_id and state.file_id and not isinstance(event, FileUploaded):
        assert state.file_id in {decision.state.discard_file, *decision.state.earlier_files}


def test_a_create_without_a_reply_is_listed_before_it_is_sent_again() -> None:
    """At once, again when its time limit has passed, and only then a fresh file; the old one is deleted."""
    lost = advance_shard(
        SENT, ShardRequestFailed(101.0, error=ApiError(None), request=RequestKind.CREATE), POLICY
    )
    assert isinstance(lost.action, ListBatches)
    first = advance_shard(lost.state, BatchesListed(102.0, asked_at=102.0), POLICY)
    assert first.action == ListBatches(58.0)
    second = advance_shard(first.state, BatchesListed(161.0, asked_at=160.5), POLICY)
    assert second.unknown_create
    assert (second.state.phase, second.state.tries, second.state.file_id) == (ShardPhase.CUT, 2, None)
    assert (second.state.earlier_files, second.state.discard_file) == (("file-1",), "file-1")
    deleted = advance_shard(second.state, FileDeleted(162.0), POLICY)
    assert isinstance(deleted.action, UploadFile)


def test_a_list_asked_for_before_the_time_limit_does_not_repeat_a_create() -> None:
    """The reply may come late: what counts is when the list was asked for."""
    early = advance_shard(SENT, BatchesListed(500.0, asked_at=150.0), POLICY)
    assert early.action == ListBatches(10.0)


def test_of_two_batches_the_further_one_is_followed_and_the_other_cancelled_once() -> None:
    """Two creates were carried out: the validating one is cancelled and counted, the running one is kept."""
    state = replace(FOLLOWED, file_id="file-2", earlier_files=("file-1",), batch_id="batch-2")
    running = ServerBatch("batch-1", "in_progress", "file-1")
    validating = ServerBatch("batch-2", "validating", "file-2")
    decision = advance_shard(state, BatchesListed(200.0, own=(running, validating)), POLICY)
    assert (decision.action, decision.duplicate) == (CancelDuplicate("batch-2"), validating)
    again = advance_shard(decision.state, BatchesListed(260.0, own=(running, validating)), POLICY)
    assert (again.state.batch_id, again.duplicate) == ("batch-1", None)


PAUSES = EndShard(Rest.RETURN, pause="batch_failed: invalid_value: bad")


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        (LINE_2, EndShard(Rest.RETURN, refused=LINE_2.lines)),
        (
            failure(FailureKind.TOKEN_LIMIT, token_limit=2_000_000),
            EndShard(Rest.RETURN, hold_cuts=True, token_limit=2_000_000),
        ),
        (failure(FailureKind.LINES, [1, 2, 3]), PAUSES),
        (failure(FailureKind.LINES, [99]), PAUSES),
        (failure(FailureKind.OTHER), PAUSES),
        (None, EndShard(Rest.RETURN, pause="batch_failed: the API gives no reason")),
    ],
    ids=["a named line", "token limit", "every line", "no such line", "other", "no reason"],
)
def test_a_failed_validation_is_sorted_by_what_it_names(why: BatchFailure | None, expected: EndShard) -> None:
    """The row fails, the shard waits for a running one, or the batch pauses."""
    failed = ServerBatch("batch-1", "failed", "file-1", failure=why)
    assert advance_shard(FOLLOWED, BatchesListed(200.0, own=(failed,)), POLICY).action == expected


def test_a_model_that_rows_have_chosen_fails_them_and_no_batch() -> None:
    """All lines of a file name a model that does not exist: a pause, unless `--override model` chose it."""
    error = ApiError(400, code="model_not_found", message="The provided model 'no-such' is not supported.")
    refusals = tuple(LineRefusal(line, error, fault_of(error, RequestKind.CREATE)) for line in (1, 2, 3))
    why = replace(failure(FailureKind.LINES, [1]), error=error, lines=refusals)
    failed = BatchesListed(200.0, own=(ServerBatch("batch-1", "failed", "file-1", failure=why),))
    chosen = advance_shard(FOLLOWED, failed, ShardPolicy(row_overrides=frozenset({"model"})))
    assert chosen.action == EndShard(Rest.RETURN, refused=refusals)
    action = advance_shard(FOLLOWED, failed, POLICY).action
    assert isinstance(action, EndShard)
    assert action.pause


def test_a_cancelled_batch_is_cancelled_at_the_api_once() -> None:
    """The cancel is stored first; a batch that is cancelling is followed to its end."""
    policy, running = ShardPolicy(cancelled=True), ServerBatch("batch-1", "in_progress", "file-1")
    first = advance_shard(FOLLOWED, BatchesListed(200.0, own=(running,)), policy)
    assert (first.action, first.store) == (CancelBatch(), True)
    second = advance_shard(first.state, BatchSeen(201.0, batch=replace(running, status="cancelling")), policy)
    assert isinstance(second.action, ListBatches)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refused_create_pauses_the_batch_and_buys_nothing(status: int) -> None:
    """What refuses a whole shard is no row's fault; after `resume` the same file is sent."""
    error = ApiError(status, message="no")
    decision = advance_shard(SENT, ShardRequestFailed(101.0, error=error, request=RequestKind.CREATE), POLICY)
    assert isinstance(decision.action, ReleaseShard)
    assert decision.action.pause
    assert (decision.state.phase, decision.state.file_id) == (ShardPhase.UPLOADED, "file-1")


def test_a_followed_batch_that_is_not_listed_is_asked_for_by_its_id() -> None:
    """A bounded list says nothing; half an hour of 404 makes its rows missing ones."""
    decision = advance_shard(FOLLOWED, BatchSeen(100.0), POLICY)
    assert isinstance(decision.action, ListBatches)
    gone = advance_shard(replace(FOLLOWED, missing_since=100.0), BatchSeen(2000.0), POLICY)
    assert gone.action == EndShard(Rest.MISSING)


def test_a_server_without_a_list_of_batches_pauses_the_batch() -> None:
    """Nothing can be created safely there; while a batch is followed the same reply is waited out."""
    error = ApiError(404, message="Not Found")
    failed = ShardRequestFailed(100.0, error=error, request=RequestKind.READ)
    uploaded = replace(SENT, phase=ShardPhase.UPLOADED)
    assert isinstance(advance_shard(uploaded, failed, POLICY).action, ReleaseShard)
    assert isinstance(advance_shard(FOLLOWED, failed, POLICY).action, WaitShard)


def test_an_unreachable_api_counts_as_failed_creates_before_the_create() -> None:
    """Lists that fail for minutes before a create pause the batch, as creates do."""
    failed = ShardRequestFailed(100.0, error=ApiError(None), request=RequestKind.READ)
    assert advance_shard(replace(SENT, phase=ShardPhase.UPLOADED), failed, POLICY).create_failed
    assert not advance_shard(FOLLOWED, failed, POLICY).create_failed

"""What follows from each event of a shard: the complete decision, state and action, at each limit."""

from dataclasses import replace

import pytest

from askmill.worker.lifecycle.batch_types import FailureKind, ServerBatch
from askmill.worker.lifecycle.shard_events import (
    AdoptUnknown,
    BatchesListed,
    BatchSeen,
    CancelBatch,
    CancelDuplicate,
    CreateBatch,
    CreateRefused,
    CreateSkipped,
    DeleteFile,
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
    RetrieveBatch,
    RowsChanged,
    ShardAction,
    ShardClaimed,
    ShardDecision,
    ShardEvent,
    UploadFile,
)
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_state import ShardPhase, ShardState
from askmill.worker.lifecycle.shard_transitions import advance_shard
from tests.unit.lifecycle.shard_world import failure

POLICY, PAUSED, CANCELLED = ShardPolicy(), ShardPolicy(paused=True), ShardPolicy(cancelled=True)
BOTH = ShardPolicy(paused=True, cancelled=True)
CUT = ShardState(tries=2, earlier_files=("file-0",))
UPLOADED = replace(
    CUT,
    phase=ShardPhase.UPLOADED,
    file_id="file-1",
    sha256="sha",
    lines=3,
    prompt_tokens=70,
    worst_nano=900,
)
SENT = replace(UPLOADED, phase=ShardPhase.SENT, sent_at=100.0)
FOLLOWED = replace(
    SENT,
    phase=ShardPhase.FOLLOWED,
    batch_id="batch-1",
    status="in_progress",
    completed=1,
    failed=0,
    followed_since=110.0,
    expires_at=5000.0,
)
READING = replace(FOLLOWED, phase=ShardPhase.READING, status="completed", completed=2, failed=1)
DONE = replace(READING, phase=ShardPhase.DONE)
BATCH = ServerBatch("batch-1", "in_progress", "file-1", completed=1, failed=0)
COMPLETED = replace(BATCH, status="completed", completed=3, failed=0, output_file_id="file-out")
RECUT = replace(CUT, tries=3, discard_file="file-1", lines=3, prompt_tokens=70, worst_nano=900)
"""What `without_file` makes of UPLOADED and SENT."""
READ = replace(READING, unsettled_since=None)


def listed(*own: ServerBatch, asked_at: float = 200.0) -> BatchesListed:
    return BatchesListed(201.0, own=own, asked_at=asked_at)


def check(state: ShardState, event: ShardEvent, policy: ShardPolicy, expected: ShardDecision) -> None:
    """The decision is the expected one; a success ends a row of failures."""
    failing = replace(state, failures=4, failing_since=50.0)
    assert advance_shard(failing, event, policy) == expected


@pytest.mark.parametrize(
    ("state", "policy", "action"),
    [
        (CUT, POLICY, UploadFile()),
        (CUT, PAUSED, ReleaseShard(30.0)),
        (CUT, BOTH, EndShard(Rest.CANCELLED)),
        (RECUT, CANCELLED, DeleteFile("file-1")),
        (UPLOADED, POLICY, ListBatches()),
        (UPLOADED, PAUSED, ReleaseShard(30.0)),
        (UPLOADED, CANCELLED, EndShard(Rest.CANCELLED)),
        (SENT, BOTH, ListBatches()),
        (FOLLOWED, BOTH, ListBatches()),
        (READING, BOTH, ReadResults()),
        (DONE, POLICY, EndShard(Rest.RETURN)),
    ],
)
def test_a_claimed_shard_goes_on_from_its_state(
    state: ShardState, policy: ShardPolicy, action: ShardAction
) -> None:
    """Nothing is uploaded or created for a stopped batch; what the API may have is followed."""
    check(state, ShardClaimed(200.0), policy, ShardDecision(state, action))


BEGUN = replace(FOLLOWED, sent_at=None, followed_since=201.0, expires_at=None)
SENT_NOW = replace(UPLOADED, phase=ShardPhase.SENT, sent_at=201.0)
LOST = ListBatches(60.0)


@pytest.mark.parametrize(
    ("state", "event", "policy", "expected"),
    [
        (
            CUT,
            FileUploaded(201.0, 0.5, "file-1", "sha", 3, 70, 900),
            POLICY,
            ShardDecision(UPLOADED, ListBatches(), store=True),
        ),
        (CUT, NothingToSend(201.0), POLICY, ShardDecision(CUT, EndShard(Rest.RETURN))),
        (RECUT, FileDeleted(201.0), POLICY, ShardDecision(replace(RECUT, discard_file=None), UploadFile())),
        (SENT, CreateSkipped(201.0), POLICY, ShardDecision(SENT_NOW, CreateBatch(), store=True)),
        (
            SENT,
            CreateSkipped(201.0),
            PAUSED,
            ShardDecision(replace(SENT, phase=ShardPhase.UPLOADED), ReleaseShard(30.0)),
        ),
        (
            SENT,
            CreateRefused(201.0),
            POLICY,
            ShardDecision(replace(SENT, phase=ShardPhase.UPLOADED), EndShard(Rest.RETURN, hold_cuts=True)),
        ),
        (
            SENT,
            CreateRefused(201.0),
            CANCELLED,
            ShardDecision(replace(SENT, phase=ShardPhase.UPLOADED), EndShard(Rest.CANCELLED)),
        ),
        (
            SENT,
            CreateRefused(201.0),
            PAUSED,
            ShardDecision(replace(SENT, phase=ShardPhase.UPLOADED), ReleaseShard(30.0)),
        ),
        (FOLLOWED, DuplicateCancelled(201.0), POLICY, ShardDecision(FOLLOWED, LOST)),
        (UPLOADED, RowsChanged(201.0), POLICY, ShardDecision(RECUT, DeleteFile("file-1"))),
        (SENT, RowsChanged(201.0), POLICY, ShardDecision(RECUT, DeleteFile("file-1"))),
        (CUT, RowsChanged(201.0), POLICY, ShardDecision(replace(CUT, tries=3), UploadFile())),
        (FOLLOWED, RowsChanged(201.0), POLICY, ShardDecision(FOLLOWED, ListBatches())),
    ],
)
def test_each_event_before_and_beside_the_list(
    state: ShardState, event: ShardEvent, policy: ShardPolicy, expected: ShardDecision
) -> None:
    """What is stored, and what comes next."""
    check(state, event, policy, expected)


GIVEN_UP = replace(RECUT, earlier_files=("file-0", "file-1"))


@pytest.mark.parametrize(
    ("state", "event", "policy", "expected"),
    [
        (UPLOADED, listed(), POLICY, ShardDecision(SENT_NOW, CreateBatch(), store=True)),
        (UPLOADED, listed(), PAUSED, ShardDecision(UPLOADED, ReleaseShard(30.0))),
        (UPLOADED, listed(), CANCELLED, ShardDecision(UPLOADED, EndShard(Rest.CANCELLED))),
        (SENT, listed(asked_at=159.0), POLICY, ShardDecision(SENT, ListBatches(1.0))),
        (
            SENT,
            listed(asked_at=160.0),
            POLICY,
            ShardDecision(GIVEN_UP, DeleteFile("file-1"), store=True, unknown_create=True),
        ),
        (SENT, listed(asked_at=160.0), PAUSED, ShardDecision(SENT, ListBatches(30.0))),
        (SENT, listed(asked_at=159.0), PAUSED, ShardDecision(SENT, ListBatches(1.0))),
        (
            SENT,
            listed(asked_at=160.0),
            BOTH,
            ShardDecision(GIVEN_UP, DeleteFile("file-1"), store=True, unknown_create=True),
        ),
        (FOLLOWED, listed(), POLICY, ShardDecision(FOLLOWED, RetrieveBatch())),
        (CUT, listed(), POLICY, ShardDecision(CUT, UploadFile())),
        (CUT, listed(), PAUSED, ShardDecision(CUT, ReleaseShard(30.0))),
        (
            UPLOADED,
            BatchesListed(201.0, unknown=(BATCH,)),
            POLICY,
            ShardDecision(UPLOADED, AdoptUnknown((BATCH,))),
        ),
    ],
)
def test_what_follows_from_a_list_without_the_shards_batch(
    state: ShardState, event: ShardEvent, policy: ShardPolicy, expected: ShardDecision
) -> None:
    """Before the create it is sent; after it the list is repeated until the create's time limit."""
    check(state, event, policy, expected)


OTHER = ServerBatch("batch-2", "in_progress", "file-0", completed=1, failed=0)


@pytest.mark.parametrize(
    ("own", "followed"),
    [
        ((replace(BATCH, status="failed"),), "batch-1"),
        ((replace(OTHER, status="failed"),), None),
        ((replace(OTHER, status="cancelled", completed=0),), None),
        ((replace(OTHER, status="cancelled"),), "batch-2"),
        ((replace(OTHER, status="expired"), BATCH), "batch-1"),
        ((replace(OTHER, status="cancelling"), replace(BATCH, status="validating")), "batch-1"),
        ((replace(OTHER, status="completed"), replace(BATCH, status="completed")), "batch-1"),
        ((replace(BATCH, status="completed"), replace(OTHER, status="completed")), "batch-1"),
        ((replace(OTHER, status="completed"), replace(BATCH, status="cancelling")), "batch-2"),
        ((replace(OTHER, status="queued_by_vendor"), replace(BATCH, status="expired")), "batch-2"),
        ((replace(OTHER, status="in_progress"), replace(BATCH, status="queued_by_vendor")), "duplicate"),
    ],
)
@pytest.mark.parametrize("state", [UPLOADED, replace(FOLLOWED, missing_since=9.0, discard_file="file-9")])
def test_the_furthest_batch_that_may_have_run_is_followed(
    state: ShardState, own: tuple[ServerBatch, ...], followed: str | None
) -> None:
    """Of two as far the one that is followed already; a batch that ran nothing counts only if it is that one."""
    decision = advance_shard(state, listed(*own), POLICY)
    if followed is None:
        assert isinstance(decision.action, CreateBatch if state is UPLOADED else RetrieveBatch)
    elif followed == "duplicate":
        assert decision.action == CancelDuplicate("batch-1")
    else:
        assert (decision.state.batch_id, decision.duplicate) == (followed, None)
        assert (decision.state.missing_since, decision.state.discard_file) == (None, None)


@pytest.mark.parametrize("status", ["validating", "finalizing", "cancelling", "completed", "expired"])
def test_only_a_running_duplicate_is_cancelled_and_counted(status: str) -> None:
    """Once. One that is cancelling, or has ended, is left."""
    duplicate = replace(OTHER, id="batch-0", status=status)
    state, kept = replace(UPLOADED, cancelled_duplicates=("batch-9",)), replace(BATCH, status="completed")
    event = listed(kept, duplicate)
    decision = advance_shard(state, event, POLICY)
    if status in {"validating", "finalizing"}:
        noted = replace(state, cancelled_duplicates=("batch-9", "batch-0"))
        action = CancelDuplicate("batch-0")
        assert decision == ShardDecision(noted, action, store=True, duplicate=duplicate)
        decision = advance_shard(noted, event, POLICY)
    assert (decision.state.batch_id, decision.duplicate) == ("batch-1", None)


def test_the_duplicates_of_a_list_are_cancelled_one_after_the_other() -> None:
    """Beside the one that is followed, which may stand anywhere in the list."""
    second, third = replace(OTHER, id="batch-2"), replace(OTHER, id="batch-3")
    first = advance_shard(FOLLOWED, listed(second, BATCH, third), POLICY)
    assert first.action == CancelDuplicate("batch-2")
    assert advance_shard(first.state, listed(second, BATCH, third), POLICY).action == CancelDuplicate(
        "batch-3"
    )


def test_a_followed_batch_is_kept_beside_one_of_the_newest_file() -> None:
    """An earlier create's batch is followed; the newest file's is its duplicate, as far as it is."""
    state = replace(FOLLOWED, batch_id="batch-2")
    decision = advance_shard(state, listed(BATCH, OTHER), POLICY)
    assert decision.action == CancelDuplicate("batch-1")


def test_a_lost_create_without_a_stored_file_or_time_is_given_up_as_well() -> None:
    """Both are stored with every create; a state without them is handled."""
    state = replace(SENT, file_id=None, sent_at=None)
    check(state, listed(asked_at=59.5), POLICY, ShardDecision(state, ListBatches(0.5)))
    given_up = replace(RECUT, discard_file=None)
    expected = ShardDecision(given_up, DeleteFile(""), store=True, unknown_create=True)
    check(state, listed(asked_at=60.0), POLICY, expected)


def expiring(created_at: float | None, expires_at: float | None) -> ServerBatch:
    return replace(BATCH, created_at=created_at, expires_at=expires_at)


@pytest.mark.parametrize(
    ("batch", "expires_at"),
    [
        (expiring(10.0, 110.0), 301.0),
        (expiring(None, 110.0), None),
        (expiring(10.0, None), None),
        (expiring(10.0, 10.0), None),
        (expiring(11.0, 10.0), None),
    ],
)
def test_a_batch_is_followed_from_the_first_sight_of_it(batch: ServerBatch, expires_at: float | None) -> None:
    """Its expiry by the jobs' clock: only the difference of the API's own times counts."""
    expected = ShardDecision(replace(BEGUN, expires_at=expires_at), ListBatches(60.0), store=True)
    check(UPLOADED, listed(batch), POLICY, expected)
    check(UPLOADED, BatchSeen(201.0, batch=batch), POLICY, expected)


@pytest.mark.parametrize(
    ("changed", "store"),
    [
        ({}, False),
        ({"id": "batch-2"}, True),
        ({"status": "finalizing"}, True),
        ({"completed": 2}, True),
        ({"failed": 1}, True),
    ],
)
def test_only_a_change_of_a_followed_batch_is_stored(changed: dict[str, object], store: bool) -> None:
    """Its id, status and counts. When it began and expires stays as it is."""
    batch = replace(expiring(10.0, 110.0), **changed)  # type: ignore[arg-type]
    names = {"batch_id" if name == "id" else name: value for name, value in changed.items()}
    state = replace(FOLLOWED, **names)  # type: ignore[arg-type]
    check(
        FOLLOWED, BatchSeen(201.0, batch=batch), POLICY, ShardDecision(state, ListBatches(60.0), store=store)
    )


def test_a_batch_that_shows_its_files_is_kept_with_them() -> None:
    """The ids of both files, also of a batch that is being read."""
    batch = replace(COMPLETED, failed=1, error_file_id="file-err")
    known = {"status": "completed", "completed": 3, "failed": 1}
    state = replace(READING, output_file_id="file-out", error_file_id="file-err", **known)
    check(READING, BatchSeen(201.0, batch=batch), POLICY, ShardDecision(state, ReadResults(), store=True))
    again = replace(READING, status="finalizing")
    running = replace(BATCH, status="finalizing", completed=2, failed=1)
    check(
        READING, BatchSeen(201.0, batch=running), POLICY, ShardDecision(again, ListBatches(60.0), store=True)
    )


@pytest.mark.parametrize("status", ["failed", "in_progress"])
def test_a_failed_validation_is_stored_if_it_is_new(status: str) -> None:
    """Its end is that of `on_validation_failed`."""
    batch = replace(BATCH, status="failed", failure=failure(FailureKind.LINES, [1]))
    decision = advance_shard(replace(FOLLOWED, status=status), BatchSeen(201.0, batch=batch), POLICY)
    assert decision.store is (status != "failed")
    assert decision.state == replace(FOLLOWED, status="failed")
    assert isinstance(decision.action, EndShard)


@pytest.mark.parametrize(
    ("cancel_sent", "status", "expected"),
    [
        (False, "in_progress", CancelBatch()),
        (True, "in_progress", ListBatches(60.0)),
        (False, "cancelling", ListBatches(60.0)),
        (False, "completed", ReadResults()),
    ],
)
def test_a_users_cancel_is_sent_once(cancel_sent: bool, status: str, expected: ShardAction) -> None:
    """And not to a batch that is cancelling or has ended."""
    state, batch = replace(FOLLOWED, cancel_sent=cancel_sent), replace(COMPLETED, status=status)
    decision = advance_shard(state, BatchSeen(201.0, batch=batch), CANCELLED)
    assert (decision.action, decision.store) == (expected, True)
    assert decision.state.cancel_sent is (cancel_sent or isinstance(expected, CancelBatch))


def test_a_followed_batch_may_be_missing_for_half_an_hour() -> None:
    """From when it was first missed; elsewhere nothing follows from an unknown id."""
    missed = replace(FOLLOWED, missing_since=201.0)
    check(FOLLOWED, BatchSeen(201.0), POLICY, ShardDecision(missed, ListBatches(60.0)))
    check(missed, BatchSeen(2000.0), POLICY, ShardDecision(missed, ListBatches(60.0)))
    check(missed, BatchSeen(2001.0), POLICY, ShardDecision(missed, EndShard(Rest.MISSING)))
    check(UPLOADED, BatchSeen(201.0), PAUSED, ShardDecision(UPLOADED, ReleaseShard(30.0)))


@pytest.mark.parametrize(
    ("changed", "settled"),
    [
        ({}, True),
        ({"output_file_id": None}, False),
        ({"output_file_id": None, "completed": 0}, True),
        ({"output_file_id": None, "completed": None}, True),
        ({"failed": 1}, False),
        ({"failed": 1, "error_file_id": "file-err"}, True),
        ({"failed": None, "error_file_id": None}, True),
        ({"status": "expired"}, True),
        ({"status": "cancelled", "output_file_id": None}, False),
    ],
)
def test_an_ended_batch_is_read_once_it_shows_its_files(changed: dict[str, object], settled: bool) -> None:
    """A file's id may be missing for ten minutes after the end."""
    batch = replace(COMPLETED, **changed)  # type: ignore[arg-type]
    ended = replace(
        FOLLOWED,
        status=batch.status,
        completed=batch.completed,
        failed=batch.failed,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
    )
    reading = ShardDecision(replace(ended, phase=ShardPhase.READING), ReadResults(), store=True)
    waiting = replace(ended, unsettled_since=201.0)
    again = ShardDecision(waiting, RetrieveBatch(10.0), store=True)
    check(FOLLOWED, BatchSeen(201.0, batch=batch), POLICY, reading if settled else again)
    if not settled:
        check(waiting, BatchSeen(800.0, batch=batch), POLICY, again)
        check(waiting, BatchSeen(801.0, batch=batch), POLICY, ShardDecision(
            replace(waiting, phase=ShardPhase.READING), ReadResults(), store=True
        ))  # fmt: skip


@pytest.mark.parametrize(
    ("state", "lines", "open_rows", "expected"),
    [
        (READ, 2, 1, None),
        (READ, 3, 1, Rest.MISSING),
        (READ, 2, 0, Rest.MISSING),
        (replace(READ, completed=None), 0, 1, None),
        (replace(READ, completed=None), 1, 1, Rest.MISSING),
        (replace(READ, failed=None), 1, 1, None),
        (replace(READ, failed=None), 2, 1, Rest.MISSING),
        (replace(READ, status="expired"), 3, 1, Rest.EXPIRED),
        (replace(READ, status="cancelled"), 3, 1, Rest.CANCELLED),
        (replace(READ, status=None), 3, 1, Rest.MISSING),
    ],
)
def test_results_are_complete_when_no_row_is_open_or_all_lines_are_there(
    state: ShardState, lines: int, open_rows: int, expected: Rest | None
) -> None:
    """Fewer lines than the batch counts are read again for ten minutes."""
    event = ResultsRead(201.0, lines=lines, open_rows=open_rows)
    if expected is not None:
        check(state, event, POLICY, ShardDecision(state, EndShard(expected)))
        return
    waiting = replace(state, unsettled_since=201.0)
    check(state, event, POLICY, ShardDecision(waiting, ReadResults(10.0), store=True))
    again, late = replace(event, at=800.0), replace(event, at=801.0)
    check(waiting, again, POLICY, ShardDecision(waiting, ReadResults(10.0), store=True))
    check(waiting, late, POLICY, ShardDecision(waiting, EndShard(Rest.MISSING)))


def test_the_files_of_a_shard_are_those_of_all_its_creates() -> None:
    """Before the upload only the earlier ones."""
    assert UPLOADED.files == {"file-0", "file-1"}
    assert CUT.files == {"file-0"}

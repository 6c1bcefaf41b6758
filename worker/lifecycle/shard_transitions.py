"""The state machine of one shard: `advance_shard(state, event, policy)` returns the next state and action.

    CUT ─UploadFile─▶ UPLOADED ─ListBatches─▶ SENT ─CreateBatch─▶ FOLLOWED ─ListBatches…─▶ READING ─▶ DONE
     ▲                   │ a batch of its file   │ no reply:           │ validation failed
     │                   │ or content is listed  │ ListBatches         ▼
     │                   ▼                       │                  EndShard: rows return
     │                FOLLOWED                   ▼
     └─ DeleteFile, then a fresh file ◀── not listed within the time limit

A create is sent only after a list without its batch, so a Redis that has lost its writes finds what was
bought. The id of the input file is the identity of a create. Failed requests are handled in `shard_on_error`,
failed validations in `shard_on_failed`. Pure: no clock, randomness or I/O.
"""

from dataclasses import replace

from askmill.worker.lifecycle.batch_types import ENDED_BATCH, ServerBatch
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
    ShardDecision,
    ShardEvent,
    ShardRequestFailed,
    UploadFile,
)
from askmill.worker.lifecycle.shard_on_error import on_shard_error
from askmill.worker.lifecycle.shard_on_failed import on_validation_failed
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_state import PROGRESS, ShardPhase, ShardState

PAUSED_WAIT_S = 30.0
"""How often a shard of a paused batch is looked at; `resume` wakes it at once."""


def advance_shard(state: ShardState, event: ShardEvent, policy: ShardPolicy) -> ShardDecision:
    """The decision that follows `event`. Total: every event is handled in every phase."""
    if isinstance(event, ShardRequestFailed):
        return on_shard_error(state, event, policy)
    state = replace(state, failures=0, failing_since=None)
    match event:
        case FileUploaded():
            return _uploaded(state, event)
        case BatchesListed():
            return _listed(state, event, policy)
        case BatchSeen():
            return _batch_read(state, event, policy)
        case ResultsRead():
            return _read(state, event, policy)
        case _:
            return _on_other(state, event, policy)


def _on_other(state: ShardState, event: ShardEvent, policy: ShardPolicy) -> ShardDecision:
    match event:
        case NothingToSend():
            return ShardDecision(state, EndShard(Rest.RETURN))
        case FileDeleted():
            return resume(replace(state, discard_file=None), policy)
        case CreateSkipped():
            return _before_create(replace(state, phase=ShardPhase.UPLOADED), event, policy)
        case CreateRefused():
            return _create_refused(replace(state, phase=ShardPhase.UPLOADED), policy)
        case DuplicateCancelled():
            return ShardDecision(state, ListBatches(policy.list_interval_s))
        case RowsChanged() if state.phase in {ShardPhase.CUT, ShardPhase.UPLOADED, ShardPhase.SENT}:
            return resume(without_file(state), policy)
        case _:
            return resume(state, policy)


def resume(state: ShardState, policy: ShardPolicy) -> ShardDecision:
    """What follows from the state alone: after a claim, and after a wait."""
    match state.phase:
        case ShardPhase.CUT if state.discard_file is not None:
            return ShardDecision(state, DeleteFile(state.discard_file))
        case ShardPhase.CUT | ShardPhase.UPLOADED if policy.cancelled:
            return ShardDecision(state, EndShard(Rest.CANCELLED))
        case ShardPhase.CUT | ShardPhase.UPLOADED if policy.paused:
            return ShardDecision(state, ReleaseShard(PAUSED_WAIT_S))
        case ShardPhase.CUT:
            return ShardDecision(state, UploadFile())
        case ShardPhase.UPLOADED | ShardPhase.SENT | ShardPhase.FOLLOWED:
            return ShardDecision(state, ListBatches())
        case ShardPhase.READING:
            return ShardDecision(state, ReadResults())
        case ShardPhase.DONE:
            return ShardDecision(state, EndShard(Rest.RETURN))


def without_file(state: ShardState) -> ShardState:
    """The state before the upload of a fresh file; the last one is to be deleted."""
    return replace(
        state,
        phase=ShardPhase.CUT,
        tries=state.tries + 1,
        discard_file=state.file_id,
        file_id=None,
        sha256=None,
        sent_at=None,
    )


def _uploaded(state: ShardState, event: FileUploaded) -> ShardDecision:
    """The file's id is stored before anything else: it is what a lost create is found by."""
    uploaded = replace(
        state,
        phase=ShardPhase.UPLOADED,
        file_id=event.file_id,
        sha256=event.sha256,
        lines=event.lines,
        prompt_tokens=event.prompt_tokens,
        worst_nano=event.worst_nano,
    )
    return ShardDecision(uploaded, ListBatches(), store=True)


def _before_create(state: ShardState, event: ShardEvent, policy: ShardPolicy) -> ShardDecision:
    if policy.cancelled or policy.paused:
        return resume(state, policy)
    sent = replace(state, phase=ShardPhase.SENT, sent_at=event.at)
    return ShardDecision(sent, CreateBatch(), store=True)


def _create_refused(state: ShardState, policy: ShardPolicy) -> ShardDecision:
    """A stopped batch creates nothing; without room in the budget the rows wait in the queue."""
    if policy.cancelled or policy.paused:
        return resume(state, policy)
    return ShardDecision(state, EndShard(Rest.RETURN, hold_cuts=True))


# ── the list ──


def _listed(state: ShardState, event: BatchesListed, policy: ShardPolicy) -> ShardDecision:
    if event.unknown:
        return ShardDecision(state, AdoptUnknown(event.unknown))
    candidates = [batch for batch in event.own if may_have_run(batch) or _is_current(state, batch)]
    if not candidates:
        return _not_listed(state, event, policy)
    # The further one of two; of two as far, the one that is followed.
    chosen = max(
        candidates,
        key=lambda batch: (PROGRESS.get(batch.status, PROGRESS["validating"]), _is_current(state, batch)),
    )
    for batch in candidates:
        running = batch.status not in ENDED_BATCH and batch.status != "cancelling"
        if batch.id != chosen.id and running and batch.id not in state.cancelled_duplicates:
            noted = replace(state, cancelled_duplicates=(*state.cancelled_duplicates, batch.id))
            return ShardDecision(noted, CancelDuplicate(batch.id), store=True, duplicate=batch)
    return _follow(state, chosen, event, policy)


def may_have_run(batch: ServerBatch) -> bool:
    """Whether lines of the batch run or have run. A failed validation has run none."""
    ended_unrun = batch.status == "failed" or (batch.status == "cancelled" and not batch.completed)
    return not ended_unrun


def _is_current(state: ShardState, batch: ServerBatch) -> bool:
    return batch.id == state.batch_id if state.batch_id is not None else batch.input_file_id == state.file_id


def _not_listed(state: ShardState, event: BatchesListed, policy: ShardPolicy) -> ShardDecision:
    match state.phase:
        case ShardPhase.UPLOADED:
            return _before_create(state, event, policy)
        case ShardPhase.SENT:
            return _lost_create(state, event, policy)
        case ShardPhase.FOLLOWED:
            # A list may be bounded: the batch itself is asked for.
            return ShardDecision(state, RetrieveBatch())
        case _:
            return resume(state, policy)


def _lost_create(state: ShardState, event: BatchesListed, policy: ShardPolicy) -> ShardDecision:
    """The create has no reply and is not listed: list again, and once more after its time limit."""
    elapsed_s = event.asked_at - (state.sent_at or 0.0)
    if elapsed_s < policy.create_limit_s:
        return ShardDecision(state, ListBatches(policy.create_limit_s - elapsed_s))
    if policy.paused and not policy.cancelled:  # nothing is sent again before `resume`
        return ShardDecision(state, ListBatches(PAUSED_WAIT_S))
    given_up = replace(
        without_file(state),
        earlier_files=(*state.earlier_files, *([state.file_id] if state.file_id else [])),
    )
    return ShardDecision(given_up, DeleteFile(state.file_id or ""), store=True, unknown_create=True)


def _batch_read(state: ShardState, event: BatchSeen, policy: ShardPolicy) -> ShardDecision:
    if event.batch is not None:
        return _follow(state, event.batch, event, policy)
    if state.phase is not ShardPhase.FOLLOWED:
        return resume(state, policy)
    since = state.missing_since if state.missing_since is not None else event.at
    if event.at - since < policy.gone_s:
        return ShardDecision(replace(state, missing_since=since), ListBatches(policy.list_interval_s))
    return ShardDecision(state, EndShard(Rest.MISSING))


def _follow(state: ShardState, batch: ServerBatch, event: ShardEvent, policy: ShardPolicy) -> ShardDecision:
    """The shard's batch is known: follow it, or read it when it has ended."""
    began = state.phase not in {ShardPhase.FOLLOWED, ShardPhase.READING}
    followed = replace(
        state,
        phase=ShardPhase.FOLLOWED if began else state.phase,
        batch_id=batch.id,
        status=batch.status,
        completed=batch.completed,
        failed=batch.failed,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        followed_since=event.at if began else state.followed_since,
        expires_at=_expiry(state, batch, event, began=began),
        discard_file=None,
        missing_since=None,
    )
    changed = began or (state.batch_id, state.status, state.completed, state.failed) != (
        batch.id,
        batch.status,
        batch.completed,
        batch.failed,
    )
    if batch.status == "failed":
        return replace(on_validation_failed(followed, batch, policy), store=changed)
    if batch.status in ENDED_BATCH:
        return _ended(followed, event, policy)
    if policy.cancelled and not state.cancel_sent and batch.status != "cancelling":
        return ShardDecision(replace(followed, cancel_sent=True), CancelBatch(), store=True)
    return ShardDecision(followed, ListBatches(policy.list_interval_s), store=changed)


def _expiry(state: ShardState, batch: ServerBatch, event: ShardEvent, *, began: bool) -> float | None:
    """When the batch expires, by the jobs' clock: only differences of the API's own times are used."""
    if not began:
        return state.expires_at
    if batch.expires_at is None or batch.created_at is None or batch.expires_at <= batch.created_at:
        return None
    return event.at + (batch.expires_at - batch.created_at)


# ── the end ──


def _ended(state: ShardState, event: ShardEvent, policy: ShardPolicy) -> ShardDecision:
    """The results are read once they are all there: a file's id may be missing for a while."""
    no_output = state.completed and not state.output_file_id
    if (no_output or (state.failed and not state.error_file_id)) and not _waited(state, event, policy):
        waiting = replace(state, unsettled_since=_unsettled_since(state, event))
        return ShardDecision(waiting, RetrieveBatch(policy.reread_s), store=True)
    reading = replace(state, phase=ShardPhase.READING)
    return ShardDecision(reading, ReadResults(), store=True)


def _unsettled_since(state: ShardState, event: ShardEvent) -> float:
    return state.unsettled_since if state.unsettled_since is not None else event.at


def _waited(state: ShardState, event: ShardEvent, policy: ShardPolicy) -> bool:
    return event.at - _unsettled_since(state, event) >= policy.unsettled_s


def _read(state: ShardState, event: ResultsRead, policy: ShardPolicy) -> ShardDecision:
    """Fewer lines than the batch counts: read again for a while. Then the rest has no line."""
    counted = (state.completed or 0) + (state.failed or 0)
    if event.open_rows and event.lines < counted and not _waited(state, event, policy):
        waiting = replace(state, unsettled_since=_unsettled_since(state, event))
        return ShardDecision(waiting, ReadResults(policy.reread_s), store=True)
    rest = {"expired": Rest.EXPIRED, "cancelled": Rest.CANCELLED}.get(state.status or "", Rest.MISSING)
    return ShardDecision(state, EndShard(rest))

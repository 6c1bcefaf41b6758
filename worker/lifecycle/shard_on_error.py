"""Transitions after a failed request of a shard, by the class that the error table gives it.

Pure, as `worker.lifecycle.shard_transitions`.
"""

from dataclasses import replace

from askmill.jobs.model.api_errors import reason_of, requested_wait_s
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind, report_of
from askmill.worker.lifecycle.retry import LONG_WAIT_S, classify, server_wait_s
from askmill.worker.lifecycle.shard_events import (
    EndShard,
    ListBatches,
    ReleaseShard,
    Rest,
    ShardDecision,
    ShardRequestFailed,
    WaitShard,
)
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_state import ShardPhase, ShardState

PAUSED_LOOK_S = 60.0
"""How often a shard is looked at whose batch has paused itself while the API has its job."""
DELETE_TRIES = 3
"""A file that cannot be deleted is left: `purge` tries again."""
REFUSED = frozenset(
    {ErrorClass.BATCH, ErrorClass.ROW, ErrorClass.UNCLEAR, ErrorClass.GONE, ErrorClass.LOCKED}
)
"""Refusals of a create or an upload. It concerns all rows of the shard, so the batch pauses."""


def on_shard_error(state: ShardState, event: ShardRequestFailed, policy: ShardPolicy) -> ShardDecision:
    """A request failed: wait and repeat it, look for what it may have made, or pause the batch."""
    error_class = classify(event.error, event.request)
    since = state.failing_since if state.failing_since is not None else event.at
    failed = replace(state, failures=state.failures + 1, failing_since=since)
    wait_s = max(policy.wait_s(state.failures, event.jitter), server_wait_s(event.error))
    if (
        state.discard_file is not None
        and state.phase is ShardPhase.CUT
        and event.request is RequestKind.CANCEL
    ):
        return _not_deleted(failed, error_class, wait_s)
    if error_class is ErrorClass.THROTTLED:
        return _throttled(failed, event, wait_s)
    if event.request is RequestKind.CREATE:
        return _create_failed(failed, event, error_class, wait_s)
    if event.request is RequestKind.SETUP and error_class in REFUSED:
        return _pause(failed, event)
    # Without a list of batches nothing can be created: the server has no Batch API.
    no_list = error_class is ErrorClass.GONE and state.phase is ShardPhase.UPLOADED
    if error_class is ErrorClass.BATCH or no_list:
        return _pause(failed, event)
    if state.phase is ShardPhase.READING and event.at - since > policy.unreadable_s:
        return ShardDecision(failed, EndShard(Rest.MISSING))
    decision = ShardDecision(failed, WaitShard(wait_s))
    before_create = event.request is RequestKind.SETUP or state.phase is ShardPhase.UPLOADED
    return replace(decision, create_failed=before_create)


def _not_deleted(state: ShardState, error_class: ErrorClass, wait_s: float) -> ShardDecision:
    """A file that is gone is deleted; any other failure is tried some times."""
    gone = error_class in {ErrorClass.ENDED, ErrorClass.GONE}
    if gone or state.failures >= DELETE_TRIES:
        return ShardDecision(replace(state, discard_file=None, failures=0), WaitShard(0.0))
    return ShardDecision(state, WaitShard(wait_s))


def _throttled(state: ShardState, event: ShardRequestFailed, wait_s: float) -> ShardDecision:
    """Nothing was carried out: the step is repeated after the wait that the server asks for."""
    if event.request is RequestKind.CREATE:
        state = replace(state, phase=ShardPhase.UPLOADED)
    requested_s = requested_wait_s(report_of(event.error))
    if requested_s is not None and requested_s > LONG_WAIT_S:
        reason = reason_of(report_of(event.error))
        look_s = PAUSED_LOOK_S if state.phase in {ShardPhase.FOLLOWED, ShardPhase.READING} else 0.0
        return ShardDecision(state, ReleaseShard(look_s, pause=reason, resume_after_s=requested_s))
    wait_s = max(wait_s, requested_s or 0.0)
    words = str(event.error)
    return ShardDecision(state, WaitShard(wait_s), throttled_s=wait_s, throttled_by=words)


def _create_failed(
    state: ShardState, event: ShardRequestFailed, error_class: ErrorClass, wait_s: float
) -> ShardDecision:
    if error_class in REFUSED:
        return _pause(replace(state, phase=ShardPhase.UPLOADED), event)
    if error_class is ErrorClass.NOT_SENT:
        unsent = replace(state, phase=ShardPhase.UPLOADED)
        return ShardDecision(unsent, WaitShard(wait_s), create_failed=True)
    # It may have been carried out: the list shows it, now or within the create's time limit.
    return ShardDecision(state, ListBatches(wait_s), create_failed=True)


def _pause(state: ShardState, event: ShardRequestFailed) -> ShardDecision:
    """Every shard would fail like this. What the API has already is followed again after `resume`."""
    reason = reason_of(report_of(event.error))
    if event.error.request and event.error.status in {404, 405, 501}:
        reason = f"{reason} ({event.error.request})"
    look_s = 0.0 if state.phase in {ShardPhase.CUT, ShardPhase.UPLOADED} else PAUSED_LOOK_S
    return ShardDecision(state, ReleaseShard(look_s, pause=reason))

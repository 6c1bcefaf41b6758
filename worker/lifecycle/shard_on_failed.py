"""Transitions after the API's validation has failed a shard's file: nothing has run, nothing is paid.

the enqueued-token limit   the rows return, and the next shard is cut when a running one has ended
lines that are named       their rows fail, the others return
all lines, each for its row's own setting (`--override model`): their rows fail
neither, or all lines      the batch pauses: every shard would fail like this

Pure, as `worker.lifecycle.shard_transitions`.
"""

from askmill.worker.lifecycle.batch_types import FailureKind, LineRefusal, ServerBatch
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind
from askmill.worker.lifecycle.retry import classify
from askmill.worker.lifecycle.shard_events import EndShard, Rest, ShardDecision
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_state import ShardState


def on_validation_failed(state: ShardState, batch: ServerBatch, policy: ShardPolicy) -> ShardDecision:
    """End the shard: what each row becomes depends on what the validation names."""
    failure = batch.failure
    if failure is None:
        return ShardDecision(state, EndShard(Rest.RETURN, pause="batch_failed: the API gives no reason"))
    if failure.kind is FailureKind.TOKEN_LIMIT:
        return ShardDecision(state, EndShard(Rest.RETURN, hold_cuts=True, token_limit=failure.token_limit))
    named = tuple(refusal for refusal in failure.lines if 1 <= refusal.line <= state.lines)
    classes = [classify(refusal.error, RequestKind.CREATE, policy.row_overrides) for refusal in named]
    all_lines = state.lines > 1 and len(named) >= state.lines and not _is_rows_own(named, policy)
    if named and not all_lines and ErrorClass.BATCH not in classes:
        return ShardDecision(state, EndShard(Rest.RETURN, refused=named))
    return ShardDecision(state, EndShard(Rest.RETURN, pause=f"batch_failed: {failure.error}"))


def _is_rows_own(named: tuple[LineRefusal, ...], policy: ShardPolicy) -> bool:
    """Whether the lines are refused for a setting that their rows override: a file has one model."""
    return all(
        classify(refusal.error, RequestKind.CREATE) is ErrorClass.BATCH
        and classify(refusal.error, RequestKind.CREATE, policy.row_overrides) is ErrorClass.ROW
        for refusal in named
    )

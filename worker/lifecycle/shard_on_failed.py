"""Transitions after the API's validation has failed a shard's file: nothing has run, nothing is paid.

the enqueued-token limit   the rows return, and the next shard is cut when a running one has ended
lines that are named       their rows fail, the others return
neither, or all lines      the batch pauses: every shard would fail like this

Pure, as `worker.lifecycle.shard_transitions`.
"""

import re

from askmill.worker.lifecycle.shard_events import EndShard, Rest, ShardDecision
from askmill.worker.lifecycle.shard_state import ApiBatch, LineFault, ShardState

TOKEN_LIMIT_CODES = frozenset({"token_limit_exceeded"})
TOKEN_LIMIT_WORDS = re.compile(r"enqueued tokens?\b.*\blimit|enqueued token limit", re.IGNORECASE)
"""openai-python #2084: "Enqueued token limit reached for M in organization O. Limit: 2,000,000 enqueued
tokens."."""
LIMIT = re.compile(r"limit:?\s*([\d,]+)", re.IGNORECASE)


def on_validation_failed(state: ShardState, batch: ApiBatch) -> ShardDecision:
    """End the shard: what each row becomes depends on what the validation names."""
    for fault in batch.faults:
        if fault.code in TOKEN_LIMIT_CODES or TOKEN_LIMIT_WORDS.search(fault.message):
            return ShardDecision(
                state, EndShard(Rest.RETURN, hold_cuts=True, token_limit=token_limit(fault.message))
            )
    named = _named_lines(state, batch)
    every_line = state.lines > 1 and len({fault.line for fault in named}) >= state.lines
    if named and not every_line:
        return ShardDecision(state, EndShard(Rest.RETURN, refused=named))
    reason = str(batch.faults[0]) if batch.faults else "the API gives no reason"
    return ShardDecision(state, EndShard(Rest.RETURN, pause=f"batch_failed: {reason}"))


def token_limit(message: str) -> int | None:
    """The number of tokens that a refusal names; None without one."""
    match = LIMIT.search(message)
    digits = match[1].replace(",", "") if match else ""
    return int(digits) if digits else None


def _named_lines(state: ShardState, batch: ApiBatch) -> tuple[LineFault, ...]:
    """One fault for each line of the file that is named."""
    by_line: dict[int, LineFault] = {}
    for fault in batch.faults:
        if fault.line is not None and 1 <= fault.line <= state.lines:
            by_line.setdefault(fault.line, fault)
    return tuple(by_line.values())

"""A row's state in the store: read at the claim, written before an action, passed on to the next turn. Pure.

Times of a stored state follow Redis' clock, which all workers share; in memory they follow the jobs' time.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import orjson
from pydantic import TypeAdapter

from askmill.jobs.model.models import Attempt, JobStatus, Result
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import RowDetail
from askmill.worker.lifecycle.api_types import Answer
from askmill.worker.lifecycle.kept_answer import better
from askmill.worker.lifecycle.state import JobState, KeptAnswer
from askmill.worker.runtime.redis_clock import RedisClock

STATE_JSON = TypeAdapter(JobState)
"""Reads and writes a `JobState` as JSON."""

TIME_FIELDS = (
    "create_sent_at",
    "began_at",
    "locked_since",
    "calls_are_new_at",
    "unsettled_since",
    "cancel_requested_at",
    "failing_since",
    "not_found_since",
)
"""The fields of `JobState` that are points in time (complete: tests/unit/runtime/test_redis_clock.py)."""

RUNS_KEPT = 8
"""How many earlier runs a turn passes on: enough for the next to tell its own runs on the thread."""

ConvertTime = Callable[[float], float]


def initial_state(claim: Claim, batch: Batch) -> JobState:
    """The state at the claim: the last worker's, or the start, after earlier attempts and turns."""
    if claim.state:
        return STATE_JSON.validate_json(claim.state)
    turn: dict[str, Any] = orjson.loads(claim.previous_turn) if claim.previous_turn else {}
    state = JobState(
        shared_thread=bool(batch.spec.cell(batch.spec.conversation_column, claim.cells).strip()),
        thread_id=turn.get("thread_id"),
        last_message_id_before=turn.get("last_message_id"),
        earlier_runs=tuple(turn.get("runs", ())),
        follow_up=bool(turn),
    )
    before = claim.previous
    if before is None or not before.attempts:
        return state
    return replace(
        state,
        attempt=len(before.attempts) + 1,
        attempts_before_retry=len(before.attempts),
        past_attempts=before.attempts,
        past_steps=before.steps,
        kept=_kept_result(before),
        delete_failed_turn=state.shared_thread and state.thread_id is not None,
    )


def _kept_result(before: Result) -> KeptAnswer | None:
    """The answer of the row's earlier result. Its files are stored already."""
    answer = Answer(text=before.answer, citations=before.citations)
    return better(None, answer, before.error if before.status is JobStatus.INCOMPLETE else None)


def turn_for_next_row(state: JobState, exchange: dict[str, Any] | None = None) -> bytes | None:
    """What the next turn of a conversation starts from; None for a row outside a conversation.

    `exchange`: on chat completions, the messages.
    """
    if not state.shared_thread or state.thread_id is None:
        return None
    runs = (*state.earlier_runs, *(attempt.run_id for attempt in state.past_attempts), state.run_id)
    return orjson.dumps(
        {
            "thread_id": state.thread_id,
            "last_message_id": state.answer.last_message_id if state.answer else None,
            "runs": [run for run in runs if run][-RUNS_KEPT:],
            **(exchange or {}),
        }
    )


def belongs_to(detail: RowDetail, run_id: str, attempt: int) -> bool:
    """Whether the row follows, has ended with, or will still find this run of its `attempt`."""
    if detail.view.result and run_id in {past.run_id for past in detail.view.result.attempts}:
        return True
    if detail.state is None:
        return False
    state = STATE_JSON.validate_json(detail.state)
    if run_id == state.run_id or run_id in state.known_run_ids:
        return True
    return state.run_id is None and state.attempt == attempt


def state_to_json(state: JobState, clock: RedisClock) -> bytes:
    """The state as it is stored, with its times by Redis' clock."""
    stored = _convert_times(state, clock.to_redis) if clock.stepped_s else state
    return STATE_JSON.dump_json(stored, exclude_defaults=True)


def from_store(state: JobState, clock: RedisClock, now_s: float) -> JobState:
    """The stored state with its times by the jobs' clock."""
    return _convert_times(state, lambda at: clock.from_redis(at, now_s)) if state != JobState() else state


def convert_attempts(attempts: Iterable[Attempt], convert: ConvertTime) -> tuple[Attempt, ...]:
    """The attempts with their times converted to another clock."""
    return tuple(
        replace(
            attempt,
            started_at=None if attempt.started_at is None else convert(attempt.started_at),
            finished_at=None if attempt.finished_at is None else convert(attempt.finished_at),
        )
        for attempt in attempts
    )


def _convert_times(state: JobState, convert: ConvertTime) -> JobState:
    times: dict[str, Any] = {
        name: convert(at) for name in TIME_FIELDS if (at := getattr(state, name)) is not None
    }
    return replace(state, past_attempts=convert_attempts(state.past_attempts, convert), **times)

"""Transitions of a call of chat completions that brought no answer. Its server keeps nothing to look up.

never sent, throttled                    the call is made again, as on every API (on_error.py)
the server answered with an error (500)  again, with backoff; after `server_failures` times, or at once if
                                         it calls it `server_error`, another attempt
no answer: the connection was lost, a time limit passed, the stream ended early, the worker died
                                         unknown: counted, then another attempt, or `failed`

Another attempt keeps the answers of earlier rounds of functions: what arrived is never bought again.

Pure, as `worker.lifecycle.transitions`.
"""

import re
from dataclasses import replace

from askmill.jobs.model.models import JobStatus, OnUnknown
from askmill.worker.lifecycle.api_types import Answer, Run, RunStatus
from askmill.worker.lifecycle.decision import Decision, Finish, wait_or_release
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind
from askmill.worker.lifecycle.events import AnswerRead, Event, RequestFailed
from askmill.worker.lifecycle.on_run_ended import (
    attempts_left,
    next_attempt,
    on_run_ended,
)
from askmill.worker.lifecycle.retry import RetryPolicy, server_wait_s, slows_down
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase

UNKNOWN_OUTCOME = "unknown_outcome"
"""The error of a row whose last call may have been carried out."""
WORKER_ENDED = "the worker ended before the answer arrived"
BUSY = frozenset({503, 529})
"""Statuses that mean too much load, with or without words."""
SERVER_ERROR = "server_error"
SERVER_WORDS = re.compile(r"internal|server|unavailable|unknown|^\d+$", re.IGNORECASE)
"""Codes that say no more than the status."""
LONGEST_HOLD_S = 1.0
"""How long a failing server that asks for time, and names none, holds new calls of all workers."""
GATEWAY_GAVE_UP = frozenset({408, 504, 522, 524})
"""Statuses of a proxy that no longer waits, while the call may still be carried out."""


def on_failed_call(
    state: JobState, event: RequestFailed, error_class: ErrorClass, policy: RetryPolicy
) -> Decision | None:
    """A call failed: None where the table's class says all, as on every API."""
    error = event.error
    if event.request is not RequestKind.CREATE:
        return None
    if error.began and error_class not in {ErrorClass.ROW, ErrorClass.BATCH}:
        return on_lost_call(state, event, str(error), policy, event.partial)
    if error_class is not ErrorClass.REPLY_LOST:
        return None
    answered = error.status is not None and error.status not in GATEWAY_GAVE_UP
    if answered and error.code not in {"bad_reply", "stream_ended"}:
        return _server_failed(state, event, policy)
    decision = on_lost_call(state, event, str(error), policy, event.partial)
    return replace(decision, create_failed=True)


def is_busy(event: RequestFailed, error_class: ErrorClass) -> bool:
    """Whether a refusal of a call means a full server: it slows everybody down as a 429 does."""
    return error_class is ErrorClass.REPLY_LOST and event.error.status in BUSY and not event.error.began


def on_lost_call(
    state: JobState,
    event: Event,
    reason: str,
    policy: RetryPolicy,
    partial: AnswerRead | None = None,
) -> Decision:
    """The call may have been carried out, and its answer is lost: count it before anything else.

    Args:
        state: of the row.
        event: supplies the time.
        reason: why the answer is lost.
        policy: says whether to ask again (`--on-unknown`).
        partial: what had come of the answer.
    """
    run, state = Run("", "unknown"), since_sent(state)
    answer = partial.answer if partial is not None else Answer()
    if state.cancel_reason is CancelReason.USER:
        return _end(state, run, answer, Finish(JobStatus.CANCELLED))
    if policy.on_unknown is OnUnknown.STOP or attempts_left(state, policy) <= 0:
        known_reason = reason.startswith("deadline") and policy.on_unknown is not OnUnknown.STOP
        error = reason if known_reason else f"{UNKNOWN_OUTCOME}: {reason}"
        return _end(state, run, answer, Finish(JobStatus.FAILED, error=error, answer=answer.text))
    again = same_call(state, next_attempt(state, run, reason, partial or event))
    wait_s = policy.attempt_wait_s(state.attempt - state.attempts_before_retry, event.jitter)
    return Decision(
        again,
        wait_or_release(wait_s, policy),
        store=True,
        retry_reason=UNKNOWN_OUTCOME,
        unknown_create=True,
    )


def _end(state: JobState, run: Run, answer: Answer, finish: Finish) -> Decision:
    return Decision(replace(state, ended_run=run, answer=answer), finish, unknown_create=True)


def since_sent(state: JobState) -> JobState:
    """The state of an attempt that began when its first call was sent."""
    return state if state.began_at is not None else replace(state, began_at=state.create_sent_at)


def same_call(state: JobState, attempt: JobState) -> JobState:
    """The next attempt, making the call that the last one made: with the same exchange before it.

    A call that continues an answer asks for the same rest again: what came of it is not kept, or the answer
    would have it twice.
    """
    return replace(
        attempt,
        thread_id=state.thread_id,
        follow_up=state.follow_up,
        delete_failed_turn=False,
        tool_rounds=state.tool_rounds,
        continuing=state.continuing,
        kept=state.kept if state.continuing else attempt.kept,
    )


def _server_failed(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """The server answered the call with an error of its own. It made no answer, so nothing is unknown."""
    failed = replace(state.with_failure(event.at), phase=Phase.NEW)
    code = event.error.code or ""
    # OpenAI's word for a run that failed: another attempt. A word of the server's own may be about this row.
    named = code and not SERVER_WORDS.search(code)
    most = 1 if code == SERVER_ERROR else policy.server_failures // (2 if named else 1)
    if failed.failures < most:
        backoff_s, server_s = policy.wait_s(failed.failures - 1, event.jitter), server_wait_s(event.error)
        decision = Decision(failed, wait_or_release(max(backoff_s, server_s), policy), create_failed=True)
        if slows_down(event.error):
            hold_s = server_s or min(backoff_s, LONGEST_HOLD_S)
            return replace(decision, throttled_s=hold_s, throttled_by=str(event.error))
        return decision
    message = event.error.message if code else f"{event.error.message} (HTTP {event.error.status})"
    run = Run("", RunStatus.FAILED, error_code=code if named else SERVER_ERROR, error_message=message)
    ended = replace(since_sent(state), phase=Phase.READING, ended_run=run)
    decision = on_run_ended(ended, AnswerRead(event.at, event.jitter), policy)
    if decision.retry_reason is None:
        return decision
    return replace(decision, state=same_call(state, decision.state), create_failed=True)

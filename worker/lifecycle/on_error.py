"""Transitions after a failed request.

The table in `worker.lifecycle.retry` classifies the error; this module decides what follows in each phase.
Pure, as `worker.lifecycle.transitions`.
"""

from dataclasses import replace

from askmill.jobs.model.api_errors import reason_of, requested_wait_s
from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import TOO_LARGE, Answer
from askmill.worker.lifecycle.decision import (
    Decision,
    Finish,
    PauseBatch,
    PollRun,
    ReadAnswer,
    RecordRefusal,
    RecoverRun,
    RecoverSubmit,
    Reserve,
    SubmitOutputs,
    Wait,
    wait_or_release,
)
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind, report_of
from askmill.worker.lifecycle.error_table import CREATES
from askmill.worker.lifecycle.events import AnswerRead, Event, LookupDone, RequestFailed
from askmill.worker.lifecycle.on_lost_call import is_busy, on_failed_call
from askmill.worker.lifecycle.on_no_capacity import on_no_capacity
from askmill.worker.lifecycle.on_requires_action import outputs_accepted
from askmill.worker.lifecycle.on_run_ended import on_run_ended, on_run_gone
from askmill.worker.lifecycle.retry import (
    LONG_WAIT_S,
    RetryPolicy,
    blocking_run,
    classify,
    server_wait_s,
    slows_down,
)
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase

PAUSED_WAIT_S = 30.0
"""How often a row of a paused batch whose run may exist is checked; `resume` checks it at once."""
BUSY_HOLD_S = 0.2
"""How long a busy server's refusal without a time holds new runs of all workers."""
TAKEN_OVER_RUNS = 3
"""So many runs of other workers must be unknown before a key of another project is suspected (CONTRACT)."""
COMPARED_GRACES = 4
"""So many graces the rest waits for a run of this worker to compare with."""
OTHER_PROJECT = (
    "another project: the server has none of {} runs that another worker created, but has this worker's; "
    "the workers' keys belong to different projects"
)
LOCK_LIMIT_S = 600.0
"""How long a row waits for a locked thread where it has no deadline of its own."""


def on_error(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """A request failed: classify the error, then act by its class."""
    # A limit that `raise-limit` has doubled is this row's own.
    own = event.row_overrides | {
        *state.doubled_limits,
        *(["max_output_tokens"] if state.doubled_limits else []),
    }
    error_class = classify(event.error, event.request, own, event.model)
    state = replace(
        state,
        not_found_since=state.not_found_since if error_class is ErrorClass.GONE else None,
        cancel_refusal=str(event.error) if event.request is RequestKind.CANCEL else state.cancel_refusal,
    )
    if policy.stateless:
        if is_busy(event, error_class):
            error_class = ErrorClass.THROTTLED
        decision = on_failed_call(state, event, error_class, policy)
    else:
        decision = _with_partial_answer(state, event, policy)
    return decision or _by_class(state, event, error_class, policy)


def _by_class(
    state: JobState, event: RequestFailed, error_class: ErrorClass, policy: RetryPolicy
) -> Decision:
    match error_class:
        case ErrorClass.THROTTLED:
            return _throttled(state, event, policy)
        case ErrorClass.BATCH:
            return _batch_refused(state, event)
        case ErrorClass.ROW | ErrorClass.UNCLEAR:
            return _refused(state, event, error_class)
        case ErrorClass.ENDED:
            # Outputs that are no longer accepted are neither made nor submitted again.
            settled = outputs_accepted(state) if event.request is RequestKind.SUBMIT else state
            return Decision(replace(settled, phase=Phase.POLLING), PollRun(after_s=0.0))
        case ErrorClass.GONE:
            return _not_found(state, event, policy)
        case _ if _unreadable(state, event, policy):
            finish = Finish(JobStatus.FAILED, error=f"unreadable: {event.error}")
            return Decision(state, finish, unknown_create=state.phase is Phase.CREATE_SENT)
        case ErrorClass.LOCKED:
            return _thread_locked(state, event, policy)
        case ErrorClass.REPLY_LOST:
            return _reply_lost(state, event, policy)
        case _:
            return _retry(state, event, policy)


def _after_refused_create(state: JobState, event: RequestFailed) -> JobState:
    """A refused create was not carried out: there is no run to search for."""
    if event.request is not RequestKind.CREATE:
        return state
    return replace(state, phase=Phase.NEW, create_unconfirmed=state.create_repeated)


def _throttled(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """Nothing was carried out: repeat it after the wait that the server asks for, else after a backoff."""
    after = _after_refused_create(state.with_failure(event.at), event)
    if (elsewhere := on_no_capacity(after, event, policy)) is not None:
        return elsewhere
    requested_s = requested_wait_s(report_of(event.error))
    if requested_s is not None and requested_s > LONG_WAIT_S:
        return _pause_until(after, event, requested_s)
    wait_s = policy.wait_s(state.failures + 2, event.jitter) if requested_s is None else requested_s
    decision = _repeat_step(after, event, wait_s * (1 + 0.1 * event.jitter), policy)
    return replace(decision, throttled_s=_hold_s(event, wait_s, requested_s), throttled_by=str(event.error))


def _hold_s(event: RequestFailed, wait_s: float, requested_s: float | None) -> float:
    """How long new runs of all workers wait: as the server asks; shortly where a busy server names no time.

    Many such refusals at a time halve the runs in flight (throttle.lua), which is what a full queue needs.
    """
    return wait_s if requested_s is not None or event.error.status == 429 else min(wait_s, BUSY_HOLD_S)


def _pause_until(state: JobState, event: RequestFailed, wait_s: float) -> Decision:
    """A long wait is this batch's alone: it resumes by itself, and other batches try for themselves."""
    reason = reason_of(report_of(event.error))
    look_s = 0.0 if state.phase is Phase.NEW else min(wait_s, LONG_WAIT_S)
    return Decision(state, PauseBatch(reason, wait_s=look_s, resume_after_s=wait_s))


def _batch_refused(state: JobState, event: RequestFailed) -> Decision:
    """Every row would fail like this: the batch pauses, the row is released unmarked."""
    run_may_exist = state.phase is not Phase.NEW and event.request is not RequestKind.CREATE
    pause = PauseBatch(_pause_reason(event), wait_s=PAUSED_WAIT_S if run_may_exist else 0.0)
    return Decision(_after_refused_create(state, event), pause)


def _pause_reason(event: RequestFailed) -> str:
    """The server's words; beside those about the way or the server, also the request that failed."""
    reason = reason_of(report_of(event.error))
    if event.error.request and event.error.status in {404, 405, 501}:
        return f"{reason} ({event.error.request})"
    return reason


def _refused(state: JobState, event: RequestFailed, error_class: ErrorClass) -> Decision:
    """For this row, or for a reason that the other rows will show.

    A further attempt that asks for more than the first, which was accepted, is refused for that.
    """
    asks_for_more = state.continuing or bool(state.doubled_limits)
    if error_class is ErrorClass.UNCLEAR and not asks_for_more:
        refused = _after_refused_create(state.with_failure(event.at), event)
        return Decision(refused, RecordRefusal(error=event.error))
    error = str(event.error)
    if state.phase in {Phase.CALLING_TOOLS, Phase.POLLING} and state.cancel_reason is None:
        ending = replace(state, phase=Phase.POLLING, cancel_error=error, outputs=())
        return Decision.cancel_run(ending, CancelReason.ROW, event.at)
    return Decision(
        state,
        Finish(JobStatus.FAILED, error=state.cancel_error or error),
        unknown_create=event.request is RequestKind.CREATE and event.error.code == TOO_LARGE,
        uncancelled_run=state.phase is Phase.POLLING,
    )


def _unreadable(state: JobState, event: RequestFailed, policy: RetryPolicy) -> bool:
    """Whether requests have failed for an hour beyond the run's own life: the row must end."""
    if state.phase in {Phase.NEW, Phase.CHECKING_DUPLICATES}:
        return False
    since = state.failing_since if state.failing_since is not None else event.at
    lived_until = (state.began_at or 0.0) + (state.lifetime_s or 0.0)
    return event.at - max(since, lived_until) > policy.unreadable_s


def _with_partial_answer(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision | None:
    """The row's end with the part of the answer that is read; None while the rest is still asked for."""
    if event.partial is None or not event.partial.answer.text or not _given_up(state, event, policy):
        return None
    return on_run_ended(state, event.partial, policy)


def _given_up(state: JobState, event: RequestFailed, policy: RetryPolicy) -> bool:
    """Whether the rest of an answer has been refused for so long that the row ends with its text."""
    since = state.failing_since if state.failing_since is not None else event.at
    return event.error.code == TOO_LARGE or event.at - since > policy.partial_s


def _retry(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """The request can be repeated as it is."""
    if state.phase is Phase.CHECKING_DUPLICATES and state.failures >= policy.attempts:
        return on_run_ended(state, answer_after_check(state, event), policy)
    after = _after_refused_create(state.with_failure(event.at), event)
    wait_s = max(policy.wait_s(state.failures, event.jitter), server_wait_s(event.error))
    decision = _repeat_step(after, event, wait_s, policy)
    return replace(decision, create_failed=event.request in CREATES)


def _repeat_step(state: JobState, event: RequestFailed, wait_s: float, policy: RetryPolicy) -> Decision:
    """The current step once more, after a wait."""
    match state.phase:
        case Phase.NEW:
            return Decision(state, wait_or_release(wait_s, policy))
        case Phase.CALLING_TOOLS if event.request is RequestKind.SUBMIT:
            return Decision(state, SubmitOutputs(after_s=wait_s))
        case Phase.CALLING_TOOLS:
            return Decision(state, RecoverSubmit(after_s=wait_s))
        case Phase.READING:
            return Decision(state, ReadAnswer(after_s=wait_s))
        case Phase.POLLING:
            return Decision(state, PollRun(after_s=wait_s))
        case _:
            return Decision(state, RecoverRun(after_s=wait_s))


def _reply_lost(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """No reply to a create or a submit: check whether it was carried out."""
    backoff_s, failed = policy.wait_s(state.failures, event.jitter), state.with_failure(event.at)
    wait_s = max(backoff_s, server_wait_s(event.error))
    if state.phase is Phase.CALLING_TOOLS:
        return Decision(failed, RecoverSubmit(after_s=wait_s))
    if event.error.status is not None and event.error.status >= 500:
        failed = replace(failed, create_fault=str(event.error))
    decision = Decision(failed, RecoverRun(after_s=wait_s), create_failed=True)
    if slows_down(event.error):
        hold_s = server_wait_s(event.error) or min(backoff_s, BUSY_HOLD_S)
        return replace(decision, throttled_s=hold_s, throttled_by=str(event.error))
    return decision


def _thread_locked(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """Another run is active on the thread: poll it if it is this row's, else wait for its end."""
    wait_s, blocking = policy.wait_s(state.failures, event.jitter), blocking_run(event.error)
    if state.phase is Phase.CALLING_TOOLS:
        return Decision(state.with_failure(event.at), RecoverSubmit(after_s=wait_s))
    if blocking is not None and not state.shared_thread and blocking not in state.known_run_ids:
        ours = replace(state, phase=Phase.POLLING, run_id=blocking, began_at=event.at, failures=0)
        return Decision(ours, PollRun(after_s=0.0), store=True)
    if not state.create_repeated:
        state = _after_refused_create(state, event)
    locked_since = state.locked_since if state.locked_since is not None else event.at
    if event.at - locked_since > (policy.deadline_s or LOCK_LIMIT_S):
        return Decision(state, Finish(JobStatus.FAILED, error="deadline: the thread stayed locked"))
    waiting = replace(state.with_failure(event.at), locked_since=locked_since)
    if blocking is None and not state.shared_thread:
        # The message names no run: the thread's runs show whether it is this row's.
        sent = replace(waiting, phase=Phase.CREATE_SENT)
        searching = sent if state.create_repeated else replace(sent, create_sent_at=None)
        return Decision(searching, RecoverRun(after_s=wait_s if state.create_repeated else 0.0))
    if state.phase is Phase.NEW:
        return Decision(waiting, wait_or_release(wait_s, policy))
    return Decision(waiting, RecoverRun(after_s=wait_s))


# ── 404 ──


def _not_found(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """The server answers 404. Within a grace it may be starting up; then the phase decides."""
    if event.request is RequestKind.CREATE:
        return _thread_not_found(state, event, policy)
    if state.phase is Phase.CHECKING_DUPLICATES:
        return _retry(state, event, policy)
    since = state.not_found_since if state.not_found_since is not None else event.at
    state = replace(state, not_found_since=since)
    if event.at - since < policy.not_found_grace_s:
        wait_s = policy.wait_s(state.failures, event.jitter)
        return _repeat_step(state.with_failure(event.at), event, wait_s, policy)
    if event.taken_over is not None and (decision := _another_project(state, event, policy)) is not None:
        return decision
    if state.phase is Phase.NEW:
        # No run exists: a failed turn was to be deleted from a thread that somebody has deleted.
        return Decision(state, Finish(JobStatus.FAILED, error=f"thread_gone: {event.error.message}"))
    if state.phase is Phase.CREATE_SENT:
        # The thread is gone, or this server lists no runs: the next create shows which.
        return create_not_found(state, LookupDone(event.at, event.jitter), policy)
    return on_run_gone(state, event, policy)


def _another_project(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision | None:
    """What follows where the server has none of the runs of other workers; None for a single lost run.

    Without a run of this worker's own to compare with, one row makes another attempt, and the rest wait.
    """
    runs = event.taken_over
    if runs is None or runs.unknown < TAKEN_OVER_RUNS or runs.others_known:
        return None
    if runs.own_known:
        return Decision(state, PauseBatch(OTHER_PROJECT.format(runs.unknown), wait_s=PAUSED_WAIT_S))
    waited_s = event.at - (state.not_found_since or event.at)
    if runs.first or waited_s >= COMPARED_GRACES * policy.not_found_grace_s:
        return None
    wait_s = policy.wait_s(state.failures, event.jitter)
    return _repeat_step(state.with_failure(event.at), event, wait_s, policy)


def _thread_not_found(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """The create was refused because its thread is gone: a row without a conversation gets another thread."""
    if state.shared_thread or state.failures >= policy.attempts:
        return Decision(state, Finish(JobStatus.FAILED, error=f"thread_gone: {event.error.message}"))
    fresh = replace(state.with_failure(event.at), phase=Phase.NEW, thread_id=None, create_unconfirmed=False)
    return Decision(fresh, Wait(wait_s=policy.wait_s(state.failures, event.jitter)), create_failed=True)


def create_not_found(state: JobState, event: LookupDone, policy: RetryPolicy) -> Decision:
    """No run for the create yet.

    Until the create's time limit it may still appear; then: reserve, search once more, create again.
    """
    left_s = (state.create_sent_at or 0.0) + policy.create_limit_s - event.at
    unknown = not (state.create_repeated or event.lookup.complete_list)
    if state.cancel_reason is CancelReason.USER and (state.create_unconfirmed or left_s <= 0):
        return Decision(state, Finish(JobStatus.CANCELLED), unknown_create=unknown)
    if state.create_unconfirmed:
        repeated = replace(state, create_unconfirmed=False, create_repeated=True, failures=0)
        return replace(Decision.create_run(repeated, event.at), unknown_create=unknown)
    if left_s > 0:
        wait_s = min(left_s, policy.wait_s(state.failures, event.jitter))
        return Decision(state.with_failure(event.at), RecoverRun(after_s=wait_s))
    unconfirmed = replace(state, phase=Phase.NEW, create_unconfirmed=True, failures=0, failing_since=None)
    return Decision(unconfirmed, Reserve())


def answer_after_check(state: JobState, event: Event) -> AnswerRead:
    """The answer that was read before the thread was checked for duplicate runs."""
    return AnswerRead(
        event.at,
        event.jitter,
        answer=state.answer or Answer(),
        schema_error=state.schema_error,
        duplicates_checked=True,
    )

"""What next, when a request did not succeed? The faults' side of `worker.lifecycle.transitions`, as pure.

The table in `worker.lifecycle.retry` says what a fault means; here stands what follows from it in each phase.
"""

from dataclasses import replace

from askmill.jobs.model.api_refusals import reason_of
from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import Answer
from askmill.worker.lifecycle.on_run_ended import gone, on_run_ended
from askmill.worker.lifecycle.retry import (
    ErrorClass,
    RequestKind,
    RetryPolicy,
    blocking_run,
    classify,
    report_of,
)
from askmill.worker.lifecycle.state import (
    AnswerRead,
    CancelReason,
    CancelRun,
    CreateRun,
    Decision,
    Event,
    Finish,
    JobState,
    LookupDone,
    PauseBatch,
    Phase,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    ReleaseRow,
    RequestFailed,
    Reserve,
    SubmitOutputs,
    Wait,
)

PAUSED_WAIT_S = 30.0
"""How often a row of a paused batch whose run may be out is looked at; `resume` does it at once."""


def on_error(known: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """A request did not succeed: read the table, then act by what it means."""
    verdict = classify(event.error, event.request, event.row_fields)
    if verdict is not ErrorClass.GONE:
        known = replace(known, gone_since=None)
    match verdict:
        case ErrorClass.THROTTLED:
            return _throttled(known, event, policy)
        case ErrorClass.BATCH:
            wait_s = (
                PAUSED_WAIT_S
                if known.phase is not Phase.NEW and event.request is not RequestKind.CREATE
                else 0.0
            )
            reason = reason_of(report_of(event.error))
            return Decision(_refused(known, event), PauseBatch(reason=reason, wait_s=wait_s))
        case ErrorClass.ROW:
            return _row_refused(known, event)
        case ErrorClass.ENDED:
            return Decision(replace(known, phase=Phase.POLLING, outputs=()), PollRun(after_s=0.0))
        case ErrorClass.GONE:
            return _gone(known, event, policy)
        case _ if _unreadable(known, event, policy):
            unreadable = Finish(JobStatus.FAILED, error=f"unreadable: {event.error}")
            return Decision(known, unreadable, unknown_create=known.phase is Phase.CREATE_SENT)
        case ErrorClass.LOCKED:
            return _lock_met(known, event, policy)
        case ErrorClass.REPLY_LOST:
            return _lost(known, event, policy)
        case _:
            return _again(known, event, policy)


def _refused(known: JobState, event: RequestFailed) -> JobState:
    """A refused create was not carried out: there is no run to look for."""
    return (
        replace(known, phase=Phase.NEW, create_unconfirmed=known.create_repeated)
        if event.request is RequestKind.CREATE
        else known
    )


def _throttled(known: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    told_s = event.error.retry_after_s
    wait_s = told_s if told_s is not None else policy.wait_s(known.failures + 2, event.draw)
    before = _refused(tried(known, event), event)
    return replace(_repeat(before, event, wait_s * (1 + 0.1 * event.draw), policy), throttled_s=wait_s)


def _unreadable(known: JobState, event: RequestFailed, policy: RetryPolicy) -> bool:
    """Nothing but faults for an hour, and none of it within the run's own life: there must be an end."""
    if known.phase in {Phase.NEW, Phase.CHECKING_DUPLICATES}:
        return False
    since = known.failing_since if known.failing_since is not None else event.at
    lived_s = (known.began_at or 0.0) + (known.lifetime_s or 0.0)
    return event.at - max(since, lived_s) > policy.unreadable_s


def _again(known: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """The request can be repeated as it is."""
    if known.phase is Phase.CHECKING_DUPLICATES and known.failures >= policy.attempts:
        return on_run_ended(known, checked(known, event), policy)
    before, wait_s = _refused(tried(known, event), event), policy.wait_s(known.failures, event.draw)
    again = _repeat(before, event, wait_s, policy)
    return replace(again, create_failed=event.request in {RequestKind.THREAD, RequestKind.CREATE})


def _repeat(known: JobState, event: RequestFailed, wait_s: float, policy: RetryPolicy) -> Decision:
    """The present step once more, after a wait."""
    match known.phase:
        case Phase.NEW:
            return Decision(known, pause_for(wait_s, policy))
        case Phase.CALLING_TOOLS:
            submits = event.request is RequestKind.SUBMIT
            return Decision(
                known, SubmitOutputs(after_s=wait_s) if submits else RecoverSubmit(after_s=wait_s)
            )
        case Phase.READING:
            return Decision(known, ReadAnswer(after_s=wait_s))
        case Phase.POLLING:
            return Decision(known, PollRun(after_s=wait_s))
        case _:
            return Decision(known, RecoverRun(after_s=wait_s))


def pause_for(wait_s: float, policy: RetryPolicy) -> Wait | ReleaseRow:
    """A short wait is waited here; a longer one gives the slot to another row."""
    return ReleaseRow(wait_s=wait_s) if wait_s > policy.slot_wait_s else Wait(wait_s=wait_s)


def _row_refused(known: JobState, event: RequestFailed) -> Decision:
    error = str(event.error)
    if known.phase is Phase.CALLING_TOOLS:
        ending = replace(known, phase=Phase.POLLING, cancel_error=error, outputs=())
        return ask_to_end(ending, CancelReason.ROW, event)
    return Decision(known, Finish(JobStatus.FAILED, error=error))


def _lock_met(known: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """Refused because a run is active on the thread: ours (then follow it) or a stranger's (then wait)."""
    blocking = blocking_run(event.error)
    if known.phase is Phase.CALLING_TOOLS:
        return Decision(tried(known, event), RecoverSubmit(after_s=policy.wait_s(known.failures, event.draw)))
    if blocking is not None and not known.shared_thread and blocking not in known.known_run_ids:
        ours = replace(known, phase=Phase.POLLING, run_id=blocking, began_at=event.at, failures=0)
        return Decision(ours, PollRun(after_s=0.0), store=True)
    return locked(known if known.create_repeated else _refused(known, event), event, policy)


def _gone(known: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """The server does not have it: a grace, for it may be coming up, then what the phase makes of it."""
    if event.request is RequestKind.CREATE:
        return _thread_gone(known, event, policy)
    if known.phase is Phase.CHECKING_DUPLICATES:
        return _again(known, event, policy)
    gone_since = known.gone_since if known.gone_since is not None else event.at
    known = replace(known, gone_since=gone_since)
    if event.at - gone_since < policy.gone_grace_s:
        return _repeat(tried(known, event), event, policy.wait_s(known.failures, event.draw), policy)
    if known.phase is Phase.NEW:
        # No run is out: a dead turn was to be cleared from a thread that somebody has deleted.
        return Decision(known, Finish(JobStatus.FAILED, error=f"thread_gone: {event.error.message}"))
    if known.phase is Phase.CREATE_SENT:
        # The thread is gone, or this server lists no runs: the next create tells which.
        return not_found(known, LookupDone(event.at, event.draw), policy)
    return gone(known, event, policy)


def _thread_gone(known: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """The create was refused for want of its thread: a single row gets another one."""
    if known.shared_thread or known.failures >= policy.attempts:
        return Decision(known, Finish(JobStatus.FAILED, error=f"thread_gone: {event.error.message}"))
    fresh = replace(tried(known, event), phase=Phase.NEW, thread_id=None, create_unconfirmed=False)
    return Decision(fresh, Wait(wait_s=policy.wait_s(known.failures, event.draw)), create_failed=True)


def send(known: JobState, event: Event) -> Decision:
    """Make the run, with the mark SENT stored first."""
    sent = replace(
        known, phase=Phase.CREATE_SENT, create_sent_at=event.at, failing_since=None, gone_since=None
    )
    return Decision(sent, CreateRun(), store=True)


def not_found(known: JobState, event: LookupDone, policy: RetryPolicy) -> Decision:
    """No run yet: until the create's time limit it may still come; then reserve, look once more, create."""
    left_s = (known.create_sent_at or 0.0) + policy.create_limit_s - event.at
    unknown = not (known.create_repeated or event.lookup.complete_list)
    if known.cancel_reason is CancelReason.USER and (known.create_unconfirmed or left_s <= 0):
        return Decision(known, Finish(JobStatus.CANCELLED), unknown_create=unknown)
    if known.create_unconfirmed:
        sent = send(replace(known, create_unconfirmed=False, create_repeated=True, failures=0), event)
        return replace(sent, unknown_create=unknown)
    if left_s > 0:
        wait_s = min(left_s, policy.wait_s(known.failures, event.draw))
        return Decision(tried(known, event), RecoverRun(after_s=wait_s))
    return Decision(
        replace(known, phase=Phase.NEW, create_unconfirmed=True, failures=0, failing_since=None), Reserve()
    )


def _lost(known: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision:
    """No reply to a create or a submit: look first."""
    wait_s = policy.wait_s(known.failures, event.draw)
    if known.phase is Phase.CALLING_TOOLS:
        return Decision(tried(known, event), RecoverSubmit(after_s=wait_s))
    return Decision(tried(known, event), RecoverRun(after_s=wait_s), create_failed=True)


def tried(known: JobState, event: Event) -> JobState:
    """One more fault in a row at this step."""
    return replace(
        known,
        failures=known.failures + 1,
        failing_since=known.failing_since if known.failing_since is not None else event.at,
    )


def checked(known: JobState, event: Event) -> AnswerRead:
    """The answer read before, now that surplus runs have been looked for."""
    answer = known.answer or Answer()
    return AnswerRead(event.at, event.draw, answer=answer, schema_error=known.schema_error, checked=True)


def locked(known: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """Another run is active on our thread: wait for it, within the deadline."""
    locked_since = known.locked_since if known.locked_since is not None else event.at
    if event.at - locked_since > (policy.deadline_s or 600.0):
        return Decision(known, Finish(JobStatus.FAILED, error="deadline: the thread stayed locked"))
    waiting = replace(tried(known, event), locked_since=locked_since)
    wait_s = policy.wait_s(known.failures, event.draw)
    if known.phase is Phase.NEW:
        return Decision(waiting, pause_for(wait_s, policy))
    return Decision(waiting, RecoverRun(after_s=wait_s))


def ask_to_end(known: JobState, stop: CancelReason, event: Event) -> Decision:
    """Cancel the run at the API; what comes of it is decided when it has ended.

    Stored first: whoever finds the run cancelled after a kill must know that it was us, and why.
    """
    return Decision(replace(known, cancel_reason=stop, cancel_requested_at=event.at), CancelRun(), store=True)

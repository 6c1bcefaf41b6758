"""What next, when a request did not succeed? The faults' side of `worker.lifecycle.transitions`, as pure.

The table in `worker.lifecycle.retry` says what a fault means; here stands what follows from it in each phase.
"""

from dataclasses import replace

from askmill.jobs.model.api_refusals import reason_of
from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import Answer
from askmill.worker.lifecycle.on_run_ended import conclude, gone
from askmill.worker.lifecycle.retry import On, RetryPolicy, Verdict, blocking_run, classify, report_of
from askmill.worker.lifecycle.state import (
    AnswerRead,
    CancelRun,
    Decision,
    Event,
    Faulted,
    FindRun,
    FindSubmitted,
    Finish,
    GiveBack,
    Known,
    Look,
    Looked,
    MakeRun,
    PauseBatch,
    Phase,
    ReadAnswer,
    Reserve,
    Stop,
    Submit,
    Wait,
)

PAUSED_WAIT_S = 30.0
"""How often a row of a paused batch whose run may be out is looked at; `resume` does it at once."""


def faulted(known: Known, event: Faulted, policy: RetryPolicy) -> Decision:
    """A request did not succeed: read the table, then act by what it means."""
    verdict = classify(event.fault, event.on, event.row_fields)
    if verdict is not Verdict.GONE:
        known = replace(known, gone_since=None)
    match verdict:
        case Verdict.THROTTLED:
            return _throttled(known, event, policy)
        case Verdict.BATCH:
            wait_s = PAUSED_WAIT_S if known.phase is not Phase.NEW and event.on is not On.CREATE else 0.0
            reason = reason_of(report_of(event.fault))
            return Decision(_refused(known, event), PauseBatch(reason=reason, wait_s=wait_s))
        case Verdict.ROW:
            return _row_refused(known, event)
        case Verdict.ENDED:
            return Decision(replace(known, phase=Phase.FOLLOW, outputs=()), Look(after_s=0.0))
        case Verdict.GONE:
            return _gone(known, event, policy)
        case _ if _unreadable(known, event, policy):
            unreadable = Finish(JobStatus.FAILED, error=f"unreadable: {event.fault}")
            return Decision(known, unreadable, unknown_create=known.phase is Phase.SENT)
        case Verdict.LOCKED:
            return _lock_met(known, event, policy)
        case Verdict.LOST:
            return _lost(known, event, policy)
        case _:
            return _again(known, event, policy)


def _refused(known: Known, event: Faulted) -> Known:
    """A refused create was not carried out: there is no run to look for."""
    return replace(known, phase=Phase.NEW, doubt=known.repeated) if event.on is On.CREATE else known


def _throttled(known: Known, event: Faulted, policy: RetryPolicy) -> Decision:
    told_s = event.fault.retry_after_s
    wait_s = told_s if told_s is not None else policy.wait_s(known.tries + 2, event.draw)
    before = _refused(tried(known, event), event)
    return replace(_repeat(before, event, wait_s * (1 + 0.1 * event.draw), policy), throttled_s=wait_s)


def _unreadable(known: Known, event: Faulted, policy: RetryPolicy) -> bool:
    """Nothing but faults for an hour, and none of it within the run's own life: there must be an end."""
    if known.phase in {Phase.NEW, Phase.CHECK}:
        return False
    since = known.since if known.since is not None else event.at
    lived_s = (known.began_at or 0.0) + (known.lifetime_s or 0.0)
    return event.at - max(since, lived_s) > policy.unreadable_s


def _again(known: Known, event: Faulted, policy: RetryPolicy) -> Decision:
    """The request can be repeated as it is."""
    if known.phase is Phase.CHECK and known.tries >= policy.attempts:
        return conclude(known, checked(known, event), policy)
    before, wait_s = _refused(tried(known, event), event), policy.wait_s(known.tries, event.draw)
    again = _repeat(before, event, wait_s, policy)
    return replace(again, create_failed=event.on in {On.THREAD, On.CREATE})


def _repeat(known: Known, event: Faulted, wait_s: float, policy: RetryPolicy) -> Decision:
    """The present step once more, after a wait."""
    match known.phase:
        case Phase.NEW:
            return Decision(known, pause_for(wait_s, policy))
        case Phase.ACT:
            submits = event.on is On.SUBMIT
            return Decision(known, Submit(after_s=wait_s) if submits else FindSubmitted(after_s=wait_s))
        case Phase.READ:
            return Decision(known, ReadAnswer(after_s=wait_s))
        case Phase.FOLLOW:
            return Decision(known, Look(after_s=wait_s))
        case _:
            return Decision(known, FindRun(after_s=wait_s))


def pause_for(wait_s: float, policy: RetryPolicy) -> Wait | GiveBack:
    """A short wait is waited here; a longer one gives the slot to another row."""
    return GiveBack(wait_s=wait_s) if wait_s > policy.slot_wait_s else Wait(wait_s=wait_s)


def _row_refused(known: Known, event: Faulted) -> Decision:
    error = str(event.fault)
    if known.phase is Phase.ACT:
        ending = replace(known, phase=Phase.FOLLOW, stop_error=error, outputs=())
        return ask_to_end(ending, Stop.ROW, event)
    return Decision(known, Finish(JobStatus.FAILED, error=error))


def _lock_met(known: Known, event: Faulted, policy: RetryPolicy) -> Decision:
    """Refused because a run is active on the thread: ours (then follow it) or a stranger's (then wait)."""
    blocking = blocking_run(event.fault)
    if known.phase is Phase.ACT:
        return Decision(tried(known, event), FindSubmitted(after_s=policy.wait_s(known.tries, event.draw)))
    if blocking is not None and not known.shared and blocking not in known.known_runs:
        ours = replace(known, phase=Phase.FOLLOW, run_id=blocking, began_at=event.at, tries=0)
        return Decision(ours, Look(after_s=0.0), store=True)
    return locked(known if known.repeated else _refused(known, event), event, policy)


def _gone(known: Known, event: Faulted, policy: RetryPolicy) -> Decision:
    """The server does not have it: a grace, for it may be coming up, then what the phase makes of it."""
    if event.on is On.CREATE:
        return _thread_gone(known, event, policy)
    if known.phase is Phase.CHECK:
        return _again(known, event, policy)
    gone_since = known.gone_since if known.gone_since is not None else event.at
    known = replace(known, gone_since=gone_since)
    if event.at - gone_since < policy.gone_grace_s:
        return _repeat(tried(known, event), event, policy.wait_s(known.tries, event.draw), policy)
    if known.phase is Phase.NEW:
        # No run is out: a dead turn was to be cleared from a thread that somebody has deleted.
        return Decision(known, Finish(JobStatus.FAILED, error=f"thread_gone: {event.fault.message}"))
    if known.phase is Phase.SENT:
        # The thread is gone, or this server lists no runs: the next create tells which.
        return not_found(known, Looked(event.at, event.draw), policy)
    return gone(known, event, policy)


def _thread_gone(known: Known, event: Faulted, policy: RetryPolicy) -> Decision:
    """The create was refused for want of its thread: a single row gets another one."""
    if known.shared or known.tries >= policy.attempts:
        return Decision(known, Finish(JobStatus.FAILED, error=f"thread_gone: {event.fault.message}"))
    fresh = replace(tried(known, event), phase=Phase.NEW, thread_id=None, doubt=False)
    return Decision(fresh, Wait(wait_s=policy.wait_s(known.tries, event.draw)), create_failed=True)


def send(known: Known, event: Event) -> Decision:
    """Make the run, with the mark SENT stored first."""
    sent = replace(known, phase=Phase.SENT, sent_at=event.at, since=None, gone_since=None)
    return Decision(sent, MakeRun(), store=True)


def not_found(known: Known, event: Looked, policy: RetryPolicy) -> Decision:
    """No run yet: until the create's time limit it may still come; then reserve, look once more, create."""
    left_s = (known.sent_at or 0.0) + policy.create_limit_s - event.at
    unknown = not (known.repeated or event.found.listed)
    if known.stop is Stop.USER and (known.doubt or left_s <= 0):
        return Decision(known, Finish(JobStatus.CANCELLED), unknown_create=unknown)
    if known.doubt:
        sent = send(replace(known, doubt=False, repeated=True, tries=0), event)
        return replace(sent, unknown_create=unknown)
    if left_s > 0:
        wait_s = min(left_s, policy.wait_s(known.tries, event.draw))
        return Decision(tried(known, event), FindRun(after_s=wait_s))
    return Decision(replace(known, phase=Phase.NEW, doubt=True, tries=0, since=None), Reserve())


def _lost(known: Known, event: Faulted, policy: RetryPolicy) -> Decision:
    """No reply to a create or a submit: look first."""
    wait_s = policy.wait_s(known.tries, event.draw)
    if known.phase is Phase.ACT:
        return Decision(tried(known, event), FindSubmitted(after_s=wait_s))
    return Decision(tried(known, event), FindRun(after_s=wait_s), create_failed=True)


def tried(known: Known, event: Event) -> Known:
    """One more fault in a row at this step."""
    return replace(known, tries=known.tries + 1, since=known.since if known.since is not None else event.at)


def checked(known: Known, event: Event) -> AnswerRead:
    """The answer read before, now that surplus runs have been looked for."""
    answer = known.answer or Answer()
    return AnswerRead(event.at, event.draw, answer=answer, schema_error=known.schema_error, checked=True)


def locked(known: Known, event: Event, policy: RetryPolicy) -> Decision:
    """Another run is active on our thread: wait for it, within the deadline."""
    locked_since = known.locked_since if known.locked_since is not None else event.at
    if event.at - locked_since > (policy.deadline_s or 600.0):
        return Decision(known, Finish(JobStatus.FAILED, error="deadline: the thread stayed locked"))
    waiting = replace(tried(known, event), locked_since=locked_since)
    wait_s = policy.wait_s(known.tries, event.draw)
    if known.phase is Phase.NEW:
        return Decision(waiting, pause_for(wait_s, policy))
    return Decision(waiting, FindRun(after_s=wait_s))


def ask_to_end(known: Known, stop: Stop, event: Event) -> Decision:
    """Cancel the run at the API; what comes of it is decided when it has ended.

    Stored first: whoever finds the run cancelled after a kill must know that it was us, and why.
    """
    return Decision(replace(known, stop=stop, stopped_at=event.at), CancelRun(), store=True)

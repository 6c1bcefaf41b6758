"""What next? A pure function from what is known of a job and what was just observed to what to do.

    NEW ──Reserve──▶ CreateThread ──▶ SENT ──MakeRun──▶ FOLLOW ──Look…──▶ READ ──ReadAnswer──▶ Finish
     ▲  (thread stored, then the create)  │              │  ▲               │
     │                        no reply: RecoverRun          ▼  │               ├▶ CHECK (a create was repeated)
     │                                    │             ACT: CallTools ──▶ Submit
     │                                    └─ not there, its time limit over: NEW, in doubt
     └── a new attempt: expired, server_error, rate_limit_exceeded, deadline, gone, raise-limit, continue

A fault on the way is read in `worker.lifecycle.retry`; what follows an ended run stands in `worker.lifecycle.on_run_ended`.
No clock, no chance, no I/O here: times and draws come with the events.
"""

from dataclasses import replace

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import ACTIVE, ENDED, LookupKind, Run
from askmill.worker.lifecycle.on_error import PAUSED_WAIT_S, ask_to_end, checked, not_found, on_error, send
from askmill.worker.lifecycle.on_run_ended import on_run_ended
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import (
    AnswerRead,
    BudgetFull,
    CallTools,
    CancelReason,
    CancelRequested,
    CancelRun,
    Claimed,
    CreateSkipped,
    CreateThread,
    Decision,
    DeleteFailedTurn,
    Event,
    FailedTurnDeleted,
    Finish,
    JobState,
    LookupDone,
    PauseRequested,
    Phase,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    ReleaseRow,
    RequestFailed,
    Reserve,
    RunObserved,
    SubmitOutputs,
    ThreadCreated,
    ToolsCalled,
)

ROOM_WAIT_S = 2.0
"""How long a row waits, about, for runs in flight to make room in the budget."""
SEND_WITHIN_S = 2.0
"""How old `sent_at` may be when the create is written: a lost reply is looked for from then on."""


def in_time(known: JobState, at: float) -> bool:
    """Whether a create may be written now under the mark that was stored for it."""
    return at - (known.create_sent_at or 0.0) <= SEND_WITHIN_S


def advance(known: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """The decision that follows `event`. Total: every event is answered in every phase."""
    match event:
        case RunObserved(run=run):
            return _seen(known, run, event, policy)
        case LookupDone():
            return _looked(known, event, policy)
        case ToolsCalled(outputs=outputs):
            return Decision(
                replace(known, phase=Phase.CALLING_TOOLS, outputs=outputs, failures=0),
                SubmitOutputs(),
                store=True,
            )
        case AnswerRead():
            return on_run_ended(known, event, policy)
        case RequestFailed():
            return on_error(known, event, policy)
        case Claimed():
            return _claimed(known)
        case CancelRequested() | PauseRequested() | BudgetFull():
            return _asked(known, event)
        case _:
            return _made(known, event)


def _made(known: JobState, event: Event) -> Decision:
    """A step on the way to a run is done."""
    match event:
        case FailedTurnDeleted():
            return _make(replace(known, delete_failed_turn=False), event)
        case ThreadCreated(thread_id=thread_id):
            return send(replace(known, thread_id=thread_id, failures=0), event)
        case CreateSkipped():
            return _make(replace(known, phase=Phase.NEW, create_unconfirmed=known.create_repeated), event)
        case _:
            return _make(known, event)


def _claimed(known: JobState) -> Decision:
    """Nobody has looked for a while: what faults were met before says nothing about the server now."""
    waited = known.phase is Phase.NEW and not known.create_unconfirmed
    return _go_on(known if waited else replace(known, failing_since=None, gone_since=None, overdue=False))


def _go_on(known: JobState) -> Decision:
    """From where the last worker, or the last wait, left the job."""
    match known.phase:
        case Phase.NEW:
            return Decision(known, Reserve())
        case Phase.CREATE_SENT:
            return Decision(known, RecoverRun())
        case Phase.POLLING:
            return Decision(known, PollRun(after_s=0.0))
        case Phase.CALLING_TOOLS:
            return Decision(known, RecoverSubmit())
        case Phase.READING:
            return Decision(known, ReadAnswer())
        case Phase.CHECKING_DUPLICATES:
            return Decision(known, RecoverRun())


# ── making a run ──


def _make(known: JobState, event: Event) -> Decision:
    """The limits let us: clear, thread, a last look where a create is in doubt, then the run."""
    if known.delete_failed_turn and known.thread_id:
        return Decision(known, DeleteFailedTurn())
    if known.thread_id is None:
        return Decision(known, CreateThread())
    if known.create_unconfirmed:
        return Decision(replace(known, phase=Phase.CREATE_SENT), RecoverRun())
    return send(known, event)


def _looked(known: JobState, event: LookupDone, policy: RetryPolicy) -> Decision:
    """What stands on the thread after a create, or a submit, without a reply."""
    known, found = replace(known, gone_since=None), event.lookup
    surplus = tuple(run.id for run in found.duplicates)
    if known.phase is Phase.CHECKING_DUPLICATES:
        # On Responses it is our own items that are found, which are no other run.
        best = (found.run.id,) if found.complete_list and found.run and found.run.id != known.run_id else ()
        return replace(
            on_run_ended(known, checked(known, event), policy), duplicate_run_ids=(*surplus, *best)
        )
    if known.phase is Phase.CALLING_TOOLS:
        return _outputs_found(known, event, policy)
    if found.kind is LookupKind.RUN and found.run is not None:
        return replace(_seen(known, found.run, event, policy), duplicate_run_ids=surplus)
    if found.kind is LookupKind.ANSWER:
        return _adopted(known, found.run)
    return not_found(known, event, policy)


def _adopted(known: JobState, run: Run | None) -> Decision:
    """Its answer stands on the thread, its id is not known. `run`: how it ended, where that can be told."""
    adopted = replace(
        known,
        phase=Phase.READING,
        run_id=None,
        ended_run=run,
        create_unconfirmed=False,
        failures=0,
        failing_since=None,
    )
    return Decision(adopted, ReadAnswer(), store=True)


# ── following a run ──


def _seen(known: JobState, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    """A run was shown by a create, a look, a cancel, a submit or a find."""
    decision = _seen_now(_identified(known, run, event), run, event, policy)
    fresh = known.run_id != run.id or bool(known.outputs)
    return replace(decision, store=decision.store or fresh)


def _identified(known: JobState, run: Run, event: Event) -> JobState:
    return replace(
        known,
        phase=Phase.POLLING,
        run_id=run.id,
        began_at=known.began_at if known.began_at is not None else event.at,
        lifetime_s=run.lifetime_s or known.lifetime_s,
        locked_since=None,
        create_unconfirmed=False,
        outputs=(),
        tool_rounds=known.tool_rounds + (1 if known.outputs else 0),
        failures=0,
        failing_since=None,
        gone_since=None,
    )


def _seen_now(known: JobState, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    if run.status in ENDED:
        return Decision(replace(known, phase=Phase.READING, ended_run=run), ReadAnswer(), store=True)
    if known.cancel_reason is not None:
        return _stopping(known, run, event, policy)
    known = replace(known, unknown_status=None if run.status in ACTIVE else run.status)
    if event.at >= _deadline_at(known, policy):
        return _overdue(known, event)
    known = replace(known, overdue=False) if known.overdue else known
    if run.status == "requires_action":
        if known.tool_rounds >= policy.tool_rounds:
            error = f"tool_rounds: the model asked for functions more than {policy.tool_rounds} times"
            return ask_to_end(replace(known, cancel_error=error), CancelReason.ROW, event)
        return Decision(known, CallTools(calls=run.tool_calls), store=True)
    return Decision(known, PollRun(by=_deadline_at(known, policy)))


def _overdue(known: JobState, event: Event) -> Decision:
    """The deadline has passed, perhaps while this machine slept: one more look, then it is asked to end."""
    if known.overdue:
        return ask_to_end(known, CancelReason.DEADLINE, event)
    return Decision(replace(known, overdue=True), PollRun(after_s=0.0))


def _deadline_at(known: JobState, policy: RetryPolicy) -> float:
    """Ours, else a minute past what the API lets the run live, else 600 s; from when we first saw it."""
    began_at = known.began_at or 0.0
    if policy.deadline_s is not None:
        return began_at + policy.deadline_s
    return began_at + (known.lifetime_s + 60.0 if known.lifetime_s else 600.0)


def _stopping(known: JobState, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    """We want it to end: ask, and look until it has or a short grace is over."""
    if known.cancel_requested_at is None:
        return Decision(replace(known, cancel_requested_at=event.at), CancelRun())
    if event.at - known.cancel_requested_at >= policy.cancel_grace_s:
        return on_run_ended(replace(known, ended_run=run), AnswerRead(event.at, event.draw), policy)
    wait_s = policy.wait_s(1, event.draw)
    return Decision(
        known, PollRun(after_s=wait_s) if run.status == "cancelling" else CancelRun(after_s=wait_s)
    )


def _asked(known: JobState, event: Event) -> Decision:
    """The user cancels or pauses: a run that exists is cancelled, or followed; none is made."""
    if isinstance(event, BudgetFull):
        return Decision(known, ReleaseRow(wait_s=ROOM_WAIT_S * (0.5 + event.draw)))
    if isinstance(event, PauseRequested):
        # A row in doubt is fed although the batch is paused, so that its run, if there is one, is found.
        unpaid = known.phase is Phase.NEW or known.create_unconfirmed
        wait_s = PAUSED_WAIT_S if known.create_unconfirmed else 0.0
        return Decision(known, ReleaseRow(wait_s=wait_s)) if unpaid else _go_on(known)
    if known.phase is Phase.CREATE_SENT or (known.phase is Phase.NEW and known.create_unconfirmed):
        return Decision(
            replace(known, phase=Phase.CREATE_SENT, cancel_reason=CancelReason.USER), RecoverRun()
        )
    if known.phase is Phase.NEW:
        return Decision(known, Finish(JobStatus.CANCELLED))
    if known.phase in {Phase.READING, Phase.CHECKING_DUPLICATES} or known.cancel_reason is CancelReason.USER:
        return _go_on(known)
    return ask_to_end(replace(known, phase=Phase.POLLING), CancelReason.USER, event)


# ── functions ──


def _outputs_found(known: JobState, event: LookupDone, policy: RetryPolicy) -> Decision:
    """Whether outputs whose submission got no reply have arrived."""
    found = event.lookup
    if found.kind is LookupKind.ANSWER:
        return _adopted(known, found.run)
    if found.kind is LookupKind.RUN and found.run is not None:
        return _seen(known, found.run, event, policy)
    return Decision(
        known, SubmitOutputs(after_s=policy.wait_s(known.failures, event.draw) if known.failures else 0.0)
    )

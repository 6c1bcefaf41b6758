"""What next? A pure function from what is known of a job and what was just observed to what to do.

    NEW ──Reserve──▶ MakeThread ──▶ SENT ──MakeRun──▶ FOLLOW ──Look…──▶ READ ──ReadAnswer──▶ Finish
     ▲  (thread stored, then the create)  │              │  ▲               │
     │                        no reply: FindRun          ▼  │               ├▶ CHECK (a create was repeated)
     │                                    │             ACT: CallTools ──▶ Submit
     │                                    └─ not there, its time limit over: NEW, in doubt
     └── a new attempt: expired, server_error, rate_limit_exceeded, deadline, gone, raise-limit, continue

A fault on the way is read in `worker.lifecycle.retry`; what follows an ended run stands in `worker.lifecycle.on_run_ended`.
No clock, no chance, no I/O here: times and draws come with the events.
"""

from dataclasses import replace

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import ACTIVE, ENDED, FoundKind, Run
from askmill.worker.lifecycle.on_error import PAUSED_WAIT_S, ask_to_end, checked, faulted, not_found, send
from askmill.worker.lifecycle.on_run_ended import conclude
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import (
    AnswerRead,
    CallTools,
    CancelAsked,
    CancelRun,
    Claimed,
    ClearTurn,
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
    MakeThread,
    NoRoom,
    NotSent,
    PauseAsked,
    Phase,
    ReadAnswer,
    Reserve,
    RunSeen,
    Stop,
    Submit,
    ThreadMade,
    ToolsCalled,
    TurnCleared,
)

ROOM_WAIT_S = 2.0
"""How long a row waits, about, for runs in flight to make room in the budget."""
SEND_WITHIN_S = 2.0
"""How old `sent_at` may be when the create is written: a lost reply is looked for from then on."""


def in_time(known: Known, at: float) -> bool:
    """Whether a create may be written now under the mark that was stored for it."""
    return at - (known.sent_at or 0.0) <= SEND_WITHIN_S


def advance(known: Known, event: Event, policy: RetryPolicy) -> Decision:
    """The decision that follows `event`. Total: every event is answered in every phase."""
    match event:
        case RunSeen(run=run):
            return _seen(known, run, event, policy)
        case Looked():
            return _looked(known, event, policy)
        case ToolsCalled(outputs=outputs):
            return Decision(replace(known, phase=Phase.ACT, outputs=outputs, tries=0), Submit(), store=True)
        case AnswerRead():
            return conclude(known, event, policy)
        case Faulted():
            return faulted(known, event, policy)
        case Claimed():
            return _claimed(known)
        case CancelAsked() | PauseAsked() | NoRoom():
            return _asked(known, event)
        case _:
            return _made(known, event)


def _made(known: Known, event: Event) -> Decision:
    """A step on the way to a run is done."""
    match event:
        case TurnCleared():
            return _make(replace(known, clear=False), event)
        case ThreadMade(thread_id=thread_id):
            return send(replace(known, thread_id=thread_id, tries=0), event)
        case NotSent():
            return _make(replace(known, phase=Phase.NEW, doubt=known.repeated), event)
        case _:
            return _make(known, event)


def _claimed(known: Known) -> Decision:
    """Nobody has looked for a while: what faults were met before says nothing about the server now."""
    waited = known.phase is Phase.NEW and not known.doubt
    return _go_on(known if waited else replace(known, since=None, gone_since=None, overdue=False))


def _go_on(known: Known) -> Decision:
    """From where the last worker, or the last wait, left the job."""
    match known.phase:
        case Phase.NEW:
            return Decision(known, Reserve())
        case Phase.SENT:
            return Decision(known, FindRun())
        case Phase.FOLLOW:
            return Decision(known, Look(after_s=0.0))
        case Phase.ACT:
            return Decision(known, FindSubmitted())
        case Phase.READ:
            return Decision(known, ReadAnswer())
        case Phase.CHECK:
            return Decision(known, FindRun())


# ── making a run ──


def _make(known: Known, event: Event) -> Decision:
    """The limits let us: clear, thread, a last look where a create is in doubt, then the run."""
    if known.clear and known.thread_id:
        return Decision(known, ClearTurn())
    if known.thread_id is None:
        return Decision(known, MakeThread())
    if known.doubt:
        return Decision(replace(known, phase=Phase.SENT), FindRun())
    return send(known, event)


def _looked(known: Known, event: Looked, policy: RetryPolicy) -> Decision:
    """What stands on the thread after a create, or a submit, without a reply."""
    known, found = replace(known, gone_since=None), event.found
    surplus = tuple(run.id for run in found.surplus)
    if known.phase is Phase.CHECK:
        # On Responses it is our own items that are found, which are no other run.
        best = (found.run.id,) if found.listed and found.run and found.run.id != known.run_id else ()
        return replace(conclude(known, checked(known, event), policy), surplus=(*surplus, *best))
    if known.phase is Phase.ACT:
        return _outputs_found(known, event, policy)
    if found.kind is FoundKind.RUN and found.run is not None:
        return replace(_seen(known, found.run, event, policy), surplus=surplus)
    if found.kind is FoundKind.ANSWER:
        return _adopted(known, found.run)
    return not_found(known, event, policy)


def _adopted(known: Known, run: Run | None) -> Decision:
    """Its answer stands on the thread, its id is not known. `run`: how it ended, where that can be told."""
    adopted = replace(known, phase=Phase.READ, run_id=None, ended=run, doubt=False, tries=0, since=None)
    return Decision(adopted, ReadAnswer(), store=True)


# ── following a run ──


def _seen(known: Known, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    """A run was shown by a create, a look, a cancel, a submit or a find."""
    decision = _seen_now(_identified(known, run, event), run, event, policy)
    fresh = known.run_id != run.id or bool(known.outputs)
    return replace(decision, store=decision.store or fresh)


def _identified(known: Known, run: Run, event: Event) -> Known:
    return replace(
        known,
        phase=Phase.FOLLOW,
        run_id=run.id,
        began_at=known.began_at if known.began_at is not None else event.at,
        lifetime_s=run.lifetime_s or known.lifetime_s,
        locked_since=None,
        doubt=False,
        outputs=(),
        rounds=known.rounds + (1 if known.outputs else 0),
        tries=0,
        since=None,
        gone_since=None,
    )


def _seen_now(known: Known, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    if run.status in ENDED:
        return Decision(replace(known, phase=Phase.READ, ended=run), ReadAnswer(), store=True)
    if known.stop is not None:
        return _stopping(known, run, event, policy)
    known = replace(known, odd_status=None if run.status in ACTIVE else run.status)
    if event.at >= _deadline_at(known, policy):
        return _overdue(known, event)
    known = replace(known, overdue=False) if known.overdue else known
    if run.status == "requires_action":
        if known.rounds >= policy.tool_rounds:
            error = f"tool_rounds: the model asked for functions more than {policy.tool_rounds} times"
            return ask_to_end(replace(known, stop_error=error), Stop.ROW, event)
        return Decision(known, CallTools(calls=run.tool_calls), store=True)
    return Decision(known, Look(by=_deadline_at(known, policy)))


def _overdue(known: Known, event: Event) -> Decision:
    """The deadline has passed, perhaps while this machine slept: one more look, then it is asked to end."""
    if known.overdue:
        return ask_to_end(known, Stop.DEADLINE, event)
    return Decision(replace(known, overdue=True), Look(after_s=0.0))


def _deadline_at(known: Known, policy: RetryPolicy) -> float:
    """Ours, else a minute past what the API lets the run live, else 600 s; from when we first saw it."""
    began_at = known.began_at or 0.0
    if policy.deadline_s is not None:
        return began_at + policy.deadline_s
    return began_at + (known.lifetime_s + 60.0 if known.lifetime_s else 600.0)


def _stopping(known: Known, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    """We want it to end: ask, and look until it has or a short grace is over."""
    if known.stopped_at is None:
        return Decision(replace(known, stopped_at=event.at), CancelRun())
    if event.at - known.stopped_at >= policy.cancel_grace_s:
        return conclude(replace(known, ended=run), AnswerRead(event.at, event.draw), policy)
    wait_s = policy.wait_s(1, event.draw)
    return Decision(known, Look(after_s=wait_s) if run.status == "cancelling" else CancelRun(after_s=wait_s))


def _asked(known: Known, event: Event) -> Decision:
    """The user cancels or pauses: a run that exists is cancelled, or followed; none is made."""
    if isinstance(event, NoRoom):
        return Decision(known, GiveBack(wait_s=ROOM_WAIT_S * (0.5 + event.draw)))
    if isinstance(event, PauseAsked):
        # A row in doubt is fed although the batch is paused, so that its run, if there is one, is found.
        unpaid = known.phase is Phase.NEW or known.doubt
        wait_s = PAUSED_WAIT_S if known.doubt else 0.0
        return Decision(known, GiveBack(wait_s=wait_s)) if unpaid else _go_on(known)
    if known.phase is Phase.SENT or (known.phase is Phase.NEW and known.doubt):
        return Decision(replace(known, phase=Phase.SENT, stop=Stop.USER), FindRun())
    if known.phase is Phase.NEW:
        return Decision(known, Finish(JobStatus.CANCELLED))
    if known.phase in {Phase.READ, Phase.CHECK} or known.stop is Stop.USER:
        return _go_on(known)
    return ask_to_end(replace(known, phase=Phase.FOLLOW), Stop.USER, event)


# ── functions ──


def _outputs_found(known: Known, event: Looked, policy: RetryPolicy) -> Decision:
    """Whether outputs whose submission got no reply have arrived."""
    found = event.found
    if found.kind is FoundKind.ANSWER:
        return _adopted(known, found.run)
    if found.kind is FoundKind.RUN and found.run is not None:
        return _seen(known, found.run, event, policy)
    return Decision(known, Submit(after_s=policy.wait_s(known.tries, event.draw) if known.tries else 0.0))

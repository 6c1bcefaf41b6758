"""The state machine of one row: `advance(state, event, policy)` returns the next state and action.

    NEW ──Reserve──▶ CreateThread ──▶ CREATE_SENT ──CreateRun──▶ POLLING ──PollRun…──▶ READING ──▶ Finish
     ▲                                  │                         ▲  │                   │
     │                       no reply: RecoverRun                 │  ▼                   └▶ CHECKING_
     │                                  │                    CALLING_TOOLS                  DUPLICATES
     │                                  └─ not found within its time limit: NEW, unconfirmed
     └── a new attempt: expired, server_error, rate_limit_exceeded, deadline, run_gone, raise-limit, continue

Failed requests are handled in `on_error`, ended runs in `on_run_ended`, runs that are to end in
`on_cancelling`, functions in `on_requires_action`, paused and cancelled batches in `on_batch_state`. The
functions are pure: no clock, randomness or I/O; times and jitter come with the events.
"""

from dataclasses import replace
from math import inf

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import ACTIVE, ENDED, LookupKind, Run, RunStatus
from askmill.worker.lifecycle.decision import (
    CallTools,
    CreateThread,
    Decision,
    DeleteFailedTurn,
    Finish,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    ReleaseRow,
    Reserve,
    SubmitOutputs,
    wait_or_release,
)
from askmill.worker.lifecycle.events import (
    AnswerRead,
    BudgetFull,
    CancelAccepted,
    CancelRequested,
    Claimed,
    CreateSkipped,
    Event,
    FailedTurnDeleted,
    LookupDone,
    PauseRequested,
    RefusalRecorded,
    RequestFailed,
    Reserved,
    RunCreated,
    RunObserved,
    ThreadCreated,
    ToolsCalled,
)
from askmill.worker.lifecycle.on_cancelling import (
    cancel_never_started,
    has_started,
    never_started_at,
    while_cancelling,
    without_cancel,
)
from askmill.worker.lifecycle.on_error import PAUSED_WAIT_S, answer_after_check, create_not_found, on_error
from askmill.worker.lifecycle.on_lost_call import WORKER_ENDED, on_lost_call, since_sent
from askmill.worker.lifecycle.on_refusal import on_refusal_recorded
from askmill.worker.lifecycle.on_requires_action import (
    STALE_S,
    next_round,
    on_requires_action,
    open_calls,
    outputs_accepted,
    with_calls,
)
from askmill.worker.lifecycle.on_run_ended import on_run_ended
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase

BUDGET_WAIT_S = 2.0
"""How long, on average, a row waits for runs in flight to free budget."""
SEND_WITHIN_S = 2.0
"""How old `create_sent_at` may be when the create is sent: a lost reply is searched for from then on."""
DEFAULT_DEADLINE_S = 600.0
LIFETIME_GRACE_S = 60.0
"""How long past the API's own limit a run may take before it is cancelled."""
WHOLE_SECONDS_S = 2.0
"""How far the age of a run may be wrong by its API's clock, which has whole seconds."""


def in_time(state: JobState, at: float) -> bool:
    """Whether a create may be sent now under the mark that was stored for it."""
    return at - (state.create_sent_at or 0.0) <= SEND_WITHIN_S


def advance(state: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """The decision that follows `event`. Total: every event is handled in every phase."""
    match event:
        case Claimed():
            return _on_claimed(state, event, policy)
        case Reserved() | FailedTurnDeleted() | CreateSkipped():
            return _before_create(state, event)
        case ThreadCreated(thread_id=thread_id):
            return Decision.create_run(replace(state, thread_id=thread_id, failures=0), event.at)
        case RunObserved(run=run):
            return _on_run(state, run, event, policy)
        case LookupDone():
            return _on_lookup(state, event, policy)
        case ToolsCalled():
            return _on_tools_called(state, event, policy)
        case AnswerRead():
            return on_run_ended(state, event, policy)
        case RequestFailed() | RefusalRecorded():
            return _on_failure(state, event, policy)
        case BudgetFull() | PauseRequested() | CancelRequested():
            return _on_batch_event(state, event, policy)
    raise AssertionError(f"no transition for {event!r}")


def _on_failure(state: JobState, event: RequestFailed | RefusalRecorded, policy: RetryPolicy) -> Decision:
    if isinstance(event, RefusalRecorded):
        return on_refusal_recorded(state, event, policy)
    return on_error(state, event, policy)


def _on_tools_called(state: JobState, event: ToolsCalled, policy: RetryPolicy) -> Decision:
    """The functions have been called: their outputs are stored before they are sent."""
    if policy.stateless:
        return next_round(state, event)
    called = replace(state, phase=Phase.CALLING_TOOLS, outputs=event.outputs, failures=0)
    return Decision(called, SubmitOutputs(), store=True)


def _on_claimed(state: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """Continue where the last worker, or the last wait, left the job.

    Earlier failures are forgotten: nobody has asked the server for a while.
    """
    if state.phase is not Phase.NEW or state.create_unconfirmed:
        state = replace(state, failing_since=None, not_found_since=None, overdue=False)
    if policy.stateless and state.phase is Phase.CREATE_SENT:
        return on_lost_call(state, event, WORKER_ENDED, policy)
    if policy.stateless and state.calls:
        return Decision(state, CallTools(calls=state.calls))
    return _continue(state)


def _continue(state: JobState) -> Decision:
    match state.phase:
        case Phase.NEW:
            return Decision(state, Reserve())
        case Phase.CREATE_SENT | Phase.CHECKING_DUPLICATES:
            return Decision(state, RecoverRun())
        case Phase.POLLING:
            return Decision(state, PollRun(after_s=0.0))
        case Phase.CALLING_TOOLS:
            return Decision(state, RecoverSubmit())
        case Phase.READING:
            return Decision(state, ReadAnswer())


# ── create ──


def _before_create(state: JobState, event: Event) -> Decision:
    """The limits allow a run: clean the thread, create it, search once more where a create is unconfirmed."""
    if isinstance(event, FailedTurnDeleted):
        state = replace(state, delete_failed_turn=False)
    if isinstance(event, CreateSkipped):
        state = replace(state, phase=Phase.NEW, create_unconfirmed=state.create_repeated)
    if state.delete_failed_turn and state.thread_id:
        return Decision(state, DeleteFailedTurn())
    if state.thread_id is None:
        return Decision(state, CreateThread())
    if state.create_unconfirmed:
        return Decision(replace(state, phase=Phase.CREATE_SENT), RecoverRun())
    return Decision.create_run(state, event.at)


def _on_lookup(state: JobState, event: LookupDone, policy: RetryPolicy) -> Decision:
    """What the thread holds after a create, or a submit, without a reply."""
    state, lookup = replace(state, not_found_since=None), event.lookup
    duplicates = tuple(run.id for run in lookup.duplicates)
    if state.phase is Phase.CHECKING_DUPLICATES:
        # On Responses the lookup finds the row's own items, which are no other run.
        if lookup.complete_list and lookup.run and lookup.run.id != state.run_id:
            duplicates = (*duplicates, lookup.run.id)
        decision = on_run_ended(state, answer_after_check(state, event), policy)
        return replace(decision, duplicate_run_ids=duplicates)
    if lookup.kind is LookupKind.ANSWER:
        return _adopt_answer(state, lookup.run)
    if lookup.kind is LookupKind.RUN and lookup.run is not None:
        decision = _on_run(state, lookup.run, event, policy)
        return (
            decision
            if state.phase is Phase.CALLING_TOOLS
            else replace(decision, duplicate_run_ids=duplicates)
        )
    if state.phase is Phase.CREATE_SENT and state.create_sent_at is None:
        # A lock refused the create, and the run that holds it is not this row's.
        wait_s = policy.wait_s(max(0, state.failures - 1), event.jitter)
        return Decision(replace(state, phase=Phase.NEW), wait_or_release(wait_s, policy))
    if state.phase is Phase.CALLING_TOOLS:
        wait_s = policy.wait_s(state.failures, event.jitter) if state.failures else 0.0
        return Decision(state, SubmitOutputs(after_s=wait_s))
    return create_not_found(state, event, policy)


def _adopt_answer(state: JobState, run: Run | None) -> Decision:
    """The answer is on the thread, but its run's id is unknown. `run`: how it ended, where that is known."""
    adopted = replace(
        state,
        phase=Phase.READING,
        run_id=None,
        ended_run=run,
        create_unconfirmed=False,
        failures=0,
        failing_since=None,
    )
    return Decision(adopted, ReadAnswer(), store=True)


# ── a run that exists ──


def _on_run(before: JobState, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    """The API has returned the run: in the reply to a create, poll, cancel or submit, or from a lookup."""
    before = since_sent(before) if policy.stateless else before
    state = replace(
        outputs_accepted(before) if before.outputs else before,
        phase=Phase.POLLING,
        run_id=run.id,
        began_at=before.began_at if before.began_at is not None else event.at,
        lifetime_s=run.lifetime_s or before.lifetime_s,
        locked_since=None,
        create_unconfirmed=False,
        cancel_refusal=run.cancel_refusal if isinstance(event, CancelAccepted) else before.cancel_refusal,
        tool_rounds=before.tool_rounds + (1 if before.outputs else 0),
        failures=0,
        failing_since=None,
        not_found_since=None,
    )
    decision = _after_run_status(state, run, event, policy)
    # A new id and accepted outputs must survive a kill; a poll that shows nothing new is not stored.
    news = before.run_id != run.id or bool(before.outputs)
    return replace(decision, store=True) if news else decision


def _after_run_status(state: JobState, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    if run.message_with_calls and not open_calls(state, run, event.at):
        run = replace(run, status=RunStatus.COMPLETED)
    if run.status in ENDED:
        if isinstance(event, RunCreated) and event.answer is not None:
            return on_run_ended(replace(state, phase=Phase.READING, ended_run=run), event.answer, policy)
        return Decision(replace(state, phase=Phase.READING, ended_run=run), ReadAnswer(), store=True)
    if state.cancel_reason is None:
        return _follow(state, run, event, policy)
    if has_started(state, run):
        return replace(_follow(without_cancel(state), run, event, policy), store=True)
    return while_cancelling(state, run, event, policy)


def _follow(state: JobState, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    """The run is active, or has a status that askmill does not know: poll it until its deadline."""
    deadline_at = _deadline_at(state, policy)
    if event.at >= deadline_at and (corrected := _with_age(state, run, event)) is not None:
        return replace(_follow(corrected, run, event, policy), store=True)
    state = replace(state, unknown_status=None if run.status in ACTIVE else run.status)
    if event.at >= deadline_at:
        # This machine may have slept: the run is polled once more before it is cancelled.
        if state.overdue:
            return Decision.cancel_run(state, CancelReason.DEADLINE, event.at)
        return Decision(replace(state, overdue=True), PollRun(after_s=0.0))
    state = replace(state, overdue=False) if state.overdue else state
    if run.status == RunStatus.REQUIRES_ACTION:
        if policy.stateless:
            state = with_calls(state, run)
        return on_requires_action(state, run, event, policy, deadline_at)
    state = replace(state, unsettled_since=None)
    if state.answered_calls and state.calls_are_new_at is None:  # it is at work again after its functions
        state = replace(state, calls_are_new_at=event.at + STALE_S)
    never_started = inf if state.create_fault is None else never_started_at(state, run, policy)
    if event.at >= never_started:
        return cancel_never_started(state, event, policy)
    return Decision(state, PollRun(by=min(deadline_at, never_started)))


def _with_age(state: JobState, run: Run, event: Event) -> JobState | None:
    """The state with the run's age by the API's clock, if that makes it younger; None otherwise.

    Redis' clock may have been set while no worker was there to notice. Once for each attempt: no wrong `Date`
    may keep a run alive.
    """
    if run.age_s is None or state.began_at_corrected:
        return None
    began_at = event.at - max(0.0, run.age_s)
    if began_at - (state.began_at or 0.0) <= WHOLE_SECONDS_S:
        return None
    return replace(state, began_at=began_at, began_at_corrected=True)


def _deadline_at(state: JobState, policy: RetryPolicy) -> float:
    """The user's deadline, else a minute past the API's own, else 600 s; from when the run was first seen."""
    began_at = state.began_at or 0.0
    if policy.deadline_s is not None:
        return began_at + policy.deadline_s
    return began_at + (state.lifetime_s + LIFETIME_GRACE_S if state.lifetime_s else DEFAULT_DEADLINE_S)


# ── paused and cancelled batches ──


def _on_batch_event(state: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """The batch is paused, cancelled or out of budget: no run is started; one that exists is kept in view."""
    if isinstance(event, BudgetFull):
        return Decision(state, ReleaseRow(wait_s=BUDGET_WAIT_S * (0.5 + event.jitter)))
    if isinstance(event, CancelRequested):
        return _on_cancel(state, event, policy)
    if state.create_unconfirmed:
        # Such a row is dispatched although the batch is paused, so that its run, if there is one, is found.
        return Decision(state, ReleaseRow(wait_s=PAUSED_WAIT_S))
    return Decision(state, ReleaseRow()) if state.phase is Phase.NEW else _continue(state)


def _on_cancel(state: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """The user cancels: a run that exists is cancelled, one that may exist is searched for."""
    if policy.stateless and state.phase is Phase.CREATE_SENT:
        # Its connection is closed, which is the cancel.
        ended = on_lost_call(replace(state, cancel_reason=CancelReason.USER), event, "cancelled", policy)
        return replace(ended, unknown_create=False)
    if state.phase is Phase.CREATE_SENT or (state.phase is Phase.NEW and state.create_unconfirmed):
        searching = replace(state, phase=Phase.CREATE_SENT, cancel_reason=CancelReason.USER)
        return Decision(searching, RecoverRun())
    if state.phase is Phase.NEW:
        return Decision(state, Finish(JobStatus.CANCELLED))
    if state.phase in {Phase.READING, Phase.CHECKING_DUPLICATES} or state.cancel_reason is CancelReason.USER:
        return _continue(state)
    return Decision.cancel_run(replace(state, phase=Phase.POLLING), CancelReason.USER, event.at)

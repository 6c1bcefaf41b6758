"""What a paused or cancelled batch makes of a decision: nothing new is begun. Pure, as `worker.lifecycle.transitions`.

running             the decision stands
paused              what would begin something is given back instead; a run that exists is followed, one that
                    may exist is looked for
cancelled           likewise, and a run that exists is ended at its next look
"""

from dataclasses import replace

from askmill.jobs.model.models import BatchState
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import (
    CancelRequested,
    CreateRun,
    CreateThread,
    Decision,
    DeleteFailedTurn,
    Event,
    JobState,
    PauseRequested,
    Phase,
    PollRun,
    RecoverRun,
    Reserve,
    Wait,
)
from askmill.worker.lifecycle.transitions import advance

STARTING = (Reserve, DeleteFailedTurn, CreateThread, CreateRun)
"""Actions that lead to spending."""


def starts_run(decision: Decision) -> bool:
    """Whether it leads to a run that does not exist yet."""
    action = decision.action
    return isinstance(action, STARTING) or (isinstance(action, Wait) and decision.state.phase is Phase.NEW)


def without_create(decision: Decision) -> JobState:
    """What is known if the decision is not carried out: what was sent before it stays in doubt."""
    known = decision.state
    if isinstance(decision.action, CreateRun):
        first = decision.unknown_create
        return replace(
            known,
            phase=Phase.NEW,
            create_unconfirmed=known.create_repeated,
            create_repeated=known.create_repeated and not first,
        )
    return known


def apply_batch_state(decision: Decision, state: BatchState, event: Event, policy: RetryPolicy) -> Decision:
    """The same decision, unless the batch's state forbids it. `event` lends its time."""
    starting = starts_run(decision)
    following = isinstance(decision.action, PollRun) and decision.state.cancel_reason is None
    if state is BatchState.CANCELLED and (starting or following):
        return advance(without_create(decision), CancelRequested(event.at), policy)
    if state is BatchState.PAUSED and starting:
        if decision.state.create_unconfirmed and isinstance(decision.action, Reserve):
            # A create without a reply may have landed since: to look is not to spend.
            return Decision(replace(decision.state, phase=Phase.CREATE_SENT), RecoverRun())
        return advance(without_create(decision), PauseRequested(event.at), policy)
    return decision

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
    CancelAsked,
    ClearTurn,
    Decision,
    Event,
    FindRun,
    Known,
    Look,
    MakeRun,
    MakeThread,
    PauseAsked,
    Phase,
    Reserve,
    Wait,
)
from askmill.worker.lifecycle.transitions import advance

STARTING = (Reserve, ClearTurn, MakeThread, MakeRun)
"""Actions that lead to spending."""


def begins(decision: Decision) -> bool:
    """Whether it leads to a run that does not exist yet."""
    action = decision.action
    return isinstance(action, STARTING) or (isinstance(action, Wait) and decision.known.phase is Phase.NEW)


def unsent(decision: Decision) -> Known:
    """What is known if the decision is not carried out: what was sent before it stays in doubt."""
    known = decision.known
    if isinstance(decision.action, MakeRun):
        first = decision.unknown_create
        return replace(known, phase=Phase.NEW, doubt=known.repeated, repeated=known.repeated and not first)
    return known


def redirected(decision: Decision, state: BatchState, event: Event, policy: RetryPolicy) -> Decision:
    """The same decision, unless the batch's state forbids it. `event` lends its time."""
    starting = begins(decision)
    following = isinstance(decision.action, Look) and decision.known.stop is None
    if state is BatchState.CANCELLED and (starting or following):
        return advance(unsent(decision), CancelAsked(event.at), policy)
    if state is BatchState.PAUSED and starting:
        if decision.known.doubt and isinstance(decision.action, Reserve):
            # A create without a reply may have landed since: to look is not to spend.
            return Decision(replace(decision.known, phase=Phase.SENT), FindRun())
        return advance(unsent(decision), PauseAsked(event.at), policy)
    return decision

"""How a paused or cancelled batch changes a decision: no run is started.

running      the decision stands
paused       a decision that would start a run releases the row instead; a run that exists is polled to its
             end, one that may exist is searched for
cancelled    likewise, and a run that exists is cancelled

Pure, as `worker.lifecycle.transitions`.
"""

from dataclasses import replace

from askmill.jobs.model.models import BatchState
from askmill.worker.lifecycle.decision import (
    CreateRun,
    CreateThread,
    Decision,
    DeleteFailedTurn,
    PollRun,
    RecoverRun,
    Reserve,
    Wait,
    without_create,
)
from askmill.worker.lifecycle.events import CancelRequested, Event, PauseRequested
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import Phase
from askmill.worker.lifecycle.transitions import advance


def starts_run(decision: Decision) -> bool:
    """Whether the decision leads to a run that does not exist yet."""
    if isinstance(decision.action, Wait):
        return decision.state.phase is Phase.NEW
    return isinstance(decision.action, Reserve | DeleteFailedTurn | CreateThread | CreateRun)


def apply_batch_state(
    decision: Decision, batch_state: BatchState, event: Event, policy: RetryPolicy
) -> Decision:
    """The same decision, unless the batch's state forbids it. `event` supplies the time."""
    starting = starts_run(decision)
    polling = isinstance(decision.action, PollRun) and decision.state.cancel_reason is None
    if batch_state is BatchState.CANCELLED and (starting or polling):
        return _with_counts(advance(without_create(decision), CancelRequested(event.at), policy), decision)
    if batch_state is BatchState.PAUSED and starting:
        if decision.state.create_unconfirmed and isinstance(decision.action, Reserve):
            # The create without a reply may have arrived since; searching for its run costs nothing.
            return Decision(replace(decision.state, phase=Phase.CREATE_SENT), RecoverRun())
        return _with_counts(advance(without_create(decision), PauseRequested(event.at), policy), decision)
    return decision


def _with_counts(changed: Decision, decision: Decision) -> Decision:
    """The changed decision, with what the first one counts of a run that was made before."""
    if isinstance(decision.action, CreateRun):
        return changed  # an unknown create is counted when it is repeated
    return replace(
        changed,
        unknown_create=changed.unknown_create or decision.unknown_create,
        uncancelled_run=changed.uncancelled_run or decision.uncancelled_run,
    )

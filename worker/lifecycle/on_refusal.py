"""Whose fault is a refusal whose words do not say? The other rows of the batch show it. Pure.

A refused create costs nothing, so it is found out by asking: the refused row waits, and another row is sent
alone (jobs/store/lua/record_refusal.lua).

    another row was accepted between two refusals of this one  the row fails, with the server's words
    no other row is left, and some were accepted before        the row fails
    REFUSED_ALIKE rows, each alone, none accepted between      the batch pauses and names them
    no other row is left, and none was ever accepted           the batch pauses (one row fails, unless 403)
    otherwise                                                  the row waits behind the others
"""

from askmill.jobs.model.api_errors import reason_of
from askmill.jobs.model.models import JobStatus, Refusals
from askmill.worker.lifecycle.decision import Decision, Finish, PauseBatch, ReleaseRow
from askmill.worker.lifecycle.error_rule import report_of
from askmill.worker.lifecycle.events import RefusalRecorded
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState

REFUSED_ALIKE = 5
"""So many rows are refused, each alone and one after the other, before the fault is taken for the batch's."""
NAMED_ROWS = 5
"""So many rows are named in the reason of a pause."""


def on_refusal_recorded(state: JobState, event: RefusalRecorded, policy: RetryPolicy) -> Decision:
    """The refusal is recorded: decide by what became of the other rows."""
    refusals, error = event.refusals, event.error
    if refusals.accepted_since:
        return Decision(state, Finish(JobStatus.FAILED, error=str(error)))
    if refusals.other_rows <= 0:
        alone = len(refusals.rows) <= 1 and error.status != 403
        if refusals.ever_accepted or alone:
            return Decision(state, Finish(JobStatus.FAILED, error=str(error)))
        return _pause(state, event)
    if refusals.refused_alone >= REFUSED_ALIKE:
        return _pause(state, event)
    return Decision(state, ReleaseRow(wait_s=policy.wait_s(state.failures, event.jitter)))


def _pause(state: JobState, event: RefusalRecorded) -> Decision:
    reason = reason_of(report_of(event.error))
    request = f" ({event.error.request})" if event.error.request else ""
    return Decision(state, PauseBatch(reason=f"{reason}{request}, {_named(event.refusals)}"))


def _named(refusals: Refusals) -> str:
    rows = [str(row) for row in refusals.rows[-NAMED_ROWS:]]
    if len(rows) == 1:
        return f"refused for row {rows[0]}"
    return f"refused for rows {', '.join(rows[:-1])} and {rows[-1]} in the same way"

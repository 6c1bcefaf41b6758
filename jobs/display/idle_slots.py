"""Why workers have slots that nothing uses although rows are queued: one line for `status` and the panel.

Only lasting reasons are shown. Between two runs a slot is free for a moment, which is no reason.
Pure: from a StatusView to text.
"""

from askmill.config.text import count_of
from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.store.views import StatusView

TO_DISPATCH, DISPATCHED, NEXT_ATTEMPT, EARLIER_TURN = "q", "p", "w", "h"
"""Status bytes of queued rows (jobs/model/models.py)."""


def idle_line(view: StatusView) -> str:
    """`12 of 20 slots are unused: …`; empty where all are used or the reason is not known."""
    rows = view.counts.rows_by_byte
    going = view.batch.state in {BatchState.QUEUED, BatchState.RUNNING}
    slots = sum(worker.slots for worker in view.workers)
    unused = slots - view.claimed - rows.get(DISPATCHED, 0)
    # A wait that the API asked for has a line of its own.
    if not going or view.waiting is not None or unused <= 0:
        return ""
    if not view.counts.by_status[JobStatus.QUEUED] or not (reason := _reason(view, slots)):
        return ""
    return f"{unused:,} of {count_of(slots, 'slot')} {'is' if slots == 1 else 'are'} unused: {reason}"


def _reason(view: StatusView, slots: int) -> str:
    if not view.batch.accepted:
        return "one row is asked first, until the API has accepted a run of this batch"
    limit = view.run_limit
    if limit is not None and limit.runs < slots:
        runs = count_of(limit.runs, "run")
        if limit.from_api:
            return f"after the API's rate limit {runs} may be in flight at a time; the number rises by itself"
        return f"ASKMILL_MAX_RUNS allows {runs} at a time"
    rows = view.counts.rows_by_byte
    if rows.get(TO_DISPATCH, 0) or rows.get(DISPATCHED, 0):
        return ""
    later, behind = rows.get(NEXT_ATTEMPT, 0), rows.get(EARLIER_TURN, 0)
    budget = ", or for room in the budget" if view.batch.limits.budget_usd is not None else ""
    parts = [f"{_rows_that(later)} for the time at which they are due again{budget}"] if later else []
    parts += [f"{_rows_that(behind)} for an earlier row of the same conversation"] if behind else []
    return ", ".join(parts)


def _rows_that(rows: int) -> str:
    return f"{count_of(rows, 'row')} {'waits' if rows == 1 else 'wait'}"

"""Transitions of a run that is to end: cancel it, and follow it to its end.

A run that the last poll shows alive is never replaced by another, which would be paid as well. After the
grace it is followed on, up to `RetryPolicy.uncancelled_s`, and its answer is kept if it comes; then the row
ends and says what the server has refused (`on_run_ended`).

Pure, as `worker.lifecycle.transitions`.
"""

from dataclasses import replace
from math import inf

from askmill.worker.lifecycle.api_types import ACTIVE, Run
from askmill.worker.lifecycle.decision import CancelRun, Decision, PollRun, ReadAnswer
from askmill.worker.lifecycle.events import Event
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase


def while_cancelling(state: JobState, run: Run, event: Event, policy: RetryPolicy) -> Decision:
    """The run has not ended yet: cancel and poll it, less often as time passes, until its limit."""
    if state.cancel_requested_at is None:
        return Decision(replace(state, cancel_requested_at=event.at), CancelRun())
    elapsed_s = event.at - state.cancel_requested_at
    if elapsed_s >= _limit_s(state, run, policy):
        return Decision(replace(state, phase=Phase.READING, ended_run=run), ReadAnswer(), store=True)
    wait_s = policy.settle_wait_s(elapsed_s, event.jitter)
    if run.status == "cancelling":
        return Decision(state, PollRun(after_s=wait_s))
    return Decision(state, CancelRun(after_s=wait_s))


def _limit_s(state: JobState, run: Run, policy: RetryPolicy) -> float:
    """How long the run is followed: the grace where the user waits, or where it is not known to be alive."""
    of_no_use = state.cancel_reason in {CancelReason.USER, CancelReason.NEVER_STARTED}
    return policy.cancel_grace_s if of_no_use or run.status not in ACTIVE else policy.uncancelled_s


def never_started_at(state: JobState, run: Run, policy: RetryPolicy) -> float:
    """When a run whose create failed at the server counts as never started: it is queued since."""
    if run.status != "queued" or state.tool_rounds or state.began_at is None:
        return inf
    return state.began_at + policy.never_started_s


def cancel_never_started(state: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """Cancel a run that its server stored, but did not start."""
    error = (
        f"never_started: its create failed at the server ({state.create_fault}), and the run {state.run_id} "
        f"stayed queued for {policy.never_started_s:.0f} s"
    )
    return Decision.cancel_run(replace(state, cancel_error=error), CancelReason.NEVER_STARTED, event.at)


def has_started(state: JobState, run: Run) -> bool:
    """Whether a run that counted as never started is at work after all."""
    never_started = state.cancel_reason is CancelReason.NEVER_STARTED
    return never_started and run.status in ACTIVE - {"queued", "cancelling"}


def without_cancel(state: JobState) -> JobState:
    """The state of a run that is followed on instead of cancelled."""
    return replace(
        state, cancel_reason=None, cancel_error=None, cancel_requested_at=None, cancel_refusal=None
    )

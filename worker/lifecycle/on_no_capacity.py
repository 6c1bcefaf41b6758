"""Transitions when a service tier has no capacity: OpenAI's flex (429 `resource_unavailable`), Groq's (498).

Such a refusal is not billed and says nothing about other requests: it is no rate limit, and no other batch
waits for it.

--tier-fallback standard    the row is asked in the standard tier at once; counted
refused `tier_tries` times  the row waits alone
refused again               the batch waits and resumes by itself; then one row tries alone

Pure, as `worker.lifecycle.transitions`.
"""

from dataclasses import replace

from askmill.jobs.model.api_errors import ErrorReport, overloaded, reason_of, requested_wait_s
from askmill.worker.lifecycle.decision import Decision, PauseBatch, SubmitOutputs, Wait, wait_or_release
from askmill.worker.lifecycle.error_rule import RequestKind, report_of
from askmill.worker.lifecycle.events import RequestFailed
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState

NO_CAPACITY = frozenset({"resource_unavailable", "capacity_exceeded"})
NO_CAPACITY_STATUS = 498
WAITING_TIERS = frozenset({"flex"})
"""Tiers that are refused for lack of capacity. Others are served, or limited by rate."""
REASON = "the flex tier has no capacity ({}); --tier-fallback standard asks in the standard tier instead"


def has_no_capacity(report: ErrorReport, state: JobState, policy: RetryPolicy) -> bool:
    """Whether the error says that the tier asked for has no capacity now."""
    if policy.tier not in WAITING_TIERS or state.tier_fallen_back:
        return False
    if report.status == NO_CAPACITY_STATUS or report.code in NO_CAPACITY:
        return True
    return "resource unavailable" in report.message.lower() and overloaded(report)


def on_no_capacity(state: JobState, event: RequestFailed, policy: RetryPolicy) -> Decision | None:
    """The tier refused a create, or outputs, for lack of capacity; None for any other refusal.

    Args:
        state: after the refusal; its failures count the waits.
        event: the refusal.
        policy: names the tier and its fallback.
    """
    report, submits = report_of(event.error), event.request is RequestKind.SUBMIT
    if not (submits or event.request is RequestKind.CREATE) or not has_no_capacity(report, state, policy):
        return None
    if policy.tier_fallback:
        standard = replace(state, tier_fallen_back=True, failures=0, failing_since=None)
        return Decision(standard, SubmitOutputs() if submits else Wait(), store=True, tier_fallback=True)
    requested_s = requested_wait_s(report)
    if submits or state.failures <= policy.tier_tries:
        wait_s = policy.wait_s(state.failures + 1, event.jitter) if requested_s is None else requested_s
        wait_s *= 1 + 0.1 * event.jitter
        return Decision(state, SubmitOutputs(after_s=wait_s) if submits else wait_or_release(wait_s, policy))
    wait_s = policy.tier_wait_s(state.failures - policy.tier_tries - 1, event.jitter)
    pause = PauseBatch(REASON.format(reason_of(report)), resume_after_s=max(wait_s, requested_s or 0.0))
    return Decision(state, pause)

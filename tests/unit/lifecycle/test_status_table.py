"""The table of statuses: every outcome of a run, by every policy, at the first, middle and last attempt."""

from collections import deque

import pytest

from askmill.jobs.model.models import JobStatus, OnIncomplete
from askmill.worker.lifecycle.retry import RetryPolicy
from tests.unit.lifecycle.simulation import Simulation

ATTEMPTS = 3
RETRIED = {
    "expired": (JobStatus.EXPIRED, None),
    "failed:server_error": (JobStatus.FAILED, "server_error"),
    "failed:rate_limit_exceeded": (JobStatus.FAILED, "rate_limit_exceeded"),
    "stuck": (JobStatus.FAILED, "deadline"),
    "gone": (JobStatus.FAILED, "run_gone"),
    "too_late": (JobStatus.EXPIRED, None),
}
"""Outcomes that a new attempt may help, and what the row becomes when none is left."""
FINAL = {
    "completed": (JobStatus.COMPLETED, None),
    "requires_action": (JobStatus.COMPLETED, None),
    "silent": (JobStatus.FAILED, "no_message"),
    "failed:invalid_prompt": (JobStatus.FAILED, "invalid_prompt"),
    "failed:never_heard_of": (JobStatus.FAILED, "never_heard_of"),
    "cancelled": (JobStatus.CANCELLED, None),
    "incomplete:content_filter": (JobStatus.INCOMPLETE, "content_filter"),
    "odd": (JobStatus.FAILED, "dreaming"),
    "always_acting": (JobStatus.FAILED, "tool_rounds"),
}
"""Outcomes that decide at once."""
LIMITS = {
    "incomplete:max_completion_tokens": {OnIncomplete.RAISE_LIMIT, OnIncomplete.CONTINUE},
    "incomplete:max_output_tokens": {OnIncomplete.RAISE_LIMIT, OnIncomplete.CONTINUE},
    "incomplete:max_prompt_tokens": {OnIncomplete.RAISE_LIMIT},
}
"""Token limits, and the policies under which another attempt is made."""

Expected = tuple[JobStatus, str | None, int]


def expected(outcome: str, policy: OnIncomplete, place: int) -> Expected:
    """Status, error and attempts that are documented when `outcome` ends attempt `place`."""
    more = place < ATTEMPTS
    completed = (JobStatus.COMPLETED, None, place + 1)
    if outcome in RETRIED:
        return completed if more else (*RETRIED[outcome], place)
    if outcome in LIMITS:
        return (
            completed if more and policy in LIMITS[outcome] else (JobStatus.INCOMPLETE, outcome[11:], place)
        )
    return (*FINAL[outcome], place)


@pytest.mark.parametrize("place", [1, 2, 3], ids=["first", "middle", "last"])
@pytest.mark.parametrize("policy", OnIncomplete)
@pytest.mark.parametrize("outcome", [*RETRIED, *FINAL, *LIMITS])
def test_outcome_policy_and_attempt_decide_the_row(outcome: str, policy: OnIncomplete, place: int) -> None:
    """The row has the status, the error and the attempts that are documented; no more runs are created."""
    before = ["expired"] * (place - 1)
    rules = RetryPolicy(
        attempts=ATTEMPTS, deadline_s=40.0, on_incomplete=policy, completion_limit=256, prompt_limit=256
    )
    world = Simulation(deque(), outcomes=(*before, outcome, "completed"), policy=rules).play()
    status, error, attempts = expected(outcome, policy, place)

    assert world.finish is not None
    assert world.finish.status is status
    assert (world.finish.error or "").split(":")[0] == (error or "")
    assert len(world.runs) == attempts
    assert [attempt.run_id for attempt in world.recorded] == list(world.runs)
    assert [attempt.number for attempt in world.recorded] == list(range(1, attempts + 1))


@pytest.mark.parametrize("policy", [OnIncomplete.RAISE_LIMIT, OnIncomplete.CONTINUE])
def test_a_second_truncation(policy: OnIncomplete) -> None:
    """A limit is doubled once; `continue` continues as often as attempts allow, and joins the parts."""
    rules = RetryPolicy(attempts=4, on_incomplete=policy, completion_limit=256)
    world = Simulation(deque(), outcomes=("incomplete:max_completion_tokens",), policy=rules).play()

    assert world.finish is not None
    assert world.finish.status is JobStatus.INCOMPLETE
    once = policy is OnIncomplete.RAISE_LIMIT
    assert len(world.runs) == (2 if once else 4)
    assert world.finish.answer == ("42" if once else "42424242")
    assert len(world.threads) == (2 if once else 1)


@pytest.mark.parametrize("limit", ["max_completion_tokens", "max_prompt_tokens"])
def test_without_a_limit_there_is_none_to_raise(limit: str) -> None:
    """`raise-limit` keeps what there is when the profile sets no limit of that kind."""
    rules = RetryPolicy(on_incomplete=OnIncomplete.RAISE_LIMIT)
    world = Simulation(deque(), outcomes=(f"incomplete:{limit}",), policy=rules).play()

    assert world.finish is not None
    assert (world.finish.status, len(world.runs)) == (JobStatus.INCOMPLETE, 1)


@pytest.mark.parametrize("code", ["insufficient_quota", "project_spend_limit_exceeded"])
def test_a_run_that_failed_for_money_pauses_the_batch(code: str) -> None:
    """Nothing is marked failed, nothing more is spent; the attempt is recorded and does not count."""
    world = Simulation(
        deque(), outcomes=(f"failed:{code}", "completed"), policy=RetryPolicy(attempts=1)
    ).play()

    assert world.paused
    assert world.finish is None
    assert [attempt.status for attempt in world.state.past_attempts] == ["failed"]

    world.paused = False
    world.play()
    assert world.finish is not None
    assert world.finish.status is JobStatus.COMPLETED

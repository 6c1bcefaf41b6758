"""A tier without capacity: the row waits, then its batch, and nobody else; or it falls back, counted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.worker.execution.stored_state import STATE_JSON
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run
from askmill.worker.lifecycle.decision import (
    Decision,
    PauseBatch,
    ReleaseRow,
    Reserve,
    SubmitOutputs,
    Wait,
)
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind
from askmill.worker.lifecycle.events import AnswerRead, Claimed, RequestFailed
from askmill.worker.lifecycle.retry import RetryPolicy, classify
from askmill.worker.lifecycle.state import JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import CALLING_TOOLS, NOW, READING, SENT

FLEX = RetryPolicy(tier="flex")
FALLBACK = replace(FLEX, tier_fallback=True)
NO_CAPACITY = ApiError(429, code="resource_unavailable", message="Resource Unavailable")
RATE_LIMIT = ApiError(429, code="rate_limit_exceeded", message="Rate limit reached", retry_after_s=20.0)
REFUSALS = (
    NO_CAPACITY,
    ApiError(429, message="Resource unavailable, please try again later."),
    ApiError(498, message="flex tier capacity exceeded"),
    ApiError(498, code="capacity_exceeded", message="x"),
)


def refused(
    error: ApiError, state: JobState = SENT, policy: RetryPolicy = FLEX, on: RequestKind = RequestKind.CREATE
) -> Decision:
    return advance(state, RequestFailed(NOW, jitter=1.0, error=error, request=on), policy)


@pytest.mark.parametrize("error", REFUSALS)
def test_no_capacity_slows_nobody_else(error: ApiError) -> None:
    """OpenAI's words, and Groq's status 498: no other batch waits, and nothing was carried out."""
    decision = refused(error)
    assert isinstance(decision.action, Wait | ReleaseRow)
    assert decision.action.wait_s > 0
    assert decision.throttled_s is None
    assert decision.state.phase is Phase.NEW
    assert not decision.unknown_create
    assert not decision.state.create_unconfirmed


@pytest.mark.parametrize("policy", [RetryPolicy(), RetryPolicy(tier="priority"), RetryPolicy(tier="default")])
@pytest.mark.parametrize("error", REFUSALS)
def test_without_flex_it_is_a_full_server(error: ApiError, policy: RetryPolicy) -> None:
    """The same words about the standard tier slow all workers."""
    assert refused(error, policy=policy).throttled_s is not None


@pytest.mark.parametrize("policy", [FLEX, FALLBACK])
def test_a_rate_limit_in_flex_is_a_rate_limit(policy: RetryPolicy) -> None:
    """It is the account's: it slows all, and no other tier is asked."""
    decision = refused(RATE_LIMIT, policy=policy)
    assert decision.throttled_s == 20.0
    assert not decision.tier_fallback


def test_498_is_no_fault_of_the_row() -> None:
    """Without words or a code: Groq's documented status."""
    assert classify(ApiError(498), RequestKind.CREATE) is ErrorClass.THROTTLED


def test_a_row_waits_alone_before_its_batch_does() -> None:
    """Some of a batch's requests may be refused while most are served; all refused: one row tries for all."""
    state, waits, pauses = SENT, list[float](), list[float]()
    for _ in range(9):
        decision = refused(NO_CAPACITY, state)
        if isinstance(decision.action, PauseBatch):
            assert decision.action.resume_after_s is not None
            pauses.append(decision.action.resume_after_s)
            assert "--tier-fallback standard" in decision.action.reason
        else:
            assert isinstance(decision.action, Wait | ReleaseRow)
            waits.append(decision.action.wait_s)
        state = replace(decision.state, phase=Phase.CREATE_SENT)
    assert len(waits) == FLEX.tier_tries
    assert pauses == sorted(pauses)
    assert pauses[0] == FLEX.tier_base_s
    assert pauses[-1] == FLEX.tier_cap_s


def test_the_servers_own_wait_is_kept() -> None:
    """Retry-After is the least wait of the row, and of the batch."""
    told = replace(NO_CAPACITY, retry_after_s=400.0)
    waiting = refused(told).action
    assert isinstance(waiting, ReleaseRow)
    assert waiting.wait_s >= 400
    pause = refused(told, replace(SENT, failures=FLEX.tier_tries)).action
    assert isinstance(pause, PauseBatch)
    assert pause.resume_after_s == 400


def test_the_fallback_asks_at_once_in_the_standard_tier() -> None:
    """Counted once, stored before the create, and not refused for want of capacity again."""
    decision = refused(NO_CAPACITY, policy=FALLBACK)
    assert decision.tier_fallback
    assert decision.store
    assert decision.action == Wait()
    assert STATE_JSON.validate_json(STATE_JSON.dump_json(decision.state)).tier_fallen_back
    following = advance(decision.state, Claimed(NOW, 1.0), FALLBACK)
    assert isinstance(following.action, Reserve)
    again = refused(NO_CAPACITY, replace(decision.state, phase=Phase.CREATE_SENT), FALLBACK)
    assert not again.tier_fallback
    assert again.throttled_s is not None


@pytest.mark.parametrize("on", [RequestKind.CREATE, RequestKind.SUBMIT])
def test_each_refusal_decides_nothing_else(on: RequestKind) -> None:
    """The complete decisions: waits of 2 and 4 s with their jitter, then a pause with the server's words; or the tier."""
    submits = on is RequestKind.SUBMIT
    before = CALLING_TOOLS if submits else SENT
    after = before if submits else replace(before, phase=Phase.NEW)
    for failures, wait_s in ((0, 2.0), (1, 4.0)):
        state = replace(before, failures=failures, failing_since=NOW - 9 if failures else None)
        failed = replace(
            after,
            failures=failures + 1,
            failing_since=NOW - 9 if failures else NOW,
            create_sent_at=after.create_sent_at,
        )
        waits = {1.0: 1.1 * wait_s, 0.0: 0.5 * wait_s}
        for jitter, jittered_s in waits.items():
            decision = advance(state, RequestFailed(NOW, jitter, NO_CAPACITY, on), FLEX)
            action = SubmitOutputs(after_s=jittered_s) if submits else Wait(wait_s=jittered_s)
            assert decision == Decision(failed, action)
        standard = replace(failed, tier_fallen_back=True, failures=0, failing_since=None)
        falls_back = SubmitOutputs() if submits else Wait()
        expected = Decision(standard, falls_back, store=True, tier_fallback=True)
        assert refused(NO_CAPACITY, state, FALLBACK, on) == expected


def test_a_pause_for_capacity_says_why_and_until_when() -> None:
    """In the server's words; shorter than a second only where the policy's wait is."""
    policy = replace(FLEX, tier_base_s=0.25)
    pause = refused(NO_CAPACITY, replace(SENT, failures=FLEX.tier_tries), policy).action
    reason = (
        "the flex tier has no capacity (resource_unavailable: Resource Unavailable); "
        "--tier-fallback standard asks in the standard tier instead"
    )
    assert pause == PauseBatch(reason, resume_after_s=0.25)


def test_outputs_of_functions_wait_and_fall_back_as_well() -> None:
    """A round of functions is a request in the tier, too: the run stays, its outputs are sent again."""
    waiting = refused(NO_CAPACITY, CALLING_TOOLS, on=RequestKind.SUBMIT)
    assert isinstance(waiting.action, SubmitOutputs)
    assert waiting.action.after_s > 0
    assert waiting.throttled_s is None
    assert waiting.state.outputs == CALLING_TOOLS.outputs
    falling = refused(NO_CAPACITY, CALLING_TOOLS, FALLBACK, RequestKind.SUBMIT)
    assert falling.action == SubmitOutputs()
    assert falling.state.tier_fallen_back


@pytest.mark.parametrize("policy", [FLEX, FALLBACK])
def test_a_run_that_found_no_capacity_does_not_count(policy: RetryPolicy) -> None:
    """Accepted in the background and failed for want of capacity: asked again, however often."""
    run = Run("run_1", "failed", error_code="resource_unavailable", error_message="Resource Unavailable")
    state = replace(READING, ended_run=run, attempt=policy.attempts)
    decision = advance(state, AnswerRead(NOW, 1.0, answer=Answer()), policy)
    assert decision.state.attempt == policy.attempts + 1
    assert decision.retry_reason == "resource_unavailable"
    assert decision.state.tier_fallen_back is decision.tier_fallback is policy.tier_fallback
    assert isinstance(decision.action, Wait if policy.tier_fallback else ReleaseRow)
    assert decision.throttled_s is None


@given(
    error=st.sampled_from([*REFUSALS, RATE_LIMIT]),
    failures=st.integers(0, 50),
    jitter=st.floats(0, 1),
    policy=st.sampled_from(
        [FLEX, FALLBACK, replace(FLEX, stateless=True), replace(FALLBACK, stateless=True)]
    ),
    fallen=st.booleans(),
)
def test_no_refusal_ends_a_row_or_is_paid(
    error: ApiError, failures: int, jitter: float, policy: RetryPolicy, fallen: bool
) -> None:
    """However often: the row goes on, no attempt is used up, and every wait has an end."""
    state = replace(SENT, failures=failures, tier_fallen_back=fallen)
    failed = RequestFailed(NOW, jitter=jitter, error=error, request=RequestKind.CREATE)
    decision = advance(state, failed, policy)
    assert isinstance(decision.action, Wait | ReleaseRow | PauseBatch)
    assert decision.state.attempt == state.attempt
    assert not decision.unknown_create
    if isinstance(decision.action, PauseBatch):
        assert decision.action.resume_after_s is not None
        assert 0 < decision.action.resume_after_s <= policy.tier_cap_s

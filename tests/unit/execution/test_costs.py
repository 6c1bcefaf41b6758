"""What runs cost: the worst case before a create, the price of attempts, what the budget counts."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import Usage
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.price import Price
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store.claim_records import Claim
from askmill.worker.execution.costs import RowCosts, to_nano
from askmill.worker.lifecycle.state import JobState
from tests.unit.execution.rows import EARLIER_RESULT, FAILED_ATTEMPT, batch_of, claim_of

PRICES = Prices({"gpt-x": Price(prompt_usd=1.0, completion_usd=10.0)})
LIMITED = Profile(max_prompt_tokens=1000, max_completion_tokens=500)
ONE_RUN_NANO = 6_000_000
"""1,000 tokens at 1 USD and 500 at 10 USD a million."""


def costs(profile: Profile = LIMITED, claim: Claim | None = None, prices: Prices = PRICES) -> RowCosts:
    """The costs of a row of a batch with this profile."""
    return RowCosts(batch_of(profile), claim or claim_of(), prices)


def test_the_worst_case_is_exact_where_limits_bound_it() -> None:
    """In nano-dollars; raised limits count as raised."""
    assert costs().worst_case_nano(JobState()) == ONE_RUN_NANO
    assert costs().worst_case_nano(JobState(doubled_limits=("max_completion_tokens",))) == 11_000_000


def test_an_unknown_price_bounds_nothing() -> None:
    """The row's own model counts, where it names one."""
    unpriced = costs(claim=claim_of("q", "", "gpt-unheard-of"))
    assert unpriced.worst_case_nano(JobState()) is None
    assert unpriced.assumed_nano((FAILED_ATTEMPT,), JobState()) == 0


def test_without_limits_the_worst_case_is_an_estimate_from_the_question() -> None:
    """Twice its tokens and some for what the API adds; a thousand for the answer."""
    short = costs(Profile(), claim_of("a")).worst_case_nano(JobState())
    long = costs(Profile(), claim_of("a" * 40_000)).worst_case_nano(JobState())

    assert short is not None
    assert long is not None
    assert 10_000_000 < short < 10_300_000
    assert 19_000_000 < long - short < 21_000_000


def test_attempts_that_the_batch_has_not_counted_yet_are_spent() -> None:
    """At their cost where it is known, else at the worst case; those before a retry have been counted."""
    cheap = replace(FAILED_ATTEMPT, usage=Usage(1000, 100))
    state = JobState(attempt=4, past_attempts=(FAILED_ATTEMPT, cheap, FAILED_ATTEMPT))
    row = costs(claim=claim_of(previous=EARLIER_RESULT))

    assert row.spent_nano(state) == 2_000_000 + ONE_RUN_NANO
    assert row.spent_nano(replace(state, past_attempts=(FAILED_ATTEMPT,))) is None


def test_a_run_of_unknown_cost_is_assumed_at_its_worst_case() -> None:
    """Each run without usage data; known costs stay as they are."""
    known = replace(FAILED_ATTEMPT, cost_usd=0.5)

    assert costs().assumed_nano((known,), JobState()) == 0
    assert costs().assumed_nano((FAILED_ATTEMPT, known, FAILED_ATTEMPT), JobState()) == 2 * ONE_RUN_NANO


def test_attempts_are_priced_once_and_by_the_model_that_ran() -> None:
    """A known cost stays; a model without a price costs what the profile's model does."""
    known = replace(FAILED_ATTEMPT, cost_usd=9.0)
    unpriced = replace(FAILED_ATTEMPT, usage=Usage(1_000_000, 0))
    row = costs(Profile(model="gpt-x"))

    attempts = row.priced((known, unpriced, FAILED_ATTEMPT))
    assert [attempt.cost_usd for attempt in attempts] == [9.0, 1.0, None]
    snapshot = replace(unpriced, model="gpt-x-2025-08-07")
    assert row.priced((snapshot,))[0].cost_usd == 1.0
    dear = Prices({**PRICES.own, "gpt-y": Price(prompt_usd=3.0, completion_usd=3.0)})
    two_models = (replace(unpriced, model="gpt-y"), unpriced)
    assert [one.cost_usd for one in costs(Profile(), prices=dear).priced(two_models)] == [3.0, 1.0]
    own_model = costs(claim=claim_of("q", "", "gpt-unheard-of"))
    assert own_model.priced((unpriced,))[0].cost_usd is None
    later = costs(Profile(completion_window="2h"))
    assert later.priced((unpriced,))[0].cost_usd == pytest.approx(0.7)


def test_a13_a_run_is_priced_by_the_tier_of_its_reply_and_reserved_at_the_worst() -> None:
    """Asked for flex: served as flex, as default, or untold, which stays unknown; the reserve is the standard."""
    prices = Prices({"gpt-x": replace(PRICES.own["gpt-x"], tiers={"flex": Price(0.5, 5.0)})})
    row = costs(LIMITED.model_copy(update={"service_tier": "flex"}), prices=prices)
    run = replace(FAILED_ATTEMPT, usage=Usage(1_000_000, 0))

    told = row.priced(tuple(replace(run, tier=tier) for tier in ("flex", "default", None)))
    assert [attempt.cost_usd for attempt in told] == [0.5, 1.0, None]
    assert row.worst_case_nano(JobState()) == ONE_RUN_NANO
    assert row.assumed_nano(told, JobState()) == ONE_RUN_NANO


def test_dollars_are_stored_in_billionths() -> None:
    """Rounded, so that fractions of a cent are kept; unknown stays unknown."""
    assert [to_nano(usd) for usd in (None, 0.0, 0.1, 1.0000000006)] == [None, 0, 100_000_000, 1_000_000_001]

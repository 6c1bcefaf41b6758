"""What runs cost: the worst case before a create, the price of attempts, what the budget counts."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import Attempt, JobStatus, Result, Usage
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


def test_the_estimate_of_a_prompt_without_a_limit_is_exact() -> None:
    """The question's and the instructions' tokens twice, and 200; the answer's limit."""
    row = costs(Profile(max_completion_tokens=10), claim_of("a" * 40))
    assert row.worst_case_nano(JobState()) == (2 * 10 + 200) * 1_000 + 10 * 10_000
    row = costs(Profile(max_completion_tokens=10, instructions="b" * 20), claim_of("a" * 40))
    assert row.worst_case_nano(JobState()) == (2 * 15 + 200) * 1_000 + 10 * 10_000


def test_the_worst_case_is_that_of_the_tier_asked_for() -> None:
    """A batch job is never served as standard; priority costs more than standard."""
    tiers = {"batch": Price(0.5, 5.0), "priority": Price(2.0, 20.0)}
    prices = Prices({"gpt-x": replace(PRICES.own["gpt-x"], tiers=tiers)})
    for tier, nano in (("batch", ONE_RUN_NANO // 2), ("priority", 2 * ONE_RUN_NANO), (None, ONE_RUN_NANO)):
        profile = LIMITED.model_copy(update={"service_tier": tier})
        assert costs(profile, prices=prices).worst_case_nano(JobState()) == nano


def test_a_first_attempt_is_spent_at_its_cost() -> None:
    """A row without an earlier result."""
    cheap = replace(FAILED_ATTEMPT, usage=Usage(1000, 100))
    assert costs().spent_nano(JobState(attempt=2, past_attempts=(cheap,))) == 2_000_000
    assert costs().spent_nano(JobState()) is None


@pytest.mark.parametrize(
    ("api", "profile", "assumed_nano"),
    [("responses", LIMITED, ONE_RUN_NANO), ("assistants", Profile(model="?"), 0), ("chat", LIMITED, 0)],
)
def test_an_unknown_create_counts_at_its_worst_case(api: str, profile: Profile, assumed_nano: int) -> None:
    """Without a price at nothing; on chat completions its attempt is recorded, and counted at the end."""
    prices = Prices({}) if profile.model else PRICES
    row = RowCosts(batch_of(profile, api=api, model=profile.model or "gpt-x"), claim_of(), prices)
    assert row.unknown_create_counters(JobState()) == {"unknown_creates": 1, "assumed_nano": assumed_nano}


def result(prompt: int | None, completion: int | None, cost_usd: float | None, *attempts: Attempt) -> Result:
    """A result with one attempt of its own, after these."""
    usage = Usage(prompt, completion)
    own = replace(FAILED_ATTEMPT, cost_usd=cost_usd, usage=usage)
    return Result(4, JobStatus.COMPLETED, usage=usage, cost_usd=cost_usd, attempts=(*attempts, own))


def test_the_end_of_a_row_counts_what_no_earlier_end_has() -> None:
    """Tokens and cost less those of the earlier result; a cost that is unknown at the worst case."""
    assert costs().final_counters(result(100, 20, 0.5), JobState()) == {
        "prompt": 100,
        "completion": 20,
        "cost_nano": 500_000_000,
    }
    earlier = result(60, 5, 0.2)
    again = costs(claim=claim_of(previous=earlier))
    assert again.final_counters(result(100, 20, 0.5, *earlier.attempts), JobState()) == {
        "prompt": 40,
        "completion": 15,
        "cost_nano": 300_000_000,
    }
    unknown = costs().final_counters(result(None, None, None), JobState())
    assert unknown == {"assumed_nano": ONE_RUN_NANO}
    after_unknown = costs(claim=claim_of(previous=result(None, None, None)))
    counted = after_unknown.final_counters(result(7, 8, 0.5, FAILED_ATTEMPT), JobState())
    assert counted == {"prompt": 7, "completion": 8, "cost_nano": 500_000_000}

"""Service tiers: their names, what is sent, what is refused, and what each would cost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot

import askmill
from askmill.config.settings import load_settings
from askmill.jobs.cli.estimate import pilot_request
from askmill.jobs.cli.run import run_command
from askmill.jobs.display.pause_advice import advice
from askmill.jobs.intake import IntakeOptions
from askmill.jobs.model.api_target import Target, api_target
from askmill.jobs.model.errors import ProfileError, UsageError
from askmill.jobs.model.models import Api, Usage
from askmill.jobs.model.profile import Functions, Profile, Resources
from askmill.jobs.openai_client.params import chat_options, response_options
from askmill.jobs.openai_client.pricing import Estimate, Prices, estimate
from askmill.jobs.options.request import submit_request
from askmill.jobs.submit.answer_cache import without_tier
from askmill.jobs.submit.check import unpriced_tier_note
from askmill.jobs.submit.profile_loader import (
    ProfileOptions,
    build_profile,
    profile_schema,
    refuse_unsupported,
)
from askmill.jobs.submit.request import SubmitRequest
from askmill.jobs.submit.tier_estimates import (
    TierEstimate,
    cost_text,
    tier_estimates,
    tier_lines,
    with_fallback,
)
from askmill.jobs.submit.tier_rules import refuse_tier

BUNDLED = Prices.read(None)
OPENAI = "https://api.openai.com/v1"
MODEL = "gpt-5-mini"
FUNCTIONS = Functions(module="m", sha256="0" * 64, tools=())


def request(api: Api = "responses", base_url: str = OPENAI, **changes: Any) -> SubmitRequest:
    intake, limits = changes.pop("intake", {}), changes.pop("limits", {})
    target = Target(api, base_url, None, offline=False)
    profile = Profile(**{"model": MODEL, **changes})
    return SubmitRequest(IntakeOptions(**intake), profile, target, limits=limits)


def built(source: Any, tier: str | None) -> Profile:
    return build_profile(source, ProfileOptions(tier=tier), MODEL, offline=False)


@pytest.mark.parametrize(("in_profile", "tier", "sent"), [
    (None, None, None), (None, "standard", "default"), (None, "flex", "flex"), (None, "batch", "batch"),
    ("flex", None, "flex"), ("flex", "standard", "default"), ("flex", "priority", "priority"),
    ("standard", None, "default"), ("default", None, "default"), ("auto", None, "auto"),
])  # fmt: skip
def test_the_option_and_the_key_are_one(in_profile: str | None, tier: str | None, sent: str | None) -> None:
    """`--tier` sets the profile's `service_tier`; an explicit standard overrides a profile's flex."""
    profile = built({} if in_profile is None else {"service_tier": in_profile}, tier)
    assert profile.service_tier == sent
    if sent != "batch":
        assert response_options(profile, Resources()).get("service_tier") == sent
        assert chat_options(profile, "max_tokens").get("service_tier") == sent


def test_an_unknown_tier_is_named() -> None:
    """With the words that are allowed."""
    with pytest.raises(ProfileError, match=r"service_tier: .*'flex'"):
        built({"service_tier": "cheap"}, None)
    assert "standard" in str(profile_schema()["properties"]["service_tier"])


@pytest.mark.parametrize(("changes", "words"), [
    ({"api": "assistants"}, "Set ASKMILL_API=responses"),
    ({"functions": FUNCTIONS}, "Leave --functions out"),
    ({"tools": ("web_search",)}, "Leave --tool web_search out"),
    ({"tools": ("code_interpreter",)}, "Leave --tool code_interpreter out"),
    ({"intake": {"conversation_column": "c"}}, "Leave --conversation-column out"),
    ({"limits": {"deadline_s": 60.0}}, "Leave --deadline out"),
    ({"completion_window": "8h"}, "Leave completion_window out of the profile"),
    ({"limits": {"on_incomplete": "continue"}}, "Use --on-incomplete raise-limit"),
])  # fmt: skip
def test_what_a_batch_job_cannot_do_is_refused_with_advice(changes: dict[str, Any], words: str) -> None:
    """One sentence each, all together; without the tier the same options are fine."""
    with pytest.raises(UsageError, match=r"^--tier batch") as refusal:
        refuse_tier(request(service_tier="batch", **changes))
    assert words in str(refusal.value)
    assert str(refusal.value).count("\n") == 0
    refuse_tier(request(**changes))


def test_all_faults_are_told_together() -> None:
    """Two options, two sentences."""
    with pytest.raises(UsageError) as refusal:
        refuse_tier(request(service_tier="batch", tools=("web_search",), limits={"deadline_s": 1.0}))
    assert str(refusal.value).count("\n") == 1


def test_the_fallback_needs_flex() -> None:
    """For any other tier it would say nothing."""
    refuse_tier(request(service_tier="flex", limits={"tier_fallback": "standard"}))
    for tier in (None, "default", "priority", "batch"):
        with pytest.raises(UsageError, match="--tier-fallback"):
            refuse_tier(request(service_tier=tier, limits={"tier_fallback": "standard"}))


@pytest.mark.parametrize("tier", ["flex", "priority"])
def test_a_window_is_a_discount_of_the_standard_tier(tier: str) -> None:
    """Refused at submit, with what to leave out."""
    with pytest.raises(ProfileError, match=f"leave it or --tier {tier} out"):
        refuse_unsupported(Profile(model=MODEL, service_tier=tier, completion_window="8h"), "responses")
    with pytest.raises(ProfileError, match="--tier"):
        refuse_unsupported(Profile(model=MODEL, service_tier=tier), "assistants")
    refuse_unsupported(Profile(model=MODEL, service_tier="default", completion_window="8h"), "responses")
    refuse_unsupported(Profile(model=MODEL, service_tier="default"), "assistants")


# ── prices ──

CONTEXTS = {
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "batch": {"processing": "batch"},
}
MODELS = next(provider for provider in get_snapshot().providers if provider.id == "openai").models


def estimates(
    batch: SubmitRequest, of: Callable[[Profile], Estimate] | None = None
) -> dict[str, TierEstimate]:
    found = tier_estimates(batch, of or (lambda profile: estimate(BUNDLED, profile, 10, 4000)))
    return {each.tier: each for each in found}


def test_every_tier_differs_and_is_genai_prices_own() -> None:
    """For each model of OpenAI's that has a price of its own for a tier: equal to it, and not the standard price."""
    differing = dict.fromkeys(CONTEXTS, 0)
    usage, tokens = Usage(1000, 500), Tokens(input_tokens=1000, output_tokens=500)
    for model in MODELS:
        if not model.is_match(model.id):
            continue
        conditions = [
            variant.when
            for variant in model.price_variants or ()
            if vars(variant.prices) and len(variant.when) == 1
        ]
        for tier, context in CONTEXTS.items():
            found = BUNDLED.cost_usd(model.id, usage, tier)
            if context not in conditions:
                assert found is None or context in [variant.when for variant in model.price_variants or ()]
                continue
            price = calc_price(tokens, model.id, provider_id="openai", price_context=context)
            assert found == pytest.approx(float(price.total_price)), (model.id, tier)
            assert found != BUNDLED.cost_usd(model.id, usage), (model.id, tier)
            differing[tier] += 1
    assert min(differing.values()) > 5, differing


def test_an_estimate_shows_every_tier() -> None:
    """Responses has all, chat no windows, the Assistants API only its own."""
    found = estimates(request())
    assert list(found) == ["standard", "flex", "2h window", "8h window", "priority", "batch"]
    standard = found["standard"].estimate.high_usd
    assert standard is not None
    shares = {tier: round((each.estimate.high_usd or 0) / standard, 3) for tier, each in found.items()}
    assert shares == {
        "standard": 1, "flex": 0.5, "2h window": 0.7, "8h window": 0.6, "priority": 1.8, "batch": 0.5,
    }  # fmt: skip
    assert [tier for tier, each in found.items() if each.selected] == ["standard"]
    assert (found["batch"].ends, found["batch"].ends_within_s) == ("within 24 hours", 86_400)
    assert list(estimates(request("chat"))) == ["standard", "flex", "priority", "batch"]
    assert list(estimates(request("assistants"))) == ["standard"]


def test_the_tier_asked_for_is_marked_and_what_is_impossible_says_why() -> None:
    """A window of the profile, the profile's own tier, and tools, which no batch job has."""
    assert estimates(request(completion_window="8h"))["8h window"].selected
    found = estimates(request(service_tier="flex", tools=("web_search",)))
    assert [tier for tier, each in found.items() if each.selected] == ["flex"]
    assert "--tool web_search" in str(found["batch"].refusal)
    assert found["flex"].refusal is None
    lines = tier_lines(list(found.values()))
    assert len(lines) == 7
    assert lines[2].startswith("flex (selected)")
    assert "not possible: --tier batch has no hosted tools" in lines[-1]


def test_unknown_prices_are_said_so() -> None:
    """OpenAI has no flex for gpt-4o: unknown, not the standard price. Other servers show tiers with a price."""
    lines = tier_lines(list(estimates(request(model="gpt-4o")).values()))
    assert "price unknown" in next(line for line in lines if line.startswith("flex"))
    elsewhere = request("chat", "http://127.0.0.1:9/v1", model="mine")
    assert list(estimates(elsewhere)) == ["standard"]
    assert tier_lines(list(estimates(elsewhere).values())) == []
    selected = replace(elsewhere, profile=Profile(model="mine", service_tier="flex"))
    assert list(estimates(selected)) == ["flex"]


def tier_estimate(low_usd: float | None, high_usd: float | None, **changes: Any) -> TierEstimate:
    found = Estimate(1200, 1, 1, 1, low_usd, high_usd)
    return replace(TierEstimate("flex", found, "later", None, None, selected=False), **changes)


def test_the_table_of_tiers_letter_by_letter() -> None:
    """Columns stand under their titles; one tier alone needs no table."""
    standard = tier_estimate(2.0, 3.0, tier="standard", selected=True)
    batch = tier_estimate(1.0, None, tier="batch", refusal="no tools")
    assert tier_lines([standard, batch]) == [
        "tier                 rows   cost            ends",
        "standard (selected)  1,200  $2.00 to $3.00  later",
        "batch                1,200  price unknown   not possible: no tools",
    ]
    assert tier_lines([standard]) == []


def test_a_cost_is_a_range_or_one_number() -> None:
    """Or unknown, if one end is."""
    ranges = [(2.0, 3.0), (2.0, 2.0), (None, 3.0), (2.0, None)]
    texts = [cost_text(tier_estimate(*ends).estimate) for ends in ranges]
    assert texts == ["$2.00 to $3.00", "$2.00", "price unknown", "price unknown"]


def test_a_tier_in_json() -> None:
    """The fields that `estimate --json` promises."""
    found = tier_estimate(2.0, 3.0, ends_within_s=60.0, refusal="no tools", selected=True)
    assert found.to_json() == {
        "tier": "flex",
        "rows": 1200,
        "cost_usd": {"low": 2.0, "high": 3.0},
        "ends": "later",
        "ends_within_s": 60.0,
        "refusal": "no tools",
        "selected": True,
    }


def test_each_tier_is_estimated_with_its_own_fields_alone() -> None:
    """The profile's own window is not that of the other tiers, which would refuse it."""
    profiles = list[Profile]()

    def note(profile: Profile) -> Estimate:
        profiles.append(profile)
        return estimate(BUNDLED, profile, 1, 1)

    found = estimates(request(completion_window="8h"), note)
    fields = [(profile.service_tier, profile.completion_window) for profile in profiles]
    windows = [(None, None), ("flex", None), (None, "2h"), (None, "8h"), ("priority", None), ("batch", None)]
    assert fields == windows
    assert found["batch"].refusal is None


def test_every_model_without_a_batch_price_says_so() -> None:
    """No model of OpenAI's is estimated or booked at the standard price for want of one: unknown, with a note."""
    without = [
        model.id
        for model in MODELS
        if model.is_match(model.id)
        and BUNDLED.price_of(model.id) is not None
        and CONTEXTS["batch"] not in [variant.when for variant in model.price_variants or ()]
    ]
    assert len(without) > 5
    for name in without:
        asked = request(model=name, service_tier="batch")
        assert BUNDLED.cost_usd(name, Usage(1000, 500), "batch") is None, name
        assert estimates(asked)["batch"].estimate.high_usd is None, name
        assert "price unknown" in tier_lines(list(estimates(asked).values()))[-1], name
        assert unpriced_tier_note(asked, BUNDLED) is not None, name


def test_the_fallback_makes_flex_a_range() -> None:
    """From the price of flex to the standard price; other tiers keep theirs, and an unknown price stays unknown."""
    plain = estimates(request(service_tier="flex"))
    of = with_fallback(lambda profile: estimate(BUNDLED, profile, 10, 4000), "standard")
    found = estimates(request(service_tier="flex"), of)
    flex = found.pop("flex").estimate
    assert (flex.low_usd, flex.high_usd) == (
        plain["flex"].estimate.low_usd,
        plain["standard"].estimate.high_usd,
    )
    assert all(each == plain[tier] for tier, each in found.items())
    assert estimates(request(model="gpt-4o", service_tier="flex"), of)["flex"].estimate.high_usd is None


def test_a_budget_reserves_at_the_tiers_worst() -> None:
    """Flex and priority may be served as standard; a batch job never is."""
    price = BUNDLED.price_of(MODEL)
    assert price is not None
    usage = Usage(1_000_000, 1_000_000)
    worst = {tier: price.worst_usd(usage, tier) for tier in (None, "flex", "priority", "batch")}
    assert worst[None] is not None
    assert worst["flex"] == worst[None]
    assert worst["batch"] == pytest.approx(worst[None] / 2)
    assert worst["priority"] == pytest.approx(1.8 * worst[None])


def test_a_tier_without_a_price_is_noted_at_submit() -> None:
    """Mostly the API does not have it; a model that has no price at all is another matter."""
    note = unpriced_tier_note(request(model="gpt-4o", service_tier="flex"), BUNDLED)
    assert note is not None
    assert "gpt-4o has no known price in the tier flex" in note
    for fine in (request(service_tier="flex"), request(model="mine", service_tier="flex"), request()):
        assert unpriced_tier_note(fine, BUNDLED) is None


@pytest.mark.parametrize("reason", [
    "unsupported_value: Unsupported value: 'service_tier' does not support 'flex' with this model.",
    "invalid_request_error: Invalid service tier argument",
])  # fmt: skip
def test_a_refused_tier_pauses_with_advice(reason: str) -> None:
    """The profile is part of the batch, so another tier is another batch."""
    assert "--tier standard" in advice("b_1", reason)
    assert "askmill purge b_1" in advice("b_1", reason)


def test_groqs_name_of_the_standard_tier_has_the_standard_price() -> None:
    """Its replies name `on_demand`."""
    price = BUNDLED.price_of(MODEL)
    assert price is not None
    assert price.run_usd(Usage(10, 10), "on_demand") == price.run_usd(Usage(10, 10))


def test_the_library_estimates_each_tier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`askmill.estimate(…).tiers`, without a key and without a request; `tier` is a keyword."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", OPENAI)
    monkeypatch.setenv("ASKMILL_API", "responses")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = askmill.estimate(["Why?", "How?"], model=MODEL, tier="flex", max_completion_tokens=500)
    tiers = {each.tier: each for each in found.tiers}
    assert list(tiers) == ["standard", "flex", "2h window", "8h window", "priority", "batch"]
    assert tiers["flex"].cost_usd == found.cost_usd
    assert found.cost_usd is not None
    assert tiers["standard"].cost_usd == pytest.approx([2 * usd for usd in found.cost_usd])
    with pytest.raises(askmill.UsageError, match="--deadline"):
        askmill.estimate(["Why?"], model=MODEL, tier="batch", deadline_s=60)


@pytest.mark.parametrize(("tier", "asked"), [("batch", None), ("flex", "flex"), (None, None)])
def test_a_pilot_is_no_batch_job(tier: str | None, asked: str | None) -> None:
    """Nobody waits a day for an estimate: the first rows are asked in the standard tier, with a note."""
    notes: list[str] = []
    pilot = pilot_request(request(service_tier=tier), 10, "q.csv", notes.append)
    assert (pilot.profile.service_tier, pilot.intake.limit, pilot.name) == (asked, 10, "pilot of q.csv")
    assert len(notes) == (tier == "batch")


@pytest.mark.parametrize(
    ("options", "api", "tools"),
    [(["--tier", "batch"], "responses", ()), ([], "assistants", ("code_interpreter",))],
    ids=["batch", "no tier"],
)
def test_offline_tier_batch_needs_no_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], api: Api, tools: tuple[str, ...]
) -> None:
    """The emulator has batches on the Responses API, where ASKMILL_API names none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASKMILL_API", raising=False)
    settings = load_settings()
    values = run_command.make_context("run", ["q.csv", "--offline", *options]).params
    built = submit_request(settings, values, api_target(settings, offline=True), print)
    assert (built.target.api, built.profile.tools) == (api, tools)


def test_answers_are_reused_across_tiers() -> None:
    """What a tier costs and when it answers is no part of an answer; all else of the profile is."""
    standard = Profile(model=MODEL)
    for tier in ("batch", "flex"):
        assert without_tier(Profile(model=MODEL, service_tier=tier)) == standard
    assert without_tier(Profile(model=MODEL, completion_window="8h")) == standard
    assert without_tier(Profile(model="another", service_tier="batch")) != standard

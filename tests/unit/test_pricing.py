"""Prices and estimates: known models, unknown models, price files."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, Tier, TieredPrices

from askmill.config.settings import BadSetting
from askmill.jobs.model.models import Usage
from askmill.jobs.model.profile import Functions, OpeningMessage, Profile
from askmill.jobs.openai_client.price import Price, _price_of, similar_model
from askmill.jobs.openai_client.pricing import Estimate, Prices, estimate

BUNDLED = Prices.read(None)
MILLION_EACH = Usage(1_000_000, 1_000_000)
FUNCTIONS = Functions(module="m", sha256="0" * 64, tools=())


def test_a_known_model_has_the_bundled_price() -> None:
    """gpt-5-mini: $0.25 in, $2.00 out for a million (openai.com/api/pricing)."""
    assert BUNDLED.cost_usd("gpt-5-mini", MILLION_EACH) == pytest.approx(2.25)
    assert BUNDLED.cost_usd("gpt-5-mini-2025-08-07", MILLION_EACH) == pytest.approx(2.25)


def test_unknown_models_and_tokens_have_no_cost() -> None:
    """The cost of an unknown model or of unknown tokens is None, not 0."""
    assert BUNDLED.cost_usd("my-deployment", MILLION_EACH) is None
    assert BUNDLED.cost_usd(None, MILLION_EACH) is None
    assert BUNDLED.cost_usd("gpt-5-mini", Usage()) is None


def test_a_price_file_overrides_bundled_prices(tmp_path: Path) -> None:
    """ASKMILL_PRICES adds models and overrides known ones."""
    file = tmp_path / "prices.toml"
    table = "prompt_usd_per_million = 1.0\ncompletion_usd_per_million = 3\n"
    file.write_text(f'["my-model"]\n{table}["gpt-5-mini"]\n{table}', encoding="utf-8")

    prices = Prices.read(file)

    assert prices.cost_usd("my-model", MILLION_EACH) == pytest.approx(4.0)
    assert prices.cost_usd("gpt-5-mini", MILLION_EACH) == pytest.approx(4.0)
    assert prices.cost_usd("gpt-5", MILLION_EACH) == BUNDLED.cost_usd("gpt-5", MILLION_EACH)


PLAIN = "prompt_usd_per_million = 2.0\ncompletion_usd_per_million = 4\n"
FULL_PRICE_FILE = f"""
["my-model"]
{PLAIN}cached_usd_per_million = 0.2
cache_write_usd_per_million = 2.5
long_prompt_tokens = 1000
["my-model".long]
prompt_usd_per_million = 20
completion_usd_per_million = 40
["my-model".flex]
prompt_usd_per_million = 1
completion_usd_per_million = 1
"""


def test_a_price_file_may_have_cache_length_and_tiers(tmp_path: Path) -> None:
    """Cached and written tokens, long prompts and service tiers have prices of their own."""
    file = tmp_path / "prices.toml"
    file.write_text(FULL_PRICE_FILE, encoding="utf-8")
    prices = Prices.read(file)

    def nano(usage: Usage, tier: str | None = None) -> float | None:
        cost_usd = prices.cost_usd("my-model", usage, tier)
        return None if cost_usd is None else round(cost_usd * 1e9)

    assert nano(Usage(1000, 0)) == 2_000_000
    assert nano(Usage(1000, 0, cached_tokens=500, cache_write_tokens=500)) == 1_350_000
    assert nano(Usage(1001, 0)) == 20_020_000
    assert nano(Usage(1001, 1), "flex") == 1_002_000
    assert nano(Usage(1000, 0), "priority") is None, "no price in the file for this tier"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x", "is not TOML"),
        ('["m"]\nprompt_usd_per_million = 1', r"m\.completion_usd_per_million: Field required"),
        ('m = "free"', "m: Input should be"),
        ("[m]\nprompt_usd_per_million = -1\ncompletion_usd_per_million = 0", r"m\.prompt_usd_per_million: "),
        (f"[m]\n{PLAIN}cached = 1", r"m\.cached: unknown field"),
        (f"[m]\n{PLAIN}[m.flexx]\n{PLAIN}", r"m\.flexx: unknown field"),
        (f"[gpt-5.4]\n{PLAIN}", r"gpt-5\.4: unknown field .*quotes"),
        (f"[m]\n{PLAIN}long_prompt_tokens = 9", "m: long_prompt_tokens and the table long need each other"),
        (f"[m]\n{PLAIN}[m.flex]\nprompt_usd_per_million = true", r"m\.flex\.prompt_usd_per_million"),
    ],
)
def test_a_bad_price_file_is_a_bad_setting(tmp_path: Path, text: str, fault: str) -> None:
    """The message names the variable, the file, the field and its fault."""
    file = tmp_path / "prices.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(BadSetting, match=rf"ASKMILL_PRICES.*prices\.toml.*{fault}"):
        Prices.read(file)
    with pytest.raises(BadSetting, match="ASKMILL_PRICES"):
        Prices.read(tmp_path / "gone.toml")


MODELS = next(provider for provider in get_snapshot().providers if provider.id == "openai").models
USAGES = (
    Usage(1000, 500),
    Usage(1000, 500, cached_tokens=900),
    Usage(1000, 500, cached_tokens=300, cache_write_tokens=500),
    Usage(272_000, 500, cached_tokens=1000),
    Usage(272_001, 500),
    Usage(300_000, 500, cached_tokens=200_000, cache_write_tokens=50_000),
)


def _tokens(usage: Usage) -> Tokens:
    return Tokens(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )


def test_a13_every_model_costs_what_genai_prices_says_under_each_condition() -> None:
    """All of OpenAI's models, the conditions of each, with short, long, cached and written prompts.

    No service tier that the data know costs the standard price in silence, unless the data say so.
    """
    compared = differing = 0
    for model in MODELS:
        if not model.is_match(model.id):
            continue  # fine-tuned models, whose id is the beginning of a name
        standard_usd = BUNDLED.cost_usd(model.id, USAGES[0])
        conditions = {str(variant.when): variant for variant in model.price_variants or ()}
        for variant in (None, *conditions.values()):
            when = variant.when if variant else {}
            (tier,) = when.values() or [None]
            for usage in USAGES:
                calculated = calc_price(_tokens(usage), model.id, provider_id="openai", price_context=when)
                cost_usd = BUNDLED.cost_usd(model.id, usage, tier)
                assert cost_usd == pytest.approx(float(calculated.total_price)), (model.id, when, usage)
                compared += 1
            if variant and vars(variant.prices):
                assert BUNDLED.cost_usd(model.id, USAGES[0], tier) != standard_usd, (model.id, when)
                differing += 1
    assert compared > 1000
    assert differing > 100


def test_a13_the_tier_that_the_reply_names_decides() -> None:
    """Flex is half, priority dearer; of two tiers in one run the dearer counts; an unknown tier has no cost."""
    costs = {
        tier: BUNDLED.cost_usd("gpt-6-luna", MILLION_EACH, tier)
        for tier in (None, "default", "flex", "priority", "batch", "flex+default", "scale", "unheard-of")
    }
    standard = costs[None]
    assert standard is not None
    assert costs["default"] == costs["flex+default"] == standard
    assert costs["flex"] == costs["batch"] == pytest.approx(standard / 2)
    assert costs["priority"] == pytest.approx(2 * standard)
    assert costs["scale"] is costs["unheard-of"] is None


def test_a13_a_long_prompt_is_that_of_one_request() -> None:
    """Three requests of 200,000 tokens are not charged as one of 600,000."""
    one = BUNDLED.cost_usd("gpt-6-luna", Usage(200_000, 100))
    three = BUNDLED.cost_usd("gpt-6-luna", Usage(600_000, 300, longest_prompt_tokens=200_000))
    assert one is not None
    assert three == pytest.approx(3 * one)


def test_a_completion_window_is_cheaper_in_the_standard_tier() -> None:
    """With `completion_window` 8h, 60 % of the price remain; another tier has no discount."""
    price = BUNDLED.price_of("gpt-5-mini")
    assert price is not None
    assert price.run_usd(MILLION_EACH, "default", "8h") == pytest.approx(0.6 * 2.25)
    assert price.run_usd(MILLION_EACH, "flex", "8h") == price.run_usd(MILLION_EACH, "flex")


def test_a13_the_worst_case_covers_every_reply() -> None:
    """Whatever tier is served and whatever the cache does, no reply costs more than was reserved."""
    price = BUNDLED.price_of("gpt-6-luna")
    assert price is not None
    for asked, served in (("flex", "flex"), ("flex", "default"), ("priority", "priority"), (None, "default")):
        worst = price.worst_usd(Usage(1000, 500), asked)
        assert worst is not None
        for usage in USAGES[:3]:
            cost = price.run_usd(usage, served)
            assert cost is not None
            assert cost <= worst + 1e-12
    assert price.worst_usd(Usage(1000, 500), "unheard-of") is None


def test_the_reply_names_the_model_that_is_charged() -> None:
    """A deployment's name means the profile's model; the user's price of a model is that of its snapshots."""
    own = Prices({"gpt-5-mini": Price(1.0, 1.0)})
    standard = BUNDLED.price_of("gpt-5")
    assert BUNDLED.price_of("gpt-5", "gpt-5-mini") == standard
    assert BUNDLED.price_of("my-deployment", "gpt-5") == standard
    assert BUNDLED.price_of(None, "gpt-5") == standard
    assert own.price_of("gpt-5-mini-2025-08-07", "gpt-5-mini") == Price(1.0, 1.0)
    assert own.price_of("gpt-5", "gpt-5-mini") == standard
    assert BUNDLED.price_of("askmill-emulator", "gpt-5") is None


def test_an_estimate_is_a_range_within_the_limits() -> None:
    """Token limits bound the estimate; a model without a price has no USD."""
    limited = estimate(BUNDLED, Profile(model="gpt-5-mini", max_completion_tokens=256), 10, 400)
    assert (limited.rows, limited.prompt_tokens, limited.completion_high) == (10, 170, 2560)
    assert limited.low_usd is not None
    assert limited.high_usd is not None
    assert 0 < limited.low_usd < limited.high_usd
    assert estimate(BUNDLED, Profile(model="?"), 10, 400).high_usd is None


INFINITE_PRICE = '["m"]\nprompt_usd_per_million = 1\ncompletion_usd_per_million = inf\n'


@pytest.mark.parametrize("text", [None, "no toml", '["m"]\nprompt_usd_per_million = 1\n', INFINITE_PRICE])
def test_every_bad_price_file_comes_with_a_good_example(tmp_path: Path, text: str | None) -> None:
    """The message for a missing or invalid price file names the variable and shows a valid file."""
    file = tmp_path / "prices.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(
        BadSetting, match=r"ASKMILL_PRICES.*A good value: .*completion_usd_per_million = 2\.0"
    ):
        Prices.read(file)


OWN = Price(1.0, 10.0, long=(1000, Price(2.0, 20.0)), tiers={"batch": Price(0.5, 5.0)})


def test_tokens_that_a_reply_does_not_tell_cost_nothing() -> None:
    """Not one token more, and neither number alone makes the cost unknown."""
    price = Price(1.0, 10.0, cached_usd=0.5, cache_write_usd=2.0)
    assert price.cost_usd(Usage(None, 1000)) == 0.01
    assert price.run_usd(Usage(None, 1000)) == 0.01
    assert price.run_usd(Usage(1000, None)) == 0.001
    assert price.run_usd(Usage()) is None
    all_read = Usage(1000, 0, cached_tokens=900, cache_write_tokens=900)
    assert price.cost_usd(all_read) == pytest.approx((900 * 0.5 + 100 * 2.0) / 1e6), (
        "written: what is not read"
    )


def test_the_worst_case_writes_the_whole_prompt_to_the_cache() -> None:
    """Where writing costs more than reading anew; nothing is read from the cache then."""
    price = Price(1.0, 10.0, cached_usd=0.1, cache_write_usd=3.0)
    for usage in (Usage(1000, 0), Usage(1000, 0, cached_tokens=1000)):
        assert price.worst_usd(usage, None) == pytest.approx(0.003)
    assert Price(4.0, 10.0, cache_write_usd=3.0).worst_usd(Usage(1000, 0), None) == pytest.approx(0.004)


TIERED = TieredPrices(
    base=Decimal(1), tiers=[Tier(start=500, price=Decimal(5)), Tier(start=100, price=Decimal(2))]
)
"""1 USD up to 100 tokens, 2 up to 500, 5 above."""


def test_prices_by_length_are_those_of_each_length() -> None:
    """Every step of genai-prices' tables; a price without steps is the same in all of them."""
    plain = _price_of(ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(4)))
    assert plain == Price(3.0, 4.0)
    both = ModelPrice(
        input_mtok=TIERED, output_mtok=Decimal(4), cache_read_mtok=TIERED, cache_write_mtok=Decimal(6)
    )
    assert _price_of(both) == Price(
        1.0, 4.0, 1.0, 6.0, (100, Price(2.0, 4.0, 2.0, 6.0, (500, Price(5.0, 4.0, 5.0, 6.0))))
    )
    assert _price_of(ModelPrice()) == Price(0.0, 0.0)
    late = TieredPrices(
        base=Decimal(1), tiers=[Tier(start=0, price=Decimal(9)), Tier(start=1, price=Decimal(8))]
    )
    assert _price_of(ModelPrice(input_mtok=late)) == Price(1.0, 0.0, long=(1, Price(8.0, 0.0)))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt5-mini", "gpt-5-mini"),
        ("GPT5-MINI", "gpt-5-mini"),
        ("my-own-deployment", None),
        ("claude-sonnet-4-5", None),
        ("qwen-5-mini", None),
        ("gpt-5-mini", None),
        ("", None),
    ],
)
def test_a_mistyped_model_is_recognized(name: str, meant: str | None) -> None:
    """Only among OpenAI's, and only where the name has no price itself."""
    assert similar_model(name) == meant


def test_a_users_price_comes_first_whatever_name_the_reply_has() -> None:
    """Then the bundled one of the reply's model, then that of the profile's."""
    prices = Prices({"mine": Price(7.0, 7.0)})
    bundled = BUNDLED.price_of("gpt-5-mini")
    assert prices.price_of("gpt-5-mini-2025-08-07", "gpt-5-mini") == bundled
    assert prices.price_of("mine-2025-08-07", "mine") == Price(7.0, 7.0)
    assert Prices({"mine-2025-08-07": Price(8.0, 8.0)}).price_of("mine-2025-08-07", "mine") == Price(8.0, 8.0)
    assert Prices({}).price_of("mine-2025-08-07", "mine") is None
    dated = Prices({"gpt-5": Price(9.0, 9.0)})
    assert dated.price_of("gpt-5-mini-2025-08-07", "gpt-5-mini") == bundled
    assert BUNDLED.price_of("gpt-4o-2024-05-13", "gpt-4o") != BUNDLED.price_of("gpt-4o"), (
        "a snapshot's own price"
    )


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (Profile(), Estimate(10, 170, 500, 8000, 0.00517, 0.08017)),
        (Profile(max_completion_tokens=20), Estimate(10, 170, 200, 200, 0.00217, 0.00217)),
        (Profile(tools=("web_search",)), Estimate(10, 340, 500, 8000, 0.00517, 0.08051)),
        (Profile(tools=("file_search",)), Estimate(10, 340, 500, 8000, 0.00517, 0.48102)),
        (Profile(instructions="four"), Estimate(10, 180, 500, 8000, 0.00518, 0.08018)),
        (
            Profile(messages=(OpeningMessage(role="user", content="four"),) * 2),
            Estimate(10, 190, 500, 8000, 0.00519, 0.08019),
        ),
        (Profile(functions=FUNCTIONS), Estimate(10, 340, 500, 8000, 0.00517, 0.08051)),
        (Profile(service_tier="batch"), Estimate(10, 170, 500, 8000, 0.002585, 0.040085)),
    ],
)
def test_the_numbers_of_an_estimate(profile: Profile, expected: Estimate) -> None:
    """Ten rows with 400 characters of questions, of a model for 1 and 10 USD (long prompts 2 and 20) a million."""
    found = estimate(Prices({"m": OWN}), profile.model_copy(update={"model": "m"}), 10, 400)
    assert (found.low_usd, found.high_usd) == (
        pytest.approx(expected.low_usd),
        pytest.approx(expected.high_usd),
    )
    assert replace(found, low_usd=None, high_usd=None) == replace(expected, low_usd=None, high_usd=None)


def test_a_long_prompt_of_an_estimate_is_that_of_one_row() -> None:
    """1,000 tokens a row are not long here, 1,001 are; no row at all divides by nothing."""
    prices, profile = Prices({"m": OWN}), Profile(model="m", max_completion_tokens=1)
    assert estimate(prices, profile, 1, 4 * 993).low_usd == pytest.approx((1000 + 10) / 1e6)
    assert estimate(prices, profile, 1, 4 * 994).low_usd == pytest.approx((2 * 1001 + 20) / 1e6)
    assert estimate(prices, profile, 2, 4 * 1987).low_usd == pytest.approx((2001 + 20) / 1e6)
    assert estimate(prices, profile, 0, 0).high_usd == 0

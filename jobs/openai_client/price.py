"""What a model's tokens cost, by service tier, prompt length and use of the prompt cache.

The prices of OpenAI's models come with the library genai-prices; nothing is downloaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from askmill.jobs.model.models import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices

MILLION = 1_000_000
STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "on_demand"})
"""Names of the tier that costs the standard price. `auto` is served as the project's settings say;
`on_demand` is Groq's."""

WINDOW_FACTORS = {"2h": 0.7, "8h": 0.6}
"""The share of the standard price that remains by `completion_window` (OpenAI's background guide)."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens.

    `cached_usd`, `cache_write_usd`: prompt tokens read from the cache and written to it; None: `prompt_usd`.
    `long`: a number of prompt tokens, and the price of all tokens of a request with a longer prompt.
    `tiers`: the prices in other service tiers.
    """

    prompt_usd: float
    completion_usd: float
    cached_usd: float | None = None
    cache_write_usd: float | None = None
    long: "tuple[int, Price] | None" = None
    tiers: "Mapping[str, Price]" = field(default_factory=dict)

    def in_tier(self, tier: str) -> "Price | None":
        """The price in one tier; None if it is unknown."""
        return self if tier in STANDARD_TIERS else self.tiers.get(tier)

    def cost_usd(self, usage: Usage) -> float:
        """USD for these tokens. Unknown counts are 0: so a prompt may cost more here than was charged."""
        prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
        if self.long is not None and (usage.longest_prompt_tokens or prompt) > self.long[0]:
            return self.long[1].cost_usd(usage)
        cached = min(usage.cached_tokens or 0, prompt)
        written = min(usage.cache_write_tokens or 0, prompt - cached)
        return (
            (prompt - cached - written) * self.prompt_usd
            + cached * (self.prompt_usd if self.cached_usd is None else self.cached_usd)
            + written * (self.prompt_usd if self.cache_write_usd is None else self.cache_write_usd)
            + completion * self.completion_usd
        ) / MILLION

    def run_usd(self, usage: Usage, tier: str | None = None, window: str | None = None) -> float | None:
        """USD for a run; None if its usage, or the price of its tier, is unknown.

        Args:
            usage: the run's tokens.
            tier: the service tier that the reply names; of several (`flex+default`) the dearest counts.
            window: the `completion_window` asked for; its discount is for the standard tier.
        """
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return None
        tiers = (tier or "").split("+")
        costs = [price.cost_usd(usage) for name in tiers if (price := self.in_tier(name)) is not None]
        if len(costs) < len(tiers):
            return None
        discount = WINDOW_FACTORS.get(window or "", 1.0) if STANDARD_TIERS.issuperset(tiers) else 1.0
        return max(costs) * discount

    def worst_usd(self, usage: Usage, tier: str | None) -> float | None:
        """USD at most for these tokens, asked for in this tier; None if the price of that tier is unknown.

        Another tier may be served than was asked for, but at most the standard one: flex and priority fall
        back to it, a batch job does not. A prompt may be written to the cache, and a completion window may be
        ignored.
        """
        tier_price = self.in_tier(tier or "")
        if tier_price is None:
            return None
        written = replace(usage, cached_tokens=0, cache_write_tokens=usage.prompt_tokens)
        prices = (tier_price,) if tier == "batch" else (self, tier_price)
        return max(price.cost_usd(tokens) for price in prices for tokens in (usage, written))


def bundled_price(model: str) -> Price | None:
    """The price of one of OpenAI's models today; None if it is unknown. Source: genai-prices."""
    return _bundled(model, datetime.now(UTC).date())


def similar_model(model: str) -> str | None:
    """The OpenAI model that a name without a price was probably meant to be; None where none is close."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only for a typo

    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 -- 200 ms

    if not model or bundled_price(model) is not None:
        return None
    models = [info.id for owner in get_snapshot().providers if owner.id == "openai" for info in owner.models]
    return next(iter(get_close_matches(model.lower(), models, n=1, cutoff=0.75)), None)


@lru_cache(maxsize=256)
def _bundled(model: str, today: date) -> Price | None:  # noqa: ARG001 -- prices change with the date
    from genai_prices import Usage as Tokens  # noqa: PLC0415 -- 200 ms
    from genai_prices import calc_price  # noqa: PLC0415

    def price_in(**context: str) -> "Price":
        found = calc_price(Tokens(input_tokens=1), model, provider_id="openai", price_context=context)
        return _price_of(found.model_price)

    try:
        info = calc_price(Tokens(input_tokens=1), model, provider_id="openai").model
    except LookupError:
        return None
    # `{"service_tier": "batch"}` would be the standard price without an error: batch is `processing`.
    conditions = [variant.when for variant in info.price_variants or ()]
    tiers = {next(iter(when.values())): price_in(**when) for when in conditions if len(when) == 1}
    standard = price_in()
    return replace(standard, tiers={name: tiers[name] for name in tiers.keys() - STANDARD_TIERS})


def _price_of(prices: "ModelPrice", above: int = 0) -> Price:
    """genai-prices' prices for prompts of more than `above` tokens."""
    fields = (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok, prices.cache_write_mtok)
    starts = {tier.start for price in fields for tier in getattr(price, "tiers", ()) if tier.start > above}
    prompt, completion, cached, written = (_usd(price, above) for price in fields)
    longer = min(starts, default=None)
    return Price(
        prompt or 0.0,
        completion or 0.0,
        cached,
        written,
        None if longer is None else (longer, _price_of(prices, longer)),
    )


def _usd(price: "Decimal | TieredPrices | Any", above: int) -> float | None:
    if price is None or isinstance(price, Decimal):
        return None if price is None else float(price)
    reached = [tier for tier in price.tiers if tier.start <= above]
    return float(max(reached, key=lambda tier: tier.start).price if reached and above else price.base)

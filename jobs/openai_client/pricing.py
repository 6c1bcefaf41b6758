"""What tokens cost: prices bundled with genai-prices, or those of ASKMILL_PRICES; nothing is ever fetched.

A model without a known price has no cost, rather than a wrong one.
"""

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any

from askmill.config.settings import BadSetting
from askmill.jobs.model.models import EMULATOR_MODEL, Usage
from askmill.jobs.model.profile import Profile

MILLION = 1_000_000
CHARACTERS_A_TOKEN = 4.0
"""English text, by OpenAI's own rule of thumb (help.openai.com 4936856)."""
CHEAPER = {"2h": 0.7, "8h": 0.6}
"""What the patience of `completion_window` leaves to pay (Background guide; api-semantics C2)."""


@dataclass(frozen=True)
class Price:
    """USD for a million tokens."""

    prompt_usd: float
    completion_usd: float

    def of(self, usage: Usage) -> float:
        """USD for these tokens; unknown ones count as none."""
        prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
        return (prompt * self.prompt_usd + completion * self.completion_usd) / MILLION


@dataclass(frozen=True)
class Prices:
    """The prices in use: `own` (from ASKMILL_PRICES) before the bundled ones."""

    own: dict[str, Price]

    @classmethod
    def read(cls, file: Path | None) -> "Prices":
        """Raises BadSetting when ASKMILL_PRICES names a file that is not a price list."""
        return cls(_own(file) if file is not None else {})

    def of(self, model: str | None) -> Price | None:
        """The model's price; None when nobody knows it, and for the emulator, which costs nothing."""
        if not model or model == EMULATOR_MODEL:
            return None
        return self.own.get(model) or _bundled(model)

    def cost_usd(self, model: str | None, usage: Usage, window: str | None = None) -> float | None:
        """USD for one run; None for an unknown model or a run of unknown tokens.

        `window` is the profile's `completion_window`, whose discount is taken off.
        """
        price = self.of(model)
        if price is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
            return None
        return price.of(usage) * CHEAPER.get(window or "", 1.0)


@lru_cache(maxsize=256)
def _bundled(model: str) -> Price | None:
    from genai_prices import Usage as Tokens  # noqa: PLC0415 -- 200 ms
    from genai_prices import calc_price  # noqa: PLC0415

    try:
        # One token of each, so that prices in tiers by length show their first tier.
        found = calc_price(Tokens(input_tokens=1, output_tokens=1), model, provider_id="openai")
    except LookupError:
        return None
    return Price(_per_million(found.input_price), _per_million(found.output_price))


def _per_million(one_token: Decimal) -> float:
    return float(one_token * MILLION)


GOOD = (
    'A good value: prices.toml, a file such as ["my-model"] / prompt_usd_per_million = 0.25 / '
    "completion_usd_per_million = 2.0."
)


def _own(file: Path) -> dict[str, Price]:
    """TOML: a table a model, with `prompt_usd_per_million` and `completion_usd_per_million`."""
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
        return {model: _price(table) for model, table in tables.items()}
    except OSError as error:
        raise BadSetting(f"ASKMILL_PRICES: {file}: {error.strerror or error}. {GOOD}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"ASKMILL_PRICES: {file} is not TOML: {error}. {GOOD}") from None
    except (TypeError, KeyError, ValueError):
        raise BadSetting(
            f"ASKMILL_PRICES: {file}: each model is a table with prompt_usd_per_million and "
            f"completion_usd_per_million. {GOOD}"
        ) from None


def _price(table: dict[str, Any]) -> Price:
    price = Price(float(table["prompt_usd_per_million"]), float(table["completion_usd_per_million"]))
    if not (0 <= price.prompt_usd < inf and 0 <= price.completion_usd < inf):
        raise ValueError
    return price


def tokens_of(text: str) -> int:
    """About how many tokens a text has."""
    return round(len(text) / CHARACTERS_A_TOKEN)


@dataclass(frozen=True)
class Estimate:
    """What a batch would take: prompt tokens as they are to be expected, a range for what is written."""

    rows: int
    prompt_tokens: int
    completion_low: int
    completion_high: int
    low_usd: float | None
    high_usd: float | None


SHORT_ANSWER, LONG_ANSWER = 50, 800
"""Tokens of a short and of a long answer, where no limit says; reasoning models write more."""
FRAME_TOKENS = 7
"""Of a message's own: 3, 1 for its role, 3 before the answer (OpenAI's cookbook, counting with tiktoken)."""
TOOL_ROUNDS, MOST_TOOL_ROUNDS = 2, 3
"""A run with tools reads its prompt again after each call."""
FOUND_TOKENS = 16_000
"""What file_search may put before the model: 20 passages of 800 tokens (the guide's defaults)."""


def estimate(prices: Prices, profile: Profile, rows: int, question_characters: int) -> Estimate:
    """A range for the whole batch, one run a row. USD are None for a model without a known price."""
    fixed = (profile.instructions or "") + "".join(message.content for message in profile.messages)
    once = rows * (tokens_of(fixed) + FRAME_TOKENS) + round(question_characters / CHARACTERS_A_TOKEN)
    longest = profile.max_completion_tokens or LONG_ANSWER
    low, high = rows * min(SHORT_ANSWER, longest), rows * longest
    tools = bool(profile.tools or profile.functions)
    prompt, most = (once * TOOL_ROUNDS, once * MOST_TOOL_ROUNDS) if tools else (once, once)
    most += rows * FOUND_TOKENS if "file_search" in profile.tools else 0
    window = profile.completion_window
    return Estimate(
        rows,
        prompt,
        low,
        high,
        prices.cost_usd(profile.model, Usage(once, low), window),
        prices.cost_usd(profile.model, Usage(most, high), window),
    )

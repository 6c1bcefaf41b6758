"""Prices of tokens (bundled with genai-prices, or from ASKMILL_PRICES) and the estimate of a batch.

Prices are never downloaded. The cost of a model without a known price is None.
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
CHARACTERS_PER_TOKEN = 4.0
"""OpenAI's rule of thumb for English text (help.openai.com 4936856)."""
PRICE_FACTORS = {"2h": 0.7, "8h": 0.6}
"""The share of the price that remains by `completion_window` (OpenAI's background guide)."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    prompt_usd: float
    completion_usd: float

    def cost_usd(self, usage: Usage) -> float:
        """USD for these tokens; unknown numbers of tokens count as 0."""
        prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
        return (prompt * self.prompt_usd + completion * self.completion_usd) / MILLION


@dataclass(frozen=True)
class Prices:
    """The prices in use: `own` (from ASKMILL_PRICES) take precedence over the bundled ones."""

    own: dict[str, Price]

    @classmethod
    def read(cls, file: Path | None) -> "Prices":
        """Read the price file, if any. Raises BadSetting if it is not a valid price list."""
        return cls(_read_price_file(file) if file is not None else {})

    def price_of(self, model: str | None) -> Price | None:
        """The model's price; None if it is unknown, and for the emulator, which costs nothing."""
        if not model or model == EMULATOR_MODEL:
            return None
        return self.own.get(model) or _bundled(model)

    def cost_usd(self, model: str | None, usage: Usage, window: str | None = None) -> float | None:
        """USD for one run; None if the price or the usage is unknown.

        `window` is the profile's `completion_window`; its discount is applied.
        """
        price = self.price_of(model)
        if price is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
            return None
        return price.cost_usd(usage) * PRICE_FACTORS.get(window or "", 1.0)


@lru_cache(maxsize=256)
def _bundled(model: str) -> Price | None:
    from genai_prices import Usage as Tokens  # noqa: PLC0415 -- 200 ms
    from genai_prices import calc_price  # noqa: PLC0415

    try:
        # One token of each kind, so that prices in tiers by length give their first tier.
        price = calc_price(Tokens(input_tokens=1, output_tokens=1), model, provider_id="openai")
    except LookupError:
        return None
    return Price(_per_million(price.input_price), _per_million(price.output_price))


def _per_million(one_token: Decimal) -> float:
    return float(one_token * MILLION)


EXAMPLE = (
    'A good value: prices.toml, a file such as ["my-model"] / prompt_usd_per_million = 0.25 / '
    "completion_usd_per_million = 2.0."
)


def _read_price_file(file: Path) -> dict[str, Price]:
    """Read a TOML file with one table per model: `prompt_usd_per_million`, `completion_usd_per_million`."""
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
        return {model: _price(table) for model, table in tables.items()}
    except OSError as error:
        raise BadSetting(f"ASKMILL_PRICES: {file}: {error.strerror or error}. {EXAMPLE}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"ASKMILL_PRICES: {file} is not TOML: {error}. {EXAMPLE}") from None
    except (TypeError, KeyError, ValueError):
        raise BadSetting(
            f"ASKMILL_PRICES: {file}: each model needs a table with prompt_usd_per_million and "
            f"completion_usd_per_million. {EXAMPLE}"
        ) from None


def _price(table: dict[str, Any]) -> Price:
    price = Price(float(table["prompt_usd_per_million"]), float(table["completion_usd_per_million"]))
    if not (0 <= price.prompt_usd < inf and 0 <= price.completion_usd < inf):
        raise ValueError
    return price


def estimate_tokens(text: str) -> int:
    """The approximate number of tokens in a text."""
    return round(len(text) / CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Estimate:
    """Expected tokens and cost of a batch: one number for the prompts, a range for the answers."""

    rows: int
    prompt_tokens: int
    completion_low: int
    completion_high: int
    low_usd: float | None
    high_usd: float | None


SHORT_ANSWER, LONG_ANSWER = 50, 800
"""Tokens of a short and a long answer if no limit is set; reasoning models write more."""
MESSAGE_TOKENS = 7
"""Overhead of a message: 3, 1 for its role, 3 before the answer (OpenAI cookbook, counting with tiktoken)."""
TYPICAL_TOOL_ROUNDS, MAX_TOOL_ROUNDS = 2, 3
"""A run with tools reads its prompt again after each tool call."""
FILE_SEARCH_TOKENS = 16_000
"""Tokens that file_search may add to the prompt: 20 passages of 800 tokens (the guide's defaults)."""


def estimate(prices: Prices, profile: Profile, rows: int, question_characters: int) -> Estimate:
    """Estimate the whole batch with one run per row. USD are None if the model's price is unknown."""
    profile_text = (profile.instructions or "") + "".join(message.content for message in profile.messages)
    prompt_once = rows * (estimate_tokens(profile_text) + MESSAGE_TOKENS) + round(
        question_characters / CHARACTERS_PER_TOKEN
    )
    max_answer = profile.max_completion_tokens or LONG_ANSWER
    low, high = rows * min(SHORT_ANSWER, max_answer), rows * max_answer
    tools = bool(profile.tools or profile.functions)
    prompt, max_prompt = (
        (prompt_once * TYPICAL_TOOL_ROUNDS, prompt_once * MAX_TOOL_ROUNDS)
        if tools
        else (prompt_once, prompt_once)
    )
    max_prompt += rows * FILE_SEARCH_TOKENS if "file_search" in profile.tools else 0
    window = profile.completion_window
    return Estimate(
        rows,
        prompt,
        low,
        high,
        prices.cost_usd(profile.model, Usage(prompt_once, low), window),
        prices.cost_usd(profile.model, Usage(max_prompt, high), window),
    )

"""The prices in use (bundled, or from ASKMILL_PRICES) and the estimate of a batch.

The cost of a model or a service tier without a known price is None.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from askmill.jobs.model.models import EMULATOR_MODEL, Usage
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.price import Price, bundled_price

CHARACTERS_PER_TOKEN = 4.0
"""OpenAI's rule of thumb for English text (help.openai.com 4936856)."""
SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
"""The end of a model's name in a reply: `gpt-5-mini-2025-08-07` answers for `gpt-5-mini`."""


@dataclass(frozen=True)
class Prices:
    """The prices in use: `own` (from ASKMILL_PRICES) take precedence over the bundled ones."""

    own: dict[str, Price]

    @classmethod
    def read(cls, file: Path | None) -> "Prices":
        """Read the price file, if any. Raises BadSetting if it is not a valid price list."""
        if file is None:
            return cls({})
        from askmill.jobs.openai_client.price_file import read_price_file  # noqa: PLC0415 -- few have one

        return cls(read_price_file(file))

    def price_of(self, model: str | None, profile_model: str | None = None) -> Price | None:
        """The model's price; None if it is unknown, and for the emulator, which costs nothing.

        Args:
            model: the name in the reply, or in the profile before there is one.
            profile_model: the name in the profile. Its price is used where the reply names no model or one
                without a price (a deployment), and where the price file has it and the reply its snapshot.
        """
        if EMULATOR_MODEL in {model, profile_model}:
            return None
        if model and model not in self.own and SNAPSHOT.sub("", model) == profile_model in self.own:
            return self.own[profile_model]
        names = (name for name in (model, profile_model) if name)
        prices = (self.own.get(name) or bundled_price(name) for name in names)
        return next((price for price in prices if price is not None), None)

    def has_price(self, model: str | None, tier: str | None = None) -> bool:
        """Whether the model has a price in this tier."""
        price = self.price_of(model)
        return price is not None and price.in_tier(tier or "") is not None

    def cost_usd(self, model: str | None, usage: Usage, tier: str | None = None) -> float | None:
        """USD for a run in one service tier; None if the price or the usage is unknown."""
        price = self.price_of(model)
        return None if price is None else price.run_usd(usage, tier)


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
    price = prices.price_of(profile.model)

    def cost_usd(prompt_tokens: int, completion_tokens: int) -> float | None:
        # The prompts of all rows together are no long prompt.
        usage = Usage(prompt_tokens, completion_tokens, longest_prompt_tokens=prompt_tokens // max(rows, 1))
        if price is None:
            return None
        return price.run_usd(usage, profile.service_tier, profile.completion_window)

    return Estimate(rows, prompt, low, high, cost_usd(prompt_once, low), cost_usd(max_prompt, high))

"""What `estimate` says of a tier is what `status` books there, where the lengths of questions and answers are fixed."""

from pathlib import Path

import pytest

import askmill
from askmill.emulator.simulation.answer import count_tokens
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.pricing import CHARACTERS_PER_TOKEN, MESSAGE_TOKENS
from tests.stack import Stack

ROWS, LIMIT = 7, 20
TIERS = ("standard", "flex", "priority", "batch")
OPTIONS = {"model": "gpt-5-mini", "max_completion_tokens": LIMIT}
NO_CAPACITY = "[tiers]\nflex_429 = 1.0\n"


def question(number: int) -> str:
    """As many tokens for the emulator as `estimate` takes it for: the last word makes up the length."""
    words = f"Number {number:02}: tell me at length about " + "a mill " * 20
    letters = (count_tokens(f"{words}x") - MESSAGE_TOKENS) * CHARACTERS_PER_TOKEN - len(words)
    assert letters > 0
    return words + "x" * int(letters)


QUESTIONS = [question(number) for number in range(ROWS)]


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_an_estimate_is_what_is_booked_in_each_tier(
    tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is cut off at its limit, so the estimate is one number: to the billionth what is booked.

    With `--tier-fallback` it is a range: its ends are booked with and without capacity.
    """
    with Stack(tmp_path, api) as stack:
        for name, value in stack.settings().items():
            monkeypatch.setenv(name, value)
        stack.worker(10, ASKMILL_BATCH_LIST_S="0.3")
        estimated = await askmill.aio.estimate(QUESTIONS, **OPTIONS)
        batches = {tier: await askmill.aio.submit(QUESTIONS, tier=tier, **OPTIONS) for tier in TIERS}
        booked = {tier: await cost_usd(stack, batch) for tier, batch in batches.items()}
        ranges = {each.tier: each.cost_usd for each in estimated.tiers if each.tier in TIERS}
        assert ranges == {tier: (pytest.approx(usd, abs=1e-9),) * 2 for tier, usd in booked.items()}
        assert booked["flex"] == booked["batch"] == pytest.approx(booked["standard"] / 2)

        falling = {"tier": "flex", "tier_fallback": "standard", **OPTIONS}
        with_fallback = await askmill.aio.estimate(QUESTIONS, **falling)
        stack.scenario(NO_CAPACITY)
        fallen = await cost_usd(stack, await askmill.aio.submit(QUESTIONS, new=True, **falling))
    assert fallen == booked["standard"]
    assert with_fallback.cost_usd == pytest.approx((booked["flex"], fallen), abs=1e-9)


async def cost_usd(stack: Stack, batch: str) -> float:
    """What `status` books of the batch at its end; no row has ended otherwise than at its limit."""
    await stack.wait_for(batch)
    status = await askmill.aio.status(batch)
    assert status.counts["incomplete"] == ROWS
    assert status.cost_usd is not None
    return status.cost_usd

"""Prices and estimates: known models, unknown models, price files."""

from pathlib import Path

import pytest

from askmill.config.settings import BadSetting
from askmill.jobs.model.models import Usage
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.pricing import Prices, estimate

BUNDLED = Prices.read(None)
MILLION_EACH = Usage(1_000_000, 1_000_000)


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


@pytest.mark.parametrize(
    "text",
    [
        "x",
        '["m"]\nprompt_usd_per_million = 1',
        'm = "free"',
        "[m]\nprompt_usd_per_million = -1\ncompletion_usd_per_million = 0",
    ],
)
def test_a_bad_price_file_is_a_bad_setting(tmp_path: Path, text: str) -> None:
    """The message names the variable and the file."""
    file = tmp_path / "prices.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(BadSetting, match=r"ASKMILL_PRICES.*prices\.toml"):
        Prices.read(file)
    with pytest.raises(BadSetting, match="ASKMILL_PRICES"):
        Prices.read(tmp_path / "gone.toml")


def test_a_completion_window_is_cheaper() -> None:
    """With `completion_window` 8h, 60 % of the price remain."""
    whole = BUNDLED.cost_usd("gpt-5-mini", MILLION_EACH)
    assert whole is not None
    assert BUNDLED.cost_usd("gpt-5-mini", MILLION_EACH, "8h") == pytest.approx(0.6 * whole)


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

"""Cost is what the bill says: the tier of the reply, its tokens, its model; shown where a person looks."""

import json
from pathlib import Path

import pytest

from askmill.jobs.openai_client.pricing import Prices
from tests.helpers.command_line import terminal
from tests.stack import Stack

PROFILE = 'model = "gpt-6-luna"\nservice_tier = "flex"\n'


def test_a13_a_row_costs_what_the_tier_of_its_reply_costs(tmp_path: Path) -> None:
    """`run` in the tier flex: half the price; the results, `show`, `report` and the steps file name the tier."""
    with Stack(tmp_path, api="responses") as stack:
        user = terminal(tmp_path).with_settings(**stack.settings())
        (user.folder / "q.csv").write_text("question\nWhat is 17 * 23?\n")
        (user.folder / "profile.toml").write_text(PROFILE)
        stack.worker()
        done = user.askmill("run", "q.csv", "--profile", "profile.toml", "-o", "a.csv")
        assert done.returncode == 0, done.stderr
        shown = user.askmill("show", "1").stdout
        row = json.loads(user.askmill("show", "1", "--json").stdout)
        user.askmill("report", "-o", "report.html")

    line = json.loads((user.folder / "a.steps.jsonl").read_text())
    (run,) = line["runs"]
    assert row["runs"] == [run]
    assert (run["tier"], run["cached_tokens"], run["reasoning_tokens"]) == ("flex", 0, 0)
    price = Prices.read(None).price_of("gpt-6-luna")
    assert price is not None
    standard_usd = (
        run["prompt_tokens"] * price.prompt_usd + run["completion_tokens"] * price.completion_usd
    ) / 1e6
    assert run["cost_usd"] == row["cost_usd"] == pytest.approx(standard_usd / 2)
    assert "tier flex" in shown
    assert "Runs by service tier" in (user.folder / "report.html").read_text()

"""A budget with retries, kills and unknown costs, checked against the emulator's own count of tokens."""

import random
import signal
from functools import partial
from pathlib import Path

import pytest
import redis

from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.display.status_text import usage_line
from askmill.jobs.model.models import Limits
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import Store, keys
from tests.chaos.support import counter, status_bytes, wait_for_runs
from tests.stack import QUICK, Child, Stack
from tests.support import wait_until

PRICES = '["gpt-5-mini"]\nprompt_usd_per_million = 1\ncompletion_usd_per_million = 1\n'
"""Every token costs a millionth of a dollar, so that tokens can be compared with the budget."""
PROFILE = Profile(model="gpt-5-mini", max_prompt_tokens=1024, max_completion_tokens=256)
WORST_CASE = 1024 + 256
LONG = "word " * 700
"""Nearly as long as the prompt limit of a run."""
FAILS_TWICE = "[emulate: failed(server_error), failed(server_error), completed] What is 1 + 1? "


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_kills_and_retries_never_exceed_the_budget(tmp_path: Path, seed: int) -> None:
    """Attempts fail, workers are killed or terminated, the batch is paused and resumed: the budget holds."""
    rng, budget = random.Random(seed), 30 * WORST_CASE
    with Stack(tmp_path, scenario="[latency]\nmedian_s = 0.7\nsigma = 0.5\n") as stack:
        workers = [_worker(stack), _worker(stack)]
        batch = await stack.submit([FAILS_TWICE + LONG] * 60, PROFILE, budget_usd=budget / 1e6)
        async with await Store.open(stack.redis_url) as store:
            wait_for_runs(stack, 10)
            for _ in range(3):
                victim = workers.pop(rng.randrange(2))
                victim.signal(rng.choice((signal.SIGKILL, signal.SIGTERM)))
                await store.pause(batch, "requested by a user")
                await store.resume(batch)
                created = stack.stats()["runs_created"]
                workers.append(_worker(stack))
                wait_until(
                    partial(_progressed_or_paused, stack, batch, created),
                    "another run is created, or it is paused",
                    45,
                )
            status = await stack.wait_for(batch, ["paused"], timeout_s=90)
            wait_until(lambda: status_bytes(stack, batch)["r"] == 0, "the runs in flight have ended", 60)

        assert status.batch.paused_reason.startswith("budget: a run may cost")
        assert budget - 3 * WORST_CASE < stack.stats()["tokens"] <= budget


async def test_a_budget_set_during_a_batch_counts_the_runs_in_flight(tmp_path: Path) -> None:
    """Twenty runs were created without one; then it allows these and one more, however many slots are added."""
    budget = 21 * WORST_CASE
    questions = [
        f"{LONG}[emulate: completed after={seconds}] What is 1 + 1?" for seconds in [6] * 20 + [1] * 20
    ]
    with Stack(tmp_path) as stack:
        _worker(stack)
        batch = await stack.submit(questions, PROFILE)
        wait_for_runs(stack, 20)
        async with await Store.open(stack.redis_url) as store:
            await store.update_limits(batch, Limits(budget_usd=budget / 1e6))
        _worker(stack)
        wait_for_runs(stack, 21)
        assert stack.stats()["runs_active_max"] <= 21, "the next run waits until one of them has ended"
        status = await stack.wait_for(batch, ["paused"], timeout_s=90)

        assert status.batch.paused_reason.startswith("budget: a run may cost")
        assert budget - 2 * WORST_CASE < stack.stats()["tokens"] <= budget


async def test_runs_of_unknown_cost_use_up_the_budget(tmp_path: Path) -> None:
    """Each create's reply is lost and each answer adopted without usage: the worst case is assumed and shown."""
    lost = '[http]\ndrop_after = 1.0\nonly = ["POST /responses"]\n'
    profile = Profile(model="gpt-5-mini", max_completion_tokens=256)
    with Stack(tmp_path, "responses", lost) as stack:
        _worker(stack)
        batch = await stack.submit(["What is 1 + 1?"] * 20, profile, budget_usd=5 * 500 / 1e6)
        status = await stack.wait_for(batch, ["paused"], timeout_s=60)

        assert status.batch.paused_reason.startswith("budget: a run may cost")
        assert status.counts.cost_usd is None
        assert 4 <= stack.stats()["runs_created"] <= 5
        assert "budget $0.0025 ($0.00" in usage_line(status)
        assert "of it assumed for runs of unknown cost)" in usage_line(status)


async def test_an_unconfirmed_create_counts_with_its_worst_case(tmp_path: Path) -> None:
    """It left no trace and is repeated: the first create may have been carried out and may have cost money."""
    lost = '[http]\ndrop_before = 1.0\nonly = ["POST /responses"]\n'
    profile = Profile(model="gpt-5-mini", max_completion_tokens=256)
    with Stack(tmp_path, "responses", lost) as stack:
        _worker(stack)
        batch = await stack.submit(["What is 1 + 1?"], profile, budget_usd=1)
        wait_until(lambda: counter(stack, batch, "unknown_creates") == 1, "it is repeated", 45)
        stack.scenario("")
        status = await stack.wait_for(batch)

        assert 256_000 < counter(stack, batch, "assumed_nano") < 500_000
        assert 0 < (status.counts.cost_usd or 0) < 256e-6, "the row's cost is that of the reported usage only"


async def test_a_worker_without_a_price_starts_nothing_under_a_budget(tmp_path: Path) -> None:
    """A run without a known highest cost is not started: the batch pauses and says what to do."""
    profile = PROFILE.model_copy(update={"model": "gpt-unheard-of"})
    with Stack(tmp_path) as stack:
        stack.worker(5, QUICK)
        batch = await stack.submit(["What is 1 + 1?"], profile, budget_usd=1)
        status = await stack.wait_for(batch, ["paused"])

        assert stack.stats()["runs_created"] == 0
        assert "ASKMILL_PRICES" in stall_reason(status)


def _progressed_or_paused(stack: Stack, batch: str, created: int) -> bool:
    with redis.Redis.from_url(stack.redis_url) as client:
        paused = client.hget(keys.batch(batch), "state") == b"paused"
    return paused or stack.stats()["runs_created"] > created


def _worker(stack: Stack) -> Child:
    (stack.folder / "prices.toml").write_text(PRICES)
    return stack.worker(20, QUICK, ASKMILL_PRICES=str(stack.folder / "prices.toml"))

"""Waits that the API asks for: long ones stop one batch and end by themselves, short ones hold new runs; both are shown."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store import keys
from tests.helpers.command_line import terminal
from tests.stack import QUICK, Stack
from tests.support import wait_until

BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])
DAY_S = 86_400


@BOTH
async def test_a_long_wait_stops_one_batch_which_resumes_by_itself(tmp_path: Path, api: Api) -> None:
    """A10: `Retry-After: 86400`: that batch pauses until tomorrow, shown everywhere; another one is answered meanwhile."""
    with Stack(tmp_path, api=api, scenario=f"[http]\nrate_429 = 1.0\nretry_after_s = {DAY_S}\n") as stack:
        stack.worker(10, QUICK)
        waiting = await stack.submit(["What is 1 + 1?"] * 5)
        status = await stack.wait_for(waiting, ["paused"])
        assert status.waiting is not None
        assert status.waiting.who == "batch"
        assert abs(status.waiting.until_ms - status.now_ms - DAY_S * 1000) < 60_000

        stack.scenario("")
        other = await stack.submit(["What is 2 + 2?"] * 5)
        done = await stack.wait_for(other)
        assert done.counts.by_status[JobStatus.COMPLETED] == 5
        assert (await stack.status(waiting)).batch.state == "paused"

        user = terminal(tmp_path).with_settings(**stack.settings())
        shown = " ".join(user.askmill("status", waiting).stdout.split())
        assert "Paused until" in shown
        assert "It resumes by itself" in shown
        doctor = user.askmill("doctor").stdout
        assert f"waits: {waiting}: Paused until" in doctor
        until = datetime.fromtimestamp(status.waiting.until_ms / 1000, UTC)
        assert f"paused until {until:%Y-%m-%d %H:%M} UTC" in user.askmill("list").stdout

        with redis.Redis.from_url(stack.redis_url) as client:
            client.hset(keys.batch(waiting), "paused_until", 1)
        status = await stack.wait_for(waiting)
        assert status.counts.by_status[JobStatus.COMPLETED] == 5


async def test_a_wait_named_by_a_runs_end_holds_new_runs(tmp_path: Path) -> None:
    """A11: `try again in 1s` in a run's last_error: the attempts are that far apart, and so are other rows' runs."""
    message = json.dumps("Rate limit reached. Please try again in 1s.")
    directive = f"[emulate: failed(rate_limit_exceeded, {message}), completed]"
    with Stack(tmp_path) as stack:
        stack.worker(10, QUICK)
        batch = await stack.submit([f"{directive} What is 1 + 1?"])
        status = await stack.wait_for(batch)
        (row,) = await stack.rows(batch)
        assert row.result is not None
        first, second = row.result.attempts
        assert first.finished_at is not None
        assert second.started_at is not None
        assert second.started_at - first.finished_at >= 1.0
        assert status.counts.totals["throttled"] == 1


@pytest.mark.parametrize("api", [pytest.param("assistants", marks=pytest.mark.long), "responses"])
async def test_a_full_queue_fails_no_row(tmp_path: Path, api: Api) -> None:
    """E3: a third of the creates is refused with 400 and "queue is full": all rows complete, each with one run."""
    creates = ["POST /threads", "POST /threads/*/runs", "POST /responses", "POST /conversations"]
    with Stack(
        tmp_path, api=api, scenario=f"[http]\nrate_full = 0.3\nonly = {json.dumps(creates)}\n"
    ) as stack:
        stack.worker(20, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 10)
        status = await stack.wait_for(batch, timeout_s=120)

        assert status.counts.by_status[JobStatus.COMPLETED] == 10
        assert status.counts.totals["throttled"] > 0
        assert status.counts.totals.get("unknown_creates", 0) == 0
        assert stack.stats()["runs_created"] == 10


async def test_a_failing_api_is_told_at_once(tmp_path: Path) -> None:
    """E5: 500 on every create: status and panel have the words, how often and since when, within seconds."""
    with Stack(tmp_path, scenario='[http]\nrate_500 = 1.0\nonly = ["POST /threads"]\n') as stack:
        stack.worker(5, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 5)
        user = terminal(tmp_path).with_settings(**stack.settings())
        wait_until(
            lambda: (
                (json.loads(user.askmill("status", batch, "--json").stdout)["last_fault"] or {}).get(
                    "count", 0
                )
                >= 2
            ),
            "the fault is counted",
            30,
        )
        shown = " ".join(user.askmill("status", batch).stdout.split())
        assert "Last fault: POST /threads: server_error: The server had an error" in shown
        fault = json.loads(user.askmill("status", batch, "--json").stdout)["last_fault"]
        assert fault["since"] < fault["at"]
        assert "Last fault" in user.askmill("doctor").stdout


@BOTH
async def test_a_running_row_shows_its_run_and_the_next_poll(tmp_path: Path, api: Api) -> None:
    """E12: the run's id, the server's status and when it is polled next; in JSON too."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(5, QUICK)
        batch = await stack.submit(["[emulate: completed after=60] What is 1 + 1?"])
        user = terminal(tmp_path).with_settings(**stack.settings())

        def row() -> dict[str, object]:
            return dict(json.loads(user.askmill("show", batch, "1", "--json").stdout))

        wait_until(lambda: row().get("server_status") is not None, "the poll is recorded", 30)
        shown = row()
        assert shown["status"] == "running"
        assert shown["server_status"] == "in_progress"
        assert str(shown["run_id"]).startswith("run_" if api == "assistants" else "resp_")
        assert str(shown["next_poll"]).endswith("Z")
        text = user.askmill("show", batch, "1").stdout
        assert f"Its run {shown['run_id']} was in_progress at the last poll; the next poll is at" in text

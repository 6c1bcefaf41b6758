"""Killed workers, refusals that concern every row, and batches that a user stops: the batch resumes as promised."""

from pathlib import Path

import pytest
import redis

from askmill.jobs.functions.registry import describe
from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store import Store
from tests.chaos.support import (
    assert_each_paid_once,
    counter,
    max_claims,
    outage,
    questions_lasting,
    status_bytes,
    wait_for_finished,
    wait_for_runs,
)
from tests.helpers.command_line import CommandLine
from tests.stack import QUICK, TUTOR, Stack
from tests.support import wait_until, wait_until_async

ACCOUNT_ERRORS = ("invalid_api_key", "insufficient_quota")
CHAT = pytest.param("chat", marks=pytest.mark.chaos)
"""What one of the other APIs shows in the default run."""
BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])
AND_CHAT = pytest.mark.parametrize("api", ["assistants", CHAT])
POISON = '''
import os, time

def harmless(seconds: float) -> str:
    """Takes a while."""
    time.sleep(seconds)
    return "done"

def poison() -> str:
    """Kills the process that calls it."""
    time.sleep(0.3)
    os._exit(1)
'''


def _command_line(stack: Stack, folder: Path) -> CommandLine:
    settings = {
        "ASKMILL_REDIS_URL": stack.redis_url,
        "OPENAI_BASE_URL": stack.base_url,
        "OPENAI_API_KEY": "offline",
    }
    return CommandLine(
        folder, {**settings, "ASKMILL_API": stack.api, "ASKMILL_DATA_DIR": str(folder / "data")}
    )


@AND_CHAT
async def test_a_poison_row_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    """A function that ends its worker three times: its row fails, rows in flight beside it complete.

    On chat each death costs them an attempt.
    """
    (tmp_path / "deadly.py").write_text(POISON)
    monkeypatch.chdir(tmp_path)
    functions = describe("deadly.py")
    question = "[emulate: requires_action({}), completed] What is 1 + 1?"
    questions = [question.format('harmless, {"seconds": 0.5}')] * 5 + [question.format("poison, {}")]
    with Stack(tmp_path, api=api) as stack:
        profile = TUTOR.model_copy(update={"functions": functions})
        batch = await stack.submit([*questions, *questions_lasting(2, 5)], profile, attempts=4)
        deaths = 0

        async def done() -> bool:
            nonlocal deaths
            if not stack.workers or not stack.workers[-1].alive:
                deaths += bool(stack.workers)
                stack.worker(20, QUICK, ["deadly.py"])
            return (await stack.status(batch)).batch.state == "done"

        await wait_until_async(done, "the batch is done", 100)
        rows = await stack.rows(batch)

    assert deaths == 3
    assert [row.status for row in rows].count(JobStatus.COMPLETED) == 10
    assert rows[5].result is not None
    assert (rows[5].status, (rows[5].result.error or "")[:10]) == (JobStatus.FAILED, "poison_row")


@AND_CHAT
async def test_a_worker_killed_while_polling_makes_no_poison_row(tmp_path: Path, api: Api) -> None:
    """Four workers killed while the rows' runs are active: every row completes, on its one run.

    On chat it completes with another call for each that was in flight, and each of those is counted.
    """
    with Stack(tmp_path, api=api) as stack:
        batch = await stack.submit(questions_lasting(14, 5), attempts=5)
        for _ in range(4):
            worker = stack.worker(10, QUICK)
            wait_until(lambda: status_bytes(stack, batch)["r"] == 5, "all rows are claimed", 40)
            worker.kill()
            wait_until(lambda: not stack.workers[-1].alive, "it is dead")
        stack.worker(10, QUICK)
        status = await stack.wait_for(batch, timeout_s=60)

        if api == "chat":
            assert status.counts.by_status[JobStatus.COMPLETED] == 5
            again = sum(stack.stats()["runs_by_job"].values()) - 5
            assert 1 <= again <= counter(stack, batch, "unknown_creates") <= 4 * 5
        else:
            await assert_each_paid_once(stack, batch, status, 5)


@pytest.mark.parametrize(
    ("api", "error"),
    [
        ("assistants", ACCOUNT_ERRORS[0]),
        ("responses", ACCOUNT_ERRORS[1]),
        ("chat", ACCOUNT_ERRORS[1]),
        *(
            pytest.param(api, error, marks=pytest.mark.chaos)
            for api, error in (
                ("assistants", ACCOUNT_ERRORS[1]),
                ("responses", ACCOUNT_ERRORS[0]),
                ("chat", ACCOUNT_ERRORS[0]),
            )
        ),
    ],
)
async def test_an_error_of_the_account_costs_a_handful_of_requests(
    tmp_path: Path, api: Api, error: str
) -> None:
    """400 rows, and the account is refused: paused with the reason; fixed and resumed, rows are answered."""
    with Stack(tmp_path, api=api, scenario=f'[account]\nerror = "{error}"\n') as stack:
        stack.worker(100)
        batch = await stack.submit(["What is 1 + 1?"] * 400)
        status = await stack.wait_for(batch, ["paused"])
        requests = sum(stack.stats()["requests"].values())
        assert error in (status.batch.paused_reason or "")
        assert requests <= 5
        outage(1.5)
        assert max_claims(stack, batch) <= 3, "the refused row is claimed again and again"
        async with await Store.open(stack.redis_url) as store:
            await store.resume(batch)
            await stack.wait_for(batch, ["paused"])
            assert sum(stack.stats()["requests"].values()) <= 10
            stack.scenario("")
            await store.resume(batch)
            wait_for_finished(stack, batch, 50)
            await store.cancel(batch)
        await stack.wait_for(batch, ["cancelled"])
        wait_until(lambda: set(status_bytes(stack, batch)) == {"c", "x"}, "all have ended", 30)
        assert set(stack.stats()["runs_by_job"].values()) == {1}


@AND_CHAT
async def test_a_key_revoked_during_a_batch_causes_no_request_storm(tmp_path: Path, api: Api) -> None:
    """50 runs in flight when every request is refused: each row sends one request, then waits for `resume`."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(50, QUICK)
        batch = await stack.submit(questions_lasting(5, 100))
        wait_for_runs(stack, 50)
        if api != "chat":
            wait_until(lambda: counter(stack, batch, "runs") >= 50, "their ids are stored")
        stack.scenario('[account]\nerror = "invalid_api_key"\n')
        before = sum(stack.stats()["requests"].values())
        await stack.wait_for(batch, ["paused"])
        wait_until(lambda: status_bytes(stack, batch)["r"] == 0, "all rows wait", 30)
        outage(3)
        assert sum(stack.stats()["requests"].values()) - before <= 110

        stack.scenario("")
        async with await Store.open(stack.redis_url) as store:
            await store.resume(batch)
        status = await stack.wait_for(batch, timeout_s=60)
        await assert_each_paid_once(stack, batch, status, 100)


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
async def test_an_unknown_model_pauses_the_batch(tmp_path: Path, api: Api) -> None:
    """The profile names an unknown model, so every row would fail alike. The refused create leaves no run."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(50)
        batch = await stack.submit(["?"] * 1000, TUTOR.model_copy(update={"model": "no-such-model"}))
        status = await stack.wait_for(batch, ["paused"])

        outage(1.5)
        assert max_claims(stack, batch) <= 3, "the refused row is claimed again and again"
        assert "model" in (status.batch.paused_reason or "")
        assert sum(stack.stats()["requests"].values()) <= 5


@BOTH
@pytest.mark.parametrize("by", ["worker", "command"])
async def test_cancel_cancels_runs_at_the_api(tmp_path: Path, api: Api, by: str) -> None:
    """Queued rows end at once; active runs are cancelled by a worker, or by the command if no worker is alive."""
    with Stack(tmp_path, api=api) as stack:
        worker = stack.worker(20, QUICK)
        batch = await stack.submit(questions_lasting(60, 40))
        wait_for_runs(stack, 20)
        wait_until(lambda: counter(stack, batch, "runs") == 20, "their ids are stored")
        if by == "command":
            worker.leave()
        done = _command_line(stack, tmp_path).askmill("cancel", batch)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: stack.stats()["runs_active"] == 0, "no run is active", 20)
        if by == "command":
            stack.worker(20, QUICK)
        wait_until(lambda: status_bytes(stack, batch) == {"x": 40}, "all rows are cancelled", 40)

        assert stack.stats()["runs_created"] == 20


@AND_CHAT
async def test_pause_lets_runs_finish_and_starts_none(tmp_path: Path, api: Api) -> None:
    """Paused with 20 in flight: those complete, no other run starts; resume completes the other rows."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(20, QUICK)
        batch = await stack.submit(questions_lasting(3, 60))
        wait_for_runs(stack, 20)
        if api != "chat":
            wait_until(lambda: counter(stack, batch, "runs") >= 20, "their ids are stored", 30)
        command = _command_line(stack, tmp_path)
        assert command.askmill("pause", batch).returncode == 0
        runs = stack.stats()["runs_created"]
        wait_until(lambda: status_bytes(stack, batch)["r"] == 0, "the runs in flight have ended", 30)
        assert stack.stats()["runs_created"] <= runs + 1
        assert status_bytes(stack, batch)["c"] == stack.stats()["runs_created"]

        assert command.askmill("resume", batch).returncode == 0
        status = await stack.wait_for(batch, timeout_s=60)
        await assert_each_paid_once(stack, batch, status, 60)


@AND_CHAT
async def test_retry_repeats_failed_rows(tmp_path: Path, api: Api) -> None:
    """Failed rows get another attempt; completed ones keep their one run. On chat a refusal is no attempt."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(20, QUICK)
        failing = "[emulate: failed(invalid_prompt), completed] What is 1 + 1?"
        batch = await stack.submit([failing] * 5 + ["What is 1 + 1?"] * 5)
        await stack.wait_for(batch)
        assert _command_line(stack, tmp_path).askmill("retry", batch).returncode == 0
        status = await stack.wait_for(batch)
        rows = await stack.rows(batch)

        assert status.counts.by_status[JobStatus.COMPLETED] == 10
        attempts = 1 if api == "chat" else 2
        assert [row.result.attempt_count for row in rows if row.result] == [attempts] * 5 + [1] * 5
        assert stack.stats()["runs_created"] == 15


@BOTH
async def test_purge_deletes_what_no_other_batch_uses(tmp_path: Path, api: Api) -> None:
    """The purged batch's threads are deleted at the API; those of the other batch are not."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(20, QUICK)
        purged, other = await stack.submit(["What is 1 + 1?"] * 6), await stack.submit(["What is 2 + 2?"] * 6)
        await stack.wait_for(purged)
        await stack.wait_for(other)
        threads = {
            batch: [row.result.thread_id for row in await stack.rows(batch)] for batch in (purged, other)
        }
        done = _command_line(stack, tmp_path).askmill("purge", purged)
        assert done.returncode == 0, done.stderr

        assert {_status_of(stack, thread) for thread in threads[purged]} == {404}
        assert {_status_of(stack, thread) for thread in threads[other]} == {200}


@pytest.mark.chaos
async def test_purge_of_chat_deletes_every_key_of_the_batch_and_none_of_another(tmp_path: Path) -> None:
    """The API keeps nothing; questions, answers and the conversation's messages lie in Redis."""
    with Stack(tmp_path, api="chat") as stack:
        stack.worker(20, QUICK)
        purged, other = await stack.submit(["What is 1 + 1?"] * 6), await stack.submit(["What is 2 + 2?"] * 6)
        await stack.wait_for(purged)
        await stack.wait_for(other)
        done = _command_line(stack, tmp_path).askmill("purge", purged)
        assert done.returncode == 0, done.stderr

        with redis.Redis.from_url(stack.redis_url) as client:
            assert [name for name in client.scan_iter(f"*{purged}*") if b"kombu" not in name] == []
        assert [row.result.answer for row in await stack.rows(other) if row.result] == ["2 + 2 = 4."] * 6


def _status_of(stack: Stack, thread: str) -> int:
    kind = "threads" if stack.api == "assistants" else "conversations"
    return stack.request("GET", f"{kind}/{thread}").status_code

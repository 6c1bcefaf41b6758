"""No credit, or no such model, reported by failed runs or refused requests: the batch pauses and can be resumed."""

import json
from pathlib import Path

import pytest

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store import Store
from tests.chaos.support import status_bytes
from tests.helpers.command_line import CommandLine, terminal
from tests.stack import Stack
from tests.support import wait_until

BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])
IN_FLIGHT = 20
ROWS = 80
WAITING = {"q", "p", "w"}
"""Rows that wait for a slot, or for `resume`."""
QUOTA = "You exceeded your current quota, please check your plan and billing details."
NO_MODEL = "The model 'gpt-5-mini' does not exist"
NESTED = json.dumps({"error": {"message": "no", "code": "model_not_found"}})


def all_runs_fail(code: str, message: str, run_s: float = 0.3) -> str:
    """A scenario in which every run fails with this error."""
    outcome = json.dumps(f"failed({code}, {json.dumps(message)})")
    return f"[latency]\nmedian_s = {run_s}\n[outcomes]\n{outcome} = 1.0\n"


@BOTH
@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        ("rate_limit_exceeded", QUOTA, "no credit"),
        ("server_error", NO_MODEL, "the model gpt-5-mini"),
        pytest.param(
            "server_error", f"Error code: 404 - {NESTED}", "the model gpt-5-mini", marks=pytest.mark.long
        ),
    ],
)
async def test_a_lack_of_credit_or_a_missing_model_costs_only_the_runs_in_flight(
    tmp_path: Path, api: Api, code: str, message: str, reason: str
) -> None:
    """80 rows: at most the runs in flight are lost, no row fails, `resume` completes all; each attempt is kept."""
    with Stack(tmp_path, api=api, scenario=all_runs_fail(code, message)) as stack:
        stack.worker(IN_FLIGHT)
        batch = await stack.submit(["What is 1 + 1?"] * ROWS)
        status = await stack.wait_for(batch, ["paused", "done"])
        assert (status.batch.state, status.batch.paused_reason) == ("paused", f"{code}: {message}")
        wait_until(lambda: status_bytes(stack, batch)["r"] == 0, "the runs in flight have ended", 30)
        failed_runs = stack.stats()["runs_created"]
        assert failed_runs <= IN_FLIGHT
        assert set(status_bytes(stack, batch)) <= WAITING, "no row has ended"

        user = terminal(tmp_path).with_settings(ASKMILL_REDIS_URL=stack.redis_url)
        shown = user.askmill("status", batch).stdout
        assert reason in " ".join(shown.split())
        assert f"askmill resume {batch}" in " ".join(shown.split())
        assert stack.stats()["runs_created"] == failed_runs, "nothing is retried while paused"

        stack.scenario("")
        async with await Store.open(stack.redis_url) as store:
            await store.resume(batch)
        await stack.wait_for(batch, ["done"])
        results = [row.result for row in await stack.rows(batch)]
        assert {result.status for result in results if result} == {JobStatus.COMPLETED}
        assert sum(result.attempt_count for result in results if result) == ROWS + failed_runs
        assert stack.stats()["runs_created"] == ROWS + failed_runs


@BOTH
async def test_credit_that_runs_out_costs_only_the_runs_in_flight(tmp_path: Path, api: Api) -> None:
    """Some rows are answered, then every run fails: those answers stay, and in the end each row has one answer."""
    with Stack(tmp_path, api=api, scenario="[latency]\nmedian_s = 0.2\n") as stack:
        stack.worker(IN_FLIGHT)
        batch = await stack.submit(["What is 1 + 1?"] * ROWS)
        wait_until(lambda: status_bytes(stack, batch)["c"] > 10, "some rows are answered", 30)
        stack.scenario(all_runs_fail("rate_limit_exceeded", QUOTA, run_s=0.2))
        await stack.wait_for(batch, ["paused"])
        wait_until(lambda: status_bytes(stack, batch)["r"] == 0, "the runs in flight have ended", 30)
        completed = status_bytes(stack, batch)["c"]
        assert set(status_bytes(stack, batch)) <= {"c", *WAITING}, "no row has failed"
        failed_runs = stack.stats()["runs_created"] - completed
        assert failed_runs <= IN_FLIGHT

        stack.scenario("")
        async with await Store.open(stack.redis_url) as store:
            await store.resume(batch)
        await stack.wait_for(batch, ["done"])
        assert status_bytes(stack, batch) == {"c": ROWS}
        assert stack.stats()["runs_created"] == ROWS + failed_runs


@pytest.fixture
def user(tmp_path: Path, stack: Stack) -> CommandLine:
    """A user with settings for Redis and the emulator, and no worker."""
    return terminal(tmp_path).with_settings(
        ASKMILL_REDIS_URL=stack.redis_url, OPENAI_BASE_URL=stack.base_url, OPENAI_API_KEY="offline"
    )


@pytest.mark.parametrize(
    ("scenario", "texts"),
    [
        (
            all_runs_fail("server_error", f"{NO_MODEL} (key sk-proj-0123456789abcdef)"),
            ("ASKMILL_MODEL", NO_MODEL),
        ),
        (all_runs_fail("server_error", "Insufficient Balance"), ("Add credit", "Insufficient Balance")),
        ('[account]\nerror = "budget_exceeded"\n', ("Add credit", "Budget has been exceeded!")),
        ('[account]\nerror = "insufficient_balance"\n', ("Add credit", "Insufficient Balance")),
    ],
)
def test_the_last_line_says_what_is_refused_and_the_same_command_resumes(
    user: CommandLine, stack: Stack, scenario: str, texts: tuple[str, ...]
) -> None:
    """Exit 3 with the reason and the next step, without secrets; the pilot says the same; after the fix all complete."""
    file = user.write("sums.csv", "question", *(f"What is {n} + 1?" for n in range(30)))
    stack.scenario(scenario)

    paused = user.askmill("run", file, "-o", "out.csv")
    pilot = user.askmill("estimate", file, "--pilot", "1")

    assert (paused.returncode, pilot.returncode) == (3, 3), paused.stderr + pilot.stderr
    for stderr in (paused.stderr, pilot.stderr):
        one_line = " ".join(stderr.split())
        assert [text for text in (*texts, "askmill resume b_") if text not in one_line] == []
        assert "0123456789abcdef" not in stderr
    stack.scenario("")
    done = user.askmill("run", file, "-o", "out.csv")
    assert done.returncode == 0, done.stderr


def test_a_rows_own_unknown_model_fails_that_row_alone(user: CommandLine, stack: Stack) -> None:
    """`--override model`, reported by a failed run: one attempt, the others complete."""
    message = json.dumps("The model 'gpt-9' does not exist")
    question = f"[emulate: failed(server_error, {message})] What is 1 + 1?".replace('"', '""')
    file = user.write(
        "sums.csv", "question,model", "What is 2 + 2?,", f'"{question}",gpt-4.1', "What is 3 + 3?,"
    )

    run = user.askmill("run", file, "-o", "out.jsonl", "--override", "model")

    assert run.returncode == 1, run.stderr
    rows = [json.loads(line) for line in (user.folder / "out.jsonl").read_text().splitlines()]
    assert [(row["status"], row["attempts"]) for row in rows] == [
        ("completed", 1),
        ("failed", 1),
        ("completed", 1),
    ]
    assert rows[1]["error"] == "server_error: The model 'gpt-9' does not exist"

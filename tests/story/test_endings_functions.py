"""Functions in a row's run, end to end on both APIs: several rounds, a call that never returns, late outputs."""

from pathlib import Path

import pytest

from askmill.jobs.functions.registry import describe
from askmill.jobs.model.models import Api, JobStatus, Result
from askmill.jobs.model.profile import Profile
from tests.stack import TUTOR, Stack

FUNCTIONS = '''
import threading
import time
from pathlib import Path


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    with open("called.txt", "a") as file:
        file.write("add ")
    return a + b


def hang() -> str:
    """Never returns."""
    threading.Event().wait()
    return ""


def slow_at_first() -> str:
    """The first call takes longer than its run may live; later calls are quick."""
    if not Path("slow.txt").exists():
        Path("slow.txt").touch()
        time.sleep(2)
    return "done"
'''
BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return TUTOR.model_copy(update={"functions": describe("mine.py")})


async def answered(stack: Stack, question: str, profile: Profile, **limits: object) -> Result:
    """The result of one question."""
    batch = await stack.submit([question], profile, **limits)
    await stack.wait_for(batch)
    (row,) = await stack.rows(batch)
    assert row.result is not None
    return row.result


@BOTH
async def test_several_rounds_of_functions_are_one_attempt(
    tmp_path: Path, profile: Profile, api: Api
) -> None:
    """Each call is made once and its output submitted; the steps are in order; one run is paid for."""
    calls = 'add, {"a": 20, "b": 22}, add, {"a": 1, "b": 2}'
    with Stack(tmp_path, api=api) as stack:
        stack.worker(functions=["mine.py"])
        result = await answered(stack, f"[emulate: requires_action({calls}) rounds=3] Go", profile)
        (runs,) = stack.stats()["runs_by_job"].values()

    assert (result.status, result.attempt_count, runs) == (JobStatus.COMPLETED, 1, 1)
    outputs = [step.details.get("output") for step in result.steps if step.type == "function"]
    assert outputs == ["42", "3"] * 3
    assert (tmp_path / "called.txt").read_text().count("add") == 6
    assert "42" in result.answer


@BOTH
async def test_a_function_that_never_returns_becomes_an_error_for_the_model(
    tmp_path: Path, profile: Profile, api: Api
) -> None:
    """Its output names the time limit; the other call returns its value, and the row completes."""
    calls = 'hang, {}, add, {"a": 20, "b": 22}'
    with Stack(tmp_path, api=api) as stack:
        stack.worker(times={"FUNCTION_LIMIT_S": 1.0}, functions=["mine.py"])
        result = await answered(stack, f"[emulate: requires_action({calls})] Go", profile)

    assert (result.status, result.attempt_count) == (JobStatus.COMPLETED, 1)
    outputs = [step.details.get("output") for step in result.steps if step.type == "function"]
    assert outputs == ["Error: hang took longer than 1 s.", "42"]


@BOTH
async def test_a_model_that_asks_for_functions_for_ever_is_stopped(
    tmp_path: Path, profile: Profile, api: Api
) -> None:
    """After 64 rounds the run is cancelled and the row says why; there is no other attempt."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(functions=["mine.py"])
        directive = '[emulate: requires_action(add, {"a": 1, "b": 1}) rounds=70]'
        result = await answered(stack, f"{directive} Go", profile)
        (runs,) = stack.stats()["runs_by_job"].values()

    assert (result.status, result.attempt_count, runs) == (JobStatus.FAILED, 1, 1)
    assert (result.error or "").startswith("tool_rounds: ")
    assert (tmp_path / "called.txt").read_text().count("add") == 64


async def test_outputs_refused_because_the_run_expired_lead_to_a_new_attempt(
    tmp_path: Path, profile: Profile
) -> None:
    """The refusal does not end the row: the run is `expired`, and the next one gets its outputs in time."""
    with Stack(tmp_path, scenario="[run]\nexpires_s = 1.5") as stack:
        stack.worker(functions=["mine.py"])
        result = await answered(stack, "[emulate: requires_action(slow_at_first, {})] Go", profile)
        requests = stack.stats()["requests"]

    assert (result.status, result.attempt_count) == (JobStatus.COMPLETED, 2)
    assert [attempt.status for attempt in result.attempts] == ["expired", "completed"]
    assert requests["POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs"] == 2

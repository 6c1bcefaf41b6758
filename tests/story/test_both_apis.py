"""The same questions on each API: results differ only in ids, times and what one API does not report."""

from pathlib import Path

import pytest

from askmill.jobs.functions.registry import describe
from askmill.jobs.model.models import Api, Result
from tests.helpers.faulty_batch import gsm8k
from tests.stack import TUTOR, Stack

COMMON = [
    "What is 20 + 22?",
    "[emulate: completed(two_messages)] What is 6 * 7?",
    "[emulate: completed(refusal)] What is 6 * 7?",
    "[emulate: completed(no_message)] What is 6 * 7?",
    "[emulate: failed(server_error), completed] What is 6 * 7?",
    "[emulate: failed(server_error)] What is 6 * 7?",
    "[emulate: failed(invalid_prompt)] What is 6 * 7?",
    "[emulate: cancelled] What is 6 * 7?",
    "[emulate: incomplete(max_completion_tokens)] What is 6 * 7?",
]
FUNCTIONS = '''
import asyncio

def add(a: int, b: int) -> int:
    """The sum."""
    return a + b

async def later(word: str) -> str:
    """The word, after a while."""
    await asyncio.sleep(0.05)
    return word * 2

def broken() -> str:
    """Raises."""
    raise LookupError("no such town")
'''


async def answer_all(folder: Path, api: Api, questions: list[str]) -> list[Result]:
    """The results of the questions on one API."""
    with Stack(folder, api=api) as stack:
        stack.worker()
        batch = await stack.submit(questions)
        await stack.wait_for(batch, timeout_s=60)
        return [row.result for row in await stack.rows(batch) if row.result]


def comparable(result: Result) -> tuple[object, ...]:
    """The fields that must be the same on each API: all but ids, times, tokens (counted by each API) and cost."""
    steps = [(step.type, step.attempt) for step in result.steps]
    citations = (result.citations, result.files, result.model)
    return (result.row, result.status, result.answer, result.error, result.attempt_count, *citations, steps)


def _without_steps(result: Result) -> tuple[object, ...]:
    """Nor the model of a row that failed: on chat completions its call was answered with an HTTP error."""
    _, *fields, model, _ = comparable(result)
    return (*fields, model if result.status != "failed" else None)


@pytest.mark.shared
@pytest.mark.parametrize("rows", [60, pytest.param(None, marks=pytest.mark.long)])
async def test_gsm8k_and_every_common_outcome_have_the_same_results(
    tmp_path_factory: pytest.TempPathFactory, rows: int | None
) -> None:
    """Status, answer, error, attempts, model, citations, files and steps of every row are the same."""
    questions = [*COMMON, *gsm8k(rows)]
    assistants = await answer_all(tmp_path_factory.mktemp("stack"), "assistants", questions)
    responses = await answer_all(tmp_path_factory.mktemp("stack"), "responses", questions)

    assert [comparable(result) for result in responses] == [comparable(result) for result in assistants]
    assert len(assistants) == len(questions)
    # Chat completions have no code interpreter, and an HTTP error ends no run there: `test_endings` has those.
    same = [
        row
        for row, question in enumerate(questions)
        if "(invalid_prompt)" not in question and "cancelled" not in question
    ]
    chat = await answer_all(tmp_path_factory.mktemp("stack"), "chat", [questions[row] for row in same])
    assert [_without_steps(result) for result in chat] == [_without_steps(assistants[row]) for row in same]
    assert {result.run_id[:4] for result in assistants if result.run_id} == {"run_"}
    assert {result.run_id[:5] for result in responses if result.run_id} == {"resp_"}


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
async def test_functions_are_called_and_answered_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Api
) -> None:
    """Parallel calls, a slow one, one that raises and an unknown name: one submission, and the run completes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    profile = TUTOR.model_copy(update={"functions": describe("mine.py")})
    calls = 'add, {"a": 20, "b": 22}, later, {"word": "ab"}, broken, {}, nobody, {}'
    with Stack(tmp_path, api=api) as stack:
        stack.worker(functions=["mine.py"])
        batch = await stack.submit([f"[emulate: requires_action({calls})] Go"], profile)
        await stack.wait_for(batch)
        (row,) = await stack.rows(batch)
        requests = stack.stats()["requests"]

    assert row.result is not None
    assert (row.result.status, row.result.attempt_count) == ("completed", 1)
    outputs = [step.details.get("output") for step in row.result.steps if step.type == "function"]
    assert outputs == [
        "42",
        "abab",
        "Error: LookupError: no such town",
        "Error: there is no function named nobody.",
    ]
    assert "42" in row.result.answer
    submissions = requests.get("POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs", 0)
    created = {"responses": "POST /responses", "chat": "POST /chat/completions"}.get(api, "")
    assert submissions == 1 if api == "assistants" else requests[created] == 2

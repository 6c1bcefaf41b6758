"""Every ending of a run leads to the one right row: CONTRACT "Statuses", over both APIs, end to end."""

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from askmill.jobs.model.models import Api, JobStatus, Result
from tests.stack import TUTOR, Stack


@dataclass(frozen=True)
class Ending:
    """What a question plays, and what its row must become. `error` is what the row's error starts with."""

    plays: str
    status: JobStatus
    error: str | None = None
    attempts: int = 1
    only: Api | None = None
    deadline_s: float | None = None
    """Of a run that never ends by itself. Where another run follows, that one has to end within it as well."""

    def __str__(self) -> str:
        return self.plays


DONE, CUT, GONE, FAIL, STOP = (
    JobStatus.COMPLETED,
    JobStatus.INCOMPLETE,
    JobStatus.EXPIRED,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
)
ENDINGS = [
    Ending("completed", DONE),
    Ending("completed(two_messages)", DONE),
    Ending("completed(no_message)", FAIL, "no_message"),
    Ending("completed(refusal)", DONE, "refusal"),
    Ending("failed(server_error), completed", DONE, None, 2),
    Ending("failed(rate_limit_exceeded), failed(server_error), completed", DONE, None, 3),
    Ending("failed(server_error)", FAIL, "server_error", 3),
    Ending("failed(invalid_prompt)", FAIL, "invalid_prompt"),
    Ending("failed(never_heard_of)", FAIL, "never_heard_of"),
    Ending("expired, completed", DONE, None, 2, only="assistants"),
    Ending("expired", GONE, None, 3, only="assistants"),
    Ending("cancelled", STOP),
    Ending("incomplete(max_completion_tokens)", CUT, "max_"),
    Ending("incomplete(max_prompt_tokens)", CUT, "max_", only="assistants"),
    Ending("incomplete(content_filter)", CUT, "content_filter", only="responses"),
    Ending("stuck, completed", DONE, None, 2, deadline_s=15),
    Ending("stuck", FAIL, "deadline", 3, deadline_s=3),
    Ending("unknown(dreaming)", FAIL, "dreaming", deadline_s=3),
    Ending("requires_action(nobody, {}), completed", DONE),
]
QUESTION = "What is 20 + 22?"


@dataclass
class Played:
    """The results of all endings on one API."""

    stack: Stack
    results: dict[str, Result]
    jobs: dict[str, str]
    """What is played → `BATCH:ROW`, the emulator's name for the job."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["assistants", "responses"])
async def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    """All endings on each API: a batch for each deadline."""
    api: Api = request.param
    batches = defaultdict[float | None, list[Ending]](list)
    for ending in ENDINGS:
        if ending.only in {None, api}:
            batches[ending.deadline_s].append(ending)
    with Stack(tmp_path_factory.mktemp("stack"), api=api) as stack:
        stack.worker()
        results, jobs = dict[str, Result](), dict[str, str]()
        for deadline_s, endings in batches.items():
            questions = [f"[emulate: {ending.plays}] {QUESTION}" for ending in endings]
            batch = await stack.submit(questions, deadline_s=deadline_s)
            jobs |= {ending.plays: f"{batch}:{row}" for row, ending in enumerate(endings, 1)}
        for batch in {job.split(":")[0] for job in jobs.values()}:
            await stack.wait_for(batch, timeout_s=90)
            results |= {f"{batch}:{row.row}": row.result for row in await stack.rows(batch)}
        yield Played(stack, {plays: results[job] for plays, job in jobs.items()}, jobs)


@pytest.mark.parametrize("ending", ENDINGS, ids=str)
def test_each_ending_has_its_status_error_and_attempts(played: Played, ending: Ending) -> None:
    """The row says how its last run ended, why, and how many runs it took; no run is made that is not counted."""
    if ending.only not in {None, played.stack.api}:
        pytest.skip(f"{played.stack.api} has no such ending")
    result = played.results[ending.plays]

    assert (result.status, result.attempt_count) == (ending.status, ending.attempts)
    assert (result.error or "").startswith(ending.error or "")
    assert ending.error is not None or result.error is None
    if "requires_action" not in ending.plays:
        assert played.stack.stats()["runs_by_job"][played.jobs[ending.plays]] == ending.attempts


def test_a_completed_row_has_its_answer_and_its_steps(played: Played) -> None:
    """The answer is the text of all messages of the run, a blank line between; the steps tell how it came."""
    one, two = played.results["completed"], played.results["completed(two_messages)"]

    assert "42" in one.answer
    assert "\n\n" in two.answer
    assert [step.type for step in one.steps] == ["code_interpreter", "message"]
    assert two.steps[-1].type == "message"


def test_a_truncated_answer_is_kept_and_marked(played: Played) -> None:
    """What there is of an incomplete answer is in the row; the row says that it is incomplete."""
    result = played.results["incomplete(max_completion_tokens)"]

    assert result.answer
    assert result.status is CUT


def test_tokens_of_all_attempts_are_counted(played: Played) -> None:
    """A row that took three runs has the tokens of three."""
    three = played.results["failed(rate_limit_exceeded), failed(server_error), completed"]
    prompt_tokens = [
        attempt.usage.prompt_tokens for attempt in three.attempts if attempt.usage.prompt_tokens is not None
    ]

    assert len(three.attempts) == 3
    assert three.usage.prompt_tokens == sum(prompt_tokens)


def test_each_new_attempt_has_a_thread_of_its_own(played: Played) -> None:
    """No half message of a dead run reaches the model again."""
    attempts = played.results["failed(rate_limit_exceeded), failed(server_error), completed"].attempts

    assert len({attempt.thread_id for attempt in attempts}) == 3


LONG = "[emulate: incomplete(max_completion_tokens), completed] " + QUESTION


@pytest.mark.parametrize("api", ["assistants", "responses"])
@pytest.mark.parametrize(
    ("policy", "status", "attempts"),
    [("keep", CUT, 1), ("raise-limit", DONE, 2), ("continue", DONE, 2)],
)
async def test_on_incomplete_is_a_choice(
    tmp_path: Path, api: Api, policy: str, status: JobStatus, attempts: int
) -> None:
    """`keep` stops; `raise-limit` asks once more with twice the limit; `continue` asks on, and joins the answers."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker()
        profile = TUTOR.model_copy(update={"max_completion_tokens": 256})
        batch = await stack.submit([LONG], profile, on_incomplete=policy)
        await stack.wait_for(batch)
        (row,) = await stack.rows(batch)

    assert row.result is not None
    assert (row.result.status, row.result.attempt_count) == (status, attempts)
    threads = {attempt.thread_id for attempt in row.result.attempts}
    assert len(threads) == (1 if policy in {"keep", "continue"} else 2)


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_new_attempt_is_looked_at_by_its_own_age(tmp_path: Path, api: Api) -> None:
    """A quick run after a slow one that failed is noticed at once, not when it is as old as the slow one was."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker()
        batch = await stack.submit(
            [f"[emulate: failed(server_error) after=12, completed after=0.2] {QUESTION}"]
        )
        await stack.wait_for(batch)
        (row,) = await stack.rows(batch)

    assert row.result is not None
    slow, quick = row.result.attempts
    assert slow.started_at is not None
    assert slow.finished_at is not None
    assert quick.started_at is not None
    assert quick.finished_at is not None
    assert quick.finished_at - quick.started_at < (slow.finished_at - slow.started_at) / 2

"""Every outcome of a run leads to the correct row: CONTRACT "Statuses", on each API, end to end."""

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
    """A directive, and the row that must follow. `error` is the beginning of the row's error."""

    directive: str
    status: JobStatus
    error: str | None = None
    attempts: int = 1
    only: Api | None = None
    deadline_s: float | None = None
    """For a run that never ends by itself. If another run follows, that one has to end within it as well."""

    on_chat: tuple[JobStatus, str | None, int] | None = None
    """Status, error and attempts on chat completions, where they differ."""

    def expected(self, api: Api) -> tuple[JobStatus, str | None, int]:
        """Status, beginning of the error, attempts."""
        own = (self.status, self.error, self.attempts)
        return self.on_chat or own if api == "chat" else own

    def is_on(self, api: Api) -> bool:
        """Whether the API has such an ending."""
        return self.only in {None, api} or (api == "chat" and self.on_chat is not None)

    def __str__(self) -> str:
        return self.directive


COMPLETED, INCOMPLETE, EXPIRED, FAILED, CANCELLED = (
    JobStatus.COMPLETED,
    JobStatus.INCOMPLETE,
    JobStatus.EXPIRED,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
)
ENDINGS = [
    Ending("completed", COMPLETED),
    Ending("completed(two_messages)", COMPLETED),
    Ending("completed(no_message)", FAILED, "no_message"),
    Ending("completed(refusal)", COMPLETED, "refusal"),
    Ending("failed(server_error), completed", COMPLETED, None, 2),
    # A call that is answered with 429 or 400 was no run.
    Ending(
        "failed(rate_limit_exceeded), failed(server_error), completed",
        COMPLETED,
        None,
        3,
        on_chat=(COMPLETED, None, 2),
    ),
    Ending("failed(server_error)", FAILED, "server_error", 3),
    Ending("failed(invalid_prompt)", FAILED, "invalid_prompt", on_chat=(FAILED, "invalid_prompt", 0)),
    Ending("failed(never_heard_of)", FAILED, "never_heard_of"),
    Ending("expired, completed", COMPLETED, None, 2, only="assistants"),
    Ending("expired", EXPIRED, None, 3, only="assistants"),
    # finish_reason `abort`: the server was stopped, and is asked again.
    Ending("cancelled", CANCELLED, on_chat=(FAILED, "server_error", 3)),
    Ending("incomplete(max_completion_tokens)", INCOMPLETE, "max_"),
    Ending(
        "incomplete(max_prompt_tokens)",
        INCOMPLETE,
        "max_",
        only="assistants",
        on_chat=(FAILED, "context_length_exceeded", 0),
    ),
    Ending(
        "incomplete(content_filter)",
        INCOMPLETE,
        "content_filter",
        only="responses",
        on_chat=(INCOMPLETE, "content_filter", 1),
    ),
    Ending("stuck, completed", COMPLETED, None, 2, deadline_s=15),
    Ending("stuck", FAILED, "deadline", 3, deadline_s=3),
    Ending("unknown(dreaming)", FAILED, "dreaming", deadline_s=3, on_chat=(INCOMPLETE, "dreaming", 1)),
    Ending("requires_action(nobody, {}), completed", COMPLETED),
]
QUESTION = "What is 20 + 22?"


@dataclass
class Outcomes:
    """The results of all directives on one API."""

    stack: Stack
    results: dict[str, Result]
    jobs: dict[str, str]
    """Directive → `BATCH:ROW`, the emulator's name for the job."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["assistants", "responses", "chat"])
async def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Outcomes]:
    """All directives on each API: a batch for each deadline."""
    api: Api = request.param
    batches = defaultdict[float | None, list[Ending]](list)
    for ending in ENDINGS:
        if ending.is_on(api):
            batches[ending.deadline_s].append(ending)
    with Stack(tmp_path_factory.mktemp("stack"), api=api) as stack:
        stack.worker()
        results, jobs = dict[str, Result](), dict[str, str]()
        for deadline_s, endings in batches.items():
            questions = [f"[emulate: {ending.directive}] {QUESTION}" for ending in endings]
            batch = await stack.submit(questions, deadline_s=deadline_s)
            jobs |= {ending.directive: f"{batch}:{row}" for row, ending in enumerate(endings, 1)}
        for batch in {job.split(":")[0] for job in jobs.values()}:
            await stack.wait_for(batch, timeout_s=90)
            results |= {f"{batch}:{row.row}": row.result for row in await stack.rows(batch)}
        yield Outcomes(stack, {directive: results[job] for directive, job in jobs.items()}, jobs)


@pytest.mark.parametrize("ending", ENDINGS, ids=str)
def test_each_ending_has_its_status_error_and_attempts(outcomes: Outcomes, ending: Ending) -> None:
    """The row has the status and error of its last run and the number of its runs; no run is uncounted."""
    api = outcomes.stack.api
    if not ending.is_on(api):
        pytest.skip(f"{api} has no such ending")
    result = outcomes.results[ending.directive]
    status, error, attempts = ending.expected(api)

    assert (result.status, result.attempt_count) == (status, attempts)
    assert (result.error or "").startswith(error or "")
    assert error is not None or result.error is None
    # A round of functions is a call of its own, and a call that is answered with an error is repeated.
    same_calls = api != "chat" or not any(
        word in ending.directive for word in ("never", "rate_limit", "invalid")
    )
    if "requires_action" not in ending.directive and same_calls and attempts == ending.attempts:
        assert outcomes.stack.stats()["runs_by_job"][outcomes.jobs[ending.directive]] == attempts


def test_a_completed_row_has_its_answer_and_its_steps(outcomes: Outcomes) -> None:
    """The answer is the text of all messages of the run, with a blank line between; the steps are in order."""
    one, two = outcomes.results["completed"], outcomes.results["completed(two_messages)"]

    assert "42" in one.answer
    assert "\n\n" in two.answer
    tools = [] if outcomes.stack.api == "chat" else ["code_interpreter"]
    assert [step.type for step in one.steps] == [*tools, "message"]
    assert two.steps[-1].type == "message"


def test_a_truncated_answer_is_kept_and_marked(outcomes: Outcomes) -> None:
    """The partial answer is in the row; the row's status is `incomplete`."""
    result = outcomes.results["incomplete(max_completion_tokens)"]

    assert result.answer
    assert result.status is INCOMPLETE


def test_tokens_of_all_attempts_are_counted(outcomes: Outcomes) -> None:
    """A row with several runs has the tokens of all of them."""
    three = outcomes.results["failed(rate_limit_exceeded), failed(server_error), completed"]
    prompt_tokens = [
        attempt.usage.prompt_tokens for attempt in three.attempts if attempt.usage.prompt_tokens is not None
    ]

    assert len(three.attempts) == (2 if outcomes.stack.api == "chat" else 3)
    assert three.usage.prompt_tokens == sum(prompt_tokens)


def test_each_new_attempt_has_a_thread_of_its_own(outcomes: Outcomes) -> None:
    """The partial message of a failed run never reaches the model again."""
    attempts = outcomes.results["failed(rate_limit_exceeded), failed(server_error), completed"].attempts

    # On chat completions only what completed becomes part of the thread.
    assert len({attempt.thread_id for attempt in attempts}) == (1 if outcomes.stack.api == "chat" else 3)


LONG = "[emulate: incomplete(max_completion_tokens), completed] " + QUESTION


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
@pytest.mark.parametrize(
    ("policy", "status", "attempts"),
    [("keep", INCOMPLETE, 1), ("raise-limit", COMPLETED, 2), ("continue", COMPLETED, 2)],
)
async def test_on_incomplete_is_a_choice(
    tmp_path: Path, api: Api, policy: str, status: JobStatus, attempts: int
) -> None:
    """`keep` stops; `raise-limit` tries again with twice the limit; `continue` resumes and joins the answers."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker()
        profile = TUTOR.model_copy(update={"max_completion_tokens": 256})
        batch = await stack.submit([LONG], profile, on_incomplete=policy)
        await stack.wait_for(batch)
        (row,) = await stack.rows(batch)

    assert row.result is not None
    assert (row.result.status, row.result.attempt_count) == (status, attempts)
    threads = {attempt.thread_id for attempt in row.result.attempts}
    assert len(threads) == (1 if policy in {"keep", "continue"} or api == "chat" else 2)


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_new_attempt_is_polled_by_its_own_age(tmp_path: Path, api: Api) -> None:
    """The end of a quick run after a slow failed one is noticed soon, not only at the age of the slow one."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker()
        batch = await stack.submit(
            [f"[emulate: failed(server_error) after=6, completed after=0.2] {QUESTION}"]
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

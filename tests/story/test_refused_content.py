"""Rows whose content the API refuses, in many shapes: they fail alone, and the batch goes on without a pause."""

from pathlib import Path

import pytest

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import Store
from tests.helpers.command_line import terminal
from tests.stack import TUTOR, Stack

APIS = pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
CREATES = {"assistants": "/runs)", "responses": "POST /responses", "chat": "POST /chat/completions"}
SHAPES = ("content_filter", "image_url", "firewall", "too_large", "too_long")
WORDS = {
    "content_filter": "content_filter: The response was filtered",
    "image_url": "invalid_image_url: Failed to download image",
    "firewall": "http_403: 403 Forbidden: Request blocked",
    "too_large": "rate_limit_exceeded: Request too large",
    "too_long": "context_length_exceeded: This model's maximum context length",
}
"""What the row's error starts with, by the shape of the refusal."""


def questions(rows: int, every: int) -> list[str]:
    """Every so many questions are refused, each time in another shape."""
    return [
        f"[emulate: refused({SHAPES[row // every % len(SHAPES)]})] What is {row} + 1?"
        if row % every == every // 2
        else f"What is {row} + 1?"
        for row in range(rows)
    ]


@APIS
@pytest.mark.parametrize(
    ("rows", "every"), [(100, 20), pytest.param(1000, 50, marks=pytest.mark.long)], ids=["100", "1000"]
)
async def test_refused_rows_fail_alone_in_every_shape(
    tmp_path: Path, api: Api, rows: int, every: int
) -> None:
    """A7, A8: exactly the refused rows fail, with the server's words; exit 1; no pause, no run of theirs, no wait."""
    with Stack(tmp_path, api=api) as stack:
        user = terminal(tmp_path).with_settings(**stack.settings())
        asked = questions(rows, every)
        file = user.write("questions.csv", "question", *asked)

        run = user.askmill("run", file, "-o", "out.jsonl")

        bad = rows // every
        assert run.returncode == 1, run.stderr
        async with await Store.open(stack.redis_url) as store:
            batch = await store.newest_batch()
            assert batch is not None
            status = await store.status(batch)
        results = [row.result for row in await stack.rows(batch)]
        assert status.counts.by_status[JobStatus.COMPLETED] == rows - bad
        assert status.counts.by_status[JobStatus.FAILED] == bad
        for question, result in zip(asked, results, strict=True):
            shape = next((shape for shape in SHAPES if f"({shape})" in question), None)
            assert result is not None
            assert (result.error or "").startswith(WORDS.get(shape or "", "")), (shape, result.error)
            assert bool(result.error) is (shape is not None)
        assert stack.stats()["runs_created"] == rows - bad
        assert status.counts.totals.get("throttled", 0) == 0
        assert "Paused" not in run.stderr
        assert "batch.paused" not in run.stderr


@APIS
async def test_a_batch_that_is_refused_as_a_whole_pauses_and_fails_no_row(tmp_path: Path, api: Api) -> None:
    """The same words for every row, and nothing accepted: the pause names rows and the request."""
    with Stack(tmp_path, api=api) as stack:
        stack.worker(20)
        questions = [f"[emulate: refused(bad_request)] {row}" for row in range(20)]
        batch = await stack.submit(questions, Profile(model="local-7b") if api == "chat" else TUTOR)
        status = await stack.wait_for(batch, ["paused", "done"])

        assert status.batch.state == "paused"
        reason = status.batch.paused_reason or ""
        assert "Bad request." in reason
        assert "refused for rows 1, 2, 3, 4 and 5 in the same way" in reason
        assert CREATES[api] in reason
        assert status.counts.by_status[JobStatus.FAILED] == 0
        fault = status.batch.last_fault
        assert fault is not None
        assert "Bad request." in fault.words

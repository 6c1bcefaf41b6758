"""Annotations without number: each is looked for in the text, so they took minutes of the event loop (15.5)."""

import time
from typing import Any

import pytest

from askmill.jobs.model.models import Api
from askmill.worker.backends.answer_builder import LEAST_ANNOTATIONS, MAX_ANNOTATIONS
from askmill.worker.backends.files import MAX_NAMED_FILES
from tests.backends.stub_server import run_request, stub_backend

QUICK_S = 5.0


def routes(api: Api, text: str, annotations: int) -> dict[str, Any]:
    """An answer with so many citations of different files."""
    if api == "responses":
        cited = [
            {"type": "file_citation", "index": 5 * at, "file_id": f"f{at}", "filename": f"n{at}"}
            for at in range(annotations)
        ]
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": cited}
        item = {"id": "m", "type": "message", "role": "assistant", "content": [part]}
        return {"GET /responses/r": {"id": "r", "status": "completed", "output": [item]}}
    cited = [
        {"type": "file_citation", "text": f"【{at}:0†x】", "file_citation": {"file_id": f"f{at}"}}
        for at in range(annotations)
    ]
    part = {"type": "text", "text": {"value": text, "annotations": cited}}
    message = {"id": "m", "role": "assistant", "run_id": "r", "content": [part]}
    return {"GET /threads/t/messages": {"data": [message]}, "GET /threads/t/runs/r/steps": {"data": []}}


@pytest.mark.parametrize("api", ["assistants", "responses"])
@pytest.mark.parametrize(("characters", "cited"), [(50_000, MAX_ANNOTATIONS), (4_000_000, LEAST_ANNOTATIONS)])
async def test_many_annotations_take_little_time_and_few_requests(
    api: Api, characters: int, cited: int
) -> None:
    """The text is whole; the first annotations are cited, the rest is counted in a note."""
    text = "word " * (characters // 5)
    async with stub_backend(routes(api, text, 20_000), api) as (backend, server):
        started = time.process_time()
        answer = await backend.read_answer(run_request(), "t", "r")
        took_s = time.process_time() - started
    assert took_s < QUICK_S
    assert len(server.requests) <= MAX_NAMED_FILES + 2
    assert cited <= len(answer.citations) <= MAX_ANNOTATIONS
    assert f"{20_000 - len(answer.citations):,} more annotations (MAX_ANNOTATIONS)" in (answer.note or "")
    assert answer.text.count("word") == characters // 5


async def test_a_text_that_is_cited_everywhere_is_located_in_few_places() -> None:
    """An annotated text of one letter occurs two million times."""
    cited = [
        {"type": "file_citation", "text": "a", "file_citation": {"file_id": f"f{at}"}} for at in range(20)
    ]
    part = {"type": "text", "text": {"value": "a" * 2_000_000, "annotations": cited}}
    message = {"id": "m", "role": "assistant", "run_id": "r", "content": [part]}
    page = {"GET /threads/t/messages": {"data": [message]}, "GET /threads/t/runs/r/steps": {"data": []}}
    async with stub_backend(page) as (backend, _):
        started = time.process_time()
        answer = await backend.read_answer(run_request(), "t", "r")
        assert time.process_time() - started < QUICK_S
    assert answer.text.count("a") >= 2_000_000

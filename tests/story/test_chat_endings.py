"""16: what a server of chat completions answers, and how the rows and the batch end. Real requests, one process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from askmill import aio
from askmill.errors import ProfileError
from askmill.jobs.display.pause_advice import advice, pause_cause
from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.claim_records import DispatchedRow
from askmill.jobs.store.views import StatusView
from askmill.worker.backends.factory import Backends
from askmill.worker.execution.job_runner import JobRunner
from askmill.worker.runtime.batch_cache import BatchCache
from askmill.worker.runtime.context import WorkerContext, elapsed_clock_s
from askmill.worker.runtime.interrupts import Interrupts
from askmill.worker.runtime.rate_limiter import SharedLimits
from tests.backends.stub_server import StubServer, stub_server
from tests.helpers.batches import claim_row, worker_info
from tests.support import wait_until_async

PATH = "POST /chat/completions"
PICTURE = Path(__file__).parents[2] / "examples" / "red.png"
ROUTES = {"GET /models": {"object": "list", "data": [{"id": "m", "object": "model"}]}}


def completion(content: str | None = "42", finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A completion that is not streamed."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content, **message},
    }
    return {"id": "c1", "object": "chat.completion", "model": "m", "choices": [choice]}


def one_after_another(*replies: Any) -> Callable[[web.Request], Any]:
    """A route that gives these replies in turn, the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> None:
    """A working folder of its own, and this test's Redis; ASKMILL_API is found out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASKMILL_REDIS_URL", redis_url)
    monkeypatch.delenv("ASKMILL_API", raising=False)


@asynccontextmanager
async def worker(store: Store, url: str, key: str | None) -> AsyncIterator[WorkerContext]:
    """A worker of any API at this address."""
    context = WorkerContext(
        store=store,
        backends=Backends(make_client(key, url)),
        limits=SharedLimits(store),
        prices=Prices.read(None),
        worker=worker_info("w1", api="", base_url=url),
        lifetime_s=12,
        margin_s=5,
        heartbeat_acknowledged_s=elapsed_clock_s() + 3600,
    )
    try:
        yield context
    finally:
        await context.backends.close()


async def ending(
    store: Store, monkeypatch: pytest.MonkeyPatch, reply: Any, key: str | None = None, **options: Any
) -> tuple[StatusView, StubServer]:
    """Submit one question to a server with this reply, and follow it until the batch is over or paused."""
    async with stub_server({**ROUTES, PATH: reply}) as (server, url):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", key or "")
        batch = await aio.submit(["What is 6 * 7?"], model="m", **options)
        async with worker(store, url, key) as context:
            cache = BatchCache(store)

            async def is_over() -> bool:
                heartbeat = await store.heartbeat(context.worker)
                context.clock.learn(elapsed_clock_s(), elapsed_clock_s(), heartbeat.now_ms / 1000)
                for row in [*await store.dispatch(1), *waiting]:
                    claim = await claim_row(store, row)
                    await JobRunner(context, await cache.get(claim), claim, Interrupts()).run()
                waiting.clear()
                return (await store.status(batch)).batch.state in {BatchState.DONE, BatchState.PAUSED}

            # `submit` has published the first row for a worker.
            waiting = [DispatchedRow(batch, 1, 1, own_queue=False)]
            await wait_until_async(is_over, "the batch is over")
            view = await store.status(batch)
            await store.deregister_worker("w1")
    return view, server


async def result_of(store: Store, view: StatusView) -> Any:
    return (await store.row(view.batch.id, 1)).view.result


NO_MODEL = {
    "Ollama": (404, {"error": {"message": "model 'm' not found", "type": "not_found_error", "code": None}}),
    "vLLM": (
        404,
        {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}},
    ),
    "SGLang, flat": (404, {"object": "error", "message": "The model `m` does not exist.", "code": 404}),
    "LiteLLM": (400, {"error": {"message": "/chat/completions: Invalid model name passed in model=m."}}),
    "Gemini": (404, [{"error": {"code": 404, "message": "models/m is not found for API version v1main"}}]),
    "a gateway": (500, {"error": {"message": "litellm.NotFoundError: The model `m` does not exist"}}),
}


@pytest.mark.parametrize("server", NO_MODEL)
async def test_a_model_that_is_not_there_pauses_the_batch(
    store: Store, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Whatever the status: no row fails, one call is made, the advice names the model's settings."""
    view, stub = await ending(store, monkeypatch, NO_MODEL[server])
    assert view.batch.state is BatchState.PAUSED
    assert view.counts.by_status[JobStatus.FAILED] == 0
    assert stub.request_names.count(PATH) == 1
    assert "does not have the model m" in pause_cause(view.batch, view.batch.paused_reason or "")
    assert "--model" in advice(view.batch.id, view.batch.paused_reason)


LATER = {
    "llama.cpp loads": (
        503,
        {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
    ),
    "Ollama loads": (500, {"error": {"message": "llm server loading model", "type": "api_error"}}),
    "SGLang's queue": (503, {"object": "error", "message": "The request queue is full.", "code": 503}),
    "Ollama's queue": (
        503,
        {"error": {"message": "server busy, please try again.  maximum pending requests"}},
    ),
    "TGI": (429, {"error": "Model is overloaded", "error_type": "overloaded"}),
    "Groq's flex": (498, {"error": {"message": "Flex tier capacity exceeded", "code": "capacity_exceeded"}}),
}


@pytest.mark.parametrize("server", LATER)
async def test_a_server_that_loads_or_is_full_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """No attempt is used, nothing is unknown, and the row completes."""
    view, stub = await ending(store, monkeypatch, one_after_another(LATER[server], completion()))
    result = await result_of(store, view)
    assert (result.status, result.answer, result.attempt_count) == (JobStatus.COMPLETED, "42", 1)
    assert view.to_json()["unknown_creates"] == 0
    assert stub.request_names.count(PATH) == 2


@pytest.mark.parametrize(
    "message", [{"reasoning": "hm"}, {"reasoning_content": "hm"}, {"content": "<think>hm"}]
)
async def test_an_answer_that_is_all_reasoning_is_incomplete(
    store: Store, monkeypatch: pytest.MonkeyPatch, message: dict[str, str]
) -> None:
    """The limit was used up: no answer, and the reasoning is a step."""
    reply = completion(message.pop("content", None), "length", **message)
    view, _ = await ending(store, monkeypatch, reply)
    result = await result_of(store, view)
    assert (result.status, result.error) == (JobStatus.INCOMPLETE, "max_completion_tokens")
    assert result.answer == ""
    assert [(step.type, step.details["text"]) for step in result.steps] == [("reasoning", "hm")]


NO_KEY = {
    "vLLM": (401, {"error": "Unauthorized"}),
    "llama.cpp": (
        401,
        {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}},
    ),
    "OpenRouter": (401, {"error": {"message": "No auth credentials found", "code": 401}}),
    "Gemini": (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]),
}


@pytest.mark.parametrize("server", NO_KEY)
async def test_a_missing_key_pauses_the_batch(
    store: Store, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """A server may list its models to everybody and answer only with a key."""
    view, stub = await ending(store, monkeypatch, NO_KEY[server])
    assert view.batch.state is BatchState.PAUSED
    assert view.counts.by_status[JobStatus.FAILED] == 0
    assert stub.request_names.count(PATH) == 1
    assert "OPENAI_API_KEY" in advice(view.batch.id, view.batch.paused_reason)


async def test_a_key_that_nobody_asks_for_does_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama ignores it."""
    view, stub = await ending(store, monkeypatch, completion(), key="any-key")
    assert (await result_of(store, view)).status is JobStatus.COMPLETED
    assert stub.headers["Authorization"] == "Bearer any-key"


async def test_a_prompt_over_the_context_fails_its_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp: the row's own fault, which a repeat does not mend."""
    words = "the request exceeds the available context size, try increasing it"
    refusal = {"error": {"code": 400, "message": words, "type": "exceed_context_size_error"}}
    view, stub = await ending(store, monkeypatch, (400, refusal))
    result = await result_of(store, view)
    assert result.status is JobStatus.FAILED
    assert words in result.error
    assert stub.request_names.count(PATH) == 1


async def test_an_image_for_all_rows_travels_with_the_question(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--file red.png`: a part of the message, stored once; a text file is refused with the reason."""
    view, stub = await ending(store, monkeypatch, completion(), file=[str(PICTURE)])
    assert (await result_of(store, view)).status is JobStatus.COMPLETED
    text, picture = stub.body_of(PATH)["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is 6 * 7?"}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    notes = tmp_path / "notes.txt"
    notes.write_text("no image")
    with pytest.raises(ProfileError, match=r"notes\.txt is not a png.*images only.*offers chat"):
        await ending(store, monkeypatch, completion(), file=[str(notes)])

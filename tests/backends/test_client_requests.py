"""Requests of `doctor`, `submit` and `purge` to servers with canned replies."""

from typing import Any

import pytest
from aiohttp import web

from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.offers import probe
from askmill.jobs.openai_client.uploads import create_vector_store, purge_objects
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.stub_server import run_request, stub_backend, stub_server


async def test_a_conversations_items_are_deleted_before_it() -> None:
    """The items would outlive the conversation."""
    routes = {
        "GET /conversations/c/items": {
            "data": [{"id": "i1", "type": "message"}, {"id": "i2", "type": "message"}]
        },
        "DELETE /conversations/c/items/i1": {"deleted": True},
        "DELETE /conversations/c": {"deleted": True},
    }
    async with stub_server(routes) as (server, url), make_client("k", url) as client:
        report = await purge_objects(client, [("conversation", "c")])
    assert (report.deleted, report.faults) == (1, [])
    names = [name for name in server.request_names if name.startswith("DELETE")]
    assert names == [
        "DELETE /conversations/c/items/i1",
        "DELETE /conversations/c/items/i2",
        "DELETE /conversations/c",
    ]


async def test_a_file_that_cannot_be_indexed_is_named() -> None:
    """The vector store fails as a whole, the error names each file, and the store is deleted."""
    in_progress = iter([2, 1, 0])

    def store(_: web.Request) -> Any:
        return {"id": "vs_1", "object": "vector_store", "file_counts": {"in_progress": next(in_progress)}}

    failed = {
        "id": "file-2",
        "status": "failed",
        "last_error": {"code": "unsupported_file", "message": "bin"},
    }
    routes = {
        "POST /vector_stores": {"id": "vs_1"},
        "POST /vector_stores/vs_1/file_batches": {"id": "vsfb_1"},
        "GET /vector_stores/vs_1": store,
        "GET /vector_stores/vs_1/files": {"data": [failed], "has_more": False},
        "DELETE /vector_stores/vs_1": {"deleted": True},
    }
    async with stub_server(routes) as (server, url), make_client("k", url) as client:
        with pytest.raises(UsageError, match=r"(?s)1 of 2 files.*noise\.bin: unsupported_file: bin"):
            await create_vector_store(client, {"file-1": "good.txt", "file-2": "noise.bin"}, "askmill b_1")
    names = server.request_names
    assert names.count("GET /vector_stores/vs_1") == 3
    assert names[-1] == "DELETE /vector_stores/vs_1"
    assert server.body_of("POST /vector_stores")["expires_after"] == {"anchor": "last_active_at", "days": 30}


async def test_an_exhausted_quota_is_not_a_rate_limit() -> None:
    """The probe: 429 means alive, unless the account cannot pay."""
    body = {"error": {"message": "too fast", "type": "requests", "code": "rate_limit_exceeded"}}
    async with stub_server({"GET /assistants": (429, body)}) as (_, url), make_client("k", url) as client:
        await probe(client, "assistants")
    spent = {"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}}
    async with stub_server({"GET /assistants": (429, spent)}) as (_, url), make_client("k", url) as client:
        with pytest.raises(ApiUnavailable, match="billing"):
            await probe(client, "assistants")


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}, "Add credit"),
        (
            400,
            {"error": {"message": "Budget has been exceeded! Current cost: 2", "code": "400"}},
            "Add credit",
        ),
        (429, {"error": {"message": "x", "type": "budget_exceeded", "code": "429"}}, "Add credit"),
        (
            429,
            {"error": "Your team t has either used all available credits or reached its limit."},
            "Add credit",
        ),
        (500, {"error": {"error": {"message": "x", "code": "model_not_found"}}}, "ASKMILL_MODEL"),
        (404, {"detail": "Model 'x' not found. Use 'client.models.list()'"}, "ASKMILL_MODEL"),
    ],
)
async def test_doctor_and_uploads_recognise_money_and_model_errors(
    status: int, body: dict[str, Any], advice: str
) -> None:
    """Whatever the status, the message says what to do. The list is the worker's own."""
    routes = {"GET /assistants": (status, body), "POST /vector_stores": (status, body)}
    async with stub_server(routes) as (_, url), make_client("k", url) as client:
        with pytest.raises(ApiUnavailable, match=advice):
            await probe(client, "assistants")
        if advice == "Add credit":
            with pytest.raises(ApiUnavailable, match=advice):
                await create_vector_store(client, {"file-1": "a.txt"}, "askmill b_1")


MISSING = {
    "llama-stack": {"detail": "Response 'resp_askmill_doctor' not found. Use another id."},
    "OpenAI": {"error": {"message": "Response with id 'resp_askmill_doctor' not found.", "type": "x"}},
    "a list of faults": {"detail": [{"loc": ["path"], "msg": "no resp_askmill_doctor here"}]},
}
"""Replies of 404 to a read of an id that no server has: the endpoint is there."""
NO_PATH = {
    "FastAPI": {"detail": "Not Found"},
    "OpenAI": {"error": {"message": "Invalid URL (GET /v1/responses/resp_askmill_doctor)", "type": "x"}},
    "a page that repeats the path": {
        "detail": "The requested URL /v1/responses/resp_askmill_doctor was not found"
    },
}
CONVERSATION = {"detail": "Conversation 'conv_askmill_doctor' not found"}


@pytest.mark.parametrize("source", MISSING)
async def test_a_404_that_names_the_id_means_that_the_endpoint_is_there(source: str) -> None:
    """E2: whatever field holds the words."""
    routes = {
        "GET /models": {"data": []},
        "GET /responses/resp_askmill_doctor": (404, MISSING[source]),
        "GET /conversations/conv_askmill_doctor": (404, CONVERSATION),
    }
    async with stub_server(routes) as (_, url), make_client("k", url) as client:
        await probe(client, "responses")


@pytest.mark.parametrize("source", NO_PATH)
async def test_a_404_without_the_id_means_that_the_path_is_not_there(source: str) -> None:
    """The message names the request, and offers what the server has."""
    routes = {
        "GET /models": {"data": []},
        "GET /responses/resp_askmill_doctor": (404, NO_PATH[source]),
        "POST /chat/completions": (422, {"detail": "a list"}),
    }
    async with stub_server(routes) as (_, url), make_client("k", url) as client:
        with pytest.raises(ApiUnavailable) as raised:
            await probe(client, "responses")
    assert "GET /v1/responses/resp_askmill_doctor: 404" in str(raised.value)
    assert "This server offers chat completions (ASKMILL_API=chat)." in str(raised.value)


async def test_responses_without_conversations_are_found_before_a_batch() -> None:
    """E4: `/responses` is there and `/conversations` is not; the Assistants API and chat are offered."""
    routes = {
        "GET /models": {"data": []},
        "GET /assistants": {"object": "list", "data": []},
        "GET /responses/resp_askmill_doctor": (404, MISSING["OpenAI"]),
        "GET /conversations/conv_askmill_doctor": (404, {"detail": "Not Found"}),
    }
    async with stub_server(routes) as (server, url), make_client("k", url) as client:
        with pytest.raises(ApiUnavailable) as raised:
            await probe(client, "responses")
    assert "GET /v1/conversations/conv_askmill_doctor: 404" in str(raised.value)
    assert (
        "offers the Assistants API (ASKMILL_API=assistants) and chat completions (ASKMILL_API=chat)."
        in str(raised.value)
    )
    assert not any(name.startswith("POST") for name in server.request_names), "nothing is paid to find out"


async def test_a_refused_create_names_its_request_and_what_the_server_offers() -> None:
    """E4: the first create of a worker on such a server."""
    routes = {
        "GET /chat/completions": (405, {"detail": "Method Not Allowed"}),
        "POST /conversations": (404, {"detail": "Not Found"}),
    }
    async with stub_backend(routes, "responses") as (backend, _):
        with pytest.raises(ApiError) as raised:
            await backend.create_thread(run_request())
        assert (raised.value.request, raised.value.message) == ("POST /conversations", "Not Found")
        assert await backend.what_is_offered() == "This server offers chat completions (ASKMILL_API=chat)."

"""Redirects are reported (case A17) and never followed (case D12): by no create, read, download, upload or deletion."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.offers import probe
from askmill.jobs.openai_client.uploads import object_exists, purge_objects, upload_file
from askmill.worker.backends.base import Backend
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind
from askmill.worker.lifecycle.retry import classify
from tests.backends.stub_server import KEY, backend_at, redirecting, run_request, stub_server

STATUSES = (301, 302, 303, 307, 308)


Call = Callable[[Backend], Awaitable[object]]
CREATES: dict[str, Call] = {
    "thread": lambda backend: backend.create_thread(run_request()),
    "run": lambda backend: backend.create_run(run_request(), "thread_1"),
    "cancel": lambda backend: backend.cancel("thread_1", "run_1"),
}
READS: dict[str, Call] = {
    "poll": lambda backend: backend.poll_run(run_request(), "thread_1", "run_1"),
    "answer": lambda backend: backend.read_answer(run_request(), "thread_1", "run_1"),
    "find": lambda backend: backend.recover_run(run_request(), "thread_1", frozenset()),
    "download": lambda backend: backend.download_file({"file_id": "file-1"}),
}
both_apis = pytest.mark.parametrize("api", ["assistants", "responses"])


@both_apis
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", [*CREATES, *READS])
async def test_no_request_follows_a_redirect_to_another_host(api: Api, status: int, name: str) -> None:
    """The other host gets nothing. The error pauses the batch and says what to set."""
    async with stub_server({}) as (other, other_url):
        moved = other_url.replace("/v1", "/moved/v1")
        async with (
            redirecting(lambda request: moved + request.path_qs.removeprefix("/v1"), status) as (server, url),
            backend_at(url, api) as backend,
        ):
            with pytest.raises(ApiError) as error:
                await {**CREATES, **READS}[name](backend)
    redirected = error.value
    assert other.requests == []
    assert len(server.requests) == 1
    assert (redirected.status, redirected.code) == (status, "redirected")
    assert f"is redirected ({status}) to {moved}/" in redirected.message
    assert redirected.message.endswith(f"which is not followed; set OPENAI_BASE_URL to {moved}")
    assert {classify(redirected, kind) for kind in RequestKind} == {ErrorClass.BATCH}


@pytest.mark.parametrize("status", STATUSES)
async def test_no_call_of_chat_completions_follows_a_redirect(status: int) -> None:
    """A streamed call: the other host gets neither the key nor the question."""
    async with stub_server({}) as (other, other_url):
        moved = other_url.replace("/v1", "/moved/v1")
        async with (
            redirecting(lambda request: moved + request.path_qs.removeprefix("/v1"), status) as (server, url),
            backend_at(url, "chat") as backend,
        ):
            with pytest.raises(ApiError) as error:
                await backend.create_run(run_request(), "t_1")
    assert (other.requests, len(server.requests)) == ([], 1)
    assert (error.value.status, error.value.code, error.value.began) == (status, "redirected", False)
    assert f"is redirected ({status}) to {moved}/" in error.value.message
    assert classify(error.value, RequestKind.CREATE) is ErrorClass.BATCH


@both_apis
@pytest.mark.parametrize("name", [*CREATES, *READS])
async def test_no_request_follows_a_redirect_to_another_path(api: Api, name: str) -> None:
    """Not even at the same host, where a POST would become a GET. The message has the full address."""
    async with (
        redirecting(lambda _: "/login?state=secret-of-a-login", 302) as (server, url),
        backend_at(url, api) as backend,
    ):
        with pytest.raises(ApiError) as error:
            await {**CREATES, **READS}[name](backend)
    assert len(server.requests) == 1
    message = str(error.value)
    assert f"is redirected (302) to {url.removesuffix('/v1')}/login, which is not followed;" in message
    assert message.endswith("OPENAI_BASE_URL must be the address where the API itself answers")
    assert "secret-of-a-login" not in message


@pytest.mark.parametrize(
    ("location", "advice"),
    [
        ("https://secure.test/v1/threads", "set OPENAI_BASE_URL to https://secure.test/v1?api-version=7"),
        ("//other.test/v1/threads", "set OPENAI_BASE_URL to http://other.test/v1?api-version=7"),
        (
            "https://me:word@other.test/v1/threads",
            "set OPENAI_BASE_URL to https://other.test/v1?api-version=7",
        ),
        ("/v2/threads", "set OPENAI_BASE_URL to http://HERE/v2?api-version=7"),
        ("threads/", "OPENAI_BASE_URL must be the address where the API itself answers"),
        ("/v1/threads", "OPENAI_BASE_URL must be the address where the API itself answers"),
        ("", "POST is redirected (308) without an address; check OPENAI_BASE_URL"),
    ],
)
async def test_what_to_set_after_a_redirect(location: str, advice: str) -> None:
    """The new base URL if the path is the same, with the old one's query."""
    async with (
        redirecting(lambda _: location, 308) as (_, url),
        backend_at(f"{url}?api-version=7") as backend,
    ):
        with pytest.raises(ApiError) as error:
            await backend.create_thread(run_request())
    here = url.removeprefix("http://").removesuffix("/v1")
    assert error.value.message.endswith(advice.replace("HERE", here))
    assert "word" not in str(error.value)


async def test_uploads_and_deletions_follow_no_redirect(tmp_path: Path) -> None:
    """The other host gets no file. The purge report names the redirect."""
    notes = tmp_path / "notes.txt"
    notes.write_text("secret words")
    async with stub_server({}) as (other, other_url):
        location = lambda request: other_url + request.path_qs.removeprefix("/v1")  # noqa: E731
        async with redirecting(location, 307) as (_, url), make_client(KEY, url) as client:
            with pytest.raises(ApiUnavailable, match=f"POST is redirected .307. to {other_url}/files"):
                await upload_file(client, notes, "assistants")
            with pytest.raises(ApiUnavailable, match=f"GET is redirected .307. to {other_url}/files/file-1"):
                await object_exists(client, "file", "file-1")
            report = await purge_objects(client, [("file", "file-1"), ("conversation", "conv_1")])
    assert other.requests == []
    assert report.deleted == 0
    assert [fault.partition(",")[0] for fault in sorted(report.faults)] == [
        f"conversation conv_1: GET is redirected (307) to {other_url}/conversations/conv_1/items",
        f"file file-1: DELETE is redirected (307) to {other_url}/files/file-1",
    ]


@both_apis
@pytest.mark.parametrize("methods", [("GET", "POST"), ("POST",)])
@pytest.mark.parametrize("status", STATUSES)
async def test_doctor_finds_a_redirect(api: Api, methods: tuple[str, ...], status: int) -> None:
    """Also of POST alone, with a body that creates nothing."""
    async with (
        redirecting(lambda _: "https://other.test/v1/x", status, methods) as (server, url),
        make_client(KEY, url) as client,
    ):
        with pytest.raises(ApiUnavailable) as error:
            await probe(client, api)
    message = str(error.value)
    assert message.startswith(
        f"The API at {url} answers with a redirect: {methods[0]} is redirected ({status}) to "
    )
    assert "https://other.test/v1/x, which is not followed" in message
    assert server.requests

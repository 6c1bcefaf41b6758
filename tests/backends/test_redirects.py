"""A redirect is named and never followed: not by a create, a read, a file's content, an upload or a deletion."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client import client as jobs_api
from askmill.jobs.openai_client.client import probe
from askmill.jobs.openai_client.uploads import purge_objects, still_there, upload_file
from askmill.worker.backends.base import Backend
from askmill.worker.backends.factory import backend_for
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.retry import ErrorClass, RequestKind, classify
from tests.backends.test_backend_wild import Wild, an_ask, wild

STATUSES = (301, 302, 303, 307, 308)
KEY = "local-key"
OBJECT = {"id": "thread_7", "status": "completed", "data": [], "content": "stolen"}


@asynccontextmanager
async def redirecting(
    to: Callable[[web.Request], str], status: int = 302, methods: tuple[str, ...] = ("GET", "POST", "DELETE")
) -> AsyncIterator[tuple[Wild, str]]:
    """An API that redirects; what it does not redirect it answers with an object."""

    class Redirecting(Wild):
        async def answer(self, request: web.Request) -> web.Response:
            self.asked.append((f"{request.method} {request.path}", None))
            if request.method in methods:
                return web.Response(status=status, headers={"Location": to(request)}, text="moved")
            return web.json_response(OBJECT)

    server = Redirecting({})
    async with serving(server) as url:
        yield server, url


@asynccontextmanager
async def serving(server: Wild) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


Asking = Callable[[Backend], Awaitable[object]]
CREATES: dict[str, Asking] = {
    "thread": lambda backend: backend.make_thread(an_ask()),
    "run": lambda backend: backend.make_run(an_ask(), "thread_1"),
    "cancel": lambda backend: backend.cancel("thread_1", "run_1"),
}
READS: dict[str, Asking] = {
    "look": lambda backend: backend.look(an_ask(), "thread_1", "run_1"),
    "answer": lambda backend: backend.read(an_ask(), "thread_1", "run_1"),
    "find": lambda backend: backend.find_run(an_ask(), "thread_1", frozenset()),
    "content": lambda backend: backend.fetch_file({"file_id": "file-1"}),
}
both_apis = pytest.mark.parametrize("api", ["assistants", "responses"])


@both_apis
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("name", [*CREATES, *READS])
async def test_no_request_follows_a_redirect_to_another_host(api: Api, status: int, name: str) -> None:
    """The other host is sent nothing; the fault pauses the batch and says what to set."""
    async with wild({}) as (other, elsewhere):
        moved = elsewhere.replace("/v1", "/moved/v1")
        async with (
            redirecting(lambda asked: moved + asked.path_qs.removeprefix("/v1"), status) as (server, url),
            backend_of(api, url) as backend,
        ):
            with pytest.raises(ApiError) as redirected:
                await {**CREATES, **READS}[name](backend)
    fault = redirected.value
    assert other.asked == []
    assert len(server.asked) == 1
    assert (fault.status, fault.code) == (status, "redirected")
    assert f"is redirected ({status}) to {moved}/" in fault.message
    assert fault.message.endswith(f"which is not followed; set OPENAI_BASE_URL to {moved}")
    assert {classify(fault, on) for on in RequestKind} == {ErrorClass.BATCH}


@both_apis
@pytest.mark.parametrize("name", [*CREATES, *READS])
async def test_no_request_follows_a_redirect_to_another_path(api: Api, name: str) -> None:
    """Not even at the same host, where a POST would become a GET: one request, and the whole address is named."""
    async with (
        redirecting(lambda _: "/login?state=secret-of-a-login", 302) as (server, url),
        backend_of(api, url) as backend,
    ):
        with pytest.raises(ApiError) as redirected:
            await {**CREATES, **READS}[name](backend)
    assert len(server.asked) == 1
    words = str(redirected.value)
    assert f"is redirected (302) to {url.removesuffix('/v1')}/login, which is not followed;" in words
    assert words.endswith("OPENAI_BASE_URL must be the address where the API itself answers")
    assert "secret-of-a-login" not in words


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
    """The new base address where the path stayed the same, with the query that the old one had."""
    async with (
        redirecting(lambda _: location, 308) as (_, url),
        backend_of("assistants", f"{url}?api-version=7") as backend,
    ):
        with pytest.raises(ApiError) as redirected:
            await backend.make_thread(an_ask())
    here = url.removeprefix("http://").removesuffix("/v1")
    assert redirected.value.message.endswith(advice.replace("HERE", here))
    assert "word" not in str(redirected.value)


async def test_uploads_and_deletions_follow_none(tmp_path: Path) -> None:
    """The file's content goes to no other host; what a purge could not delete is told with the redirect."""
    notes = tmp_path / "notes.txt"
    notes.write_text("secret words")
    async with wild({}) as (other, elsewhere):
        where = lambda asked: elsewhere + asked.path_qs.removeprefix("/v1")  # noqa: E731
        async with redirecting(where, 307) as (_, url), jobs_api.make_client(KEY, url) as client:
            with pytest.raises(ApiUnavailable, match=f"POST is redirected .307. to {elsewhere}/files"):
                await upload_file(client, notes, "assistants")
            with pytest.raises(ApiUnavailable, match=f"GET is redirected .307. to {elsewhere}/files/file-1"):
                await still_there(client, "file", "file-1")
            report = await purge_objects(client, [("file", "file-1"), ("conversation", "conv_1")])
    assert other.asked == []
    assert report.deleted == 0
    assert [fault.partition(",")[0] for fault in sorted(report.faults)] == [
        f"conversation conv_1: GET is redirected (307) to {elsewhere}/conversations/conv_1/items",
        f"file file-1: DELETE is redirected (307) to {elsewhere}/files/file-1",
    ]


@both_apis
@pytest.mark.parametrize("methods", [("GET", "POST"), ("POST",)])
@pytest.mark.parametrize("status", STATUSES)
async def test_doctor_finds_a_redirect(api: Api, methods: tuple[str, ...], status: int) -> None:
    """Also that of a POST alone, with a body from which nobody can create anything."""
    async with (
        redirecting(lambda _: "https://other.test/v1/x", status, methods) as (server, url),
        jobs_api.make_client(KEY, url) as client,
    ):
        with pytest.raises(ApiUnavailable) as told:
            await probe(client, api)
    said = str(told.value)
    assert said.startswith(
        f"The API at {url} answers with a redirect: {methods[0]} is redirected ({status}) to "
    )
    assert "https://other.test/v1/x, which is not followed" in said
    assert server.asked


@asynccontextmanager
async def backend_of(api: Api, url: str) -> AsyncIterator[Backend]:
    backend = backend_for(api, jobs_api.make_client(KEY, url))
    try:
        yield backend
    finally:
        await backend.close()

"""Servers that speak the APIs as they please: fields missing, filters ignored, ids and errors of their own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

import orjson
import pytest
from aiohttp import web

from askmill.jobs.local.ports import HOST
from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.model.models import Api, Usage
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client import client as jobs_api
from askmill.jobs.openai_client.uploads import make_vector_store, purge_objects
from askmill.worker.backends.base import Backend, RunRequest
from askmill.worker.backends.factory import backend_for
from askmill.worker.lifecycle.api_types import ApiError, LookupKind, ToolOutput

PLAIN = Profile(model="local-7b")


@dataclass
class Wild:
    """A server that answers `METHOD /path` (below /v1) with the given JSON, and remembers what it was asked."""

    routes: dict[str, Any]
    asked: list[tuple[str, Any]] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    queries: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        name = f"{request.method} {request.path.removeprefix('/v1')}"
        body = await request.read()
        self.asked.append(
            (name, orjson.loads(body) if body and request.content_type == "application/json" else None)
        )
        self.queries.append(dict(request.query))
        self.headers = request.headers.copy()
        given = self.routes.get(name)
        if given is None:
            return web.Response(status=404, text="no such route")
        if callable(given):
            given = given(request)
        if isawaitable(given):
            given = await given
        if isinstance(given, web.Response):
            return given
        status, reply = given if isinstance(given, tuple) else (200, given)
        return web.json_response(reply, status=status)

    def sent(self, name: str) -> Any:
        """The body of the last request of that name."""
        return next(body for asked, body in reversed(self.asked) if asked == name)


@asynccontextmanager
async def wild(routes: dict[str, Any]) -> AsyncIterator[tuple[Wild, str]]:
    server = Wild(routes)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield server, f"http://{HOST}:{port}/v1"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(
    routes: dict[str, Any], api: Api = "assistants", query: str = ""
) -> AsyncIterator[tuple[Backend, Wild]]:
    async with wild(routes) as (server, url):
        backend = backend_for(api, jobs_api.make_client("local-key", url + query))
        try:
            yield backend, server
        finally:
            await backend.close()


def an_ask(**more: Any) -> RunRequest:
    return RunRequest(
        **{
            "batch": "b_1",
            "row": 1,
            "attempt": 1,
            "question": "Why?",
            "profile": PLAIN,
            "assistant_id": "1",
            **more,
        }
    )


async def test_a_run_may_lack_everything_but_its_status():
    """No id, usage null, times missing, an error code of its own: all unknown, none a fault."""
    routes = {
        "GET /threads/t/runs/7": {
            "status": "failed",
            "usage": None,
            "last_error": {"code": "llama_tired"},
            "incomplete_details": None,
            "required_action": None,
        }
    }
    async with asking(routes) as (backend, _):
        run = await backend.look(an_ask(), "t", "7")
    assert (run.id, run.status, run.error_code, run.error_message) == ("7", "failed", "llama_tired", None)
    assert run.usage == Usage()
    assert (run.created_at, run.expires_at, run.model) == (None, None, None)


@pytest.mark.parametrize("reply", [{"id": "7"}, {"object": "error", "message": "down"}, {}])
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_run_without_status_is_a_bad_reply(reply, api):
    """A 200 that is no run: to be read again, never to be believed."""
    routes = {"GET /threads/t/runs/7": reply, "GET /responses/7": reply}
    async with asking(routes, api) as (backend, _):
        with pytest.raises(ApiError) as bad:
            await backend.look(an_ask(), "t", "7")
    assert (bad.value.status, bad.value.code) == (200, "bad_reply")


async def test_the_run_filter_and_the_order_may_be_ignored():
    """All messages of the thread come, newest first: only the run's own are the answer, in order."""
    messages = [
        {"id": "5", "role": "assistant", "run_id": "7", "created_at": 50, "content": "second"},
        {"id": "4", "role": "assistant", "run_id": "7", "created_at": 40, "content": "first"},
        {"id": "3", "role": "user", "run_id": "7", "created_at": 30, "content": "Why?"},
        {"id": "2", "role": "assistant", "run_id": "6", "created_at": 20, "content": "old"},
    ]
    async with asking({"GET /threads/t/messages": {"data": messages}}) as (backend, _):
        answer = await backend.read(an_ask(), "t", "7")
    assert answer.text == "first\n\nsecond"
    assert answer.last_message_id == "5"


async def test_messages_may_not_name_their_run():
    """Then those behind the last question are the newest run's."""
    messages = [
        {"id": "1", "role": "assistant", "content": "old", "created_at": 10},
        {"id": "2", "role": "user", "content": "Why?", "created_at": 20},
        {"id": "3", "role": "assistant", "run_id": None, "content": "because", "created_at": 30},
    ]
    async with asking({"GET /threads/t/messages": {"data": messages}}) as (backend, _):
        assert (await backend.read(an_ask(), "t", "7")).text == "because"


async def test_a_server_without_run_steps_keeps_its_answer():
    """404 on the steps: no steps, no fault."""
    messages = [{"id": "3", "role": "assistant", "run_id": "7", "content": "because"}]
    async with asking({"GET /threads/t/messages": {"data": messages}}) as (backend, server):
        answer = await backend.read(an_ask(), "t", "7")
    assert (answer.text, answer.steps) == ("because", ())
    assert "GET /threads/t/runs/7/steps" in [name for name, _ in server.asked]


async def test_all_pages_are_read():
    """`has_more` with the last id, page after page; a cursor that leads nowhere new ends it."""

    def page(request: web.Request) -> Any:
        after = int(request.query.get("after", "0"))
        some = [
            {"id": str(n), "role": "assistant", "run_id": "7", "content": f"m{n}"}
            for n in range(after + 1, min(after + 100, 250) + 1)
        ]
        return {"data": some, "has_more": True}

    async with asking({"GET /threads/t/messages": page}) as (backend, _):
        answer = await backend.read(an_ask(), "t", "7")
    assert answer.messages == 250
    assert answer.text.startswith("m1\n\nm2")


async def test_a_server_that_knows_no_cursors_is_not_read_twice():
    """It says that there is more and sends the same page again: each message counts once."""
    messages = [{"id": "3", "role": "assistant", "run_id": "7", "content": "because"}]
    routes = {"GET /threads/t/messages": {"data": messages, "has_more": True}}
    async with asking(routes) as (backend, _):
        assert (await backend.read(an_ask(), "t", "7")).text == "because"


async def test_a_step_of_several_tool_calls_is_several_steps():
    """One a call, in order; the tokens, told for all of them together, count once."""
    calls = [
        {"id": "1", "type": "code_interpreter", "code_interpreter": {"input": "1+1", "outputs": []}},
        {"id": "2", "type": "function", "function": {"name": "f", "arguments": "{}", "output": "x"}},
        {"id": "3", "type": "telepathy", "telepathy": {"thought": "of you"}},
    ]
    step = {
        "id": "step_1",
        "type": "tool_calls",
        "status": "completed",
        "created_at": 5,
        "completed_at": 6,
        "usage": {"prompt_tokens": 10, "completion_tokens": 4},
        "step_details": {"type": "tool_calls", "tool_calls": calls},
    }
    failed = {"id": "step_2", "type": "tool_calls", "status": "failed", "step_details": {"tool_calls": []}}
    failed["last_error"] = {"code": "server_error", "message": "oops"}
    routes = {
        "GET /threads/t/messages": {"data": []},
        "GET /threads/t/runs/7/steps": {"data": [step, failed]},
    }
    async with asking(routes) as (backend, _):
        steps = (await backend.read(an_ask(), "t", "7")).steps
    assert [step.type for step in steps] == ["code_interpreter", "function", "other", "other"]
    assert [step.usage for step in steps] == [Usage(10, 4), Usage(), Usage(), Usage()]
    assert (steps[0].started_at, steps[0].finished_at) == (5, 6)
    assert steps[2].details == {"kind": "telepathy", "thought": "of you"}
    assert steps[3].details["error"] == "server_error: oops"


async def test_a_conversations_items_are_deleted_before_it():
    """They would outlive it: purge takes every item, then the conversation."""
    routes = {
        "GET /conversations/c/items": {
            "data": [{"id": "i1", "type": "message"}, {"id": "i2", "type": "message"}]
        },
        "DELETE /conversations/c/items/i1": {"deleted": True},
        "DELETE /conversations/c": {"deleted": True},
    }
    async with wild(routes) as (server, url), jobs_api.make_client("k", url) as client:
        report = await purge_objects(client, [("conversation", "c")])
    assert (report.deleted, report.faults) == (1, [])
    names = [name for name, _ in server.asked if name.startswith("DELETE")]
    assert names == [
        "DELETE /conversations/c/items/i1",
        "DELETE /conversations/c/items/i2",
        "DELETE /conversations/c",
    ]


async def test_without_metadata_a_run_that_nobody_knows_is_ours():
    """Our thread, no metadata kept by the server: known runs aside, the one with the answer counts."""
    runs = [
        {"id": "a", "status": "failed", "created_at": 1},
        {"id": "b", "status": "queued", "created_at": 2, "metadata": None},
        {"id": "c", "status": "completed", "created_at": 3, "metadata": {}},
        {"id": "d", "status": "expired", "created_at": 4},
    ]
    async with asking({"GET /threads/t/runs": {"data": runs}}) as (backend, _):
        found = await backend.find_run(an_ask(), "t", frozenset({"a"}))
        nothing = await backend.find_run(an_ask(), "t", frozenset({"a", "b", "c", "d"}))
    assert found.kind is LookupKind.RUN
    assert found.run is not None
    assert found.run.id == "c"
    assert [run.id for run in found.duplicates] == ["b"]
    assert nothing.kind is LookupKind.NOTHING


async def test_without_metadata_nothing_older_than_a_known_run_is_ours():
    """A long conversation tells its last runs only: what stands before those on the thread is older still."""
    runs = [{"id": name, "status": "completed", "created_at": at} for at, name in enumerate("abcdef")]
    async with asking({"GET /threads/t/runs": {"data": runs[::-1]}}) as (backend, _):
        nothing = await backend.find_run(an_ask(), "t", frozenset("def"))
        found = await backend.find_run(an_ask(), "t", frozenset("de"))
    assert nothing.kind is LookupKind.NOTHING
    assert found.run is not None
    assert found.run.id == "f"


@pytest.mark.parametrize("status", [405, 501])
async def test_a_server_without_a_list_of_runs_shows_none(status):
    """Nothing is found, and that is not said to be all: a create without a reply stays unknown."""
    async with asking({"GET /threads/t/runs": (status, {"error": "no such method"})}) as (backend, _):
        found = await backend.find_run(an_ask(), "t", frozenset())
    assert (found.kind, found.complete_list) == (LookupKind.NOTHING, False)


@pytest.mark.parametrize("status", [404, 400, 500])
async def test_a_list_of_runs_that_was_not_to_be_had_says_nothing(status):
    """Missing for a moment, refused or broken: what follows is for the lifecycle to decide."""
    async with asking({"GET /threads/t/runs": (status, {"error": "no"})}) as (backend, _):
        with pytest.raises(ApiError) as fault:
            await backend.find_run(an_ask(), "t", frozenset())
    assert fault.value.status == status


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb'{"id": "7", "status": "half \ud83d"}', "half \ufffd"),
        (rb'{"id": "7", "status": "\ude00 half"}', "\ufffd half"),
        (rb'{"id": "7", "status": "\ud83d\ude00 \ud83d"}', "\U0001f600 \ufffd"),
        (b'{"id": "7", "status": "\xff cut"}', "\ufffd cut"),
    ],
)
async def test_text_that_is_no_text_is_mended(body, text):
    """Half an emoji, escaped, or bytes that are no UTF-8: the rest is read, and can be stored and written."""
    reply = web.Response(body=body, content_type="application/json")
    async with asking({"GET /threads/t/runs/7": lambda _: reply}) as (backend, _):
        assert (await backend.look(an_ask(), "t", "7")).status == text


@pytest.mark.parametrize("body", [b"<html>", b'{"id": NaN}', b"[" * 5000, b"", b"\xff"])
async def test_what_is_no_json_is_a_bad_reply(body):
    """However it is broken."""
    reply = web.Response(body=body, content_type="application/json")
    async with asking({"GET /threads/t/runs/7": lambda _: reply}) as (backend, _):
        with pytest.raises(ApiError) as fault:
            await backend.look(an_ask(), "t", "7")
    assert fault.value.code == "bad_reply"


async def test_another_attempts_run_is_not_ours():
    """Metadata decides, also against a run that no attempt is known to have made."""
    named = {"askmill_batch": "b_1", "askmill_row": "1", "askmill_attempt": "1"}
    runs = [
        {"id": "a", "status": "completed", "metadata": named},
        {"id": "b", "status": "in_progress", "metadata": {**named, "askmill_attempt": 2}},
    ]
    async with asking({"GET /threads/t/runs": {"data": runs}}) as (backend, _):
        found = await backend.find_run(an_ask(attempt=2), "t", frozenset())
        third = await backend.find_run(an_ask(attempt=3), "t", frozenset())
    assert found.run is not None
    assert (found.run.id, found.duplicates) == ("b", ())
    assert third.kind is LookupKind.NOTHING


async def test_a_second_cancel_may_be_a_conflict():
    """409 instead of the run: the run is read."""
    routes = {
        "POST /threads/t/runs/7/cancel": (409, {"error": "already cancelled"}),
        "GET /threads/t/runs/7": {"status": "cancelled"},
        "POST /responses/7/cancel": (409, {"error": "already cancelled"}),
        "GET /responses/7": {"id": "7", "status": "cancelled"},
    }
    for api in ("assistants", "responses"):
        async with asking(routes, api) as (backend, _):
            assert (await backend.cancel("t", "7")).status == "cancelled"


async def test_ids_and_arguments_may_look_like_anything():
    """Ids with slashes and spaces, arguments already parsed, a call without arguments."""
    calls = [
        {"id": 1, "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    asked = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
    waiting = {"id": 42, "status": "requires_action", "required_action": asked}

    def gone_on(_: web.Request) -> Any:
        return {"id": 42, "status": "queued"}

    routes = {
        "POST /threads": {"id": "my thread/1"},
        "POST /threads/my thread/1/runs": waiting,
        "POST /threads/my thread/1/runs/42/submit_tool_outputs": gone_on,
    }
    async with asking(routes) as (backend, server):
        thread_id = await backend.make_thread(an_ask())
        run = await backend.make_run(an_ask(), thread_id)
        assert [(call.id, call.name, call.arguments) for call in run.tool_calls] == [
            ("1", "f", '{"a":1}'),
            ("c2", "g", "{}"),
        ]
        after = await backend.submit(
            an_ask(), thread_id, run.id, (ToolOutput("1", "x"), ToolOutput("c2", "y"))
        )
    assert (after.id, after.status) == ("42", "queued")
    sent = server.sent("POST /threads/my thread/1/runs/42/submit_tool_outputs")
    assert sent == {
        "tool_outputs": [{"tool_call_id": "1", "output": "x"}, {"tool_call_id": "c2", "output": "y"}]
    }


async def test_instructions_are_always_sent_to_an_assistant():
    """Some servers fail without them; what a profile does not say is not sent otherwise."""
    async with asking({"POST /assistants": {"id": "1"}}) as (backend, server):
        assert await backend.ready(PLAIN, Resources()) == "1"
    body = server.sent("POST /assistants")
    assert body["instructions"] == ""
    assert set(body) == {"model", "instructions", "tools", "metadata"}


async def test_a_stored_assistant_is_looked_for_first():
    """An unknown one is a fault before the first row is asked."""
    stored = PLAIN.model_copy(update={"assistant_id": "asst_7"})
    async with asking({"GET /assistants/asst_7": {"id": "asst_7"}}) as (backend, _):
        assert await backend.ready(stored, Resources()) == "asst_7"
        with pytest.raises(ApiError) as absent:
            await backend.ready(stored.model_copy(update={"assistant_id": "asst_8"}), Resources())
    assert absent.value.status == 404


async def test_every_request_carries_what_the_sdk_sends():
    """Key, beta header, organization headers and the address's own query, on looks as on creates."""
    routes = {"POST /threads": {"id": "t"}, "GET /threads/t/runs/7": {"status": "queued"}}
    async with asking(routes, query="?api-version=v1") as (backend, server):
        await backend.make_thread(an_ask())
        created = server.headers
        await backend.look(an_ask(), "t", "7")
        looked = server.headers
    assert server.queries == [{"api-version": "v1"}, {"api-version": "v1"}]
    for headers in (created, looked):
        assert headers["Authorization"] == "Bearer local-key"
        assert headers["OpenAI-Beta"] == "assistants=v2"
    ours = [name for name in looked if name.lower().startswith(("x-stainless", "user-agent"))]
    assert len(ours) > 5
    assert all(looked[name] == created[name] for name in ours)


async def test_the_servers_hint_when_to_look_is_read_each_time():
    """`openai-poll-after-ms` changes from look to look; nonsense is no hint."""
    hints = iter(["1500", "200", "soon", ""])

    def hinted(_: web.Request) -> Any:
        return web.json_response({"status": "queued"}, headers={"openai-poll-after-ms": next(hints)})

    async with asking({"GET /threads/t/runs/7": hinted}) as (backend, _):
        seen = [(await backend.look(an_ask(), "t", "7")).poll_after_s for _ in range(4)]
    assert seen == [1.5, 0.2, None, None]


async def test_an_idempotency_key_names_the_attempt():
    """Responses: the same attempt asked again carries the same key, outputs another."""
    routes = {"POST /responses": {"id": "resp_1", "status": "queued"}}
    keys = []
    async with asking(routes, "responses") as (backend, server):
        await backend.make_run(an_ask(), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        await backend.make_run(an_ask(), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        await backend.make_run(an_ask(attempt=2), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        server.routes["GET /responses/resp_1"] = {"id": "resp_1", "status": "completed"}
        await backend.submit(an_ask(), "conv_1", "resp_1", (ToolOutput("call_1", "x"),))
        keys.append(server.headers["Idempotency-Key"])
    assert keys[:3] == ["b_1-1-1", "b_1-1-1", "b_1-1-2"]
    assert keys[3].startswith("b_1-1-1-")
    assert len(set(keys)) == 3


async def test_a_file_that_cannot_be_searched_is_named():
    """The vector store fails as a whole, and says for each file why; the store is not left behind."""
    looks = iter([2, 1, 0])

    def store(_: web.Request) -> Any:
        return {"id": "vs_1", "object": "vector_store", "file_counts": {"in_progress": next(looks)}}

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
    async with wild(routes) as (server, url), jobs_api.make_client("k", url) as client:
        with pytest.raises(UsageError, match=r"(?s)1 of 2 files.*noise\.bin: unsupported_file: bin"):
            await make_vector_store(client, {"file-1": "good.txt", "file-2": "noise.bin"}, "askmill b_1")
    names = [name for name, _ in server.asked]
    assert names.count("GET /vector_stores/vs_1") == 3
    assert names[-1] == "DELETE /vector_stores/vs_1"
    assert server.sent("POST /vector_stores")["expires_after"] == {"anchor": "last_active_at", "days": 30}


async def test_a_spent_quota_is_not_taken_for_a_rate_limit():
    """The probe: 429 means alive, unless the account cannot pay."""
    body = {"error": {"message": "too fast", "type": "requests", "code": "rate_limit_exceeded"}}
    async with wild({"GET /assistants": (429, body)}) as (_, url), jobs_api.make_client("k", url) as client:
        await jobs_api.probe(client, "assistants")
    spent = {"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}}
    async with wild({"GET /assistants": (429, spent)}) as (_, url), jobs_api.make_client("k", url) as client:
        with pytest.raises(ApiUnavailable, match="billing"):
            await jobs_api.probe(client, "assistants")


@pytest.mark.parametrize(
    ("status", "body", "told"),
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
async def test_doctor_and_uploads_read_money_and_model_by_the_workers_list(
    status: int, body: dict[str, Any], told: str
):
    """Whatever the status: a sentence that says what to do, exit 3; a rate limit is still a sign of life."""
    routes = {"GET /assistants": (status, body), "POST /vector_stores": (status, body)}
    async with wild(routes) as (_, url), jobs_api.make_client("k", url) as client:
        with pytest.raises(ApiUnavailable, match=told):
            await jobs_api.probe(client, "assistants")
        if told == "Add credit":
            with pytest.raises(ApiUnavailable, match=told):
                await make_vector_store(client, {"file-1": "a.txt"}, "askmill b_1")


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_an_error_under_status_200_is_told_by_its_words_and_code(api: Api):
    """`{"error": …}` on the create that is paid for: the words and the code inside, not "no run"."""
    where = {"assistants": "POST /threads/t_1/runs", "responses": "POST /responses"}[api]
    spent = {"error": {"message": "Insufficient credits", "code": 402}}
    async with wild({where: spent}) as (_, url), jobs_api.make_client("k", url) as client:
        backend = backend_for(api, client)
        with pytest.raises(ApiError) as met:
            await backend.make_run(RunRequest("b", 1, 1, "?", PLAIN, assistant_id="asst_1"), "t_1")
    assert (met.value.status, met.value.message) == (402, "Insufficient credits")


SLOPPY = [
    (12, 12),
    (12.0, 12),
    ("12", 12),
    ("12.0", 12),
    (0, 0),
    (12.5, None),
    (-1, None),
    (True, None),
    ("many", None),
    ([12], None),
    (10**40, None),
    (None, None),
]


@pytest.mark.parametrize(("told", "known"), SLOPPY)
async def test_tokens_are_whole_numbers_or_unknown(told: Any, known: int | None):
    """Whatever a server writes for them: they are counted in Redis, which takes nothing else."""
    run = {"id": "7", "status": "completed", "usage": {"prompt_tokens": told, "completion_tokens": told}}
    response = {"id": "7", "status": "completed", "usage": {"input_tokens": told, "output_tokens": told}}
    for api, route, reply in (
        ("assistants", "GET /threads/t/runs/7", run),
        ("responses", "GET /responses/7", response),
    ):
        async with asking({route: reply}, api) as (backend, _):
            assert (await backend.look(an_ask(), "t", "7")).usage == Usage(known, known)


@pytest.mark.parametrize(
    ("told", "known"),
    [(1700000000, 1700000000), (1700000000.5, 1700000000.5), ("1700000000", 1700000000.0)]
    + [(odd, None) for odd in ("2026-01-01T00:00:00Z", 1e300, -1, True, [], {}, None)],
)
async def test_times_are_seconds_or_unknown(told: Any, known: float | None):
    """And a model is a name."""
    names = ("created_at", "started_at", "completed_at", "expires_at")
    run = {"id": "7", "status": "completed", "model": 7, **dict.fromkeys(names, told)}
    for api, route in (("assistants", "GET /threads/t/runs/7"), ("responses", "GET /responses/7")):
        async with asking({route: run}, api) as (backend, _):
            seen = await backend.look(an_ask(), "t", "7")
        assert (seen.created_at, seen.finished_at, seen.model) == (known, known, "7")


@pytest.mark.parametrize("hint", ["inf", "nan", "-5", "soon", "1e300"])
async def test_a_strange_hint_when_to_look_again_is_none(hint: str):
    """Else a run would never be looked at again."""
    reply = web.json_response({"id": "7", "status": "queued"}, headers={"openai-poll-after-ms": hint})
    async with asking({"GET /responses/7": reply}, "responses") as (backend, _):
        assert (await backend.look(an_ask(), "t", "7")).poll_after_s is None

"""Compatible servers: missing fields, ignored filters, ids and errors of their own."""

from typing import Any

import pytest
from aiohttp import web

from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.model.models import Api, Usage
from askmill.jobs.model.profile import Resources
from askmill.jobs.openai_client.client import make_client, probe
from askmill.jobs.openai_client.uploads import make_vector_store, purge_objects
from askmill.worker.lifecycle.api_types import ApiError, LookupKind, ToolOutput
from tests.backends.stub_server import PROFILE, run_request, stub_backend, stub_server


async def test_only_a_runs_status_is_required() -> None:
    """No id, null usage, missing times, an error code of its own: all unknown, none an error."""
    routes = {
        "GET /threads/t/runs/7": {
            "status": "failed",
            "usage": None,
            "last_error": {"code": "llama_tired"},
            "incomplete_details": None,
            "required_action": None,
        }
    }
    async with stub_backend(routes) as (backend, _):
        run = await backend.look(run_request(), "t", "7")
    assert (run.id, run.status, run.error_code, run.error_message) == ("7", "failed", "llama_tired", None)
    assert run.usage == Usage()
    assert (run.created_at, run.expires_at, run.model) == (None, None, None)


@pytest.mark.parametrize("reply", [{"id": "7"}, {"object": "error", "message": "down"}, {}])
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a_run_without_status_is_a_bad_reply(reply: dict[str, str], api: Api) -> None:
    """A 200 that is not a run must be read again."""
    routes = {"GET /threads/t/runs/7": reply, "GET /responses/7": reply}
    async with stub_backend(routes, api) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.look(run_request(), "t", "7")
    assert (error.value.status, error.value.code) == (200, "bad_reply")


async def test_ignored_filters_and_order_are_corrected() -> None:
    """All messages of the thread, newest first: only the run's own are the answer, in order."""
    messages = [
        {"id": "5", "role": "assistant", "run_id": "7", "created_at": 50, "content": "second"},
        {"id": "4", "role": "assistant", "run_id": "7", "created_at": 40, "content": "first"},
        {"id": "3", "role": "user", "run_id": "7", "created_at": 30, "content": "Why?"},
        {"id": "2", "role": "assistant", "run_id": "6", "created_at": 20, "content": "old"},
    ]
    async with stub_backend({"GET /threads/t/messages": {"data": messages}}) as (backend, _):
        answer = await backend.read(run_request(), "t", "7")
    assert answer.text == "first\n\nsecond"
    assert answer.last_message_id == "5"


async def test_messages_without_run_ids_follow_the_last_question() -> None:
    """The messages after the last question are the newest run's."""
    messages = [
        {"id": "1", "role": "assistant", "content": "old", "created_at": 10},
        {"id": "2", "role": "user", "content": "Why?", "created_at": 20},
        {"id": "3", "role": "assistant", "run_id": None, "content": "because", "created_at": 30},
    ]
    async with stub_backend({"GET /threads/t/messages": {"data": messages}}) as (backend, _):
        assert (await backend.read(run_request(), "t", "7")).text == "because"


async def test_a_missing_step_list_keeps_the_answer() -> None:
    """404 on the steps: no steps, no error."""
    messages = [{"id": "3", "role": "assistant", "run_id": "7", "content": "because"}]
    async with stub_backend({"GET /threads/t/messages": {"data": messages}}) as (backend, server):
        answer = await backend.read(run_request(), "t", "7")
    assert (answer.text, answer.steps) == ("because", ())
    assert "GET /threads/t/runs/7/steps" in server.request_names


async def test_all_pages_are_read() -> None:
    """`has_more` with the last id, page after page, until a page repeats."""

    def page(request: web.Request) -> Any:
        after = int(request.query.get("after", "0"))
        messages = [
            {"id": str(n), "role": "assistant", "run_id": "7", "content": f"m{n}"}
            for n in range(after + 1, min(after + 100, 250) + 1)
        ]
        return {"data": messages, "has_more": True}

    async with stub_backend({"GET /threads/t/messages": page}) as (backend, _):
        answer = await backend.read(run_request(), "t", "7")
    assert answer.messages == 250
    assert answer.text.startswith("m1\n\nm2")


async def test_a_server_without_cursors_is_read_once() -> None:
    """It says `has_more` and repeats its page: each message counts once."""
    messages = [{"id": "3", "role": "assistant", "run_id": "7", "content": "because"}]
    routes = {"GET /threads/t/messages": {"data": messages, "has_more": True}}
    async with stub_backend(routes) as (backend, _):
        assert (await backend.read(run_request(), "t", "7")).text == "because"


async def test_a_step_of_several_tool_calls_is_several_steps() -> None:
    """One per call, in order. The tokens, counted for all calls together, are on the first."""
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
    async with stub_backend(routes) as (backend, _):
        steps = (await backend.read(run_request(), "t", "7")).steps
    assert [step.type for step in steps] == ["code_interpreter", "function", "other", "other"]
    assert [step.usage for step in steps] == [Usage(10, 4), Usage(), Usage(), Usage()]
    assert (steps[0].started_at, steps[0].finished_at) == (5, 6)
    assert steps[2].details == {"kind": "telepathy", "thought": "of you"}
    assert steps[3].details["error"] == "server_error: oops"


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


async def test_without_metadata_an_unknown_run_is_ours() -> None:
    """On our thread, apart from earlier runs, the completed run counts."""
    runs = [
        {"id": "a", "status": "failed", "created_at": 1},
        {"id": "b", "status": "queued", "created_at": 2, "metadata": None},
        {"id": "c", "status": "completed", "created_at": 3, "metadata": {}},
        {"id": "d", "status": "expired", "created_at": 4},
    ]
    async with stub_backend({"GET /threads/t/runs": {"data": runs}}) as (backend, _):
        lookup = await backend.find_run(run_request(), "t", frozenset({"a"}))
        nothing = await backend.find_run(run_request(), "t", frozenset({"a", "b", "c", "d"}))
    assert lookup.kind is LookupKind.RUN
    assert lookup.run is not None
    assert lookup.run.id == "c"
    assert [run.id for run in lookup.duplicates] == ["b"]
    assert nothing.kind is LookupKind.NOTHING


async def test_without_metadata_no_run_older_than_an_earlier_one_is_ours() -> None:
    """A long conversation stores only its last runs: those before them on the thread are older."""
    runs = [{"id": name, "status": "completed", "created_at": at} for at, name in enumerate("abcdef")]
    async with stub_backend({"GET /threads/t/runs": {"data": runs[::-1]}}) as (backend, _):
        nothing = await backend.find_run(run_request(), "t", frozenset("def"))
        lookup = await backend.find_run(run_request(), "t", frozenset("de"))
    assert nothing.kind is LookupKind.NOTHING
    assert lookup.run is not None
    assert lookup.run.id == "f"


@pytest.mark.parametrize("status", [405, 501])
async def test_a_server_without_a_list_of_runs_finds_nothing(status: int) -> None:
    """The list counts as incomplete, so a create without a reply stays unconfirmed."""
    async with stub_backend({"GET /threads/t/runs": (status, {"error": "no such method"})}) as (backend, _):
        lookup = await backend.find_run(run_request(), "t", frozenset())
    assert (lookup.kind, lookup.complete_list) == (LookupKind.NOTHING, False)


@pytest.mark.parametrize("status", [404, 400, 500])
async def test_a_failed_list_of_runs_raises_its_error(status: int) -> None:
    """Missing, refused or broken: the lifecycle decides what follows."""
    async with stub_backend({"GET /threads/t/runs": (status, {"error": "no"})}) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.find_run(run_request(), "t", frozenset())
    assert error.value.status == status


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb'{"id": "7", "status": "half \ud83d"}', "half \ufffd"),
        (rb'{"id": "7", "status": "\ude00 half"}', "\ufffd half"),
        (rb'{"id": "7", "status": "\ud83d\ude00 \ud83d"}', "\U0001f600 \ufffd"),
        (b'{"id": "7", "status": "\xff cut"}', "\ufffd cut"),
    ],
)
async def test_invalid_text_is_repaired(body: bytes, text: str) -> None:
    """Half an emoji, escaped or not, or bytes that are not UTF-8: the rest is read and can be stored."""
    reply = web.Response(body=body, content_type="application/json")
    async with stub_backend({"GET /threads/t/runs/7": lambda _: reply}) as (backend, _):
        assert (await backend.look(run_request(), "t", "7")).status == text


@pytest.mark.parametrize("body", [b"<html>", b'{"id": NaN}', b"[" * 5000, b"", b"\xff"])
async def test_invalid_json_is_a_bad_reply(body: bytes) -> None:
    """However it is broken."""
    reply = web.Response(body=body, content_type="application/json")
    async with stub_backend({"GET /threads/t/runs/7": lambda _: reply}) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.look(run_request(), "t", "7")
    assert error.value.code == "bad_reply"


async def test_another_attempts_run_is_not_ours() -> None:
    """Metadata decides, even against a run that belongs to no known attempt."""
    metadata = {"askmill_batch": "b_1", "askmill_row": "1", "askmill_attempt": "1"}
    runs = [
        {"id": "a", "status": "completed", "metadata": metadata},
        {"id": "b", "status": "in_progress", "metadata": {**metadata, "askmill_attempt": 2}},
    ]
    async with stub_backend({"GET /threads/t/runs": {"data": runs}}) as (backend, _):
        lookup = await backend.find_run(run_request(attempt=2), "t", frozenset())
        third = await backend.find_run(run_request(attempt=3), "t", frozenset())
    assert lookup.run is not None
    assert (lookup.run.id, lookup.duplicates) == ("b", ())
    assert third.kind is LookupKind.NOTHING


async def test_a_cancel_that_conflicts_reads_the_run() -> None:
    """409 instead of the run."""
    routes = {
        "POST /threads/t/runs/7/cancel": (409, {"error": "already cancelled"}),
        "GET /threads/t/runs/7": {"status": "cancelled"},
        "POST /responses/7/cancel": (409, {"error": "already cancelled"}),
        "GET /responses/7": {"id": "7", "status": "cancelled"},
    }
    for api in ("assistants", "responses"):
        async with stub_backend(routes, api) as (backend, _):
            assert (await backend.cancel("t", "7")).status == "cancelled"


async def test_any_id_and_any_arguments_are_accepted() -> None:
    """Ids with slashes and spaces, parsed arguments, a call without arguments."""
    calls = [
        {"id": 1, "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    required = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
    waiting = {"id": 42, "status": "requires_action", "required_action": required}

    def continued(_: web.Request) -> Any:
        return {"id": 42, "status": "queued"}

    routes = {
        "POST /threads": {"id": "my thread/1"},
        "POST /threads/my thread/1/runs": waiting,
        "POST /threads/my thread/1/runs/42/submit_tool_outputs": continued,
    }
    async with stub_backend(routes) as (backend, server):
        thread_id = await backend.make_thread(run_request())
        run = await backend.make_run(run_request(), thread_id)
        assert [(call.id, call.name, call.arguments) for call in run.tool_calls] == [
            ("1", "f", '{"a":1}'),
            ("c2", "g", "{}"),
        ]
        submitted = await backend.submit(
            run_request(), thread_id, run.id, (ToolOutput("1", "x"), ToolOutput("c2", "y"))
        )
    assert (submitted.id, submitted.status) == ("42", "queued")
    body = server.body_of("POST /threads/my thread/1/runs/42/submit_tool_outputs")
    assert body == {
        "tool_outputs": [{"tool_call_id": "1", "output": "x"}, {"tool_call_id": "c2", "output": "y"}]
    }


async def test_instructions_are_always_sent_to_an_assistant() -> None:
    """Some servers fail without them. Other unset fields are not sent."""
    async with stub_backend({"POST /assistants": {"id": "1"}}) as (backend, server):
        assert await backend.ready(PROFILE, Resources()) == "1"
    body = server.body_of("POST /assistants")
    assert body["instructions"] == ""
    assert set(body) == {"model", "instructions", "tools", "metadata"}


async def test_a_stored_assistant_must_exist() -> None:
    """An unknown one is an error before the first row runs."""
    stored = PROFILE.model_copy(update={"assistant_id": "asst_7"})
    async with stub_backend({"GET /assistants/asst_7": {"id": "asst_7"}}) as (backend, _):
        assert await backend.ready(stored, Resources()) == "asst_7"
        with pytest.raises(ApiError) as missing:
            await backend.ready(stored.model_copy(update={"assistant_id": "asst_8"}), Resources())
    assert missing.value.status == 404


async def test_reads_carry_the_headers_of_creates() -> None:
    """Key, beta header, the SDK's own headers and the base URL's query."""
    routes = {"POST /threads": {"id": "t"}, "GET /threads/t/runs/7": {"status": "queued"}}
    async with stub_backend(routes, query="?api-version=v1") as (backend, server):
        await backend.make_thread(run_request())
        created = server.headers
        await backend.look(run_request(), "t", "7")
        polled = server.headers
    assert server.queries == [{"api-version": "v1"}, {"api-version": "v1"}]
    for headers in (created, polled):
        assert headers["Authorization"] == "Bearer local-key"
        assert headers["OpenAI-Beta"] == "assistants=v2"
    sdk_names = [name for name in polled if name.lower().startswith(("x-stainless", "user-agent"))]
    assert len(sdk_names) > 5
    assert all(polled[name] == created[name] for name in sdk_names)


async def test_the_poll_hint_is_read_each_time() -> None:
    """`openai-poll-after-ms` changes from poll to poll; an invalid hint is ignored."""
    hints = iter(["1500", "200", "soon", ""])

    def hinted(_: web.Request) -> Any:
        return web.json_response({"status": "queued"}, headers={"openai-poll-after-ms": next(hints)})

    async with stub_backend({"GET /threads/t/runs/7": hinted}) as (backend, _):
        hints_s = [(await backend.look(run_request(), "t", "7")).poll_after_s for _ in range(4)]
    assert hints_s == [1.5, 0.2, None, None]


async def test_the_idempotency_key_identifies_the_attempt() -> None:
    """Responses: a repeated attempt has the same key, its outputs have another."""
    routes = {"POST /responses": {"id": "resp_1", "status": "queued"}}
    keys = []
    async with stub_backend(routes, "responses") as (backend, server):
        await backend.make_run(run_request(), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        await backend.make_run(run_request(), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        await backend.make_run(run_request(attempt=2), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        server.routes["GET /responses/resp_1"] = {"id": "resp_1", "status": "completed"}
        await backend.submit(run_request(), "conv_1", "resp_1", (ToolOutput("call_1", "x"),))
        keys.append(server.headers["Idempotency-Key"])
    assert keys[:3] == ["b_1-1-1", "b_1-1-1", "b_1-1-2"]
    assert keys[3].startswith("b_1-1-1-")
    assert len(set(keys)) == 3


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
            await make_vector_store(client, {"file-1": "good.txt", "file-2": "noise.bin"}, "askmill b_1")
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
                await make_vector_store(client, {"file-1": "a.txt"}, "askmill b_1")


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_an_error_under_status_200_has_its_message_and_code(api: Api) -> None:
    """`{"error": …}` on the create of a run."""
    path = {"assistants": "POST /threads/t_1/runs", "responses": "POST /responses"}[api]
    spent = {"error": {"message": "Insufficient credits", "code": 402}}
    async with stub_backend({path: spent}, api) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.make_run(run_request(), "t_1")
    assert (error.value.status, error.value.message) == (402, "Insufficient credits")


TOKEN_COUNTS = [
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


@pytest.mark.parametrize(("value", "parsed"), TOKEN_COUNTS)
async def test_tokens_are_whole_numbers_or_unknown(value: Any, parsed: int | None) -> None:
    """They are counted in Redis, which accepts only integers."""
    run = {"id": "7", "status": "completed", "usage": {"prompt_tokens": value, "completion_tokens": value}}
    response = {"id": "7", "status": "completed", "usage": {"input_tokens": value, "output_tokens": value}}
    for api, route, reply in (
        ("assistants", "GET /threads/t/runs/7", run),
        ("responses", "GET /responses/7", response),
    ):
        async with stub_backend({route: reply}, api) as (backend, _):
            assert (await backend.look(run_request(), "t", "7")).usage == Usage(parsed, parsed)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [(1700000000, 1700000000), (1700000000.5, 1700000000.5), ("1700000000", 1700000000.0)]
    + [(odd, None) for odd in ("2026-01-01T00:00:00Z", 1e300, -1, True, [], {}, None)],
)
async def test_times_are_seconds_or_unknown(value: Any, parsed: float | None) -> None:
    """Any model is read as text."""
    names = ("created_at", "started_at", "completed_at", "expires_at")
    run = {"id": "7", "status": "completed", "model": 7, **dict.fromkeys(names, value)}
    for api, route in (("assistants", "GET /threads/t/runs/7"), ("responses", "GET /responses/7")):
        async with stub_backend({route: run}, api) as (backend, _):
            polled = await backend.look(run_request(), "t", "7")
        assert (polled.created_at, polled.finished_at, polled.model) == (parsed, parsed, "7")


@pytest.mark.parametrize("hint", ["inf", "nan", "-5", "soon", "1e300"])
async def test_an_invalid_poll_hint_is_ignored(hint: str) -> None:
    """It could otherwise stop the polling of a run."""
    reply = web.json_response({"id": "7", "status": "queued"}, headers={"openai-poll-after-ms": hint})
    async with stub_backend({"GET /responses/7": reply}, "responses") as (backend, _):
        assert (await backend.look(run_request(), "t", "7")).poll_after_s is None

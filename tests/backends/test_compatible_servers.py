"""Compatible servers: missing fields, ignored filters, ids and errors of their own."""

from typing import Any

import pytest
from aiohttp import web

from askmill.jobs.model.models import Usage
from askmill.jobs.model.profile import Resources
from askmill.worker.lifecycle.api_types import ApiError, LookupKind, ToolOutput
from tests.backends.stub_server import PROFILE, run_request, stub_backend


async def test_ignored_filters_and_order_are_corrected() -> None:
    """All messages of the thread, newest first: only the run's own are the answer, in order."""
    messages = [
        {"id": "5", "role": "assistant", "run_id": "7", "created_at": 50, "content": "second"},
        {"id": "4", "role": "assistant", "run_id": "7", "created_at": 40, "content": "first"},
        {"id": "3", "role": "user", "run_id": "7", "created_at": 30, "content": "Why?"},
        {"id": "2", "role": "assistant", "run_id": "6", "created_at": 20, "content": "old"},
    ]
    async with stub_backend({"GET /threads/t/messages": {"data": messages}}) as (backend, _):
        answer = await backend.read_answer(run_request(), "t", "7")
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
        assert (await backend.read_answer(run_request(), "t", "7")).text == "because"


async def test_a_missing_step_list_keeps_the_answer() -> None:
    """404 on the steps: no steps, no error."""
    messages = [{"id": "3", "role": "assistant", "run_id": "7", "content": "because"}]
    async with stub_backend({"GET /threads/t/messages": {"data": messages}}) as (backend, server):
        answer = await backend.read_answer(run_request(), "t", "7")
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
        answer = await backend.read_answer(run_request(), "t", "7")
    assert answer.messages == 250
    assert answer.text.startswith("m1\n\nm2")


async def test_a_server_without_cursors_is_read_once() -> None:
    """It says `has_more` and repeats its page: each message counts once."""
    messages = [{"id": "3", "role": "assistant", "run_id": "7", "content": "because"}]
    routes = {"GET /threads/t/messages": {"data": messages, "has_more": True}}
    async with stub_backend(routes) as (backend, _):
        assert (await backend.read_answer(run_request(), "t", "7")).text == "because"


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
        steps = (await backend.read_answer(run_request(), "t", "7")).steps
    assert [step.type for step in steps] == ["code_interpreter", "function", "other", "other"]
    assert [step.usage for step in steps] == [Usage(10, 4), Usage(), Usage(), Usage()]
    assert (steps[0].started_at, steps[0].finished_at) == (5, 6)
    assert steps[2].details == {"kind": "telepathy", "thought": "of you"}
    assert steps[3].details["error"] == "server_error: oops"


async def test_without_metadata_an_unknown_run_is_ours() -> None:
    """On our thread, apart from earlier runs, the completed run counts."""
    runs = [
        {"id": "a", "status": "failed", "created_at": 1},
        {"id": "b", "status": "queued", "created_at": 2, "metadata": None},
        {"id": "c", "status": "completed", "created_at": 3, "metadata": {}},
        {"id": "d", "status": "expired", "created_at": 4},
    ]
    async with stub_backend({"GET /threads/t/runs": {"data": runs}}) as (backend, _):
        lookup = await backend.recover_run(run_request(), "t", frozenset({"a"}))
        nothing = await backend.recover_run(run_request(), "t", frozenset({"a", "b", "c", "d"}))
    assert lookup.kind is LookupKind.RUN
    assert lookup.run is not None
    assert lookup.run.id == "c"
    assert [run.id for run in lookup.duplicates] == ["b"]
    assert nothing.kind is LookupKind.NOTHING


async def test_without_metadata_no_run_older_than_an_earlier_one_is_ours() -> None:
    """A long conversation stores only its last runs: those before them on the thread are older."""
    runs = [{"id": name, "status": "completed", "created_at": at} for at, name in enumerate("abcdef")]
    async with stub_backend({"GET /threads/t/runs": {"data": runs[::-1]}}) as (backend, _):
        nothing = await backend.recover_run(run_request(), "t", frozenset("def"))
        lookup = await backend.recover_run(run_request(), "t", frozenset("de"))
    assert nothing.kind is LookupKind.NOTHING
    assert lookup.run is not None
    assert lookup.run.id == "f"


@pytest.mark.parametrize("status", [405, 501])
async def test_a_server_without_a_list_of_runs_finds_nothing(status: int) -> None:
    """The list counts as incomplete, so a create without a reply stays unconfirmed."""
    async with stub_backend({"GET /threads/t/runs": (status, {"error": "no such method"})}) as (backend, _):
        lookup = await backend.recover_run(run_request(), "t", frozenset())
    assert (lookup.kind, lookup.complete_list) == (LookupKind.NOTHING, False)


@pytest.mark.parametrize("status", [404, 400, 500])
async def test_a_failed_list_of_runs_raises_its_error(status: int) -> None:
    """Missing, refused or broken: the lifecycle decides what follows."""
    async with stub_backend({"GET /threads/t/runs": (status, {"error": "no"})}) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.recover_run(run_request(), "t", frozenset())
    assert error.value.status == status


async def test_another_attempts_run_is_not_ours() -> None:
    """Metadata decides, even against a run that belongs to no known attempt."""
    metadata = {"askmill_batch": "b_1", "askmill_row": "1", "askmill_attempt": "1"}
    runs = [
        {"id": "a", "status": "completed", "metadata": metadata},
        {"id": "b", "status": "in_progress", "metadata": {**metadata, "askmill_attempt": 2}},
    ]
    async with stub_backend({"GET /threads/t/runs": {"data": runs}}) as (backend, _):
        lookup = await backend.recover_run(run_request(attempt=2), "t", frozenset())
        third = await backend.recover_run(run_request(attempt=3), "t", frozenset())
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


async def test_instructions_are_always_sent_to_an_assistant() -> None:
    """Some servers fail without them. Other unset fields are not sent."""
    async with stub_backend({"POST /assistants": {"id": "1"}}) as (backend, server):
        assert await backend.ensure_assistant(PROFILE, Resources()) == "1"
    body = server.body_of("POST /assistants")
    assert body["instructions"] == ""
    assert set(body) == {"model", "instructions", "tools", "metadata"}


async def test_a_stored_assistant_must_exist() -> None:
    """An unknown one is an error before the first row runs."""
    stored = PROFILE.model_copy(update={"assistant_id": "asst_7"})
    async with stub_backend({"GET /assistants/asst_7": {"id": "asst_7"}}) as (backend, _):
        assert await backend.ensure_assistant(stored, Resources()) == "asst_7"
        with pytest.raises(ApiError) as missing:
            await backend.ensure_assistant(stored.model_copy(update={"assistant_id": "asst_8"}), Resources())
    assert missing.value.status == 404


async def test_reads_carry_the_headers_of_creates() -> None:
    """Key, beta header, the SDK's own headers and the base URL's query."""
    routes = {"POST /threads": {"id": "t"}, "GET /threads/t/runs/7": {"status": "queued"}}
    async with stub_backend(routes, query="?api-version=v1") as (backend, server):
        await backend.create_thread(run_request())
        created = server.headers
        await backend.poll_run(run_request(), "t", "7")
        polled = server.headers
    assert server.queries == [{"api-version": "v1"}, {"api-version": "v1"}]
    for headers in (created, polled):
        assert headers["Authorization"] == "Bearer local-key"
        assert headers["OpenAI-Beta"] == "assistants=v2"
    sdk_names = [name for name in polled if name.lower().startswith(("x-stainless", "user-agent"))]
    assert len(sdk_names) > 5
    assert all(polled[name] == created[name] for name in sdk_names)


async def test_the_idempotency_key_identifies_the_attempt() -> None:
    """Responses: a repeated attempt has the same key, its outputs have another."""
    routes = {"POST /responses": {"id": "resp_1", "status": "queued"}}
    keys = []
    async with stub_backend(routes, "responses") as (backend, server):
        await backend.create_run(run_request(), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        await backend.create_run(run_request(), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        await backend.create_run(run_request(attempt=2), "conv_1")
        keys.append(server.headers["Idempotency-Key"])
        server.routes["GET /responses/resp_1"] = {"id": "resp_1", "status": "completed"}
        await backend.submit(run_request(), "conv_1", "resp_1", (ToolOutput("call_1", "x"),))
        keys.append(server.headers["Idempotency-Key"])
    assert keys[:3] == ["b_1-1-1", "b_1-1-1", "b_1-1-2"]
    assert keys[3].startswith("b_1-1-1-")
    assert len(set(keys)) == 3

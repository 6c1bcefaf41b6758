"""Replies with missing, invalid or unusual values: what can be read is read, the rest is unknown."""

from typing import Any

import pytest
from aiohttp import web

from askmill.jobs.model.models import Api, Usage
from askmill.worker.lifecycle.api_types import ApiError, ToolOutput
from tests.backends.stub_server import run_request, stub_backend


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
        run = await backend.poll_run(run_request(), "t", "7")
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
            await backend.poll_run(run_request(), "t", "7")
    assert (error.value.status, error.value.code) == (200, "bad_reply")


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
        assert (await backend.poll_run(run_request(), "t", "7")).status == text


@pytest.mark.parametrize("body", [b"<html>", b'{"id": NaN}', b"[" * 5000, b"", b"\xff"])
async def test_invalid_json_is_a_bad_reply(body: bytes) -> None:
    """However it is broken."""
    reply = web.Response(body=body, content_type="application/json")
    async with stub_backend({"GET /threads/t/runs/7": lambda _: reply}) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.poll_run(run_request(), "t", "7")
    assert error.value.code == "bad_reply"


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
        thread_id = await backend.create_thread(run_request())
        run = await backend.create_run(run_request(), thread_id)
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


async def test_the_poll_hint_is_read_each_time() -> None:
    """`openai-poll-after-ms` changes from poll to poll; an invalid hint is ignored."""
    hints = iter(["1500", "200", "soon", ""])

    def hinted(_: web.Request) -> Any:
        return web.json_response({"status": "queued"}, headers={"openai-poll-after-ms": next(hints)})

    async with stub_backend({"GET /threads/t/runs/7": hinted}) as (backend, _):
        hints_s = [(await backend.poll_run(run_request(), "t", "7")).poll_after_s for _ in range(4)]
    assert hints_s == [1.5, 0.2, None, None]


@pytest.mark.parametrize("api", ["assistants", "responses"])
@pytest.mark.parametrize(
    ("created_at", "date", "age_s"),
    [
        (1_796_000_000, "Mon, 30 Nov 2026 00:53:25 GMT", 5.0),
        (None, "Mon, 30 Nov 2026 00:53:25 GMT", None),
        (1_796_000_000, "yesterday", None),
    ],
)
async def test_a_run_has_its_age_by_the_server_s_clock(
    api: Api, created_at: float | None, date: str, age_s: float | None
) -> None:
    """From the reply's `Date`; unknown where a time is missing or is none."""
    path = {"assistants": "GET /threads/t/runs/7", "responses": "GET /responses/7"}[api]
    run = {"id": "7", "status": "queued", "created_at": created_at}
    async with stub_backend({path: web.json_response(run, headers={"Date": date})}, api) as (backend, _):
        assert (await backend.poll_run(run_request(), "t", "7")).age_s == age_s


@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_an_error_under_status_200_has_its_message_and_code(api: Api) -> None:
    """`{"error": …}` on the create of a run."""
    path = {"assistants": "POST /threads/t_1/runs", "responses": "POST /responses"}[api]
    spent = {"error": {"message": "Insufficient credits", "code": 402}}
    async with stub_backend({path: spent}, api) as (backend, _):
        with pytest.raises(ApiError) as error:
            await backend.create_run(run_request(), "t_1")
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
            assert (await backend.poll_run(run_request(), "t", "7")).usage == Usage(parsed, parsed)


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
            polled = await backend.poll_run(run_request(), "t", "7")
        assert (polled.created_at, polled.finished_at, polled.model) == (parsed, parsed, "7")


@pytest.mark.parametrize("hint", ["inf", "nan", "-5", "soon", "1e300"])
async def test_an_invalid_poll_hint_is_ignored(hint: str) -> None:
    """It could otherwise stop the polling of a run."""
    reply = web.json_response({"id": "7", "status": "queued"}, headers={"openai-poll-after-ms": hint})
    async with stub_backend({"GET /responses/7": reply}, "responses") as (backend, _):
        assert (await backend.poll_run(run_request(), "t", "7")).poll_after_s is None

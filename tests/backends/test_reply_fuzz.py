"""Whatever a server replies, no parser raises, and no text is dropped that is where the API puts it (case A16).

The replies are drawn from OpenAI's own description of the API and then mutated. They go the whole way: over HTTP,
through both backends, to a stored result.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askmill.jobs.model.models import Api, JobStatus, Result
from askmill.jobs.store.codec import pack_result, unpack_result
from askmill.worker.backends.base import Backend
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run
from tests.backends.stub_server import StubServer, backend_at, run_request, serving
from tests.helpers.openapi import needs_description
from tests.helpers.schema_values import mutated, values_of

pytestmark = [*needs_description]

RUN, THREAD = "run_1", "t_1"
TEXT = "Paid text, with ünïcode, worth keeping."
FOOTNOTE = re.compile(r"\[\d+\]")
SAMPLE, ALL = 60, 4000


ECHOED = frozenset(
    {
        "tools",
        "tool_choice",
        "text",
        "instructions",
        "prompt",
        "input",
        "reasoning",
        "response_format",
        "output",
    }
    | {"truncation_strategy", "truncation", "conversation", "moderation", "context_management"}
)
"""Parts of a run that repeat the request: nothing reads them, and they are large."""


def schema(name: str) -> st.SearchStrategy[Any]:
    # Only when it is drawn from: without the description the tests are skipped, and this module is imported.
    return st.deferred(
        lambda: values_of(name, 0, ECHOED if name in {"RunObject", "Response"} else frozenset())
    )


def with_text(part: dict[str, Any], role: str, kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """A message of the described kind that holds the text."""
    return st.builds(
        lambda message, before, after: {
            **message,
            "id": "msg_1",
            "role": role,
            "type": kind,
            "run_id": RUN,
            "content": [*before, part, *after],
        },
        schema("MessageObject" if kind == "thread.message" else "OutputMessage"),
        *[
            st.lists(
                schema("MessageContentTextObject" if kind == "thread.message" else "OutputTextContent"),
                max_size=1,
            )
        ]
        * 2,
    )


def annotated(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=2)


MESSAGES = annotated(schema("MessageContentTextAnnotationsFileCitationObject")).flatmap(
    lambda annotations: with_text(
        {"type": "text", "text": {"value": TEXT, "annotations": annotations}}, "assistant", "thread.message"
    )
)
ITEMS = annotated(schema("Annotation")).flatmap(
    lambda annotations: with_text(
        {"type": "output_text", "text": TEXT, "annotations": annotations}, "assistant", "message"
    )
)


@st.composite
def assistants_replies(draw: st.DrawFn) -> dict[str, Any]:
    """The routes of a run that has ended."""
    run = {
        **draw(schema("RunObject")),
        "id": RUN,
        "status": draw(st.sampled_from(["completed", "requires_action"])),
    }
    messages = [draw(MESSAGES), *draw(st.lists(schema("MessageObject"), max_size=1))]
    steps = draw(st.lists(schema("RunStepObject"), max_size=3))
    runs = {"data": [draw(mutated(run))], "has_more": False}
    return {
        f"GET /threads/{THREAD}/runs/{RUN}": draw(mutated(run)),
        f"GET /threads/{THREAD}/runs": draw(mutated(runs)),
        f"GET /threads/{THREAD}/messages": draw(mutated({"data": messages, "has_more": False})),
        f"GET /threads/{THREAD}/runs/{RUN}/steps": draw(mutated({"data": steps, "has_more": False})),
    }


@st.composite
def responses_replies(draw: st.DrawFn) -> dict[str, Any]:
    """The routes of a response that has ended, and of its conversation."""
    items = [*draw(st.lists(schema("OutputItem"), max_size=3)), draw(ITEMS)]
    metadata = draw(st.sampled_from([{}, {"askmill_previous": RUN}, {"askmill_previous": None}, None]))
    response = {
        **draw(schema("Response")),
        "id": RUN,
        "status": "completed",
        "metadata": metadata,
        "output": items,
    }
    listed = {"data": items, "has_more": False}
    return {
        f"GET /responses/{RUN}": draw(mutated(response)),
        f"GET /conversations/{THREAD}/items": draw(mutated(listed)),
    }


def holds_text(message: Any, kind: str) -> bool:
    """Whether the text is where the API puts it: in a part of its type, in a message of this run."""
    if (
        not isinstance(message, dict)
        or message.get("role") != "assistant"
        or not isinstance(message.get("content"), list)
    ):
        return False
    parts = [part for part in message["content"] if isinstance(part, dict)]
    if kind == "message":
        final = message.get("type") == "message" and message.get("phase") != "commentary"
        return final and any(part.get("type") == "output_text" and part.get("text") == TEXT for part in parts)
    return message.get("run_id") == RUN and any(
        part.get("type") == "text"
        and isinstance(part.get("text"), dict)
        and part["text"].get("value") == TEXT
        for part in parts
    )


def expects_text(routes: dict[str, Any], api: Api) -> bool:
    if api == "assistants":
        page, name, kind = routes[f"GET /threads/{THREAD}/messages"], "data", "thread.message"
    else:
        page, name, kind = routes[f"GET /responses/{RUN}"], "output", "message"
        if not isinstance(page, dict) or ("error" in page and "status" not in page):
            return False
    entries = page.get(name) if isinstance(page, dict) else None
    return isinstance(entries, list) and any(holds_text(entry, kind) for entry in entries)


async def read(backend: Backend, api: Api, routes: dict[str, Any]) -> None:
    """Ask the backend all that a row asks of a run; only an ApiError may be raised."""
    request = run_request()
    polled: Run | None = None
    with suppress(ApiError):
        polled = await backend.poll_run(request, THREAD, RUN)
    for call in (
        lambda: backend.recover_run(request, THREAD, frozenset({"run_0"})),
        lambda: backend.recover_submit(request, THREAD, RUN),
        lambda: (
            backend.read_answer(request, THREAD, None) if api == "responses" else backend.cancel(THREAD, RUN)
        ),
    ):
        with suppress(ApiError):
            await call()
    if polled is None and not expects_text(routes, api):
        return
    try:
        answer = await backend.read_answer(request, THREAD, RUN)
    except ApiError as error:
        # A later part could not be read: the error carries the text, which the row keeps.
        answer = error.partial or Answer()
    if polled is not None and expects_text(routes, api):
        assert TEXT in FOOTNOTE.sub("", answer.text)
    result = Result(
        1, JobStatus.COMPLETED, answer=answer.text, citations=answer.citations, steps=answer.steps
    )
    assert unpack_result(1, pack_result(result))["answer"] == answer.text


Reader = Callable[[Api, dict[str, Any]], None]
RunsCoroutine = Callable[[Coroutine[Any, Any, Any]], Any]


@contextmanager
def open_reader(apis: tuple[Api, ...]) -> Iterator[tuple[StubServer, dict[Api, Backend], RunsCoroutine]]:
    """A server of this process, a backend of it for each API, and what runs a coroutine beside them."""
    server, loop = StubServer(), asyncio.new_event_loop()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return loop.run_until_complete(asyncio.wait_for(work, 60))

    address = serving(server)
    url = run(address.__aenter__())
    backends: dict[Api, Any] = {api: backend_at(url, api) for api in apis}
    opened = {api: run(backend.__aenter__()) for api, backend in backends.items()}
    with ExitStack() as stack:
        stack.callback(loop.close)
        stack.callback(lambda: run(address.__aexit__(None, None, None)))
        for backend in backends.values():
            stack.callback(lambda backend=backend: run(backend.__aexit__(None, None, None)))
        yield server, opened, run


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """Reads routes with the backend of an API."""
    with open_reader(("assistants", "responses")) as (server, backends, run):

        def read_routes(api: Api, routes: dict[str, Any]) -> None:
            server.routes = {name: _replying(reply) for name, reply in routes.items()}
            run(read(backends[api], api, routes))

        yield read_routes


def _replying(reply: Any) -> Any:
    """A route with this JSON, also where it is null or a pair."""
    return lambda _: (200, reply)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@settings(max_examples=SAMPLE, suppress_health_check=QUIET)
@given(assistants_replies())
def test_no_reply_of_an_assistants_server_loses_a_paid_text(reader: Reader, routes: dict[str, Any]) -> None:
    """Case A16, sampled."""
    reader("assistants", routes)


@settings(max_examples=SAMPLE, suppress_health_check=QUIET)
@given(responses_replies())
def test_no_reply_of_a_responses_server_loses_a_paid_text(reader: Reader, routes: dict[str, Any]) -> None:
    """Case A16, sampled."""
    reader("responses", routes)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=ALL, suppress_health_check=QUIET)
@given(assistants_replies())
def test_thousands_of_assistants_replies(reader: Reader, routes: dict[str, Any]) -> None:
    """Case A16, at length."""
    reader("assistants", routes)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=ALL, suppress_health_check=QUIET)
@given(responses_replies())
def test_thousands_of_responses_replies(reader: Reader, routes: dict[str, Any]) -> None:
    """Case A16, at length."""
    reader("responses", routes)

"""Whatever a server of chat completions sends, no parser raises, and no text that has arrived is dropped (case A16).

As test_reply_fuzz.py, which has the other two APIs. OpenAI's description there does not have this one, so the
replies are written here: with the fields of OpenAI, vLLM, Mistral and DeepSeek, then mutated.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from askmill.jobs.model.models import JobStatus, Result
from askmill.jobs.store.codec import pack_result, unpack_result
from askmill.worker.backends.base import Backend
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.stub_server import run_request
from tests.backends.test_reply_fuzz import ALL, QUIET, SAMPLE, TEXT, Reader, open_reader
from tests.helpers.schema_values import mutated

PATH = "POST /chat/completions"
FINISHES = ("stop", "length", "tool_calls", "content_filter", "eos", "error", "odd", None)
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
CALLS = [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def fields(**more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "created": 1, "model": "m", "service_tier": "default", **more}


def extras() -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a message or a delta beside its content."""
    optional = {
        "reasoning_content": st.just("hm"),
        "reasoning": st.sampled_from(["hm", None]),
        "tool_calls": st.sampled_from([CALLS, None, []]),
        "annotations": st.just([{"type": "url_citation", "url_citation": {"url": "x", "title": "y"}}]),
        "audio": st.none(),
        "refusal": st.none(),
    }
    return st.fixed_dictionaries({}, optional=optional)


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """A completion that is not streamed."""
    content = draw(st.sampled_from([TEXT, [{"type": "text", "text": TEXT}]]))
    message = {"role": "assistant", **draw(extras()), "content": content}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": draw(st.sampled_from(FINISHES)),
        "logprobs": None,
    }
    return draw(mutated(fields(object="chat.completion", choices=[choice], usage=USAGE)))


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Any], str]:
    """The chunks of a stream, and the text of those before the first that was mutated."""
    cuts = sorted(draw(st.lists(st.integers(1, len(TEXT) - 1), max_size=4, unique=True)))
    pieces = [TEXT[start:end] for start, end in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    deltas.insert(draw(st.integers(1, len(deltas))), draw(extras()))
    chunks = [
        fields(object="chat.completion.chunk", choices=[{"index": 0, "delta": delta}]) for delta in deltas
    ]
    finish = draw(st.sampled_from(FINISHES))
    chunks.append(fields(choices=[{"index": 0, "delta": {}, "finish_reason": finish}]))
    chunks.append(fields(choices=[], usage=USAGE))
    changed = [draw(mutated(chunk, most=1)) if draw(st.integers(0, 5)) == 0 else chunk for chunk in chunks]
    intact = next((at for at, (a, b) in enumerate(zip(changed, chunks, strict=True)) if a != b), len(chunks))
    return changed, "".join(delta.get("content", "") for delta in deltas[:intact])


def holds_text(body: Any) -> bool:
    """Whether the text is where a completion has it, without a refusal or an error beside it."""
    if not isinstance(body, dict) or body.get("error") or body.get("object") == "error":
        return False
    choices = body.get("choices")
    choices = [choices] if isinstance(choices, dict) else choices
    first = (
        next((choice for choice in choices if isinstance(choice, dict)), {})
        if isinstance(choices, list)
        else {}
    )
    message = first.get("message")
    if not isinstance(message, dict) or message.get("refusal"):
        return False
    content = message.get("content")
    content = [{"text": content}] if isinstance(content, str) else content
    content = [content] if isinstance(content, dict) else content
    parts = content if isinstance(content, list) else []
    return any(
        isinstance(part, dict) and part.get("text") == TEXT and part.get("type") != "thinking"
        for part in parts
    )


async def text_of(backend: Backend) -> tuple[str, bool]:
    """The text that the row gets, and whether it is a refusal; only an ApiError may be raised."""
    try:
        run = await backend.create_run(run_request(), "t_1")
        answer = run.answer
        orjson.dumps(run.message)  # it is stored, and sent again
    except ApiError as error:
        answer = error.partial
    if answer is None:
        return "", False
    result = Result(1, JobStatus.COMPLETED, answer=answer.text, steps=answer.steps)
    assert unpack_result(1, pack_result(result))["answer"] == answer.text
    return answer.text, answer.refusal


async def read_body(backend: Backend, body: Any) -> None:
    text, _ = await text_of(backend)
    if holds_text(body):
        assert TEXT in text


async def read_stream(backend: Backend, arrived: str) -> None:
    text, refused = await text_of(backend)
    assert refused or text.startswith(arrived)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """Reads a body, or chunks and the text that they hold, with the backend."""
    with open_reader(("chat",)) as (server, backends, run):

        def read(_: Any, reply: Any) -> None:
            chunks, arrived = reply if isinstance(reply, tuple) else (None, "")
            if chunks is None:
                server.routes = {PATH: lambda _: (200, reply)}
                run(read_body(backends["chat"], reply))
                return
            body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
            server.routes = {PATH: lambda _: web.Response(body=body, content_type="text/event-stream")}
            run(read_stream(backends["chat"], arrived))

        yield read


@settings(max_examples=2 * SAMPLE, suppress_health_check=QUIET)
@given(st.one_of(bodies(), streams()))
def test_no_reply_of_a_chat_server_loses_a_paid_text(reader: Reader, reply: Any) -> None:
    """Case A16, sampled: streamed or not."""
    reader("chat", reply)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=2 * ALL, suppress_health_check=QUIET)
@given(st.one_of(bodies(), streams()))
def test_thousands_of_chat_replies(reader: Reader, reply: Any) -> None:
    """Case A16, at length."""
    reader("chat", reply)

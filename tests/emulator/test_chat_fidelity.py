"""What chat completions send is what OpenAI's SDK and OpenAI's description expect, chunk for chunk."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.emulator.chat_support import FORMAT, QUESTION, USAGE, body_of, post
from tests.emulator.emulator_support import run_emulator, unknown_fields
from tests.helpers.openapi import (
    needs_chat_description,
    validate_event,
    validate_request,
    validate_response,
)
from tests.helpers.sse import chunks

OUTCOMES = (
    "completed",
    "completed(no_message)",
    "completed(refusal)",
    "completed(reasoning)",
    "completed(long)",
    "incomplete(max_completion_tokens)",
    "incomplete(content_filter)",
    'requires_action(double, {"n": 21}, triple, {"n": 14})',
    "failed(server_error)",
    "failed(rate_limit_exceeded)",
    "incomplete(max_prompt_tokens)",
)
FIELDS: tuple[dict[str, Any], ...] = (
    {},
    {"response_format": FORMAT},
    {"max_completion_tokens": 4},
    {"service_tier": "flex", "seed": 1, "metadata": {"a": "b"}, "store": True},
)
REFUSED: tuple[dict[str, Any], ...] = (
    {"model": "no-such-model"},
    {"max_tokens": 1, "max_completion_tokens": 1},
    {"temperature": 3},
)
PATH = "/chat/completions"

Exchanges = list[tuple[dict[str, Any], int, bytes]]


@pytest.fixture(scope="module")
def exchanges() -> Iterator[Exchanges]:
    """Request, status and bytes of calls of every kind, streamed and not."""
    with run_emulator() as emulator:
        bodies = [
            body_of(f"[emulate: {outcome}] {QUESTION}", **fields, **streamed)
            for outcome in OUTCOMES
            for fields in FIELDS
            for streamed in ({}, {"stream": True}, {"stream": True, "stream_options": USAGE})
        ]
        bodies += [body_of(QUESTION) | fields for fields in REFUSED]
        yield [(body, *post(emulator.url, body)) for body in bodies]


def test_every_object_is_one_of_the_sdk(exchanges: Exchanges) -> None:
    """No field is missing, of another type, or unknown to the SDK's models, which are made from the description."""
    seen = 0
    for body, status, raw in exchanges:
        if status != 200:
            continue
        model: Any = ChatCompletionChunk if body.get("stream") else ChatCompletion
        for one in chunks(raw) if body.get("stream") else [orjson.loads(raw)]:
            assert list(unknown_fields(model.model_validate(one, strict=True))) == []
            seen += 1
    assert seen > 400


class TestDescription:
    """Against ../shared/data/openai-openapi-chat.json."""

    pytestmark = needs_chat_description

    def test_every_answer_and_chunk_satisfies_it(self, exchanges: Exchanges) -> None:
        """Required fields, types and enumerations, refusals included; the requests are real ones too."""
        faults = set()
        for body, status, raw in exchanges:
            try:
                if status == 200 and body.get("stream"):
                    for one in chunks(raw):
                        validate_event("POST", PATH, one)
                else:
                    validate_response("POST", PATH, status, orjson.loads(raw))
                if status == 200:
                    validate_request("POST", PATH, body)
            except AssertionError as error:
                faults.add(str(error))
        assert not faults

"""What the emulator sends is what OpenAI's description and OpenAI's SDK expect, field for field."""

import asyncio
from typing import Any

import pytest
from openai.types import FileObject, Model, VectorStore
from openai.types.beta import Assistant, Thread
from openai.types.beta.threads import Message, Run
from openai.types.beta.threads.runs import RunStep
from openai.types.conversations import Conversation, ConversationItem
from openai.types.responses import Response, ResponseItem
from openai.types.vector_stores import VectorStoreFile, VectorStoreFileBatch
from pydantic import TypeAdapter

from tests.emulator.emulator_support import Exchange, Recorder, open_client, run_emulator
from tests.emulator.emulator_tour import tour
from tests.helpers.openapi import needs_description, validate_request, validate_response

# The SDK says so of its assistants' calls.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

MODELS: dict[str, Any] = {
    "assistant": Assistant,
    "thread": Thread,
    "thread.message": Message,
    "thread.run": Run,
    "thread.run.step": RunStep,
    "file": FileObject,
    "vector_store": VectorStore,
    "vector_store.file": VectorStoreFile,
    "vector_store.files_batch": VectorStoreFileBatch,
    "model": Model,
    "response": Response,
    "conversation": Conversation,
}
ITEM: TypeAdapter[Any] = TypeAdapter(ConversationItem)
INPUT_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)


@pytest.fixture(scope="module")
def exchanges() -> list[Exchange]:
    """Everything that was sent and answered on a tour of the API."""
    recorder = Recorder()

    async def record(url: str) -> None:
        async with open_client(url, recorder) as client:
            await tour(client)

    with run_emulator() as emulator:
        asyncio.run(record(emulator.url))
    return recorder.exchanges


def _objects(exchange: Exchange) -> list[Any]:
    body = exchange.body
    if exchange.status != 200 or body.get("deleted"):
        return []
    return body["data"] if body.get("object") == "list" else [body]


def test_every_object_has_the_fields_that_the_sdk_requires(exchanges: list[Exchange]) -> None:
    """No object lacks a required field of the SDK's model or holds a value of another type."""
    seen = set()
    for exchange in exchanges:
        for one in _objects(exchange):
            model = MODELS.get(one.get("object", ""))
            if model is not None:
                model.model_validate(one)
                seen.add(one["object"])
            elif "/items" in exchange.path:
                ITEM.validate_python(one)
            elif exchange.path.endswith("input_items"):
                INPUT_ITEM.validate_python(one)
    assert seen == set(MODELS)


class TestDescription:
    """Against ../shared/data/openai-openapi.yaml."""

    pytestmark = needs_description

    def test_every_answer_satisfies_it(self, exchanges: list[Exchange]) -> None:
        """Statuses, required fields, types and enumerations of every answer, refusals included."""
        assert len(exchanges) > 200
        faults = set()
        for exchange in exchanges:
            try:
                validate_response(exchange.method, exchange.path, exchange.status, exchange.body)
            except AssertionError as error:
                faults.add(str(error))
        assert not faults

    def test_every_request_of_the_tour_satisfies_it(self, exchanges: list[Exchange]) -> None:
        """The tour itself asks in the API's words, so the answers above are answers to real requests."""
        for exchange in exchanges:
            if exchange.request is not None and exchange.status == 200:
                validate_request(exchange.method, exchange.path, exchange.request)

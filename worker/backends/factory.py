"""Choice of the backend for an API. Importing this module imports the OpenAI SDK."""

from collections.abc import Callable

from openai import AsyncOpenAI

from askmill.jobs.model.models import Api
from askmill.worker.backends.assistants import AssistantsBackend
from askmill.worker.backends.base import Backend
from askmill.worker.backends.chat_completions import ChatCompletionsBackend
from askmill.worker.backends.responses import ResponsesBackend

BACKENDS: dict[Api, Callable[[AsyncOpenAI], Backend]] = {
    "assistants": AssistantsBackend,
    "responses": ResponsesBackend,
    "chat": ChatCompletionsBackend,
}


def backend_for(api: Api, client: AsyncOpenAI) -> Backend:
    """Create the backend of an API. The backend owns the client and closes it."""
    return BACKENDS[api](client)

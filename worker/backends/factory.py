"""Which backend speaks which API; importing it imports the SDK."""

from openai import AsyncOpenAI

from askmill.jobs.model.models import Api
from askmill.worker.backends.assistants import AssistantsBackend
from askmill.worker.backends.base import Backend
from askmill.worker.backends.responses import ResponsesBackend


def backend_for(api: Api, client: AsyncOpenAI) -> Backend:
    """The backend of an API; it owns the client from here on and closes it."""
    return AssistantsBackend(client) if api == "assistants" else ResponsesBackend(client)

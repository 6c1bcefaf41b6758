"""Which backend speaks which API; importing it imports the SDK."""

from openai import AsyncOpenAI

from jobs.models import Api
from worker.backends.assistants import AssistantsBackend
from worker.backends.base import Backend
from worker.backends.responses import ResponsesBackend


def backend_for(api: Api, client: AsyncOpenAI) -> Backend:
    """The backend of an API; it owns the client from here on and closes it."""
    return AssistantsBackend(client) if api == "assistants" else ResponsesBackend(client)

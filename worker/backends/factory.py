"""Choice of the backend for an API. Importing this module imports the OpenAI SDK."""

from openai import AsyncOpenAI

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import Api
from askmill.worker.backends.assistants import AssistantsBackend
from askmill.worker.backends.base import Backend
from askmill.worker.backends.responses import ResponsesBackend


def backend_for(api: Api, client: AsyncOpenAI) -> Backend:
    """Create the backend of an API. The backend owns the client and closes it."""
    if api == "chat":
        raise UsageError("A worker does not speak chat completions yet: set ASKMILL_API to another API.")
    return AssistantsBackend(client) if api == "assistants" else ResponsesBackend(client)

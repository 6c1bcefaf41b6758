"""Choice of the backend for an API. Importing this module imports the OpenAI SDK."""

from collections.abc import Callable

from openai import AsyncOpenAI

from askmill.jobs.model.models import Api
from askmill.worker.backends.assistants import AssistantsBackend
from askmill.worker.backends.base import Backend
from askmill.worker.backends.batch_jobs import BatchJobs
from askmill.worker.backends.chat_completions import ChatCompletionsBackend
from askmill.worker.backends.responses import ResponsesBackend

BACKENDS: dict[Api, Callable[[AsyncOpenAI], Backend]] = {
    "assistants": AssistantsBackend,
    "responses": ResponsesBackend,
    "chat": ChatCompletionsBackend,
}
"""Each owns its client, and closes it."""


class Backends:
    """The backends of one server's APIs, each created for the first batch that uses it. Owns the client."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._created: dict[Api, Backend] = {}
        self._batch_jobs: BatchJobs | None = None

    def of(self, api: Api) -> Backend:
        """The backend of an API."""
        if api not in self._created:
            self._created[api] = BACKENDS[api](self._client)
        return self._created[api]

    @property
    def batch_jobs(self) -> BatchJobs:
        """The server's Batch API, for the batches of `--tier batch`."""
        if self._batch_jobs is None:
            self._batch_jobs = BatchJobs(self._client)
        return self._batch_jobs

    async def close(self) -> None:
        """Close all backends and the client."""
        if self._batch_jobs is not None:
            await self._batch_jobs.close()
        for backend in self._created.values():
            await backend.close()
        await self._client.close()

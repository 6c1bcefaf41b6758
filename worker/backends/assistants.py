"""The Assistants API as a Backend: threads, runs, messages and run steps under `OpenAI-Beta: assistants=v2`.

ready       POST /assistants (or GET the stored one)
make_thread POST /threads              opening messages, question, metadata
make_run    POST /threads/T/runs       metadata again: a run whose reply was lost is found by it
find_run    GET  /threads/T/runs
look        GET  /threads/T/runs/R
read        GET  /threads/T/messages, GET /threads/T/runs/R/steps, GET /files/F for names
"""

from dataclasses import replace
from typing import Any

from openai import AsyncOpenAI

from askmill.jobs.model.models import Api, Step
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.params import assistant_params
from askmill.worker.backends.answer_builder import finished
from askmill.worker.backends.assistants_parse import (
    Json,
    age_of,
    draft_of,
    is_ours,
    listed_run,
    messages_of_run,
    run_of,
    steps_of,
    unknown_of,
    worth_of,
)
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.errors import bad_reply
from askmill.worker.backends.files import Files
from askmill.worker.backends.http import HttpClient, Reply, path
from askmill.worker.backends.request_body import run_params, thread_params
from askmill.worker.lifecycle.api_types import ENDED, Answer, ApiError, LookupKind, Run, RunLookup, ToolOutput

BETA = {"OpenAI-Beta": "assistants=v2"}
SEARCH_RESULTS = ("include[]", "step_details.tool_calls[*].file_search.results[*].content")
NO_SUCH_LIST = frozenset({404, 405, 501})
NOT_LISTED = NO_SUCH_LIST - {404}
"""A 404 on the runs of a thread may as well say that the thread is gone."""
NOT_CANCELLABLE = frozenset({400, 409})


class AssistantsBackend:
    """Asks an Assistants server. Use one per process and event loop; `close` closes the client too."""

    api: Api = "assistants"

    def __init__(self, client: AsyncOpenAI) -> None:
        self._wire = HttpClient(client, BETA)
        self._files = Files(self._wire)

    async def ready(self, profile: Profile, resources: Resources) -> str | None:
        if profile.assistant_id:
            await self._wire.get(path("assistants", profile.assistant_id))
            return profile.assistant_id
        return _id(await self._wire.post("assistants", assistant_params(profile, resources)))

    async def make_store(self, files: tuple[str, ...], name: str) -> str:
        return await self._files.searchable(files, name)

    async def make_thread(self, ask: RunRequest) -> str:
        return _id(await self._wire.post("threads", thread_params(ask)))

    async def make_run(self, ask: RunRequest, thread_id: str) -> Run:
        return run_of(await self._wire.post(path("threads", thread_id, "runs"), run_params(ask)))

    async def find_run(self, ask: RunRequest, thread_id: str, known: frozenset[str]) -> RunLookup:
        """Our attempt's run by its metadata; without any, one on our thread of no earlier attempt or turn.

        Of several, the one that completed counts, else one that still runs, else the oldest. A server that
        does not list runs shows none: nothing is found, and nothing is said by that.
        """
        try:
            listed = await self._wire.list_all(path("threads", thread_id, "runs"), [("order", "asc")])
        except ApiError as fault:
            if fault.status not in NOT_LISTED:
                raise
            return RunLookup(LookupKind.NOTHING)
        listed.sort(key=age_of)
        named = [run for run in listed if is_ours(run, ask.metadata)]
        nameless = [run for run in unknown_of(listed, known) if is_ours(run, ask.metadata) is None]
        ours = [listed_run(run) for run in named or nameless]
        if not ours:
            return RunLookup(LookupKind.NOTHING, complete_list=True)
        best = min(ours, key=worth_of)
        surplus = tuple(run for run in ours if run is not best and run.status not in ENDED)
        return RunLookup(LookupKind.RUN, best, surplus, complete_list=True)

    async def look(self, ask: RunRequest, thread_id: str, run_id: str) -> Run:  # noqa: ARG002 -- Responses needs it
        return await self._look(thread_id, run_id)

    async def cancel(self, thread_id: str, run_id: str) -> Run:
        """As the Protocol; a run that cannot be cancelled any more is read instead."""
        try:
            return run_of(
                await self._wire.post(path("threads", thread_id, "runs", run_id, "cancel"), {}), run_id
            )
        except ApiError as fault:
            if fault.status not in NOT_CANCELLABLE:
                raise
            return await self._look(thread_id, run_id)

    async def submit(
        self,
        ask: RunRequest,  # noqa: ARG002
        thread_id: str,
        run_id: str,
        outputs: tuple[ToolOutput, ...],
    ) -> Run:
        given = [{"tool_call_id": output.call_id, "output": output.output} for output in outputs]
        where = path("threads", thread_id, "runs", run_id, "submit_tool_outputs")
        return run_of(await self._wire.post(where, {"tool_outputs": given}), run_id)

    async def find_submitted(self, ask: RunRequest, thread_id: str, run_id: str) -> RunLookup:
        """As the Protocol; with NOTHING, `run` tells which calls still wait for their outputs."""
        run = await self.look(ask, thread_id, run_id)
        return RunLookup(LookupKind.NOTHING if run.status == "requires_action" else LookupKind.RUN, run)

    async def read(self, ask: RunRequest, thread_id: str, run_id: str | None) -> Answer:
        if run_id is None:
            raise bad_reply(200, "a run of the Assistants API is never without its id")
        of_run = [("order", "asc"), ("run_id", run_id)]
        listed = await self._wire.list_all(path("threads", thread_id, "messages"), of_run)
        draft = draft_of(messages_of_run(listed, run_id))
        names = await self._files.names(draft.unnamed())
        answer, texts = finished(draft, names, footnotes=ask.profile.response_schema is None)
        steps: list[Step] = []
        for entry in await self._steps(ask, thread_id, run_id):
            steps += steps_of(entry, run_id, ask.attempt, texts)
        return replace(answer, run_id=run_id, steps=tuple(steps))

    async def clear_turn(self, thread_id: str, after: str | None, opening: int = 0) -> None:
        listed = await self._wire.list_all(
            path("threads", thread_id, "messages"), [("order", "asc")], after=after
        )
        for message in listed[0 if after else opening :]:
            await self._wire.delete(path("threads", thread_id, "messages", message["id"]))

    async def fetch_file(self, file: dict[str, Any], limit_bytes: int | None = None) -> bytes:
        return await self._files.content(file, limit_bytes)

    async def close(self) -> None:
        await self._wire.close()

    async def _steps(self, ask: RunRequest, thread_id: str, run_id: str) -> list[Json]:
        """The run's steps; none from a server that has no such list, which is no reason to lose an answer."""
        query = [("order", "asc"), *([SEARCH_RESULTS] if "file_search" in ask.profile.tools else [])]
        try:
            return await self._wire.list_all(path("threads", thread_id, "runs", run_id, "steps"), query)
        except ApiError as fault:
            if fault.status not in NO_SUCH_LIST:
                raise
            return []

    async def _look(self, thread_id: str, run_id: str) -> Run:
        return run_of(await self._wire.get(path("threads", thread_id, "runs", run_id)), run_id)


def _id(reply: Reply) -> str:
    made = reply.data.get("id")
    if not made:
        raise bad_reply(200, "the object that was made has no id")
    return str(made)

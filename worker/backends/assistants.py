"""The Assistants API as a Backend: threads, runs, messages and run steps under `OpenAI-Beta: assistants=v2`.

ensure_assistant  POST /assistants (or GET the stored one)
create_thread     POST /threads              opening messages, question, metadata
create_run        POST /threads/T/runs       metadata again: it identifies a run whose reply was lost
recover_run       GET  /threads/T/runs
poll_run          GET  /threads/T/runs/R
read_answer       GET  /threads/T/messages, GET /threads/T/runs/R/steps, GET /files/F for names
"""

from dataclasses import replace
from typing import Any

from openai import AsyncOpenAI

from askmill.jobs.model.models import Api, Step
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.find_offer import what_is_offered
from askmill.jobs.openai_client.params import assistant_params
from askmill.worker.backends.answer_builder import build_answer, partial_answer
from askmill.worker.backends.assistants_parse import (
    created_at,
    draft_from_messages,
    matches_metadata,
    messages_of_run,
    parse_listed_run,
    parse_run,
    parse_steps,
    possible_new_runs,
    run_preference,
)
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.coerce import Json, identifier
from askmill.worker.backends.errors import NOT_CANCELLABLE, bad_reply
from askmill.worker.backends.files import ApiFiles
from askmill.worker.backends.http import HttpClient, url_path
from askmill.worker.backends.request_body import run_params, thread_params
from askmill.worker.lifecycle.api_types import (
    ENDED,
    TOO_LARGE,
    Answer,
    ApiError,
    LookupKind,
    Run,
    RunLookup,
    ToolOutput,
)

BETA = {"OpenAI-Beta": "assistants=v2"}
SEARCH_RESULTS = ("include[]", "step_details.tool_calls[*].file_search.results[*].content")
NO_STEP_LIST = frozenset({404, 405, 501})
NO_RUN_LIST = NO_STEP_LIST - {404}
"""A 404 on the runs of a thread may also mean that the thread is gone."""


class AssistantsBackend:
    """Backend of an Assistants server. Use one per process and event loop; `close` closes the client too."""

    api: Api = "assistants"

    def __init__(self, client: AsyncOpenAI) -> None:
        self._http = HttpClient(client, BETA)
        self._files = ApiFiles(self._http)

    async def ensure_assistant(self, profile: Profile, resources: Resources) -> str | None:
        if profile.assistant_id:
            await self._http.get(url_path("assistants", profile.assistant_id))
            return profile.assistant_id
        return (await self._http.post("assistants", assistant_params(profile, resources))).created_id(
            "assistant"
        )

    async def create_vector_store(self, files: tuple[str, ...], name: str) -> str:
        return await self._files.create_vector_store(files, name)

    async def create_thread(self, request: RunRequest) -> str:
        return (await self._http.post("threads", thread_params(request))).created_id("thread")

    async def create_run(self, request: RunRequest, thread_id: str) -> Run:
        path = url_path("threads", thread_id, "runs")
        return parse_run(await self._http.post(path, run_params(request), may_send=request.may_send))

    async def recover_run(
        self, request: RunRequest, thread_id: str, earlier_run_ids: frozenset[str]
    ) -> RunLookup:
        """Find our attempt's run by its metadata.

        Where the server keeps no metadata, a run on our thread counts that belongs to no earlier attempt or
        turn. Of several runs the completed one is preferred, then a running one, then the oldest. On a server
        without a list of runs nothing is found, and the lookup says that its list is not complete.
        """
        try:
            runs = await self._http.list_all(url_path("threads", thread_id, "runs"), [("order", "asc")])
        except ApiError as error:
            if error.status not in NO_RUN_LIST:
                raise
            return RunLookup(LookupKind.NOTHING)
        runs.sort(key=created_at)
        matching = [run for run in runs if matches_metadata(run, request.metadata)]
        without_metadata = [
            run
            for run in possible_new_runs(runs, earlier_run_ids)
            if matches_metadata(run, request.metadata) is None
        ]
        ours = [parse_listed_run(run) for run in matching or without_metadata]
        if not ours:
            return RunLookup(LookupKind.NOTHING, complete_list=True)
        best = min(ours, key=run_preference)
        duplicates = tuple(run for run in ours if run is not best and run.status not in ENDED)
        return RunLookup(LookupKind.RUN, best, duplicates, complete_list=True)

    async def poll_run(self, request: RunRequest, thread_id: str, run_id: str) -> Run:  # noqa: ARG002 -- for Responses
        return await self._retrieve_run(thread_id, run_id)

    async def cancel(self, thread_id: str, run_id: str) -> Run:
        """As in the protocol. A run that can no longer be cancelled is read instead."""
        path = url_path("threads", thread_id, "runs", run_id, "cancel")
        try:
            return parse_run(await self._http.post(path, {}), run_id)
        except ApiError as error:
            if error.status not in NOT_CANCELLABLE:
                raise
            return replace(await self._retrieve_run(thread_id, run_id), cancel_refusal=str(error))

    async def submit(
        self,
        request: RunRequest,  # noqa: ARG002 -- for Responses
        thread_id: str,
        run_id: str,
        outputs: tuple[ToolOutput, ...],
    ) -> Run:
        tool_outputs = [{"tool_call_id": output.call_id, "output": output.output} for output in outputs]
        path = url_path("threads", thread_id, "runs", run_id, "submit_tool_outputs")
        return parse_run(await self._http.post(path, {"tool_outputs": tool_outputs}), run_id)

    async def recover_submit(self, request: RunRequest, thread_id: str, run_id: str) -> RunLookup:  # noqa: ARG002
        """As in the protocol. With NOTHING, `run` shows which calls still wait for their outputs."""
        run = await self._retrieve_run(thread_id, run_id)
        return RunLookup(LookupKind.NOTHING if run.status == "requires_action" else LookupKind.RUN, run)

    async def read_answer(self, request: RunRequest, thread_id: str, run_id: str | None) -> Answer:
        if run_id is None:
            raise bad_reply(200, "an Assistants run cannot be read without its id")
        query = [("order", "asc"), ("run_id", run_id)]
        messages = await self._http.list_all(url_path("threads", thread_id, "messages"), query)
        draft = draft_from_messages(messages_of_run(messages, run_id))
        footnotes = request.profile.response_schema is None
        with partial_answer(lambda: replace(build_answer(draft, {}, footnotes=footnotes)[0], run_id=run_id)):
            names = await self._files.names(draft.unnamed_file_ids())
            answer, texts = build_answer(draft, names, footnotes=footnotes)
            steps: list[Step] = []
            for run_step in await self._run_steps(request, thread_id, run_id):
                steps += parse_steps(run_step, run_id, request.attempt, texts)
        return replace(answer, run_id=run_id, steps=tuple(steps))

    async def delete_failed_turn(
        self, thread_id: str, after_message_id: str | None, opening: int = 0
    ) -> None:
        path = url_path("threads", thread_id, "messages")
        messages = await self._http.list_all(path, [("order", "asc")], after=after_message_id)
        for message in messages[0 if after_message_id else opening :]:
            if (message_id := identifier(message.get("id"))) is not None:
                await self._http.delete(url_path("threads", thread_id, "messages", message_id))

    async def download_file(self, file: dict[str, Any], limit_bytes: int | None = None) -> bytes:
        return await self._files.download(file, limit_bytes)

    async def what_is_offered(self) -> str:
        return await what_is_offered(self._http.client, self.api)

    async def close(self) -> None:
        await self._http.close()

    async def _run_steps(self, request: RunRequest, thread_id: str, run_id: str) -> list[Json]:
        """The run's steps; none on a server without this list, which must not cost the answer."""
        query = [("order", "asc"), *([SEARCH_RESULTS] if "file_search" in request.profile.tools else [])]
        try:
            return await self._http.list_all(url_path("threads", thread_id, "runs", run_id, "steps"), query)
        except ApiError as error:
            if error.code == TOO_LARGE:
                return [{"type": "steps", "last_error": {"code": error.code, "message": error.message}}]
            if error.status not in NO_STEP_LIST:
                raise
            return []

    async def _retrieve_run(self, thread_id: str, run_id: str) -> Run:
        return parse_run(await self._http.get(url_path("threads", thread_id, "runs", run_id)), run_id)

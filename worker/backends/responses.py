"""The Responses API as a Backend: conversations and background responses. The API has no list of responses.

create_thread   POST /conversations             opening messages, stored before the response is created
create_run      POST /responses                 the question; background, store, Idempotency-Key
recover_run     GET  /conversations/C/items     items found there are the answer, to be adopted
poll_run        GET  /responses/R
submit          POST /responses                 the outputs: a new response on the same conversation
read_answer     the polled response, GET /conversations/C/items for the functions' outputs

A response's items join its conversation when it completes, and they do not name the response. A run of which
only the items are known has the id `items:CONVERSATION`.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from openai import AsyncOpenAI

from askmill.jobs.model.models import BY_ITEMS, Api
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.find_offer import what_is_offered
from askmill.jobs.openai_client.params import include_fields
from askmill.worker.backends.answer_builder import build_answer, partial_answer
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.coerce import Json, identifier, parse_timestamp, plain_text
from askmill.worker.backends.errors import NOT_CANCELLABLE
from askmill.worker.backends.files import ApiFiles
from askmill.worker.backends.http import HttpClient, url_path
from askmill.worker.backends.reply import Reply
from askmill.worker.backends.request_body import conversation_params, response_params, response_question
from askmill.worker.backends.responses_parse import (
    container_ids,
    continuation_metadata,
    draft_from_items,
    function_outputs,
    items_after_question,
    parse_run,
    parse_steps,
    previous_response_id,
    response_items,
    tool_calls,
    without_input,
)
from askmill.worker.lifecycle.api_types import (
    ENDED,
    TOO_LARGE,
    Answer,
    ApiError,
    LookupKind,
    Run,
    RunLookup,
    RunStatus,
    ToolOutput,
)

MAX_CACHED_RESPONSES = 512
"""Ended responses are kept from the last poll to the read that follows, which saves one request a row."""


class ResponsesBackend:
    """Backend of a server with responses and conversations. Use one per process and event loop."""

    api: Api = "responses"

    def __init__(self, client: AsyncOpenAI) -> None:
        self._http = HttpClient(client)
        self._files = ApiFiles(self._http)
        self._ended: OrderedDict[str, Json] = OrderedDict()

    async def ensure_assistant(self, profile: Profile, resources: Resources) -> str | None:  # noqa: ARG002 -- no assistants
        return None

    async def create_vector_store(self, files: tuple[str, ...], name: str) -> str:
        return await self._files.create_vector_store(files, name)

    async def create_thread(self, request: RunRequest) -> str:
        reply = await self._http.post("conversations", conversation_params(request))
        return reply.created_id("conversation")

    async def create_run(self, request: RunRequest, thread_id: str) -> Run:
        params = {**response_params(request, thread_id), "input": response_question(request)}
        return await self._create_response(params, _idempotency_key(request), request.may_send)

    async def recover_run(
        self,
        request: RunRequest,
        thread_id: str,
        earlier_run_ids: frozenset[str],  # noqa: ARG002 -- items name no run
    ) -> RunLookup:
        """As in the protocol. A running response is not seen: only the next create meets its lock."""
        return _lookup(await self._turn_items(request, thread_id), thread_id)

    async def poll_run(self, request: RunRequest, thread_id: str, run_id: str) -> Run:
        if run_id.startswith(BY_ITEMS):
            return _run_from_items(await self._turn_items(request, thread_id), thread_id)
        reply = await self._retrieve(request, run_id)
        self._cache_if_ended(reply.data)
        return reply.timed(parse_run(reply.data))

    async def cancel(self, thread_id: str, run_id: str) -> Run:  # noqa: ARG002 -- responses are cancelled by id
        """As in the protocol. A response that can no longer be cancelled is read instead."""
        if run_id.startswith(BY_ITEMS):
            return Run(id=run_id, status=RunStatus.CANCELLED)
        refusal: str | None = None
        try:
            reply = await self._http.post(url_path("responses", run_id, "cancel"), {})
        except ApiError as error:
            if error.status not in NOT_CANCELLABLE:
                raise
            refusal, reply = str(error), await self._http.get(url_path("responses", run_id))
        run = replace(parse_run(reply.data), cancel_refusal=refusal)
        # A response with function calls has already ended: not to answer them is to cancel the run.
        return replace(run, status=RunStatus.CANCELLED) if run.status == RunStatus.REQUIRES_ACTION else run

    async def submit(
        self, request: RunRequest, thread_id: str, run_id: str, outputs: tuple[ToolOutput, ...]
    ) -> Run:
        """As in the protocol: creates a response whose metadata has the previous one and its tokens."""
        run = Run(run_id, "") if run_id.startswith(BY_ITEMS) else await self._cached_run(request, run_id)
        items = [
            {"type": "function_call_output", "call_id": output.call_id, "output": output.output}
            for output in outputs
        ]
        params = {**response_params(request, thread_id), "input": items}
        params["metadata"] = {**request.metadata, **continuation_metadata(run)}
        calls = hashlib.sha256("/".join(output.call_id for output in outputs).encode()).hexdigest()[:16]
        return await self._create_response(params, f"{_idempotency_key(request)}-{calls}")

    async def recover_submit(self, request: RunRequest, thread_id: str, run_id: str) -> RunLookup:
        """As in the protocol. The outputs are on the conversation once the next response has completed."""
        items = await self._turn_items(request, thread_id)
        run = await self.poll_run(request, thread_id, run_id)
        unanswered = {call.id for call in tool_calls(items)}
        if {call.id for call in run.tool_calls} & unanswered:
            return RunLookup(LookupKind.NOTHING, run)
        return _lookup(items, thread_id)

    async def read_answer(self, request: RunRequest, thread_id: str, run_id: str | None) -> Answer:
        if run_id is None or run_id.startswith(BY_ITEMS):
            items = without_input(await self._turn_items(request, thread_id))
            # The start is unknown: on a shared conversation the files may belong to an earlier turn.
            since = None if request.follow_up else 0.0
            answer, texts = await self._answer(request, items, since)
            nameless: list[tuple[Json, str | None]] = [(item, None) for item in items]
            return replace(
                answer, steps=parse_steps(nameless, request.attempt, function_outputs(items), texts)
            )
        chain = [await self._read_response(request, run_id)]
        footnotes = request.profile.response_schema is None

        def answer_so_far() -> Answer:
            answer, _ = build_answer(draft_from_items(_items_of(chain)), {}, footnotes=footnotes)
            return replace(answer, run_id=run_id)

        with partial_answer(answer_so_far):
            await self._read_continued(request, run_id, chain)
            items, since = _items_of(chain), parse_timestamp(chain[0].get("created_at"))
            outputs = await self._function_outputs(request, thread_id) if tool_calls(items) else {}
            answer, texts = await self._answer(request, items, since)
        owners = [
            (item, identifier(response.get("id"))) for response in chain for item in response_items(response)
        ]
        return replace(answer, run_id=run_id, steps=parse_steps(owners, request.attempt, outputs, texts))

    async def _function_outputs(self, request: RunRequest, thread_id: str) -> dict[str, Any]:
        """The outputs of functions, which only the conversation has, because askmill sent them."""
        try:
            return function_outputs(await self._turn_items(request, thread_id))
        except ApiError as error:
            if error.code != TOO_LARGE:
                raise
            return {}

    async def delete_failed_turn(
        self, thread_id: str, after_message_id: str | None, opening: int = 0
    ) -> None:
        items = await self._items(thread_id, (), after_message_id)
        for item in items[0 if after_message_id else opening :]:
            if (item_id := identifier(item.get("id"))) is not None:
                await self._http.delete(url_path("conversations", thread_id, "items", item_id))

    async def download_file(self, file: dict[str, Any], limit_bytes: int | None = None) -> bytes:
        return await self._files.download(file, limit_bytes)

    async def what_is_offered(self) -> str:
        return await what_is_offered(self._http.client, self.api)

    async def close(self) -> None:
        await self._http.close()

    async def _create_response(
        self, params: dict[str, Any], idempotency_key: str, may_send: Callable[[], bool] | None = None
    ) -> Run:
        headers = {"Idempotency-Key": idempotency_key}
        reply = await self._http.post("responses", params, headers, may_send)
        self._cache_if_ended(reply.data)
        return reply.timed(parse_run(reply.data))

    async def _retrieve(self, request: RunRequest, run_id: str) -> Reply:
        query = [("include[]", name) for name in include_fields(request.profile)]
        return await self._http.get(url_path("responses", run_id), query)

    async def _cached_run(self, request: RunRequest, run_id: str) -> Run:
        response = self._ended.get(run_id)
        return parse_run(response) if response else await self.poll_run(request, "", run_id)

    def _cache_if_ended(self, response: Json) -> None:
        if plain_text(response.get("status")) in ENDED:
            self._ended[str(identifier(response.get("id")))] = response
            if len(self._ended) > MAX_CACHED_RESPONSES:
                self._ended.popitem(last=False)

    async def _read_response(self, request: RunRequest, run_id: str) -> Json:
        return self._ended.pop(run_id, None) or (await self._retrieve(request, run_id)).data

    async def _read_continued(self, request: RunRequest, run_id: str, chain: list[Json]) -> None:
        """Put the responses that the last one continues before it, oldest first."""
        next_id, read = previous_response_id(chain[0]), {run_id}
        while next_id and not next_id.startswith(BY_ITEMS) and next_id not in read:
            read.add(next_id)
            chain.insert(0, await self._read_response(request, next_id))
            next_id = previous_response_id(chain[0])

    async def _answer(
        self, request: RunRequest, items: list[Json], since: float | None
    ) -> tuple[Answer, dict[str, str]]:
        """Build the answer of a turn's items.

        Args:
            request: The attempt.
            items: The turn's items.
            since: Files written in a container from then on (Unix seconds) are this turn's; None if unknown.

        Returns:
            The answer without its steps, and the text of each message by its id.
        """
        draft = draft_from_items(items)
        if since is not None:
            for container_id in container_ids(items):
                for file in await self._files.list_container_files(container_id, since):
                    draft.add_file(file["file_id"], file["name"], container_id)
        names = await self._files.names(draft.unnamed_file_ids())
        answer, texts = build_answer(draft, names, footnotes=request.profile.response_schema is None)
        last = identifier(items[-1].get("id")) if items else None
        return replace(answer, last_message_id=last), texts

    async def _turn_items(self, request: RunRequest, thread_id: str) -> list[Json]:
        """The conversation's items of this turn, oldest first, without its question."""
        items = await self._items(thread_id, tuple(include_fields(request.profile)), request.after_message_id)
        if request.after_message_id is None and request.follow_up:
            return items_after_question(items, request.question)
        opening = 0 if request.after_message_id else len(request.profile.messages)
        return [item for item in items[opening:] if item.get("role") != "user"]

    async def _items(self, thread_id: str, include: tuple[str, ...], after: str | None) -> list[Json]:
        query = [("order", "asc"), *(("include[]", name) for name in include)]
        return await self._http.list_all(url_path("conversations", thread_id, "items"), query, after)


def _idempotency_key(request: RunRequest) -> str:
    return f"{request.batch}-{request.row}-{request.attempt}"


def _items_of(chain: Iterable[Json]) -> list[Json]:
    """The items of responses, oldest first."""
    return [item for response in chain for item in response_items(response)]


def _lookup(items: list[Json], thread_id: str) -> RunLookup:
    """What the items of a turn show of a response whose id is unknown."""
    output = without_input(items)
    if not output:
        return RunLookup(LookupKind.NOTHING)
    if tool_calls(items):
        return RunLookup(LookupKind.RUN, _run_from_items(items, thread_id))
    if any(item.get("status") == RunStatus.INCOMPLETE for item in output):
        return RunLookup(LookupKind.ANSWER, Run(id="", status=RunStatus.INCOMPLETE))
    return RunLookup(LookupKind.ANSWER)


def _run_from_items(items: list[Json], thread_id: str) -> Run:
    calls = tool_calls(items)
    status = RunStatus.REQUIRES_ACTION if calls else RunStatus.COMPLETED
    return Run(id=f"{BY_ITEMS}{thread_id}", status=status, tool_calls=calls)

"""The Responses API as a Backend: conversations and background responses, without a list to look in.

    make_thread POST /conversations                opening messages; stored before the response is made
    make_run    POST /responses                    the question; background, store, Idempotency-Key
    find_run    GET  /conversations/C/items        items there: the answer, to be adopted
    look        GET  /responses/R
    submit      POST /responses                    the outputs: a new response on the same conversation
    read        the response that the last look saw, GET /conversations/C/items for functions' outputs

A response's items join its conversation when it completes, and do not name the response. A run that is only
known by its items has the id `items:CONVERSATION`.
"""

import hashlib
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from openai import AsyncOpenAI

from askmill.jobs.model.models import BY_ITEMS, Api, Step, Usage
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.params import includes
from askmill.worker.backends.answer_builder import finished
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.coerce import moment_of
from askmill.worker.backends.errors import bad_reply
from askmill.worker.backends.files import Files
from askmill.worker.backends.http import HttpClient, Reply, path
from askmill.worker.backends.request_body import conversation_params, response_params, response_question
from askmill.worker.backends.responses_parse import (
    Json,
    behind_question,
    containers_of,
    draft_of,
    going_on,
    output_of,
    outputs_of,
    previous_of,
    run_of,
    step_of,
    tool_calls,
    written,
)
from askmill.worker.lifecycle.api_types import (
    Answer,
    ApiError,
    LookupKind,
    Run,
    RunLookup,
    RunStatus,
    ToolOutput,
)

NOT_CANCELLABLE = frozenset({400, 409})
ENDED = frozenset({"completed", "failed", "cancelled", "incomplete"})
KEPT = 512
"""Ended responses kept from the look to the read that follows at once: one request a job less."""


class ResponsesBackend:
    """Asks OpenAI, or a server that speaks Responses with conversations. One per process and event loop."""

    api: Api = "responses"

    def __init__(self, client: AsyncOpenAI) -> None:
        self._wire = HttpClient(client)
        self._files = Files(self._wire)
        self._ended: OrderedDict[str, Json] = OrderedDict()

    async def ready(self, profile: Profile, resources: Resources) -> str | None:  # noqa: ARG002 -- makes nothing
        return None

    async def make_store(self, files: tuple[str, ...], name: str) -> str:
        return await self._files.searchable(files, name)

    async def make_thread(self, ask: RunRequest) -> str:
        made = (await self._wire.post("conversations", conversation_params(ask))).data.get("id")
        if not made:
            raise bad_reply(200, "the conversation that was made has no id")
        return str(made)

    async def make_run(self, ask: RunRequest, thread_id: str) -> Run:
        params = {**response_params(ask, thread_id), "input": response_question(ask)}
        return await self._create(params, f"{ask.batch}-{ask.row}-{ask.attempt}")

    async def find_run(self, ask: RunRequest, thread_id: str, known: frozenset[str]) -> RunLookup:  # noqa: ARG002 -- items
        """As the Protocol; a lock is not seen here: only the next create can tell (`conversation_locked`)."""
        return _found(await self._turn(ask, thread_id), thread_id)

    async def look(self, ask: RunRequest, thread_id: str, run_id: str) -> Run:
        if run_id.startswith(BY_ITEMS):
            return _run_by_items(await self._turn(ask, thread_id), thread_id)
        reply = await self._get(ask, run_id)
        self._keep(reply.data)
        return run_of(reply.data, reply.poll_after_s)

    async def cancel(self, thread_id: str, run_id: str) -> Run:  # noqa: ARG002 -- by id
        """As the Protocol; a response that cannot be cancelled any more is read instead."""
        if run_id.startswith(BY_ITEMS):
            return Run(id=run_id, status=RunStatus.CANCELLED)
        try:
            return _over(run_of((await self._wire.post(path("responses", run_id, "cancel"), {})).data))
        except ApiError as fault:
            if fault.status not in NOT_CANCELLABLE:
                raise
            return _over(run_of((await self._wire.get(path("responses", run_id))).data))

    async def submit(
        self, ask: RunRequest, thread_id: str, run_id: str, outputs: tuple[ToolOutput, ...]
    ) -> Run:
        """As the Protocol: a new response; its metadata tells the one before and tokens till then."""
        spent = Usage() if run_id.startswith(BY_ITEMS) else (await self._seen(ask, run_id)).usage
        given = [
            {"type": "function_call_output", "call_id": output.call_id, "output": output.output}
            for output in outputs
        ]
        params = {**response_params(ask, thread_id), "input": given}
        params["metadata"] = {**ask.metadata, **going_on(run_id, spent)}
        calls = hashlib.sha256("/".join(output.call_id for output in outputs).encode()).hexdigest()[:16]
        return await self._create(params, f"{ask.batch}-{ask.row}-{ask.attempt}-{calls}")

    async def find_submitted(self, ask: RunRequest, thread_id: str, run_id: str) -> RunLookup:
        """As the Protocol, from the conversation: outputs are there once the next has completed."""
        items = await self._turn(ask, thread_id)
        run = await self.look(ask, thread_id, run_id)
        waiting = {call.id for call in tool_calls(items)}
        if {call.id for call in run.tool_calls} & waiting:
            return RunLookup(LookupKind.NOTHING, run)
        return _found(items, thread_id)

    async def read(self, ask: RunRequest, thread_id: str, run_id: str | None) -> Answer:
        if run_id is None or run_id.startswith(BY_ITEMS):
            items = written(await self._turn(ask, thread_id))
            steps = [step_of(item, None, ask.attempt, outputs_of(items)) for item in items]
            # Nobody knows since when: on a shared conversation, files may be of an earlier turn.
            return await self._answer(ask, items, steps, None if ask.follow_up else 0.0)
        chain = await self._chain(ask, run_id)
        items = [item for response in chain for item in output_of(response)]
        outputs = await self._outputs(ask, thread_id, items)
        steps = [
            step_of(item, str(response.get("id")), ask.attempt, outputs)
            for response in chain
            for item in output_of(response)
        ]
        since = moment_of(chain[0].get("created_at"))
        return replace(await self._answer(ask, items, steps, since), run_id=run_id)

    async def clear_turn(self, thread_id: str, after: str | None, opening: int = 0) -> None:
        for item in (await self._items(thread_id, (), after))[0 if after else opening :]:
            await self._wire.delete(path("conversations", thread_id, "items", item["id"]))

    async def fetch_file(self, file: dict[str, Any], limit_bytes: int | None = None) -> bytes:
        return await self._files.content(file, limit_bytes)

    async def close(self) -> None:
        await self._wire.close()

    async def _create(self, params: dict[str, Any], key: str) -> Run:
        reply = await self._wire.post("responses", params, {"Idempotency-Key": key})
        self._keep(reply.data)
        return run_of(reply.data, reply.poll_after_s)

    async def _get(self, ask: RunRequest, run_id: str) -> Reply:
        query = [("include[]", name) for name in includes(ask.profile)]
        return await self._wire.get(path("responses", run_id), query)

    async def _seen(self, ask: RunRequest, run_id: str) -> Run:
        known = self._ended.get(run_id)
        return run_of(known) if known else await self.look(ask, "", run_id)

    def _keep(self, response: Json) -> None:
        if response.get("status") in ENDED:
            self._ended[str(response.get("id"))] = response
            if len(self._ended) > KEPT:
                self._ended.popitem(last=False)

    async def _chain(self, ask: RunRequest, run_id: str) -> list[Json]:
        """The response and those that it goes on from, oldest first."""
        chain: list[Json] = []
        link: str | None = run_id
        while link and not link.startswith(BY_ITEMS):
            response = self._ended.pop(link, None) or (await self._get(ask, link)).data
            chain.insert(0, response)
            link = previous_of(response)
        return chain

    async def _answer(
        self, ask: RunRequest, items: list[Json], steps: list[Step | None], since: float | None
    ) -> Answer:
        """`since`: files left in a container from then on (Unix seconds) are this turn's; None: unknown."""
        draft = draft_of(items)
        for container_id in containers_of(items) if since is not None else ():
            for file in await self._files.left_in(container_id, since or 0.0):
                draft.add_file(file["file_id"], file["name"], container_id)
        names = await self._files.names(draft.unnamed())
        answer, _ = finished(draft, names, footnotes=ask.profile.response_schema is None)
        last = str(items[-1].get("id")) if items else None
        return replace(answer, last_message_id=last, steps=tuple(step for step in steps if step))

    async def _outputs(self, ask: RunRequest, thread_id: str, items: list[Json]) -> dict[str, Any]:
        """What the functions gave back: we sent it, so it stands only in the conversation."""
        if not tool_calls(items):
            return {}
        return outputs_of(await self._turn(ask, thread_id))

    async def _turn(self, ask: RunRequest, thread_id: str) -> list[Json]:
        """The conversation's items that belong to this turn, oldest first, without its question."""
        items = await self._items(thread_id, tuple(includes(ask.profile)), ask.after)
        if ask.after is None and ask.follow_up:
            return behind_question(items, ask.question)
        opening = 0 if ask.after else len(ask.profile.messages)
        return [item for item in items[opening:] if item.get("role") != "user"]

    async def _items(self, thread_id: str, include: tuple[str, ...], after: str | None) -> list[Json]:
        query = [("order", "asc"), *(("include[]", name) for name in include)]
        return await self._wire.list_all(path("conversations", thread_id, "items"), query, after)


def _over(run: Run) -> Run:
    """A response that called functions has ended: when nobody answers, that is its cancellation."""
    return replace(run, status=RunStatus.CANCELLED) if run.status == RunStatus.REQUIRES_ACTION else run


def _found(items: list[Json], thread_id: str) -> RunLookup:
    """What the items of a turn show of a response whose id is not known."""
    if not written(items):
        return RunLookup(LookupKind.NOTHING)
    if tool_calls(items):
        return RunLookup(LookupKind.RUN, _run_by_items(items, thread_id))
    if any(item.get("status") == RunStatus.INCOMPLETE for item in written(items)):
        return RunLookup(LookupKind.ANSWER, Run(id="", status=RunStatus.INCOMPLETE))
    return RunLookup(LookupKind.ANSWER)


def _run_by_items(items: list[Json], thread_id: str) -> Run:
    calls = tool_calls(items)
    status = RunStatus.REQUIRES_ACTION if calls else RunStatus.COMPLETED
    return Run(id=f"{BY_ITEMS}{thread_id}", status=status, tool_calls=calls)

"""/responses: create (background, foreground, streamed), retrieve, cancel, delete, input items."""

import asyncio
from typing import Any

from askmill.emulator.protocol.errors import (
    conflicting_history,
    conversation_locked,
    missing_output,
    no_previous_response,
    no_response,
    not_in_background,
    unexpected_output,
)
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Request, Result, Route, Stream
from askmill.emulator.protocol.validation import (
    ANY_OBJECT,
    FLAG,
    METADATA,
    TEMPERATURE,
    TOP_P,
    Rule,
    Shape,
    check,
    each,
)
from askmill.emulator.resources.assistants import check_model
from askmill.emulator.resources.containers import Containers
from askmill.emulator.resources.conversations import Conversations
from askmill.emulator.resources.response_events import response_events
from askmill.emulator.resources.response_items import (
    ItemWriter,
    count_turn_outputs,
    open_call_ids,
    parse_input,
)
from askmill.emulator.resources.response_object import (
    Response,
    ResponseInput,
    end_fields,
    initial_fields,
    prompt_of_response,
)
from askmill.emulator.simulation.answer import Answer
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import AttemptKey, Engine, RunState, next_outcome
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.single_calls import Asked, failure_of
from askmill.emulator.simulation.tiers import ASKED_TIERS

CREATE_BODY: Shape = {
    "model": Rule((str,), required=True, null=False),
    "input": Rule((str, list)),
    "instructions": Rule((str,)),
    "background": FLAG,
    "background_options": ANY_OBJECT,
    "store": FLAG,
    "stream": FLAG,
    "stream_options": ANY_OBJECT,
    "conversation": Rule((str, dict)),
    "previous_response_id": Rule((str,)),
    "include": Rule((list,), inside=each(Rule((str,), null=False))),
    "max_output_tokens": Rule((int,), low=16),
    "max_tool_calls": Rule((int,)),
    "metadata": METADATA,
    "parallel_tool_calls": FLAG,
    "prompt": ANY_OBJECT,
    "prompt_cache_key": Rule((str,)),
    "prompt_cache_options": ANY_OBJECT,
    "prompt_cache_retention": Rule((str,)),
    "reasoning": ANY_OBJECT,
    "safety_identifier": Rule((str,), high=64),
    "service_tier": Rule((str,), values=ASKED_TIERS),
    "temperature": TEMPERATURE,
    "text": ANY_OBJECT,
    "tool_choice": Rule((str, dict)),
    "tools": Rule((list,), inside=each(Rule((dict,), null=False))),
    "top_logprobs": Rule((int,), low=0, high=20),
    "top_p": TOP_P,
    "truncation": Rule((str,), values=("auto", "disabled")),
    "context_management": Rule((list,)),
    "moderation": ANY_OBJECT,
    "user": Rule((str,)),
}
POLL_S = 0.05


class Responses:
    """All responses, and through them the lock of each conversation."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        library: FileLibrary,
        conversations: Conversations,
        containers: Containers,
    ) -> None:
        self._rows = store.table("response", Response.load, lambda row: row.conversation_id)
        self._engine = engine
        self._library = library
        self._conversations = conversations
        self._containers = containers
        self._lock_holders: dict[str, str] = {}
        conversations.locks = self

    def routes(self) -> list[Route]:
        one = "/responses/{response_id}"
        return [
            Route("POST", "/responses", self.create),
            Route("GET", one, self.retrieve),
            Route("DELETE", one, self.delete),
            Route("POST", one + "/cancel", self.cancel),
            Route("GET", one + "/input_items", self.input_items),
        ]

    def resume_unfinished(self, now: float) -> None:
        """Resume the responses that had not ended when the emulator stopped."""
        for row in self._rows.rows.values():
            if not row.state.final_status:
                if row.conversation_id:
                    self._lock_holders[row.conversation_id] = row.id
                self._engine.track(row.id, row.state, self._refresh_by_id, now)

    def lock_holder(self, conversation_id: str, now: float) -> str | None:
        """Return the response that holds the conversation's lock, after writing an end that is due."""
        response_id = self._lock_holders.get(conversation_id)
        if response_id is None:
            return None
        self.refresh(self._rows.rows[response_id], now)
        return self._lock_holders.get(conversation_id)

    # --- handlers ---

    def create(self, request: Request) -> Any:
        body = check(request.json(), CREATE_BODY)
        check_model(body["model"])
        self._library.check_stores_exist(body.get("tools") or [])
        inputs = self._read_input(body, request.now)
        tier = self._engine.tiers.serve(body.get("service_tier"), self._engine.scenario.tiers)
        body = body | {"service_tier": tier}
        row = self._start(inputs, body, request.now)
        include = body.get("include") or []
        if body.get("stream"):
            return Stream(response_events(row, self._engine, self.refresh, include))
        if body.get("background"):
            return row.to_api(request.now, include)
        return self._wait_for_end(row, include)

    def retrieve(self, request: Request) -> Result:
        row = self._get(request)
        self.refresh(row, request.now)
        include = request.arguments("include")
        if request.argument("stream") == "true":
            after = int(request.argument("starting_after") or -1)
            return Stream(response_events(row, self._engine, self.refresh, include, after))
        return row.to_api(request.now, include)

    def delete(self, request: Request) -> Json:
        row = self._get(request)
        self._forget(row)
        return {"id": row.id, "object": "response", "deleted": True}

    def cancel(self, request: Request) -> Json:
        row = self._get(request)
        if not row.fields["background"]:
            raise not_in_background()
        self.refresh(row, request.now)
        if not row.state.final_status:
            self._engine.cancel(row.id, row.state, request.now, cancelling_s=0.0)
            self.refresh(row, request.now)
            self._rows.put(row.id, row)
        return row.to_api(request.now)

    def input_items(self, request: Request) -> Json:
        return page(self._get(request).input_items, request)

    # --- lines of batches ---

    def ask_line(self, body: Json, now: float) -> Asked:
        """What a line of a batch asks; ApiError for what the API refuses. Nothing is kept of it."""
        check(body, CREATE_BODY)
        check_model(body["model"])
        self._library.check_stores_exist(body.get("tools") or [])
        inputs = self._read_input(body, now)
        fields = initial_fields(body, inputs.conversation_id, now)
        prompt, directed = prompt_of_response(fields, inputs)

        async def answer(state: RunState) -> Json:
            if failure := failure_of(state.outcome):
                raise failure
            row = Response(fields["id"], inputs.conversation_id, fields, state, inputs.new_items)
            echo = self._engine.scenario.batches.echo
            computed = await self._engine.compute(prompt, state.outcome, echo=echo)
            self._write_end(row, computed)
            return row.to_api(now, body.get("include") or [])

        return Asked(prompt, directed, self._engine.job_of(fields["metadata"]), answer)

    # --- inside ---

    def _get(self, request: Request) -> Response:
        row = self._rows.get(request.ids[0])
        if row is None:
            raise no_response(request.ids[0])
        return row

    def _read_input(self, body: Json, now: float) -> ResponseInput:
        """Read the history and the new items; ApiError for what the API refuses."""
        new_items = parse_input(body.get("input"))
        conversation_id, history = "", list[Json]()
        if body.get("conversation") and body.get("previous_response_id"):
            raise conflicting_history()
        if conversation := body.get("conversation"):
            named = conversation if isinstance(conversation, str) else conversation.get("id", "")
            conversation_id = str(self._conversations.get(named)["id"])
            if self.lock_holder(conversation_id, now):
                raise conversation_locked()
            history = self._conversations.items(conversation_id)
        elif previous := body.get("previous_response_id"):
            history = self._history(previous, now)
        outputs = [item["call_id"] for item in new_items if item["type"] == "function_call_output"]
        open_call_step = open_call_ids(
            [*history, *(item for item in new_items if item["type"] == "function_call")]
        )
        for call_id in outputs:
            if call_id not in open_call_step:
                raise unexpected_output(call_id)
        for call_id in open_call_step:
            if call_id not in outputs:
                raise missing_output(call_id)
        return ResponseInput(conversation_id, history, new_items, continues=bool(outputs))

    def _history(self, response_id: str, now: float) -> list[Json]:
        items: list[Json] = []
        next_id: str | None = response_id
        while next_id is not None:
            row = self._rows.get(next_id)
            if row is None:
                raise no_previous_response(next_id)
            self.refresh(row, now)
            items = [*row.input_items, *row.to_api(now)["output"], *items]
            next_id = row.fields["previous_response_id"]
        return items

    def _start(self, inputs: ResponseInput, body: Json, now: float) -> Response:
        fields = initial_fields(body, inputs.conversation_id, now)
        prompt, directed = prompt_of_response(fields, inputs)
        job = self._engine.job_of(fields["metadata"])
        outcomes = (self._continuation_outcome(inputs, directed, job),) if inputs.continues else directed
        attempt = (
            self._engine.count_runs(job)
            if job
            else self._count_attempts(inputs.conversation_id, prompt.question)
        )
        state = self._engine.start(prompt, outcomes, AttemptKey(job, attempt, responses=True), now)
        if not inputs.continues:
            self._engine.count_run(job)
        row = Response(fields["id"], inputs.conversation_id, fields, state, inputs.new_items)
        self._rows.put(row.id, row)
        if inputs.conversation_id:
            self._lock_holders[inputs.conversation_id] = row.id
        self._engine.track(row.id, state, self._refresh_by_id, now)
        return row

    def _continuation_outcome(
        self, inputs: ResponseInput, directed: tuple[Outcome, ...], job: str
    ) -> Outcome:
        """Return the outcome of a response with function outputs: it calls again while rounds are left."""
        attempt = max(0, self._engine.count_runs(job) - 1)
        outcome = directed[min(attempt, len(directed) - 1)] if directed else Outcome()
        outputs = count_turn_outputs([*inputs.history, *inputs.new_items])
        return next_outcome(outcome, outputs // len(outcome.calls)) if outcome.calls else Outcome()

    def _count_attempts(self, conversation_id: str, question: str) -> int:
        if not conversation_id:
            return 0
        return sum(1 for row in self._rows.children(conversation_id) if row.state.prompt.question == question)

    async def _wait_for_end(self, row: Response, include: list[str]) -> Json:
        """Wait for the end of a foreground response."""
        while True:
            now = self._engine.clock.now()
            self.refresh(row, now)
            if row.state.final_status:
                break
            if row.state.plan.over(now):
                await self._engine.wait_answer(row.id)
            else:
                await asyncio.sleep(min(POLL_S, (row.state.plan.next_change(now) or now + POLL_S) - now))
        if not row.fields["store"]:
            self._forget(row)
        return row.to_api(self._engine.clock.now(), include)

    def _forget(self, row: Response) -> None:
        self._engine.forget(row.id)
        self._rows.drop(row.id)
        if self._lock_holders.get(row.conversation_id) == row.id:
            del self._lock_holders[row.conversation_id]

    def _refresh_by_id(self, response_id: str, now: float) -> None:
        self.refresh(self._rows.rows[response_id], now)

    def refresh(self, row: Response, now: float) -> str:
        """Write the end of the response if it is due. Returns the status now."""
        state = row.state
        if state.final_status or not state.plan.over(now):
            return state.status(now)
        answer = self._engine.answer_of(row.id, state)
        if answer is None:
            self._engine.prepare(row.id, state)
            return state.status(now)
        status = self._write_end(row, answer)
        if row.conversation_id and status in {"completed", "incomplete"}:
            self._conversations.append(row.conversation_id, [*row.input_items, *row.final_fields["output"]])
        self._engine.finish(row.id, state, status, row.final_fields["usage"]["total_tokens"])
        self._lock_holders.pop(row.conversation_id, None)
        if row.id in self._rows.rows:
            self._rows.put(row.id, row)
        return status

    def _write_end(self, row: Response, answer: Answer) -> str:
        """Write the fields of the end; returns the status."""
        at, status = row.state.plan.marks[-1]
        if answer.truncated and status == "completed":
            status = "incomplete"
        calls = row.state.calls if status == "completed" else []
        container_id = ""
        if answer.code is not None or answer.linked_file or answer.image or answer.unlinked_file:
            container_id = row.container_id or self._containers.create_container(at)
        writer = ItemWriter(row.state.prompt, answer, calls, self._containers, container_id, at)
        row.final_fields = end_fields(row, answer, status, writer.items())
        return status

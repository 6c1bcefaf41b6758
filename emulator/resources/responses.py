"""/responses: create (background, foreground, streamed), look, cancel, delete, input items."""

import asyncio
from typing import Any

from askmill.emulator.protocol.errors import (
    both_histories,
    conversation_locked,
    no_previous_response,
    no_response,
    synchronous,
    unanswered_call,
    unasked_output,
)
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Call, Json, Result, Route, Stream
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
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import Engine, Lot, after_outputs
from askmill.emulator.simulation.file_library import Library
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.response_events import response_events
from askmill.emulator.simulation.response_items import Scribe, outputs_of_turn, stored_input, unanswered
from askmill.emulator.simulation.response_object import Asked, Response, ask_of, new_fields, response_ending

CREATED: Shape = {
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
    "service_tier": Rule((str,), values=("auto", "default", "flex", "scale", "priority")),
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
LOOK_S = 0.05


class Responses:
    """All responses, and through them the lock of each conversation."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        library: Library,
        conversations: Conversations,
        containers: Containers,
    ) -> None:
        self._rows = store.table("response", Response.load, lambda row: row.conversation_id)
        self._engine = engine
        self._library = library
        self._conversations = conversations
        self._containers = containers
        self._busy: dict[str, str] = {}
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

    def take_up(self, now: float) -> None:
        """After a start from kept state: go on with the responses that have not ended."""
        for row in self._rows.rows.values():
            if not row.life.final:
                if row.conversation_id:
                    self._busy[row.conversation_id] = row.id
                self._engine.track(row.id, row.life, self._look_by_id, now)

    def active_on(self, conversation_id: str, now: float) -> str | None:
        """The response that holds the conversation, after writing down its end if that has come."""
        response_id = self._busy.get(conversation_id)
        if response_id is None:
            return None
        self.look(self._rows.rows[response_id], now)
        return self._busy.get(conversation_id)

    # --- handlers ---

    def create(self, call: Call) -> Any:
        body = check(call.json(), CREATED)
        check_model(body["model"])
        self._library.need_stores(body.get("tools") or [])
        asked = self._asked(body, call.now)
        row = self._begin(asked, body, call.now)
        include = body.get("include") or []
        if body.get("stream"):
            return Stream(response_events(row, self._engine, self.look, include))
        if body.get("background"):
            return row.shown(call.now, include)
        return self._waited(row, include)

    def retrieve(self, call: Call) -> Result:
        row = self._get(call)
        self.look(row, call.now)
        include = call.arguments("include")
        if call.argument("stream") == "true":
            after = int(call.argument("starting_after") or -1)
            return Stream(response_events(row, self._engine, self.look, include, after))
        return row.shown(call.now, include)

    def delete(self, call: Call) -> Json:
        row = self._get(call)
        self._forget(row)
        return {"id": row.id, "object": "response", "deleted": True}

    def cancel(self, call: Call) -> Json:
        row = self._get(call)
        if not row.fields["background"]:
            raise synchronous()
        self.look(row, call.now)
        if not row.life.final:
            self._engine.cancel(row.id, row.life, call.now, cancelling_s=0.0)
            self.look(row, call.now)
            self._rows.put(row.id, row)
        return row.shown(call.now)

    def input_items(self, call: Call) -> Json:
        return page(self._get(call).given, call)

    # --- inside ---

    def _get(self, call: Call) -> Response:
        row = self._rows.get(call.ids[0])
        if row is None:
            raise no_response(call.ids[0])
        return row

    def _asked(self, body: Json, now: float) -> Asked:
        """What came before and what is asked now, with everything that the API refuses refused."""
        given = stored_input(body.get("input"))
        conversation_id, before = "", list[Json]()
        if body.get("conversation") and body.get("previous_response_id"):
            raise both_histories()
        if conversation := body.get("conversation"):
            named = conversation if isinstance(conversation, str) else conversation.get("id", "")
            conversation_id = str(self._conversations.get(named)["id"])
            if self.active_on(conversation_id, now):
                raise conversation_locked()
            before = self._conversations.items(conversation_id)
        elif previous := body.get("previous_response_id"):
            before = self._history(previous, now)
        outputs = [item["call_id"] for item in given if item["type"] == "function_call_output"]
        open_calls = unanswered([*before, *(item for item in given if item["type"] == "function_call")])
        for call_id in outputs:
            if call_id not in open_calls:
                raise unasked_output(call_id)
        for call_id in open_calls:
            if call_id not in outputs:
                raise unanswered_call(call_id)
        return Asked(conversation_id, before, given, continues=bool(outputs))

    def _history(self, response_id: str, now: float) -> list[Json]:
        items: list[Json] = []
        wanted: str | None = response_id
        while wanted is not None:
            row = self._rows.get(wanted)
            if row is None:
                raise no_previous_response(wanted)
            self.look(row, now)
            items = [*row.given, *row.shown(now)["output"], *items]
            wanted = row.fields["previous_response_id"]
        return items

    def _begin(self, asked: Asked, body: Json, now: float) -> Response:
        fields = new_fields(body, asked.conversation_id, now)
        ask, directed = ask_of(self._engine, fields, asked)
        job = self._engine.job_of(fields["metadata"])
        outcomes = (self._continued(asked, directed, job),) if asked.continues else directed
        attempt = self._engine.runs_of(job) if job else self._earlier(asked.conversation_id, ask.question)
        life = self._engine.begin(ask, outcomes, Lot(job, attempt, responses=True), now)
        if not asked.continues:
            self._engine.count_run(job)
        row = Response(fields["id"], asked.conversation_id, fields, life, asked.given)
        self._rows.put(row.id, row)
        if asked.conversation_id:
            self._busy[asked.conversation_id] = row.id
        self._engine.track(row.id, life, self._look_by_id, now)
        return row

    def _continued(self, asked: Asked, directed: tuple[Outcome, ...], job: str) -> Outcome:
        """What the response that brings outputs does: it calls again while the direction has rounds left."""
        attempt = max(0, self._engine.runs_of(job) - 1)
        outcome = directed[min(attempt, len(directed) - 1)] if directed else Outcome()
        given = outputs_of_turn([*asked.before, *asked.given])
        return after_outputs(outcome, given // len(outcome.calls)) if outcome.calls else Outcome()

    def _earlier(self, conversation_id: str, question: str) -> int:
        if not conversation_id:
            return 0
        return sum(1 for row in self._rows.children(conversation_id) if row.life.ask.question == question)

    async def _waited(self, row: Response, include: list[str]) -> Json:
        """A response in the foreground: the reply waits for its end."""
        while True:
            now = self._engine.clock.now()
            self.look(row, now)
            if row.life.final:
                break
            if row.life.plan.over(now):
                await self._engine.wait_answer(row.id)
            else:
                await asyncio.sleep(min(LOOK_S, (row.life.plan.next_change(now) or now + LOOK_S) - now))
        if not row.fields["store"]:
            self._forget(row)
        return row.shown(self._engine.clock.now(), include)

    def _forget(self, row: Response) -> None:
        self._engine.forget(row.id)
        self._rows.drop(row.id)
        if self._busy.get(row.conversation_id) == row.id:
            del self._busy[row.conversation_id]

    def _look_by_id(self, response_id: str, now: float) -> None:
        self.look(self._rows.rows[response_id], now)

    def look(self, row: Response, now: float) -> str:
        """The status now, after writing down the end if it has come."""
        life = row.life
        if life.final or not life.plan.over(now):
            return life.status(now)
        answer = self._engine.answer_of(row.id, life)
        if answer is None:
            self._engine.prepare(row.id, life)
            return life.status(now)
        status = life.plan.marks[-1][1]
        if answer.cut and status == "completed":
            status = "incomplete"
        at = life.plan.marks[-1][0]
        calls = life.calls if status == "completed" else []
        container_id = ""
        if answer.code is not None or answer.made or answer.image or answer.left:
            container_id = row.container_id or self._containers.make(at)
        output = Scribe(life.ask, answer, calls, self._containers, container_id, at).items()
        row.ended = response_ending(row, answer, status, output)
        if row.conversation_id and status in {"completed", "incomplete"}:
            self._conversations.append(row.conversation_id, [*row.given, *output])
        self._engine.finish(row.id, life, status, row.ended["usage"]["total_tokens"])
        self._busy.pop(row.conversation_id, None)
        if row.id in self._rows.rows:
            self._rows.put(row.id, row)
        return status

"""/threads/{id}/runs and /threads/runs: create, look, cancel, submit outputs."""

from typing import Any

from askmill.emulator.protocol.errors import (
    empty_thread,
    no_cancel,
    no_outputs_accepted,
    not_found,
    thread_busy_for_runs,
    wrong_outputs,
)
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Call, Json, Reply, Result, Route, Stream, json_bytes
from askmill.emulator.protocol.validation import (
    EFFORT,
    FLAG,
    FORMAT,
    INSTRUCTIONS,
    METADATA,
    TEMPERATURE,
    TOP_P,
    Rule,
    Shape,
    check,
    each,
    shaped,
)
from askmill.emulator.resources.assistants import TOOL, TOOL_RESOURCES, Assistants, check_model
from askmill.emulator.resources.threads import check_message
from askmill.emulator.simulation.engine import Engine, Lot
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.prompt import ask_of
from askmill.emulator.simulation.run_events import RunStream
from askmill.emulator.simulation.run_object import Run
from askmill.emulator.simulation.run_output import Writer, ending

TOKENS = Rule((int,), low=256)
COMMON: Shape = {
    "assistant_id": Rule((str,), required=True, null=False),
    "model": Rule((str,)),
    "instructions": INSTRUCTIONS,
    "tools": Rule((list,), high=20, inside=each(TOOL)),
    "metadata": METADATA,
    "temperature": TEMPERATURE,
    "top_p": TOP_P,
    "stream": FLAG,
    "max_prompt_tokens": TOKENS,
    "max_completion_tokens": TOKENS,
    "truncation_strategy": Rule(
        (dict,),
        inside=shaped(
            {
                "type": Rule((str,), required=True, null=False, values=("auto", "last_messages")),
                "last_messages": Rule((int,), low=1),
            }
        ),
    ),
    "tool_choice": Rule((str, dict)),
    "parallel_tool_calls": FLAG,
    "response_format": FORMAT,
}
CREATED: Shape = COMMON | {
    "reasoning_effort": EFFORT,
    "additional_instructions": INSTRUCTIONS,
    "additional_messages": Rule((list,), inside=each(Rule((dict,), null=False))),
}
WITH_THREAD: Shape = COMMON | {"thread": Rule((dict,)), "tool_resources": TOOL_RESOURCES}
MODIFIED: Shape = {"metadata": METADATA}
OUTPUTS: Shape = {
    "tool_outputs": Rule(
        (list,),
        required=True,
        null=False,
        inside=each(
            Rule(
                (dict,),
                null=False,
                inside=shaped({"tool_call_id": Rule((str,)), "output": Rule((str,), null=False)}),
            )
        ),
    ),
    "stream": FLAG,
}


class Runs:
    """All runs, and through them the lock of each thread."""

    def __init__(self, store: Store, engine: Engine, assistants: Assistants, writer: Writer) -> None:
        self._rows = store.table("run", Run.load, lambda run: run.thread_id)
        self._engine = engine
        self._assistants = assistants
        self._threads = writer.threads
        self._busy: dict[str, str] = {}
        self.writer = writer
        self._threads.locks = self

    def routes(self) -> list[Route]:
        runs = "/threads/{thread_id}/runs"
        one = runs + "/{run_id}"
        return [
            Route("POST", "/threads/runs", self.create_with_thread, beta=True),
            Route("POST", runs, self.create, beta=True),
            Route("GET", runs, self.list_all, beta=True),
            Route("GET", one, self.retrieve, beta=True),
            Route("POST", one, self.modify, beta=True),
            Route("POST", one + "/cancel", self.cancel, beta=True),
            Route("POST", one + "/submit_tool_outputs", self.submit, beta=True),
        ]

    def take_up(self, now: float) -> None:
        """After a start from kept state: go on with the runs that have not ended."""
        for run in self._rows.rows.values():
            if not run.life.final:
                self._busy[run.thread_id] = run.id
                self._engine.track(run.id, run.life, self._look_by_id, now)

    # --- the lock of a thread ---

    def active_on(self, thread_id: str, now: float) -> str | None:
        """The run that holds the thread, after writing down its end if that has come."""
        run_id = self._busy.get(thread_id)
        if run_id is None:
            return None
        self._look(self._rows.rows[run_id], now)
        return self._busy.get(thread_id)

    def drop_all(self, thread_id: str) -> None:
        """Forget the runs of a thread that is being deleted."""
        for run in self._rows.children(thread_id):
            self._engine.forget(run.id)
            self.writer.drop_steps(run.id)
            self._rows.drop(run.id)
        self._busy.pop(thread_id, None)

    # --- handlers ---

    def create(self, call: Call) -> Result:
        thread = self._threads.get(call.ids[0])
        body = check(call.json(), CREATED)
        for i, message in enumerate(body.get("additional_messages") or []):
            check_message(message, f"additional_messages[{i}].")
        assistant = self._assistants.get(body["assistant_id"])
        check_model(body.get("model"))
        if run_id := self.active_on(thread["id"], call.now):
            raise thread_busy_for_runs(thread["id"], run_id)
        return self._begin(thread, assistant, body, call)

    def create_with_thread(self, call: Call) -> Result:
        body = check(call.json(), WITH_THREAD)
        assistant = self._assistants.get(body["assistant_id"])
        check_model(body.get("model"))
        thread = self._threads.make(body.get("thread") or {}, call.now)
        if body.get("tool_resources"):
            thread = thread | {"tool_resources": body["tool_resources"]}
        return self._begin(thread, assistant, body, call)

    def list_all(self, call: Call) -> Json:
        thread_id = self._threads.get(call.ids[0])["id"]
        self.active_on(thread_id, call.now)
        return page([run.shown(call.now) for run in self._rows.children(thread_id)], call)

    def retrieve(self, call: Call) -> Reply:
        run = self.get(call.ids)
        self._look(run, call.now)
        if run.life.final:
            return Reply(json_bytes(run.shown(call.now)))
        hint = str(self._engine.poll_after_ms(run.life)).encode()
        return Reply(json_bytes(run.shown(call.now)), headers=((b"openai-poll-after-ms", hint),))

    def modify(self, call: Call) -> Json:
        run = self.get(call.ids)
        run.fields = run.fields | check(call.json(), MODIFIED)
        self._rows.put(run.id, run)
        return run.shown(call.now)

    def cancel(self, call: Call) -> Json:
        run = self.get(call.ids)
        self._look(run, call.now)
        status = run.life.status(call.now)
        if run.life.final or status == "cancelling":
            raise no_cancel(status)
        self._engine.cancel(run.id, run.life, call.now)
        self._rows.put(run.id, run)
        return run.shown(call.now)

    def submit(self, call: Call) -> Result:
        run = self.get(call.ids)
        body = check(call.json(), OUTPUTS)
        self._look(run, call.now)
        status = run.life.status(call.now)
        if status != "requires_action":
            raise no_outputs_accepted(status)
        given = {output.get("tool_call_id"): output.get("output", "") for output in body["tool_outputs"]}
        wanted = [call_["id"] for call_ in run.life.calls]
        if set(given) != set(wanted):
            raise wrong_outputs(wanted, [str(one) for one in given])
        for one in run.life.calls:
            one["output"] = given[one["id"]]
        self.writer.close_calls(run, call.now)
        lines = tuple(f"{one['name']}({one['arguments']}) = {one['output']}" for one in run.life.calls)
        self._engine.resume(run.id, run.life, lines, call.now)
        self._rows.put(run.id, run)
        return self._shown_or_streamed(run, body, call, created=False)

    # --- inside ---

    def get(self, ids: tuple[str, ...]) -> Run:
        """The run of (thread id, run id, …), or 404."""
        thread_id, run_id = ids[0], ids[1]
        run = self._rows.get(run_id)
        if self._threads.get(thread_id) is None or run is None or run.thread_id != thread_id:
            raise not_found("run", run_id)
        return run

    def look(self, run: Run, now: float) -> str:
        """The status now, after writing down what has happened since the last look."""
        self._look(run, now)
        return run.life.status(now)

    def _begin(self, thread: Json, assistant: Json, body: Json, call: Call) -> Result:
        now = call.now
        messages = [*self._threads.messages.children(thread["id"])]
        extra = body.get("additional_messages") or []
        if not messages and not extra and not (body.get("instructions") or assistant["instructions"]):
            raise empty_thread()
        fields = _fields(thread["id"], assistant, body, now)
        job = self._engine.job_of(fields["metadata"])
        # Directions are read before anything is stored: a misspelt one must leave the thread as it was.
        drafts = [self._threads.draft(thread["id"], message, now) for message in extra]
        ask, outcomes = ask_of(self._engine, fields, (assistant, thread), [*messages, *drafts])
        attempt = self._engine.runs_of(job) if job else self._earlier(thread["id"], ask.question)
        for draft in drafts:
            self._threads.messages.put(draft["id"], draft)
        life = self._engine.begin(ask, outcomes, Lot(job, attempt), now)
        self._engine.count_run(job)
        run = Run(fields["id"], thread["id"], fields, life)
        fields["expires_at"] = int(life.plan.expires_at)
        self._rows.put(run.id, run)
        self._busy[thread["id"]] = run.id
        self._engine.track(run.id, life, self._look_by_id, now)
        return self._shown_or_streamed(run, body, call, created=True)

    def _earlier(self, thread_id: str, question: str) -> int:
        return sum(1 for run in self._rows.children(thread_id) if run.life.ask.question == question)

    def _shown_or_streamed(self, run: Run, body: Json, call: Call, *, created: bool) -> Json | Stream:
        if body.get("stream"):
            return Stream(RunStream(run, self.writer, self._engine).events(self.look, created=created))
        return run.shown(call.now)

    def _look_by_id(self, run_id: str, now: float) -> None:
        self._look(self._rows.rows[run_id], now)

    def _look(self, run: Run, now: float) -> None:
        life = run.life
        if life.final:
            return
        if not life.plan.over(now):
            if life.calls and life.plan.status(now) == "requires_action":
                self.writer.open_calls(run, now)
            return
        answer = self._engine.answer_of(run.id, life)
        if answer is None:
            self._engine.prepare(run.id, life)
            return
        status = (
            "incomplete" if answer.cut and life.plan.marks[-1][1] == "completed" else life.plan.marks[-1][1]
        )
        usage = self.writer.write_down(run, answer, status, life.plan.marks[-1][0])
        run.ended = ending(run, status, usage)
        self._engine.finish(run.id, life, status, usage["total_tokens"])
        self._busy.pop(run.thread_id, None)
        self._rows.put(run.id, run)


def _fields(thread_id: str, assistant: Json, body: Json, now: float) -> Json:
    """The run's object as it is at creation; what the request leaves out comes from the assistant."""
    instructions = body.get("instructions") or assistant["instructions"] or ""
    if body.get("additional_instructions"):
        instructions = f"{instructions}\n\n{body['additional_instructions']}".strip()
    return {
        "id": new_id("run_"),
        "object": "thread.run",
        "created_at": int(now),
        "assistant_id": assistant["id"],
        "thread_id": thread_id,
        "status": "queued",
        "started_at": None,
        "expires_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": body.get("model") or assistant["model"],
        "instructions": instructions,
        "tools": assistant["tools"] if body.get("tools") is None else body["tools"],
        "metadata": body.get("metadata") or {},
        "temperature": _chosen(body, assistant, "temperature"),
        "top_p": _chosen(body, assistant, "top_p"),
        "max_completion_tokens": body.get("max_completion_tokens"),
        "max_prompt_tokens": body.get("max_prompt_tokens"),
        "truncation_strategy": {"type": "auto", "last_messages": None}
        | (body.get("truncation_strategy") or {}),
        "incomplete_details": None,
        "usage": None,
        "response_format": body.get("response_format") or assistant["response_format"] or "auto",
        "tool_choice": body.get("tool_choice") or "auto",
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
    }


def _chosen(body: Json, assistant: Json, name: str) -> Any:
    return assistant[name] if body.get(name) is None else body[name]

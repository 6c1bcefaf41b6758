"""/threads/{id}/runs and /threads/runs: create, retrieve, modify, cancel, submit outputs."""

from askmill.emulator.protocol.errors import (
    empty_thread,
    no_cancel,
    no_outputs_accepted,
    not_found,
    thread_busy_for_runs,
    wrong_outputs,
)
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Reply, Request, Result, Route, Stream, json_bytes
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
    object_of,
)
from askmill.emulator.resources.assistants import TOOL, TOOL_RESOURCES, Assistants, check_model
from askmill.emulator.resources.run_events import RunStream
from askmill.emulator.resources.run_object import Run, end_fields, initial_fields, prompt_of_run
from askmill.emulator.resources.run_output import RunWriter
from askmill.emulator.resources.threads import check_message
from askmill.emulator.simulation.engine import AttemptKey, Engine
from askmill.emulator.simulation.journal import Store

TOKENS = Rule((int,), low=256)
COMMON_FIELDS: Shape = {
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
        inside=object_of(
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
CREATE_BODY: Shape = COMMON_FIELDS | {
    "reasoning_effort": EFFORT,
    "additional_instructions": INSTRUCTIONS,
    "additional_messages": Rule((list,), inside=each(Rule((dict,), null=False))),
}
CREATE_WITH_THREAD_BODY: Shape = COMMON_FIELDS | {"thread": Rule((dict,)), "tool_resources": TOOL_RESOURCES}
MODIFY_BODY: Shape = {"metadata": METADATA}
OUTPUTS_BODY: Shape = {
    "tool_outputs": Rule(
        (list,),
        required=True,
        null=False,
        inside=each(
            Rule(
                (dict,),
                null=False,
                inside=object_of({"tool_call_id": Rule((str,)), "output": Rule((str,), null=False)}),
            )
        ),
    ),
    "stream": FLAG,
}


class Runs:
    """All runs, and through them the lock of each thread."""

    def __init__(self, store: Store, engine: Engine, assistants: Assistants, writer: RunWriter) -> None:
        self._rows = store.table("run", Run.load, lambda run: run.thread_id)
        self._engine = engine
        self._assistants = assistants
        self._threads = writer.threads
        self._lock_holders: dict[str, str] = {}
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

    def resume_unfinished(self, now: float) -> None:
        """Resume the runs that had not ended when the emulator stopped."""
        for run in self._rows.rows.values():
            if not run.state.final_status:
                self._lock_holders[run.thread_id] = run.id
                self._engine.track(run.id, run.state, self._refresh_by_id, now)

    # --- the lock of a thread ---

    def lock_holder(self, thread_id: str, now: float) -> str | None:
        """Return the run that holds the thread's lock, after writing the end of a run that is due."""
        run_id = self._lock_holders.get(thread_id)
        if run_id is None:
            return None
        self.refresh(self._rows.rows[run_id], now)
        return self._lock_holders.get(thread_id)

    def delete_runs(self, thread_id: str) -> None:
        """Delete the runs of a thread that is being deleted."""
        for run in self._rows.children(thread_id):
            self._engine.forget(run.id)
            self.writer.delete_steps(run.id)
            self._rows.drop(run.id)
        self._lock_holders.pop(thread_id, None)

    # --- handlers ---

    def create(self, request: Request) -> Result:
        thread = self._threads.get(request.ids[0])
        body = check(request.json(), CREATE_BODY)
        for i, message in enumerate(body.get("additional_messages") or []):
            check_message(message, f"additional_messages[{i}].")
        assistant = self._assistants.get(body["assistant_id"])
        check_model(body.get("model"))
        if run_id := self.lock_holder(thread["id"], request.now):
            raise thread_busy_for_runs(thread["id"], run_id)
        return self._start(thread, assistant, body, request)

    def create_with_thread(self, request: Request) -> Result:
        body = check(request.json(), CREATE_WITH_THREAD_BODY)
        assistant = self._assistants.get(body["assistant_id"])
        check_model(body.get("model"))
        thread = self._threads.create_thread(body.get("thread") or {}, request.now)
        if body.get("tool_resources"):
            thread = thread | {"tool_resources": body["tool_resources"]}
        return self._start(thread, assistant, body, request)

    def list_all(self, request: Request) -> Json:
        thread_id = self._threads.get(request.ids[0])["id"]
        self.lock_holder(thread_id, request.now)
        return page([run.to_api(request.now) for run in self._rows.children(thread_id)], request)

    def retrieve(self, request: Request) -> Reply:
        run = self.get(request.ids)
        self.refresh(run, request.now)
        if run.state.final_status:
            return Reply(json_bytes(run.to_api(request.now)))
        hint = str(self._engine.poll_after_ms(run.state)).encode()
        return Reply(json_bytes(run.to_api(request.now)), headers=((b"openai-poll-after-ms", hint),))

    def modify(self, request: Request) -> Json:
        run = self.get(request.ids)
        run.fields = run.fields | check(request.json(), MODIFY_BODY)
        self._rows.put(run.id, run)
        return run.to_api(request.now)

    def cancel(self, request: Request) -> Json:
        run = self.get(request.ids)
        self.refresh(run, request.now)
        status = run.state.status(request.now)
        if run.state.final_status or status == "cancelling":
            raise no_cancel(status)
        self._engine.cancel(run.id, run.state, request.now)
        self._rows.put(run.id, run)
        return run.to_api(request.now)

    def submit(self, request: Request) -> Result:
        run = self.get(request.ids)
        body = check(request.json(), OUTPUTS_BODY)
        self.refresh(run, request.now)
        status = run.state.status(request.now)
        if status != "requires_action":
            raise no_outputs_accepted(status)
        outputs = {output.get("tool_call_id"): output.get("output", "") for output in body["tool_outputs"]}
        call_ids = [call["id"] for call in run.state.calls]
        if set(outputs) != set(call_ids):
            raise wrong_outputs(call_ids, [str(call_id) for call_id in outputs])
        for call in run.state.calls:
            call["output"] = outputs[call["id"]]
        self.writer.close_call_step(run, request.now)
        lines = tuple(f"{call['name']}({call['arguments']}) = {call['output']}" for call in run.state.calls)
        self._engine.resume(run.id, run.state, lines, request.now)
        self._rows.put(run.id, run)
        return self._reply(run, body, request, created=False)

    # --- inside ---

    def get(self, ids: tuple[str, ...]) -> Run:
        """The run of (thread id, run id, …), or 404."""
        thread_id, run_id = ids[0], ids[1]
        run = self._rows.get(run_id)
        if self._threads.get(thread_id) is None or run is None or run.thread_id != thread_id:
            raise not_found("run", run_id)
        return run

    def _start(self, thread: Json, assistant: Json, body: Json, request: Request) -> Result:
        now = request.now
        messages = [*self._threads.messages.children(thread["id"])]
        extra = body.get("additional_messages") or []
        if not messages and not extra and not (body.get("instructions") or assistant["instructions"]):
            raise empty_thread()
        fields = initial_fields(thread["id"], assistant, body, now)
        job = self._engine.job_of(fields["metadata"])
        # Directives are parsed before anything is stored: a misspelt one leaves the thread unchanged.
        drafts = [self._threads.new_message(thread["id"], message, now) for message in extra]
        prompt, outcomes = prompt_of_run(fields, (assistant, thread), [*messages, *drafts])
        attempt = self._engine.count_runs(job) if job else self._count_attempts(thread["id"], prompt.question)
        for draft in drafts:
            self._threads.messages.put(draft["id"], draft)
        state = self._engine.start(prompt, outcomes, AttemptKey(job, attempt), now)
        self._engine.count_run(job)
        run = Run(fields["id"], thread["id"], fields, state)
        fields["expires_at"] = int(state.plan.expires_at)
        self._rows.put(run.id, run)
        self._lock_holders[thread["id"]] = run.id
        self._engine.track(run.id, state, self._refresh_by_id, now)
        return self._reply(run, body, request, created=True)

    def _count_attempts(self, thread_id: str, question: str) -> int:
        return sum(1 for run in self._rows.children(thread_id) if run.state.prompt.question == question)

    def _reply(self, run: Run, body: Json, request: Request, *, created: bool) -> Json | Stream:
        if body.get("stream"):
            return Stream(RunStream(run, self.writer, self._engine).events(self.refresh, created=created))
        return run.to_api(request.now)

    def _refresh_by_id(self, run_id: str, now: float) -> None:
        self.refresh(self._rows.rows[run_id], now)

    def refresh(self, run: Run, now: float) -> str:
        """Write what has happened since the last call. Returns the status now."""
        state = run.state
        if state.final_status:
            return state.final_status
        if not state.plan.over(now):
            if state.calls and state.plan.status(now) == "requires_action":
                self.writer.open_call_step(run, now)
            return state.status(now)
        answer = self._engine.answer_of(run.id, state)
        if answer is None:
            self._engine.prepare(run.id, state)
            return state.status(now)
        status = (
            "incomplete"
            if answer.truncated and state.plan.marks[-1][1] == "completed"
            else state.plan.marks[-1][1]
        )
        usage = self.writer.write_end(run, answer, status, state.plan.marks[-1][0])
        run.final_fields = end_fields(run, status, usage)
        self._engine.finish(run.id, state, status, usage["total_tokens"])
        self._lock_holders.pop(run.thread_id, None)
        self._rows.put(run.id, run)
        return status

"""A small API in memory that simulates one row's whole history: errors, late creates, kills and cancels by a script."""

from collections import deque
from dataclasses import dataclass, field, replace

from askmill.jobs.model.models import Attempt, BatchState, JobStatus, OnIncomplete, Usage
from askmill.worker.execution.result_builder import attempts_of
from askmill.worker.execution.stored_state import STATE_JSON
from askmill.worker.lifecycle.api_types import (
    ACTIVE,
    ENDED,
    Answer,
    ApiError,
    LookupKind,
    Run,
    RunLookup,
    ToolCall,
    ToolOutput,
)
from askmill.worker.lifecycle.decision import (
    Action,
    CallTools,
    CancelRun,
    CreateRun,
    CreateThread,
    DeleteFailedTurn,
    Finish,
    PauseBatch,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    ReleaseRow,
    Reserve,
    SubmitOutputs,
    Wait,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import (
    AnswerRead,
    CancelAccepted,
    Claimed,
    CreateSkipped,
    Event,
    FailedTurnDeleted,
    LookupDone,
    OutputsSubmitted,
    RequestFailed,
    Reserved,
    RunCreated,
    RunPolled,
    ThreadCreated,
    ToolsCalled,
)
from askmill.worker.lifecycle.kept_answer import joined, with_kept_answer
from askmill.worker.lifecycle.on_batch_state import apply_batch_state
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance, in_time
from tests.unit.lifecycle.states import REFUSED_RUNS

ON = {
    Reserve: RequestKind.THREAD,
    CreateThread: RequestKind.THREAD,
    CreateRun: RequestKind.CREATE,
    CancelRun: RequestKind.CANCEL,
    SubmitOutputs: RequestKind.SUBMIT,
}
FAULTS = {
    "429": ApiError(429, code="rate_limit_exceeded", retry_after_s=2.0),
    "500": ApiError(500, code="server_error"),
    "503": ApiError(503),
    "timeout": ApiError(None),
    "unsent": ApiError(None, sent=False),
    "garbage": ApiError(200, code="bad_reply"),
    "away": ApiError(503),
}
"""Errors of requests that were not carried out; "away" lasts 40 s."""
NOT_THERE = ApiError(404, message="Not Found")
"""The error of "404" for a request that reads: a server that is starting up has nothing yet."""
LOST = {
    "drop_after": ApiError(None),
    "500_after": ApiError(502),
    "garbage_after": ApiError(200, code="bad_reply"),
}
"""Errors of requests that were carried out all the same."""

LAG_S = 4.0
"""How long "lagging" shows answered calls as open, and "late_message" a completed run without its message."""
CALLS = (ToolCall("call_1", "add", "{}"), ToolCall("call_2", "add", "{}"))


@dataclass
class Thread:
    """A thread with its runs, and the creates that will still arrive."""

    runs: list[str] = field(default_factory=list)
    late: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class Simulation:
    """One row and its API. `script` names what happens to the next requests; after it all requests succeed.

    "kill" kills the worker between storing a decision and acting on it, "kill_unstored" before storing it.
    "forget_K" kills it as "kill" does, and the store forgets the last K states, as in a power loss: Redis and worker
    die together. (A worker that lives stores them again: tests/store/test_recovery.py.)
    "held" delays the action by a minute after the state is stored, and loses the reply of a create. "asleep" lets
    an hour pass between a reply and its processing: the machine sleeps.

    `outcomes`: how each run ends, the last one repeating. `run_s`: how long a run takes. `earlier`: runs of the
    conversation's earlier turns. `nameless`: the API keeps no metadata; only the id identifies a run.
    `refuses_cancels`: the API does not cancel what is active.
    """

    script: deque[str]
    outcomes: tuple[str, ...] = ("completed",)
    run_s: float = 3.0
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    state: JobState = field(default_factory=JobState)
    earlier: tuple[str, ...] = ()
    nameless: bool = False
    refuses_cancels: bool = False
    replaced_alive: list[str] = field(default_factory=list)
    """Runs that were active at the API when a run of a later attempt was created."""
    now: float = 1_000.0
    threads: dict[str, Thread] = field(default_factory=dict)
    runs: dict[str, dict[str, object]] = field(default_factory=dict)
    attempts_of: dict[str, int] = field(default_factory=dict)
    stored: JobState = field(default_factory=JobState)
    history: list[JobState] = field(default_factory=list)
    """All states that the store has had, but for those that it has forgotten."""
    forgotten_marks: list[int] = field(default_factory=list)
    """The attempts whose mark before the create was forgotten."""
    finish: Finish | None = None
    recorded: tuple[Attempt, ...] = ()
    """The row's attempts, as its result has them."""
    paused: bool = False
    """An error of the row has paused the batch."""
    goes_on: bool = False
    """Then the batch is resumed after three rests; else the simulation ends."""
    batch_state: BatchState = BatchState.RUNNING
    sent_while: dict[BatchState, int] = field(default_factory=dict)
    """Creates that were sent while the batch was in each state."""
    submitted: list[tuple[str, int]] = field(default_factory=list)
    """Each submission: the run, and how many outputs it brought."""
    rests: int = 0
    called: int = 0
    """Rounds of functions called."""
    last_active_poll_at: float | None = None
    """When the last poll that showed the run active was sent."""
    cancelled_late: list[tuple[float, float | None]] = field(default_factory=list)
    """For each run cancelled for its deadline: the deadline, and `last_active_poll_at` then."""
    steps: int = 0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stored = self.state
        self.history.append(self.stored)
        if self.state.thread_id is not None:
            self.threads[self.state.thread_id] = Thread(runs=list(self.earlier))

    def play(self, most_steps: int = 3_000) -> "Simulation":
        """Run the row to its end; raises AssertionError when it has none."""
        event: Event = Claimed(self.now)
        while self.finish is None and (self.goes_on or not self.paused):
            self.steps += 1
            assert self.steps < most_steps, f"no end in sight: {self.log[-20:]}"
            event = self._step(event)
        self.now += 100.0
        self._land_late()
        return self

    def _step(self, event: Event) -> Event:
        decision = advance(self.state, event, self.policy)
        fault = self._next_fault()
        decision = apply_batch_state(decision, self.batch_state, Claimed(self.now), self.policy)
        action = decision.action
        self.log.append(f"{type(event).__name__} -> {type(action).__name__}")
        if fault == "kill_unstored":
            return self._killed()
        if decision.store or isinstance(action, ReleaseRow | PauseBatch):
            self.stored = STATE_JSON.validate_json(
                STATE_JSON.dump_json(decision.state, exclude_defaults=True)
            )
            self.history.append(self.stored)
        self.state = decision.state
        for run_id in decision.duplicate_run_ids:
            self.runs[run_id]["ends"] = "cancelled"
        if isinstance(action, Finish):
            self.state, action = with_kept_answer(self.state, action)
            self.finish, self.recorded = action, attempts_of(self.state, action, event)
            return event
        if isinstance(action, PauseBatch):
            self.paused = True
            if not self.goes_on:
                return event
            self.batch_state = (
                BatchState.PAUSED if self.batch_state is BatchState.RUNNING else self.batch_state
            )
        if self.batch_state is BatchState.PAUSED and isinstance(action, ReleaseRow | PauseBatch):
            self._rest()
        if fault.startswith("forget_"):
            self._forget(int(fault.removeprefix("forget_")))
        if fault == "kill" or fault.startswith("forget_"):
            return self._killed()
        return self._act(action, fault)

    def _forget(self, states: int) -> None:
        """The store goes back by so many states; its first one was there with the batch."""
        kept = max(1, len(self.history) - states)
        forgotten, self.history = self.history[kept:], self.history[:kept]
        self.stored = self.history[-1]
        marked = {state.attempt for state in forgotten if state.phase is Phase.CREATE_SENT}
        if self.stored.phase is not Phase.NEW:
            marked.discard(self.stored.attempt)
        self.forgotten_marks += marked

    def _rest(self) -> None:
        """A row with an unconfirmed create is dispatched in a pause too; after three rests the batch resumes."""
        self.rests += 1
        if self.rests % 3 == 0:
            self.batch_state = BatchState.RUNNING

    def _next_fault(self) -> str:
        """What happens to the next request; pauses and cancels before it take effect."""
        while self.script:
            fault = self.script.popleft()
            if fault == "cancel":
                self.batch_state = BatchState.CANCELLED
            elif fault == "pause" and self.batch_state is BatchState.RUNNING:
                self.batch_state = BatchState.PAUSED
            elif fault not in {"cancel", "pause"}:
                return fault
        return "ok"

    def _killed(self) -> Event:
        self.log.append("-- killed --")
        self.state = self.stored
        self.now += 15.0
        return Claimed(self.now)

    def _duration_s(self, action: Action) -> float:
        if isinstance(action, PollRun) and action.after_s is None:
            return 1.05
        return 0.05 + float(getattr(action, "after_s", 0.0) or getattr(action, "wait_s", 0.0) or 0.0)

    def _act(self, action: Action, fault: str) -> Event:
        self.now += self._duration_s(action) + {"held": 70.0, "away": 40.0}.get(fault, 0.0)
        self._land_late()
        if isinstance(action, Wait | ReleaseRow | PauseBatch):
            return Claimed(self.now)
        if isinstance(action, Reserve):
            return Reserved(self.now)
        if isinstance(action, CallTools):
            self.called += 1
            return ToolsCalled(self.now, outputs=tuple(ToolOutput(call.id, "42") for call in action.calls))
        if isinstance(action, CreateRun) and not in_time(self.state, self.now):
            return CreateSkipped(self.now)
        if isinstance(action, CreateRun):
            self.sent_while[self.batch_state] = self.sent_while.get(self.batch_state, 0) + 1
            self.replaced_alive += [
                name
                for name, attempt in self.attempts_of.items()
                if attempt < self.state.attempt and self._run(name).status in ACTIVE
            ]
        on = ON.get(type(action), RequestKind.READ)
        if fault in FAULTS:
            return RequestFailed(self.now, error=replace(FAULTS[fault]), request=on)
        if fault == "404" and on is RequestKind.READ:
            return RequestFailed(self.now, error=NOT_THERE, request=on)
        if fault in {"late", "held"} and isinstance(action, CreateRun):
            thread = self.threads[self.state.thread_id or ""]
            thread.late.append((self.now + 20.0, self.state.attempt))
            return RequestFailed(self.now, error=ApiError(None), request=on)
        event = self._reply(action, asleep=fault == "asleep")
        if fault in LOST and not isinstance(event, RequestFailed):
            return RequestFailed(self.now, error=replace(LOST[fault]), request=on)
        return event

    def _reply(self, action: Action, *, asleep: bool) -> Event:
        """The reply, an hour later where the machine sleeps; records when a poll showed the run active."""
        event = self._carry_out(action)
        if isinstance(action, PollRun) and isinstance(event, RunPolled):
            self.last_active_poll_at = event.at if event.run.status not in ENDED else None
        self.now += 3_600.0 if asleep else 0.0
        return replace(event, at=self.now)

    def _carry_out(self, action: Action) -> Event:
        state = self.state
        match action:
            case CreateThread():
                name = f"thread_{len(self.threads)}"
                self.threads[name] = Thread()
                return ThreadCreated(self.now, thread_id=name)
            case DeleteFailedTurn():
                return FailedTurnDeleted(self.now)
            case CreateRun():
                return self._create(state.thread_id or "", state.attempt)
            case RecoverRun():
                return LookupDone(self.now, lookup=self._found())
            case RecoverSubmit():
                run = self._run(state.run_id or "")
                waits = run.status == "requires_action"
                return LookupDone(
                    self.now, lookup=RunLookup(LookupKind.NOTHING if waits else LookupKind.RUN, run=run)
                )
            case PollRun():
                return self._look(state.run_id or "")
            case CancelRun():
                return self._cancel(state.run_id or "")
            case SubmitOutputs():
                return self._submit(state.run_id or "")
            case ReadAnswer():
                return AnswerRead(self.now, answer=joined(state, self._answer(state.run_id or "")))
        raise AssertionError(action)

    # ── the API's side ──

    def _land_late(self) -> None:
        for name, thread in self.threads.items():
            due = [attempt for at, attempt in thread.late if at <= self.now]
            thread.late = [(at, attempt) for at, attempt in thread.late if at > self.now]
            for attempt in due:
                self._create(name, attempt)

    def _create(self, thread: str, attempt: int) -> Event:
        active = [
            run
            for run in self.threads[thread].runs
            if self._run(run).status in {"queued", "in_progress", "requires_action"}
        ]
        if active:
            text = f"Thread {thread} already has an active run {active[0]}."
            return RequestFailed(self.now, error=ApiError(400, message=text), request=RequestKind.CREATE)
        name = f"run_{len(self.earlier) + len(self.runs)}"
        ends = self.outcomes[min(attempt, len(self.outcomes)) - 1]
        self.runs[name] = {"made": self.now, "ends": ends, "acted": False, "cancelled": False}
        self.attempts_of[name] = attempt
        self.threads[thread].runs.append(name)
        return RunCreated(self.now, run=self._run(name))

    def _run(self, name: str) -> Run:
        if name in self.earlier:
            return Run(name, "completed")
        run = self.runs[name]
        ends = str(run["ends"])
        usage = Usage(10, 5)
        if run["cancelled"]:
            return Run(name, "cancelled", usage=usage)
        if calls := self._open_calls(name):
            return Run(name, "requires_action", tool_calls=calls)
        if ends == "stuck" or self.now < float(str(run["made"])) + self.run_s:
            return Run(name, "in_progress")
        if ends == "odd":
            return Run(name, "dreaming")
        if ends in REFUSED_RUNS:
            return Run(
                name,
                "failed",
                error_code=REFUSED_RUNS[ends][0],
                error_message=REFUSED_RUNS[ends][1],
                usage=usage,
            )
        if ends.startswith("failed"):
            return Run(name, "failed", error_code=ends.partition(":")[2] or "server_error", usage=usage)
        if ends.startswith("incomplete"):
            return Run(name, "incomplete", incomplete_reason=ends.partition(":")[2], usage=usage)
        completed = {"requires_action", "lagging", "late_message", "silent"}
        return Run(name, "completed" if ends in completed else ends, usage=usage)

    def _open_calls(self, name: str) -> tuple[ToolCall, ...]:
        """The calls that the run shows as open."""
        run = self.runs[name]
        if run["ends"] in {"always_acting", "too_late"}:
            rounds = sum(of == name for of, _ in self.submitted)
            return tuple(replace(call, id=f"{call.id}_{rounds}") for call in CALLS)
        acted_at = float(str(run["acted"] or self.now))
        lags = run["ends"] == "lagging" and self.now < acted_at + LAG_S
        return CALLS if lags or (run["ends"] == "requires_action" and not run["acted"]) else ()

    def _look(self, name: str) -> Event:
        if self.runs[name]["ends"] == "gone" and self.now >= float(str(self.runs[name]["made"])) + self.run_s:
            text = f"No run found with id '{name}'."
            return RequestFailed(self.now, error=ApiError(404, message=text), request=RequestKind.READ)
        return RunPolled(self.now, run=self._run(name))

    def _submit(self, name: str) -> Event:
        run = self._run(name)
        if run.status == "requires_action" and self.runs[name]["ends"] == "too_late":
            self.runs[name]["ends"] = "expired"
            run = self._run(name)
        if run.status != "requires_action" or (
            self.runs[name]["ends"] == "lagging" and self.runs[name]["acted"]
        ):
            text = f'Runs in status "{run.status}" do not accept tool outputs.'
            return RequestFailed(self.now, error=ApiError(400, message=text), request=RequestKind.SUBMIT)
        self.submitted.append((name, len(self.state.outputs)))
        self.runs[name]["acted"] = self.now
        return OutputsSubmitted(self.now, run=self._run(name))

    def _cancel(self, name: str) -> Event:
        run = self._run(name)
        if self.state.cancel_reason is CancelReason.DEADLINE and self.state.began_at is not None:
            self.cancelled_late.append(
                (self.state.began_at + (self.policy.deadline_s or 600.0), self.last_active_poll_at)
            )
        if run.status in {"completed", "failed", "incomplete", "expired", "cancelled"}:
            text = f"Cannot cancel run with status '{run.status}'."
            return RequestFailed(self.now, error=ApiError(400, message=text), request=RequestKind.CANCEL)
        if self.refuses_cancels:
            return CancelAccepted(self.now, run=replace(run, cancel_refusal="conflict: it is running"))
        self.runs[name]["cancelled"] = True
        return CancelAccepted(self.now, run=self._run(name))

    def _found(self) -> RunLookup:
        ours = [
            run
            for run in self.threads[self.state.thread_id or ""].runs
            if (
                run not in self.state.known_run_ids
                if self.nameless
                else self.attempts_of.get(run) == self.state.attempt
            )
        ]
        if not ours:
            return RunLookup(LookupKind.NOTHING)
        runs = [self._run(name) for name in ours]
        best = next((run for run in runs if run.status == "completed"), runs[0])
        surplus = tuple(run for run in runs if run.id != best.id and run.status in {"queued", "in_progress"})
        return RunLookup(LookupKind.RUN, run=best, duplicates=surplus, complete_list=True)

    def _answer(self, name: str) -> Answer:
        run = self.runs[name]
        wrote = self._run(name).status in {"completed", "incomplete"} and run["ends"] != "silent"
        if run["ends"] == "late_message" and self.now < float(str(run["made"])) + self.run_s + LAG_S:
            wrote = False
        return Answer(text="42" if wrote else "", messages=int(wrote), run_id=name)

    def status_of(self, name: str) -> str:
        """The status of a run at the API."""
        return self._run(name).status

    def runs_of_attempt(self, attempt: int) -> int:
        """How many runs an attempt has."""
        return sum(1 for made in self.attempts_of.values() if made == attempt)


__all__ = ["CALLS", "FAULTS", "LOST", "JobStatus", "OnIncomplete", "Simulation"]

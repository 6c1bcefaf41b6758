"""The life of one run of either API: planned at its start, brought up to date when read, ended once."""

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from askmill.emulator.protocol.clock import Clock
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.answer import Answer, Echo, Tutor, compose_answer
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.plan import CANCELLING_S, Plan, build_plan
from askmill.emulator.simulation.prompt import Prompt
from askmill.emulator.simulation.scenario import Scenario
from askmill.emulator.simulation.tiers import Tiers

EMPTY_ANSWER = Answer(messages=())
# Responses have no `expires_at`: ten years.
NEVER_EXPIRES_S = 315_360_000.0
# Sent to clients as `openai-poll-after-ms`, in coarse steps: a real server does not know the end either.
_HINTS_MS = (5000, 1000, 500, 100, 50, 10)

ERROR_TEXTS = {
    "server_error": "Sorry, something went wrong.",
    "rate_limit_exceeded": "Rate limit reached for requests. Please try again later.",
    "invalid_prompt": "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
}

Refresh = Callable[[str, float], None]


@dataclass(slots=True)
class RunState:
    """What is stored of a run beyond the API object. `final_status`: set when its end is written."""

    prompt: Prompt
    outcome: Outcome
    plan: Plan
    calls: list[Json]
    final_status: str = ""

    @classmethod
    def load(cls, row: Json) -> "RunState":
        plan = Plan(tuple((at, status) for at, status in row["plan"]["marks"]), row["plan"]["expires_at"])
        outcome = row["outcome"]
        calls = tuple((name, arguments) for name, arguments in outcome["calls"])
        prompt: Json = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row["prompt"].items()
        }
        return cls(
            Prompt(**prompt), Outcome(**(outcome | {"calls": calls})), plan, row["calls"], row["final_status"]
        )

    def status(self, now: float) -> str:
        """The status to show. A plan that is over counts as `in_progress` until its end is written."""
        if self.final_status:
            return self.final_status
        return "in_progress" if self.plan.over(now) else self.plan.status(now)


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """Identifies an attempt for seeded draws. `job` is `BATCH:ROW` or empty, `attempt` counts from 0."""

    job: str
    attempt: int
    responses: bool = False


class Activity:
    """Counts active runs by the times at which they will end."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._ends_heap: list[tuple[float, str]] = []
        self._open = 0
        self.peak = 0

    def begin(self, now: float) -> None:
        """Record that a call started, which `end` ends."""
        self._open += 1
        self.peak = max(self.peak, self.count(now))

    def end(self) -> None:
        self._open -= 1

    def put(self, run_id: str, end: float | None, now: float) -> None:
        """Record that a run started or now ends at another time (None: never)."""
        at = float("inf") if end is None else end
        self._ends[run_id] = at
        heapq.heappush(self._ends_heap, (at, run_id))
        self.peak = max(self.peak, self.count(now))

    def count(self, now: float) -> int:
        while self._ends_heap and self._ends_heap[0][0] <= now:
            at, run_id = heapq.heappop(self._ends_heap)
            if self._ends.get(run_id) == at:
                del self._ends[run_id]
        return len(self._ends) + self._open


class Engine:
    """Starts, cancels and resumes runs, and computes their answers with the tutor and the files."""

    def __init__(self, store: Store, library: FileLibrary, tutor: Tutor, seed: int) -> None:
        self.scenario = Scenario()
        self.clock = Clock()
        self.activity = Activity()
        self.tiers = Tiers(seed)
        self._store = store
        self._library = library
        self._tutor = tutor
        self._seed = seed
        self._unfinished: dict[str, Refresh] = {}
        self._answers: dict[str, Answer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(
        self, prompt: Prompt, outcomes: tuple[Outcome, ...], attempt_key: AttemptKey, now: float
    ) -> RunState:
        """Start a run whose outcome is directed by its question or drawn from the scenario."""
        self._store.add_to_counter("runs_created")
        row = attempt_key.job.partition(":")[2] or str(self._store.counters["runs_created"])
        attempt = attempt_key.attempt
        outcome, rng = self.draw(row, prompt, outcomes, attempt)
        run_s = self._run_s(rng) if outcome.after_s is None else outcome.after_s
        if attempt_key.responses:
            outcome = as_response_outcome(outcome)
        expires_s = NEVER_EXPIRES_S if attempt_key.responses else self.scenario.run.expires_s
        return RunState(prompt, outcome, build_plan(outcome, now, run_s, expires_s), _calls(outcome))

    def draw(
        self, row: str, prompt: Prompt, outcomes: tuple[Outcome, ...], attempt: int
    ) -> tuple[Outcome, random.Random]:
        """The outcome of an attempt, directed or drawn, and the generator that draws its time."""
        rng = random.Random(f"{self._seed}|{row}|{prompt.question}|{attempt}")  # noqa: S311 - a rehearsal
        outcome = outcomes[min(attempt, len(outcomes) - 1)] if outcomes else self._drawn_outcome(rng)
        return outcome, rng

    def line_state(self, prompt: Prompt, outcome: Outcome, now: float) -> RunState:
        """A line of a batch that ends now with this outcome."""
        return RunState(prompt, outcome, build_plan(outcome, now, 0.0, NEVER_EXPIRES_S), _calls(outcome))

    def job_of(self, metadata: Json | None) -> str:
        """`BATCH:ROW` from a run's metadata, empty when it has none."""
        batch, row = (metadata or {}).get("askmill_batch"), (metadata or {}).get("askmill_row")
        return f"{batch}:{row}" if batch and row else ""

    def count_runs(self, job: str) -> int:
        return self._store.counters[f"runs_by_job {job}"]

    def count_run(self, job: str) -> None:
        if job:
            self._store.add_to_counter(f"runs_by_job {job}")

    def track(self, run_id: str, state: RunState, refresh: Refresh, now: float) -> None:
        """Register a run that started or resumes after a restart, and begin to compute its answer."""
        self._unfinished[run_id] = refresh
        self.activity.put(run_id, state.plan.ends_at(), now)
        self.prepare(run_id, state)

    def finish(self, run_id: str, state: RunState, status: str, tokens: int) -> None:
        """Record the final status of a run whose end has been written."""
        state.final_status = status
        self._store.add_to_counter("tokens", tokens)
        self.forget(run_id)

    def forget(self, run_id: str) -> None:
        self._unfinished.pop(run_id, None)
        self._answers.pop(run_id, None)
        if task := self._tasks.pop(run_id, None):
            task.cancel()

    def refresh_all(self, now: float) -> None:
        """Write every end that is due, so that token counts are complete."""
        for run_id, refresh in list(self._unfinished.items()):
            refresh(run_id, now)

    def cancel(self, run_id: str, state: RunState, now: float, cancelling_s: float = CANCELLING_S) -> None:
        state.plan = state.plan.cancelled(now, cancelling_s)
        self.activity.put(run_id, state.plan.ends_at(), now)

    def resume(self, run_id: str, state: RunState, outputs: tuple[str, ...], now: float) -> None:
        state.prompt = replace(state.prompt, outputs=(*state.prompt.outputs, *outputs))
        state.outcome = next_outcome(state.outcome, 1)
        state.calls = _calls(state.outcome) or state.calls
        run_s = self.scenario.latency.median_s if state.outcome.after_s is None else state.outcome.after_s
        state.plan = state.plan.resumed(now, run_s, state.outcome.name)
        self.activity.put(run_id, state.plan.ends_at(), now)
        self.prepare(run_id, state)

    def prepare(self, run_id: str, state: RunState) -> None:
        """Start to compute the answer if the outcome has one."""
        if _has_answer(state) and run_id not in self._answers and run_id not in self._tasks:
            self._tasks[run_id] = asyncio.get_running_loop().create_task(self._compute_answer(run_id, state))

    def answer_of(self, run_id: str, state: RunState) -> Answer | None:
        """The answer of a run whose plan is over; None while it is being computed."""
        return self._answers.get(run_id) if _has_answer(state) else EMPTY_ANSWER

    def poll_after_ms(self, state: RunState) -> int:
        """Return a tenth of the planned time to the end or the function calls, in coarse steps."""
        begin, end = state.plan.last_work_span()
        tenth_ms = (end - begin) * 100
        return next((hint for hint in _HINTS_MS if hint <= tenth_ms), _HINTS_MS[-1])

    async def wait_answer(self, run_id: str) -> None:
        """Wait until the answer is computed; for streams and foreground responses."""
        if task := self._tasks.get(run_id):
            await asyncio.shield(task)

    async def compute(self, prompt: Prompt, outcome: Outcome, *, echo: bool = False) -> Answer:
        """The answer to a prompt that reaches its end with this outcome; `echo`: it repeats the question."""
        passages = self._library.search(prompt) if "file_search" in prompt.tools else None
        reply = Echo(prompt.question) if echo else await self._tutor.answer(prompt.question)
        return compose_answer(prompt, outcome, reply, passages)

    async def _compute_answer(self, run_id: str, state: RunState) -> None:
        self._answers[run_id] = await self.compute(state.prompt, state.outcome)
        self._tasks.pop(run_id, None)

    def _drawn_outcome(self, rng: random.Random) -> Outcome:
        at = rng.random() if self.scenario.outcomes else 1.0
        for share, outcome in self.scenario.outcomes:
            if at < share:
                return outcome
            at -= share
        return Outcome()

    def _run_s(self, rng: random.Random) -> float:
        latency = self.scenario.latency
        if not latency.sigma:
            return latency.median_s
        return latency.median_s * rng.lognormvariate(0.0, latency.sigma)


def _has_answer(state: RunState) -> bool:
    status = state.plan.marks[-1][1]
    return status in {"completed", "incomplete"} or (status == state.outcome.name and state.outcome.partial)


def next_outcome(outcome: Outcome, rounds_done: int) -> Outcome:
    """Return the outcome after `rounds_done` rounds of function outputs: the next round, or the end."""
    left = outcome.rounds - rounds_done
    return replace(outcome, rounds=left) if left > 0 else Outcome(after_s=outcome.after_s)


def _calls(outcome: Outcome) -> list[Json]:
    return [{"id": new_id("call_"), "name": n, "arguments": a, "output": None} for n, a in outcome.calls]


def as_response_outcome(outcome: Outcome) -> Outcome:
    """An outcome for the Responses API, which has no `expired` and no `requires_action`."""
    match outcome.name:
        case "expired":
            return Outcome("failed", "server_error", after_s=outcome.after_s)
        case "requires_action":
            return Outcome("completed", "no_message", outcome.calls, outcome.after_s)
        case _:
            return outcome


def error_of(outcome: Outcome) -> Json:
    """`last_error` of `failed(CODE)` or `failed(CODE, "MESSAGE")`."""
    code = outcome.arg.split(",", maxsplit=1)[0].strip() or "server_error"
    return {"code": code, "message": outcome.message or ERROR_TEXTS.get(code, f"The run failed: {code}.")}

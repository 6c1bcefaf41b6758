"""One run's life, whichever API it belongs to: planned at its start, looked at when asked for, ended once."""

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from askmill.emulator.protocol.clock import Clock
from askmill.emulator.protocol.errors import bad_direction
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.answer import Answer, Ask, Tutor, count_tokens, shape_answer
from askmill.emulator.simulation.directives import DirectionError, Outcome, read_directions
from askmill.emulator.simulation.file_library import Library
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.plan import CANCELLING_S, Plan, make_plan
from askmill.emulator.simulation.scenario import Scenario

NOTHING_SAID = Answer(messages=())
# Offered to clients as `openai-poll-after-ms`; steps, because a real server does not know the end either.
# Responses have no `expires_at`; ten years do as never.
FOR_EVER_S = 315_360_000.0
_HINTS_MS = (5000, 1000, 500, 100, 50, 10)

Looker = Callable[[str, float], None]


@dataclass(slots=True)
class Life:
    """What the emulator knows of a run beyond the API's object. `final`: how it ended, once written down."""

    ask: Ask
    outcome: Outcome
    plan: Plan
    calls: list[Json]
    final: str = ""

    @classmethod
    def load(cls, row: Json) -> "Life":
        plan = Plan(tuple((at, status) for at, status in row["plan"]["marks"]), row["plan"]["expires_at"])
        outcome = row["outcome"]
        calls = tuple((name, arguments) for name, arguments in outcome["calls"])
        ask: Json = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row["ask"].items()
        }
        return cls(Ask(**ask), Outcome(**(outcome | {"calls": calls})), plan, row["calls"], row["final"])

    def status(self, now: float) -> str:
        """The status to show. A plan that is over but not yet written down still works."""
        if self.final:
            return self.final
        return "in_progress" if self.plan.over(now) else self.plan.status(now)


@dataclass(frozen=True, slots=True)
class Lot:
    """Which run this is, for what is drawn by lot: `job` is `BATCH:ROW` or empty, `attempt` counts from 0."""

    job: str
    attempt: int
    responses: bool = False


class Activity:
    """How many runs are active, from the times at which they will end."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self.most = 0

    def put(self, run_id: str, end: float | None, now: float) -> None:
        """A run began, or now ends at another time (None: never)."""
        at = float("inf") if end is None else end
        self._ends[run_id] = at
        heapq.heappush(self._heap, (at, run_id))
        self.most = max(self.most, self.count(now))

    def count(self, now: float) -> int:
        while self._heap and self._heap[0][0] <= now:
            at, run_id = heapq.heappop(self._heap)
            if self._ends.get(run_id) == at:
                del self._ends[run_id]
        return len(self._ends)


class Engine:
    """Begins, cancels and resumes lives, and gets their answers from the tutor or the files."""

    def __init__(self, store: Store, library: Library, tutor: Tutor, seed: int) -> None:
        self.scenario = Scenario()
        self.clock = Clock()
        self.activity = Activity()
        self._store = store
        self._library = library
        self._tutor = tutor
        self._seed = seed
        self._unfinished: dict[str, Looker] = {}
        self._answers: dict[str, Answer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def directions(self, text: str) -> tuple[tuple[Outcome, ...], str]:
        """As `read_directions`, a misspelt one refused with 400."""
        try:
            return read_directions(text)
        except DirectionError as error:
            raise bad_direction(str(error)) from None

    def begin(self, ask: Ask, outcomes: tuple[Outcome, ...], lot: Lot, now: float) -> Life:
        """A new life, its outcome directed or drawn."""
        self._store.incr_counters("runs_created")
        row = lot.job.partition(":")[2] or str(self._store.counters["runs_created"])
        attempt = lot.attempt
        chance = random.Random(f"{self._seed}|{row}|{ask.question}|{attempt}")  # noqa: S311 - a rehearsal
        outcome = outcomes[min(attempt, len(outcomes) - 1)] if outcomes else self._drawn_outcome(chance)
        run_s = self._run_s(chance) if outcome.after_s is None else outcome.after_s
        if lot.responses:
            outcome = in_responses(outcome)
        expires_s = FOR_EVER_S if lot.responses else self.scenario.run.expires_s
        return Life(ask, outcome, make_plan(outcome, now, run_s, expires_s), _calls(outcome))

    def job_of(self, metadata: Json | None) -> str:
        """`BATCH:ROW` from a run's metadata, empty when it has none."""
        batch, row = (metadata or {}).get("askmill_batch"), (metadata or {}).get("askmill_row")
        return f"{batch}:{row}" if batch and row else ""

    def runs_of(self, job: str) -> int:
        return self._store.counters[f"runs_by_job {job}"]

    def count_run(self, job: str) -> None:
        if job:
            self._store.incr_counters(f"runs_by_job {job}")

    def track(self, run_id: str, life: Life, looker: Looker, now: float) -> None:
        """Follow a run that has begun, or goes on after a restart; its answer is sought at once."""
        self._unfinished[run_id] = looker
        self.activity.put(run_id, life.plan.ended_at(), now)
        self.prepare(run_id, life)

    def finish(self, run_id: str, life: Life, status: str, tokens: int) -> None:
        """The end has been written down."""
        life.final = status
        self._store.incr_counters("tokens", tokens)
        self.forget(run_id)

    def forget(self, run_id: str) -> None:
        self._unfinished.pop(run_id, None)
        self._answers.pop(run_id, None)
        if task := self._tasks.pop(run_id, None):
            task.cancel()

    def look_at_all(self, now: float) -> None:
        """Write down every end that has come, so that counts of tokens are complete."""
        for run_id, looker in list(self._unfinished.items()):
            looker(run_id, now)

    def cancel(self, run_id: str, life: Life, now: float, cancelling_s: float = CANCELLING_S) -> None:
        life.plan = life.plan.cancelled(now, cancelling_s)
        self.activity.put(run_id, life.plan.ended_at(), now)

    def resume(self, run_id: str, life: Life, outputs: tuple[str, ...], now: float) -> None:
        life.ask = replace(life.ask, outputs=(*life.ask.outputs, *outputs))
        life.outcome = after_outputs(life.outcome, 1)
        life.calls = _calls(life.outcome) or life.calls
        run_s = self.scenario.latency.median_s if life.outcome.after_s is None else life.outcome.after_s
        life.plan = life.plan.resumed(now, run_s, life.outcome.name)
        self.activity.put(run_id, life.plan.ended_at(), now)
        self.prepare(run_id, life)

    def prepare(self, run_id: str, life: Life) -> None:
        """Start seeking the answer, when the outcome has one."""
        if _speaks(life) and run_id not in self._answers and run_id not in self._tasks:
            self._tasks[run_id] = asyncio.get_running_loop().create_task(self._seek(run_id, life))

    def answer_of(self, run_id: str, life: Life) -> Answer | None:
        """The answer of a run whose plan is over; None while it is still being sought."""
        return self._answers.get(run_id) if _speaks(life) else NOTHING_SAID

    def poll_after_ms(self, life: Life) -> int:
        """A tenth of the time that it is planned to work, to its end or its functions, in coarse steps."""
        begin, end = life.plan.last_work()
        tenth_ms = (end - begin) * 100
        return next((hint for hint in _HINTS_MS if hint <= tenth_ms), _HINTS_MS[-1])

    async def wait_answer(self, run_id: str) -> None:
        """Until the answer is there, for those who stream or wait."""
        if task := self._tasks.get(run_id):
            await asyncio.shield(task)

    async def _seek(self, run_id: str, life: Life) -> None:
        ask = life.ask
        passages = self._library.search(ask) if "file_search" in ask.tools else None
        said = await self._tutor.answer(ask.question)
        self._answers[run_id] = shape_answer(ask, life.outcome, said, passages)
        self._tasks.pop(run_id, None)

    def _drawn_outcome(self, chance: random.Random) -> Outcome:
        at = chance.random() if self.scenario.outcomes else 1.0
        for share, outcome in self.scenario.outcomes:
            if at < share:
                return outcome
            at -= share
        return Outcome()

    def _run_s(self, chance: random.Random) -> float:
        latency = self.scenario.latency
        if not latency.sigma:
            return latency.median_s
        return latency.median_s * chance.lognormvariate(0.0, latency.sigma)


def _speaks(life: Life) -> bool:
    status = life.plan.marks[-1][1]
    return status in {"completed", "incomplete"} or (status == life.outcome.name and life.outcome.partial)


def after_outputs(outcome: Outcome, given: int) -> Outcome:
    """What follows when the outputs of so many rounds have come: the next round, or the end."""
    left = outcome.rounds - given
    return replace(outcome, rounds=left) if left > 0 else Outcome(after_s=outcome.after_s)


def _calls(outcome: Outcome) -> list[Json]:
    return [{"id": new_id("call_"), "name": n, "arguments": a, "output": None} for n, a in outcome.calls]


def in_responses(outcome: Outcome) -> Outcome:
    """An outcome in the words of the Responses API, which knows no `expired` and no `requires_action`."""
    match outcome.name:
        case "expired":
            return Outcome("failed", "server_error", after_s=outcome.after_s)
        case "requires_action":
            return Outcome("completed", "no_message", outcome.calls, outcome.after_s)
        case _:
            return outcome


def read_tokens(texts: list[str]) -> int:
    """Tokens of what a run reads."""
    return sum(map(count_tokens, texts))

"""One job from claim to finish: do what the lifecycle decides, store what must survive, say what happened.

claim ─▶ event ─▶ advance (pure) ─▶ store what is known ─▶ perform the action ─▶ event ─▶ … ─▶ finish
└▶ give back (hand-over, back-off, pause)
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from askmill.config.text import usd
from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.models import JobStatus, Result
from askmill.jobs.store.records import NANO, POISON_KILLS, Claim
from askmill.worker.backends.before_request import turns
from askmill.worker.execution.actions import Acts
from askmill.worker.execution.request_builder import (
    KNOWN,
    assumed_nano,
    belongs_to,
    first_known,
    policy_for,
    priced,
    profile_of,
    seed_of,
    spent_nano,
    uncounted,
    worst_case_nano,
)
from askmill.worker.execution.result_builder import attempts_of, line_of, nano, result_of
from askmill.worker.execution.stored_times import stored, taken_over, timed
from askmill.worker.lifecycle.on_batch_state import begins, redirected, unsent
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import (
    CallTools,
    Claimed,
    Decision,
    Event,
    Faulted,
    Finish,
    GiveBack,
    Known,
    MakeRun,
    NoRoom,
    PauseAsked,
    PauseBatch,
    Phase,
    ReadAnswer,
)
from askmill.worker.lifecycle.transitions import advance
from askmill.worker.runtime import telemetry
from askmill.worker.runtime.batch_cache import BatchRoom
from askmill.worker.runtime.context import Desk
from askmill.worker.runtime.interrupts import HandOver, Signals, Stale

log = structlog.get_logger()

DANGEROUS = (CallTools, ReadAnswer)
"""Actions that may kill this process: a user's function, or what an answer holds. Three deaths are poison."""

CRASH_WAIT_S = 10.0

NO_PRICE = "budget: a worker does not know the model's price"


class JobRunner:
    """Follows one claimed row. `run` returns when the row is finished, given back or lost."""

    def __init__(self, desk: Desk, room: BatchRoom, claim: Claim, signals: Signals) -> None:
        self.desk, self.room, self.claim, self.signals = desk, room, claim, signals
        self.acts = Acts(desk, room, claim, signals)
        self.known = taken_over(first_known(claim, room.batch), desk.clock, desk.now_s())
        self.marked = False
        """Whether the store has the mark that dying now is a kill."""
        self.stored_under_s = desk.clock.stepped_s
        """How far Redis' clock had stepped when we last stored the row's times by it."""
        self.event: Event = Claimed(*self.acts.stamp())

    async def run(self) -> None:
        """From the claim to the end. Where others have the row now, it ends without a word to the store."""
        with turns(self.acts.request):
            await self._run()

    async def _run(self) -> None:
        try:
            await self._follow()
        except Stale:
            with suppress(asyncio.CancelledError):
                await self._disown_late_run()
            log.info("job.lost", phase=self.known.phase.value)
        except (HandOver, asyncio.CancelledError):
            if not self.signals.lost:
                await self._give_back(self.known, 0.0)
                log.info("job.handed_over", phase=self.known.phase.value, run=self.known.run_id)
        except Exception as crash:
            log.exception("job.crashed", phase=self.known.phase.value)
            await self._after_crash(crash)

    async def _after_crash(self, crash: Exception) -> None:
        """A fault of ours: the row goes back, and fails for good the third time."""
        self.known = replace(self.known, crashes=self.known.crashes + 1)
        if self.known.crashes < POISON_KILLS:
            await self._give_back(self.known, CRASH_WAIT_S)
            return
        error = f"internal: {type(crash).__name__}: {crash}"
        try:
            await self._finish(self.known, Finish(JobStatus.FAILED, error=error))
        except (Stale, HandOver):
            raise
        except Exception:  # what is known of the row may be what crashes
            log.exception("job.crashed", phase="finishing")
            self.acts.counted.clear()
            await self._keep(Result(row=self.claim.row, status=JobStatus.FAILED, error=error), None)

    async def _follow(self) -> None:
        if self.claim.kills >= POISON_KILLS:
            error = f"poison_row: it killed its worker {self.claim.kills} times"
            if self.known.run_id is not None:
                await self.acts.end_run(self.known.thread_id, self.known.run_id)
            await self._finish(self.known, Finish(JobStatus.FAILED, error=error))
            return
        while True:
            policy = policy_for(self.room.batch, self.room.now.limits, self.claim)
            decision = self._redirected(advance(self.known, self.event, policy), policy)
            await self._take_note(decision)
            if isinstance(decision.action, Finish):
                await self._finish(decision.known, decision.action)
                return
            if isinstance(decision.action, GiveBack | PauseBatch):
                await self._stop_here(decision)
                return
            await self._step(decision)

    def _redirected(self, decision: Decision, policy: RetryPolicy) -> Decision:
        """The same decision, unless the batch's state or the end of this process forbids it."""
        if self.signals.leaving and begins(decision):
            self.known = unsent(decision)
            raise HandOver
        return redirected(decision, self.room.now.state, Claimed(*self.acts.stamp()), policy)

    async def _step(self, decision: Decision) -> None:
        """Store what must survive, then act. What may kill this process is marked first."""
        # Whatever cuts us off: what the last reply told is given back, what is yet to be sent is not.
        self.known = unsent(decision) if isinstance(decision.action, MakeRun) else decision.known
        if not isinstance(decision.action, DANGEROUS):
            await self._act(decision)
            return
        if isinstance(decision.action, ReadAnswer):
            await self._rest(decision, decision.action.after_s)
        async with self.desk.danger.entered(alone=self.claim.kills > 0):
            self.signals.raise_if_ending()
            await self._act(decision, danger=True)

    async def _rest(self, decision: Decision, wait_s: float) -> None:
        """A wait is no danger: whoever dies in it has only waited."""
        if wait_s > 0 and self.marked:
            await self._stored(decision, danger=False)
        await self.signals.sleep(wait_s)

    async def _act(self, decision: Decision, *, danger: bool = False) -> None:
        stepped = self.stored_under_s != self.desk.clock.stepped_s
        if (decision.store or danger or stepped) and not await self._stored(decision, danger):
            return
        self.known = decision.known
        self.event = await self.acts.perform(decision.action, decision.known)

    async def _stored(self, decision: Decision, danger: bool) -> bool:
        """Whether the store took it; else why the batch may not spend is the next event. Raises Stale."""
        making = isinstance(decision.action, MakeRun)
        reserve, spent = self._reservation(decision), self._spent(decision.known)
        if making and reserve is None and self.room.now.limits.budget_usd is not None:
            self.event = PauseAsked(*self.acts.stamp())
            await self._pause(NO_PRICE, self.desk.store.pause)
            return False
        state = self._state(decision.known)
        run_out = True if making else False if decision.retried is not None else None
        made = decision.known.run_id is not None
        counters = self._counters()
        saved = await self.desk.patiently(
            lambda: self.desk.store.save(
                self.claim,
                state,
                run_made=made,
                run_out=run_out,
                danger=danger,
                reserve_nano=reserve,
                spent_nano=spent,
                counters=counters,
            )
        )
        if not saved:
            raise Stale
        self.marked = danger
        if not (saved.affordable and saved.may_start):
            self.acts.counted["requests"] += counters.get("requests", 0)
        if not saved.affordable:
            self.event = NoRoom(*self.acts.stamp())
            if not saved.affordable_later:
                self.event = PauseAsked(*self.acts.stamp())
                cost = usd((reserve or 0) / NANO)
                await self._pause(f"budget: a run may cost {cost}, and less is left", self.desk.store.pause)
            return False
        if not saved.may_start:
            self.event = PauseAsked(*self.acts.stamp())
            return False
        if saved.first:
            self.desk.poke.set()
        return True

    def _state(self, known: Known) -> bytes:
        """What the next holder of the row needs."""
        self.stored_under_s = self.desk.clock.stepped_s
        return KNOWN.dump_json(stored(known, self.desk.clock), exclude_defaults=True)

    def _reservation(self, decision: Decision) -> int | None:
        """What the run to be made may cost, also for a budget set later; nothing once it has ended."""
        if decision.retried is not None:
            return 0
        if not isinstance(decision.action, MakeRun):
            return None
        return worst_case_nano(self.room.batch, self.claim, decision.known, self.desk.prices)

    def _worst(self, known: Known) -> int:
        """What a run beyond the row's attempts is assumed to cost: nobody reads its tokens."""
        return worst_case_nano(self.room.batch, self.claim, known, self.desk.prices) or 0

    def _spent(self, known: Known) -> int | None:
        return spent_nano(self.room.batch, self.claim, known, self.desk.prices)

    async def _take_note(self, decision: Decision) -> None:
        """What the decision means beyond this row: slow all workers, count, cancel what was made twice."""
        self._tell(decision)
        if decision.throttled_s is not None:
            self.acts.counted["throttled"] += 1
            wait_s = decision.throttled_s
            await self.desk.patiently(lambda: self.desk.limits.throttle(wait_s))
        if decision.retried is not None:
            self.acts.counted[f"retries:{decision.retried}"] += 1
            log.info(
                "attempt.ended", attempt=self.known.attempt, reason=decision.retried, run=self.known.run_id
            )
        if decision.unknown_create:
            self.acts.counted.update({"unknown_creates": 1, "assumed_nano": self._worst(decision.known)})
        if decision.create_failed:
            trouble, patience_s = self.desk.store.trouble, self.desk.trouble_s
            await self.desk.patiently(lambda: trouble(self.claim.batch, patience_s=patience_s))
        for run_id in decision.surplus:
            await self._disown(run_id)
            self.acts.counted.update({"late_runs": 1, "assumed_nano": self._worst(decision.known)})

    def _tell(self, decision: Decision) -> None:
        """The row's story, line by line: what failed and what follows, and which run it is about."""
        known = decision.known
        if isinstance(self.event, Faulted):
            fault, then = str(self.event.fault), type(decision.action).__name__
            log.info("request.failed", on=self.event.on.value, fault=fault, attempt=known.attempt, then=then)
        if known.run_id not in {None, self.known.run_id}:
            log.debug("run.known", attempt=known.attempt, run=known.run_id)

    async def _disown_late_run(self) -> None:
        """Our create was answered after the claim was lost: unless the row follows this run, cancel it."""
        run_id = self.known.run_id
        if run_id is None:
            return
        with suppress(NotFound):
            detail = await self.desk.patiently(lambda: self.desk.store.row(self.claim.batch, self.claim.row))
            if belongs_to(detail, run_id, self.known.attempt):
                return
            counters = {"late_runs": 1, "assumed_nano": self._worst(self.known)}
            await self.desk.patiently(lambda: self.desk.store.count(self.claim.batch, counters))
        with turns(self.acts.request_anyhow):
            await self._disown(run_id)

    async def _disown(self, run_id: str) -> None:
        log.warning("run.surplus", run=run_id)
        await self.acts.end_run(self.known.thread_id, run_id)

    async def _stop_here(self, decision: Decision) -> None:
        if isinstance(decision.action, PauseBatch):
            await self._pause(decision.action.reason, self.desk.store.pause_from_worker)
        wait_s = getattr(decision.action, "wait_s", 0.0)
        await self._give_back(decision.known, wait_s)

    async def _pause(self, reason: str, pause: Callable[[str, str], Awaitable[bool]]) -> None:
        if await self.desk.patiently(lambda: pause(self.claim.batch, reason)):
            log.error("batch.paused", reason=reason)

    async def _give_back(self, known: Known, wait_s: float) -> None:
        due_ms = self.desk.due_ms(wait_s) if wait_s else 0
        state, counters = self._state(known), self._counters()
        # A create that was refused, or never left, is not out: else the row would be fed to a paused batch.
        out = False if known.phase is Phase.NEW and not known.doubt else None
        give_back, spent = self.desk.store.give_back, self._spent(known)
        await self.desk.patiently(
            lambda: give_back(
                self.claim, state, due_ms=due_ms, run_out=out, spent_nano=spent, counters=counters
            )
        )

    async def _finish(self, known: Known, finish: Finish) -> None:
        """Keep the result, in one script; say in one line how it went."""
        known = await self.acts.fetch_files(known)
        model = known.ended.model if known.ended else None
        profile = profile_of(self.room.batch, self.claim)
        attempts = priced(attempts_of(known, finish, self.event), model, profile, self.desk.prices)
        if self.desk.clock.stepped_s:
            attempts = timed(attempts, self.desk.clock.to_redis)
        result = result_of(self.claim.row, known, finish, attempts)
        self._count_spending(known, result)
        await self._keep(result, seed_of(known))

    async def _keep(self, result: Result, seed: bytes | None) -> None:
        counters = self._counters()
        kept = await self.desk.patiently(
            lambda: self.desk.store.finish(self.claim, result, seed=seed, counters=counters)
        )
        if not kept:
            raise Stale
        log.info("job.finished", **line_of(result))
        telemetry.finished(self.claim.batch, result)

    def _count_spending(self, known: Known, result: Result) -> None:
        """Tokens and money of the attempts that the batch has not counted yet.

        What nobody told is assumed at its worst: never shown as a cost, but gone from the budget.
        """
        before = self.claim.previous or Result(row=result.row, status=JobStatus.QUEUED)
        for counter, now, then in (
            ("prompt", result.usage.prompt_tokens, before.usage.prompt_tokens),
            ("completion", result.usage.completion_tokens, before.usage.completion_tokens),
            ("cost_nano", nano(result.cost_usd), nano(before.cost_usd)),
        ):
            if now is not None:
                self.acts.counted[counter] += now - (then or 0)
        new = uncounted(self.claim, result.attempts)
        if assumed := assumed_nano(self.room.batch, self.claim, known, new, self.desk.prices):
            self.acts.counted["assumed_nano"] += assumed

    def _counters(self) -> dict[str, int]:
        counted = dict(self.acts.counted)
        self.acts.counted.clear()
        return counted

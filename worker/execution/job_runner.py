"""One job from claim to finish: do what the lifecycle decides, store what must survive, say what happened.

claim ─▶ event ─▶ advance (pure) ─▶ store what is known ─▶ perform the action ─▶ event ─▶ … ─▶ finish
└▶ give back (hand-over, back-off, pause)
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from askmill.config.text import format_usd
from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.models import JobStatus, Result
from askmill.jobs.store.records import NANO, POISON_KILLS, Claim
from askmill.worker.backends.before_request import turns
from askmill.worker.execution.actions import ActionExecutor
from askmill.worker.execution.request_builder import (
    KNOWN,
    assumed_nano,
    belongs_to,
    initial_state,
    policy_for,
    previous_turn_of,
    priced,
    profile_of,
    spent_nano,
    uncounted,
    worst_case_nano,
)
from askmill.worker.execution.result_builder import attempts_of, line_of, nano, result_of
from askmill.worker.execution.stored_times import stored, taken_over, timed
from askmill.worker.lifecycle.on_batch_state import apply_batch_state, starts_run, without_create
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import (
    BudgetFull,
    CallTools,
    Claimed,
    CreateRun,
    Decision,
    Event,
    Finish,
    JobState,
    PauseBatch,
    PauseRequested,
    Phase,
    ReadAnswer,
    ReleaseRow,
    RequestFailed,
)
from askmill.worker.lifecycle.transitions import advance
from askmill.worker.runtime import telemetry
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext
from askmill.worker.runtime.interrupts import ClaimLost, Interrupts, ShuttingDown

log = structlog.get_logger()

DANGEROUS = (CallTools, ReadAnswer)
"""Actions that may kill this process: a user's function, or what an answer holds. Three deaths are poison."""

CRASH_WAIT_S = 10.0

NO_PRICE = "budget: a worker does not know the model's price"


class JobRunner:
    """Follows one claimed row. `run` returns when the row is finished, given back or lost."""

    def __init__(self, desk: WorkerContext, room: BatchContext, claim: Claim, signals: Interrupts) -> None:
        self.context, self.batch, self.claim, self.interrupts = desk, room, claim, signals
        self.actions = ActionExecutor(desk, room, claim, signals)
        self.state = taken_over(initial_state(claim, room.batch), desk.clock, desk.now_s())
        self.marked = False
        """Whether the store has the mark that dying now is a kill."""
        self.stored_under_s = desk.clock.stepped_s
        """How far Redis' clock had stepped when we last stored the row's times by it."""
        self.event: Event = Claimed(*self.actions.stamp())

    async def run(self) -> None:
        """From the claim to the end. Where others have the row now, it ends without a word to the store."""
        with turns(self.actions.request):
            await self._run()

    async def _run(self) -> None:
        try:
            await self._follow()
        except ClaimLost:
            with suppress(asyncio.CancelledError):
                await self._cancel_late_run()
            log.info("job.lost", phase=self.state.phase.value)
        except (ShuttingDown, asyncio.CancelledError):
            if not self.interrupts.claim_lost:
                await self._release(self.state, 0.0)
                log.info("job.handed_over", phase=self.state.phase.value, run=self.state.run_id)
        except Exception as crash:
            log.exception("job.crashed", phase=self.state.phase.value)
            await self._after_crash(crash)

    async def _after_crash(self, crash: Exception) -> None:
        """A fault of ours: the row goes back, and fails for good the third time."""
        self.state = replace(self.state, crashes=self.state.crashes + 1)
        if self.state.crashes < POISON_KILLS:
            await self._release(self.state, CRASH_WAIT_S)
            return
        error = f"internal: {type(crash).__name__}: {crash}"
        try:
            await self._finish(self.state, Finish(JobStatus.FAILED, error=error))
        except (ClaimLost, ShuttingDown):
            raise
        except Exception:  # what is known of the row may be what crashes
            log.exception("job.crashed", phase="finishing")
            self.actions.counters.clear()
            await self._keep(Result(row=self.claim.row, status=JobStatus.FAILED, error=error), None)

    async def _follow(self) -> None:
        if self.claim.kills >= POISON_KILLS:
            error = f"poison_row: it killed its worker {self.claim.kills} times"
            if self.state.run_id is not None:
                await self.actions.end_run(self.state.thread_id, self.state.run_id)
            await self._finish(self.state, Finish(JobStatus.FAILED, error=error))
            return
        while True:
            policy = policy_for(self.batch.batch, self.batch.current.limits, self.claim)
            decision = self._apply_batch_state(advance(self.state, self.event, policy), policy)
            await self._apply_side_effects(decision)
            if isinstance(decision.action, Finish):
                await self._finish(decision.state, decision.action)
                return
            if isinstance(decision.action, ReleaseRow | PauseBatch):
                await self._stop_here(decision)
                return
            await self._step(decision)

    def _apply_batch_state(self, decision: Decision, policy: RetryPolicy) -> Decision:
        """The same decision, unless the batch's state or the end of this process forbids it."""
        if self.interrupts.shutting_down and starts_run(decision):
            self.state = without_create(decision)
            raise ShuttingDown
        return apply_batch_state(decision, self.batch.current.state, Claimed(*self.actions.stamp()), policy)

    async def _step(self, decision: Decision) -> None:
        """Store what must survive, then act. What may kill this process is marked first."""
        # Whatever cuts us off: what the last reply told is given back, what is yet to be sent is not.
        self.state = without_create(decision) if isinstance(decision.action, CreateRun) else decision.state
        if not isinstance(decision.action, DANGEROUS):
            await self._act(decision)
            return
        if isinstance(decision.action, ReadAnswer):
            await self._wait(decision, decision.action.after_s)
        async with self.context.crash_isolation.section(alone=self.claim.kills > 0):
            self.interrupts.raise_if_ending()
            await self._act(decision, danger=True)

    async def _wait(self, decision: Decision, wait_s: float) -> None:
        """A wait is no danger: whoever dies in it has only waited."""
        if wait_s > 0 and self.marked:
            await self._save(decision, danger=False)
        await self.interrupts.sleep(wait_s)

    async def _act(self, decision: Decision, *, danger: bool = False) -> None:
        stepped = self.stored_under_s != self.context.clock.stepped_s
        if (decision.store or danger or stepped) and not await self._save(decision, danger):
            return
        self.state = decision.state
        self.event = await self.actions.perform(decision.action, decision.state)

    async def _save(self, decision: Decision, danger: bool) -> bool:
        """Whether the store took it; else why the batch may not spend is the next event. Raises Stale."""
        making = isinstance(decision.action, CreateRun)
        reserve, spent = self._reservation(decision), self._spent(decision.state)
        if making and reserve is None and self.batch.current.limits.budget_usd is not None:
            self.event = PauseRequested(*self.actions.stamp())
            await self._pause(NO_PRICE, self.context.store.pause)
            return False
        state = self._state(decision.state)
        run_out = True if making else False if decision.retry_reason is not None else None
        made = decision.state.run_id is not None
        counters = self._counters()
        saved = await self.context.retry_on_outage(
            lambda: self.context.store.save(
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
            raise ClaimLost
        self.marked = danger
        if not (saved.affordable and saved.may_start):
            self.actions.counters["requests"] += counters.get("requests", 0)
        if not saved.affordable:
            self.event = BudgetFull(*self.actions.stamp())
            if not saved.affordable_later:
                self.event = PauseRequested(*self.actions.stamp())
                cost = format_usd((reserve or 0) / NANO)
                await self._pause(
                    f"budget: a run may cost {cost}, and less is left", self.context.store.pause
                )
            return False
        if not saved.may_start:
            self.event = PauseRequested(*self.actions.stamp())
            return False
        if saved.first_accepted:
            self.context.dispatch_needed.set()
        return True

    def _state(self, known: JobState) -> bytes:
        """What the next holder of the row needs."""
        self.stored_under_s = self.context.clock.stepped_s
        return KNOWN.dump_json(stored(known, self.context.clock), exclude_defaults=True)

    def _reservation(self, decision: Decision) -> int | None:
        """What the run to be made may cost, also for a budget set later; nothing once it has ended."""
        if decision.retry_reason is not None:
            return 0
        if not isinstance(decision.action, CreateRun):
            return None
        return worst_case_nano(self.batch.batch, self.claim, decision.state, self.context.prices)

    def _worst_case_nano(self, known: JobState) -> int:
        """What a run beyond the row's attempts is assumed to cost: nobody reads its tokens."""
        return worst_case_nano(self.batch.batch, self.claim, known, self.context.prices) or 0

    def _spent(self, known: JobState) -> int | None:
        return spent_nano(self.batch.batch, self.claim, known, self.context.prices)

    async def _apply_side_effects(self, decision: Decision) -> None:
        """What the decision means beyond this row: slow all workers, count, cancel what was made twice."""
        self._log_decision(decision)
        if decision.throttled_s is not None:
            self.actions.counters["throttled"] += 1
            wait_s = decision.throttled_s
            await self.context.retry_on_outage(lambda: self.context.limits.throttle(wait_s))
        if decision.retry_reason is not None:
            self.actions.counters[f"retries:{decision.retry_reason}"] += 1
            log.info(
                "attempt.ended",
                attempt=self.state.attempt,
                reason=decision.retry_reason,
                run=self.state.run_id,
            )
        if decision.unknown_create:
            self.actions.counters.update(
                {"unknown_creates": 1, "assumed_nano": self._worst_case_nano(decision.state)}
            )
        if decision.create_failed:
            trouble, patience_s = (
                self.context.store.record_create_failure,
                self.context.create_failure_patience_s,
            )
            await self.context.retry_on_outage(lambda: trouble(self.claim.batch, patience_s=patience_s))
        for run_id in decision.duplicate_run_ids:
            await self._cancel_duplicate(run_id)
            self.actions.counters.update(
                {"late_runs": 1, "assumed_nano": self._worst_case_nano(decision.state)}
            )

    def _log_decision(self, decision: Decision) -> None:
        """The row's story, line by line: what failed and what follows, and which run it is about."""
        known = decision.state
        if isinstance(self.event, RequestFailed):
            fault, then = str(self.event.error), type(decision.action).__name__
            log.info(
                "request.failed", on=self.event.request.value, fault=fault, attempt=known.attempt, then=then
            )
        if known.run_id not in {None, self.state.run_id}:
            log.debug("run.known", attempt=known.attempt, run=known.run_id)

    async def _cancel_late_run(self) -> None:
        """Our create was answered after the claim was lost: unless the row follows this run, cancel it."""
        run_id = self.state.run_id
        if run_id is None:
            return
        with suppress(NotFound):
            detail = await self.context.retry_on_outage(
                lambda: self.context.store.row(self.claim.batch, self.claim.row)
            )
            if belongs_to(detail, run_id, self.state.attempt):
                return
            counters = {"late_runs": 1, "assumed_nano": self._worst_case_nano(self.state)}
            await self.context.retry_on_outage(
                lambda: self.context.store.incr_counters(self.claim.batch, counters)
            )
        with turns(self.actions.request_anyhow):
            await self._cancel_duplicate(run_id)

    async def _cancel_duplicate(self, run_id: str) -> None:
        log.warning("run.surplus", run=run_id)
        await self.actions.end_run(self.state.thread_id, run_id)

    async def _stop_here(self, decision: Decision) -> None:
        if isinstance(decision.action, PauseBatch):
            await self._pause(decision.action.reason, self.context.store.pause_from_worker)
        wait_s = getattr(decision.action, "wait_s", 0.0)
        await self._release(decision.state, wait_s)

    async def _pause(self, reason: str, pause: Callable[[str, str], Awaitable[bool]]) -> None:
        if await self.context.retry_on_outage(lambda: pause(self.claim.batch, reason)):
            log.error("batch.paused", reason=reason)

    async def _release(self, known: JobState, wait_s: float) -> None:
        due_ms = self.context.due_ms(wait_s) if wait_s else 0
        state, counters = self._state(known), self._counters()
        # A create that was refused, or never left, is not out: else the row would be fed to a paused batch.
        out = False if known.phase is Phase.NEW and not known.create_unconfirmed else None
        give_back, spent = self.context.store.release, self._spent(known)
        await self.context.retry_on_outage(
            lambda: give_back(
                self.claim, state, due_ms=due_ms, run_out=out, spent_nano=spent, counters=counters
            )
        )

    async def _finish(self, known: JobState, finish: Finish) -> None:
        """Keep the result, in one script; say in one line how it went."""
        known = await self.actions.fetch_files(known)
        model = known.ended_run.model if known.ended_run else None
        profile = profile_of(self.batch.batch, self.claim)
        attempts = priced(attempts_of(known, finish, self.event), model, profile, self.context.prices)
        if self.context.clock.stepped_s:
            attempts = timed(attempts, self.context.clock.to_redis)
        result = result_of(self.claim.row, known, finish, attempts)
        self._count_spending(known, result)
        await self._keep(result, previous_turn_of(known))

    async def _keep(self, result: Result, seed: bytes | None) -> None:
        counters = self._counters()
        kept = await self.context.retry_on_outage(
            lambda: self.context.store.finish(self.claim, result, seed=seed, counters=counters)
        )
        if not kept:
            raise ClaimLost
        log.info("job.finished", **line_of(result))
        telemetry.finished(self.claim.batch, result)

    def _count_spending(self, known: JobState, result: Result) -> None:
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
                self.actions.counters[counter] += now - (then or 0)
        new = uncounted(self.claim, result.attempts)
        if assumed := assumed_nano(self.batch.batch, self.claim, known, new, self.context.prices):
            self.actions.counters["assumed_nano"] += assumed

    def _counters(self) -> dict[str, int]:
        counted = dict(self.actions.counters)
        self.actions.counters.clear()
        return counted

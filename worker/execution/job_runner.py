"""One row from claim to end: decide, store what must survive, act, and decide again by what was observed.

claim ─▶ event ─▶ advance (pure) ─▶ store the state ─▶ perform the action ─▶ event ─▶ … ─▶ finish
                                                                                     └─▶ release
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from askmill.config.text import format_usd
from askmill.jobs.model.models import BatchState, JobStatus, Result
from askmill.jobs.store.claim_records import MAX_CRASHES, Claim, SaveReply
from askmill.jobs.store.records import NANO
from askmill.worker.backends.hooks import before_each_request
from askmill.worker.execution.actions import STOPPED, ActionExecutor
from askmill.worker.execution.cancel_duplicate import cancel_duplicate, cancel_late_run
from askmill.worker.execution.chat_call import exchange_for_next_turn
from askmill.worker.execution.costs import RowCosts
from askmill.worker.execution.failures import report_fault
from askmill.worker.execution.generated_files import store_generated_files
from askmill.worker.execution.request_builder import row_policy
from askmill.worker.execution.result_builder import (
    attempts_of,
    build_result,
    internal_error,
    log_fields,
    missed_counters,
)
from askmill.worker.execution.stored_state import (
    convert_attempts,
    from_store,
    initial_state,
    state_to_json,
    turn_for_next_row,
)
from askmill.worker.lifecycle.api_types import Answer
from askmill.worker.lifecycle.decision import (
    CallTools,
    CreateRun,
    Decision,
    Finish,
    PauseBatch,
    ReadAnswer,
    ReleaseRow,
    without_create,
)
from askmill.worker.lifecycle.events import (
    BudgetFull,
    Claimed,
    Event,
    PauseRequested,
    RequestFailed,
    RunCreated,
)
from askmill.worker.lifecycle.kept_answer import with_kept_answer
from askmill.worker.lifecycle.on_batch_state import apply_batch_state, starts_run
from askmill.worker.lifecycle.state import JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from askmill.worker.runtime import telemetry
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import CRASH_WAIT_S, WorkerContext
from askmill.worker.runtime.interrupts import ClaimLost, Interrupts, ShuttingDown

log = structlog.get_logger()

BEHIND_OTHERS_S = 0.001
"""A row that paused its batch is due after those that wait for nothing."""
NO_PRICE = "budget: a worker does not know the model's price"


class JobRunner:
    """Follows one claimed row. `run` returns when the row is finished, released or lost."""

    def __init__(
        self, context: WorkerContext, batch: BatchContext, claim: Claim, interrupts: Interrupts
    ) -> None:
        self.context, self.batch, self.claim, self.interrupts = context, batch, claim, interrupts
        backend = context.backends.of(batch.batch.api)
        self.actions = ActionExecutor(context, batch, claim, interrupts, backend)
        self.costs = RowCosts(batch.batch, claim, context.prices)
        self.state = from_store(initial_state(claim, batch.batch), context.clock, context.now_s())
        self.crash_mark = False
        """Whether the store counts the death of this worker now as caused by the row."""
        self.stored_step_s = context.clock.stepped_s
        """How far Redis' clock had stepped when the state was last stored."""
        self.event: Event = Claimed(*self.actions.stamp())

    async def run(self) -> None:
        """Follow the row to its end. Stores nothing more once the claim is lost."""
        with before_each_request(self.actions.before_request):
            try:
                await self._follow()
            except ClaimLost:
                self.interrupts.claim_lost = True
                backend = self.actions.backend
                with suppress(asyncio.CancelledError):
                    await cancel_late_run(self.context, self.claim, self.state, backend, self.costs)
                log.info("job.lost", phase=self.state.phase.value)
            except (ShuttingDown, asyncio.CancelledError):
                if not self.interrupts.claim_lost:
                    await self._release(self.state, 0.0)
                    log.info("job.handed_over", phase=self.state.phase.value, run=self.state.run_id)
            except Exception as crash:
                log.exception("job.crashed", phase=self.state.phase.value)
                await self._after_crash(crash)

    async def _follow(self) -> None:
        if self.claim.crashes >= MAX_CRASHES:
            if self.state.run_id is not None:
                await cancel_duplicate(self.actions.backend, self.state.thread_id, self.state.run_id)
            error = f"poison_row: it killed its worker {self.claim.crashes} times"
            await self._finish(self.state, Finish(JobStatus.FAILED, error=error))
            return
        while True:
            decision = self._decide()
            if self.interrupts.shutting_down and starts_run(decision):
                await self._hand_over(decision)
            await self._apply_side_effects(decision)
            match decision.action:
                case Finish():
                    await self._finish(decision.state, decision.action)
                    return
                case PauseBatch(reason=reason, wait_s=wait_s, resume_after_s=resume_after_s):
                    store = self.context.store
                    await self._pause(store.pause_from_worker, reason, resume_after_s)
                    # Not due at once: after `resume` the other rows go first.
                    await self._release(decision.state, max(wait_s, BEHIND_OTHERS_S))
                    return
                case ReleaseRow(wait_s=wait_s):
                    await self._release(decision.state, wait_s)
                    return
            await self._carry_out(decision)

    def _decide(self) -> Decision:
        """The lifecycle's decision on the last event, within what the batch's state allows."""
        policy = row_policy(self.batch.batch, self.batch.current.limits, self.claim)
        decision = advance(self.state, self.event, policy)
        batch_state = self.batch.current.state
        if self.batch.batch.in_shards and batch_state is not BatchState.CANCELLED:
            # With tier batch no row starts a run of its own: it is asked again in the next shard.
            batch_state = BatchState.PAUSED
        if batch_state in STOPPED:
            return apply_batch_state(decision, batch_state, Claimed(*self.actions.stamp()), policy)
        return decision

    async def _hand_over(self, decision: Decision) -> None:
        """The process ends and a run would start: another worker starts it. Raises ShuttingDown."""
        if not isinstance(decision.action, CreateRun):  # an unknown create is counted when repeated
            await self._apply_side_effects(decision)
        self.state = without_create(decision)
        raise ShuttingDown

    async def _carry_out(self, decision: Decision) -> None:
        """Store what must survive, then act. A step that may kill this process is marked first.

        Three deaths in marked steps make a row poison: a user's function, or what an answer holds, may kill.
        """
        # An interruption from here on keeps the news of the last reply, but not a create that is not sent.
        self.state = without_create(decision)
        if not isinstance(decision.action, CallTools | ReadAnswer):
            await self._store_and_act(decision)
            return
        if isinstance(decision.action, ReadAnswer):
            # A worker that dies while waiting was not killed by the row.
            if decision.action.after_s > 0 and self.crash_mark:
                await self._store(decision, crash_mark=False)
            await self.interrupts.sleep(decision.action.after_s)
        async with self.context.crash_isolation.section(alone=self.claim.crashes > 0):
            self.interrupts.raise_if_ending()
            await self._store_and_act(decision, crash_mark=True)

    async def _store_and_act(self, decision: Decision, *, crash_mark: bool = False) -> None:
        clock_stepped = self.stored_step_s != self.context.clock.stepped_s
        if (decision.store or crash_mark or clock_stepped) and not await self._store(decision, crash_mark):
            return
        self.state = decision.state
        self.event = await self.actions.perform(decision.action, decision.state)

    async def _apply_side_effects(self, decision: Decision) -> None:
        """Log and count the decision, and act on what it means for other rows and runs."""
        state, counters = decision.state, self.actions.counters
        if isinstance(self.event, RequestFailed):
            await report_fault(self.event, decision, self.context, self.batch)
        if state.run_id not in {None, self.state.run_id}:
            log.debug("run.observed", attempt=state.attempt, run=state.run_id)
        if decision.throttled_s is not None:
            counters["throttled"] += 1
            store = self.context.store
            await self.context.retry_on_outage(store.throttle, decision.throttled_s, decision.throttled_by)
        if decision.retry_reason is not None:
            counters[f"retries:{decision.retry_reason}"] += 1
            attempt, run = self.state.attempt, self.state.run_id
            log.info("attempt.ended", attempt=attempt, reason=decision.retry_reason, run=run)
        if decision.tier_fallback:
            counters["tier_fallbacks"] += 1
            log.info("tier.fallback", tier=self.batch.batch.profile.service_tier)
        if decision.unknown_create:
            counters.update(self.costs.unknown_create_counters(state))
        if decision.uncancelled_run:
            counters["uncancelled_runs"] += 1
            log.warning("run.not_cancelled", run=self.state.run_id, fault=state.cancel_refusal)
        if decision.create_failed:
            await self.context.retry_on_outage(
                self.context.store.record_create_failure,
                self.claim.batch,
                patience_s=self.context.create_failure_patience_s,
            )
        for run_id in decision.duplicate_run_ids:
            log.warning("run.duplicate", run=run_id)
            await cancel_duplicate(self.actions.backend, self.state.thread_id, run_id)
            counters.update({"late_runs": 1, "assumed_nano": self.costs.worst_case_nano(state) or 0})

    # ── the store ──

    async def _store(self, decision: Decision, crash_mark: bool) -> bool:
        """Store the state and, before a create, reserve its cost. Raises ClaimLost.

        Returns False when the batch refuses the create; the next event says why.
        """
        creating, ended = isinstance(decision.action, CreateRun), decision.retry_reason is not None
        reserve_nano = 0 if ended else self.costs.worst_case_nano(decision.state) if creating else None
        if creating and reserve_nano is None and self.batch.current.limits.budget_usd is not None:
            self.event = PauseRequested(*self.actions.stamp())
            await self._pause(self.context.store.pause, NO_PRICE)
            return False
        counters, self.stored_step_s = self._take_counters(), self.context.clock.stepped_s
        reply = await self.context.retry_on_outage(
            self.context.store.save,
            self.claim,
            state_to_json(decision.state, self.context.clock),
            run_created=decision.state.has_run or self._ended_with_create,
            run_in_flight=True if creating else False if ended else None,
            crash_mark=crash_mark,
            reserve_nano=reserve_nano,
            spent_nano=self.costs.spent_nano(decision.state),
            counters=counters,
        )
        if not reply.held:
            raise ClaimLost
        self.crash_mark = crash_mark
        if not (reply.affordable and reply.may_start):
            self.actions.counters["requests"] += counters.get("requests", 0)
            await self._on_refused_create(reply, reserve_nano or 0)
            return False
        if reply.first_accepted:
            self.context.dispatch_needed.set()
        return True

    async def _on_refused_create(self, reply: SaveReply, reserve_nano: int) -> None:
        """The batch is stopped, or its budget cannot pay for the run: now, or not at all."""
        if not reply.affordable and reply.affordable_later:
            self.event = BudgetFull(*self.actions.stamp())
            return
        self.event = PauseRequested(*self.actions.stamp())
        if not reply.affordable:
            cost = format_usd(reserve_nano / NANO)
            await self._pause(self.context.store.pause, f"budget: a run may cost {cost}, and less is left")

    @property
    def _ended_with_create(self) -> bool:
        """Whether the last event is a call of chat completions: a run that no save has counted."""
        return self.batch.batch.api == "chat" and isinstance(self.event, RunCreated)

    def _take_counters(self) -> dict[str, int]:
        counters = dict(self.actions.counters)
        self.actions.counters.clear()
        return counters

    async def _pause(
        self, pause: Callable[..., Awaitable[bool]], reason: str, resume_after_s: float | None = None
    ) -> None:
        """Pause the batch, here at once: no other row of this worker sends what was just refused."""
        options = () if resume_after_s is None else (resume_after_s,)
        changed = await self.context.retry_on_outage(pause, self.claim.batch, reason, *options)
        if self.batch.current.state in {BatchState.QUEUED, BatchState.RUNNING}:
            # Without the reason: the next heartbeat reads it, finds a change and wakes the waiting rows.
            self.batch.current = replace(self.batch.current, state=BatchState.PAUSED)
        if changed:
            log.error("batch.paused", reason=reason, resume_after_s=resume_after_s)

    async def _release(self, state: JobState, wait_s: float) -> None:
        # No run can exist for a refused or unsent create: else a paused batch would dispatch the row.
        no_run = state.phase is Phase.NEW and not state.create_unconfirmed
        await self.context.retry_on_outage(
            self.context.store.release,
            self.claim,
            state_to_json(state, self.context.clock),
            due_ms=self.context.due_ms(wait_s) if wait_s else 0,
            run_in_flight=False if no_run else None,
            spent_nano=self.costs.spent_nano(state),
            counters=self._take_counters(),
        )

    async def _finish(self, state: JobState, finish: Finish) -> None:
        """Store the result and end the row, in one script."""
        state, finish = with_kept_answer(state, finish)
        if state.answer is not None and state.answer.files:
            answer = await store_generated_files(state.answer, self.actions)
            state = replace(state, answer=answer)
        attempts = self.costs.priced(attempts_of(state, finish, self.event))
        if self.context.clock.stepped_s:
            attempts = convert_attempts(attempts, self.context.clock.to_redis)
        result = build_result(self.claim.row, state, finish, attempts)
        self.actions.counters.update(self.costs.final_counters(result, state))
        self.actions.counters.update(missed_counters(self.batch.batch.profile, result))
        next_turn = None
        if state.shared_thread:
            exchange = exchange_for_next_turn(self.batch.batch, self.claim, state)
            next_turn = turn_for_next_row(state, exchange)
        await self._store_result(result, next_turn)

    async def _store_result(self, result: Result, next_turn: bytes | None) -> None:
        finished = await self.context.retry_on_outage(
            self.context.store.finish,
            self.claim,
            result,
            next_turn_state=next_turn,
            run_created=self._ended_with_create,
            counters=self._take_counters(),
        )
        if not finished:
            raise ClaimLost
        log.info("job.finished", **log_fields(result))
        telemetry.row_finished(self.claim.batch, result)

    async def _after_crash(self, crash: Exception) -> None:
        """An unexpected exception: the row is released, and fails at the third."""
        self.state = replace(self.state, crashes=self.state.crashes + 1)
        if self.state.crashes < MAX_CRASHES:
            await self._release(self.state, CRASH_WAIT_S)
            return
        error = internal_error(crash)
        try:
            await self._finish(self.state, Finish(JobStatus.FAILED, error=error))
        except (ClaimLost, ShuttingDown):
            raise
        except Exception:  # the row's own state may be the cause
            log.exception("job.crashed", phase="finishing")
            self.actions.counters.clear()
            kept = self.state.answer or (self.state.kept and self.state.kept.answer) or Answer()
            result = Result(row=self.claim.row, status=JobStatus.FAILED, error=error, answer=kept.text)
            await self._store_result(result, None)

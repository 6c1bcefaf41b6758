"""One shard from claim to end: decide, store what must survive, act, and decide again by what was observed.

claim ─▶ event ─▶ advance_shard (pure) ─▶ store the state ─▶ perform the action ─▶ event ─▶ … ─▶ end
                                                                                          └─▶ release
"""

import asyncio
from dataclasses import replace

import structlog

from askmill.jobs.model.models import BatchState
from askmill.jobs.store.shard_records import CutLimits, ShardClaim, ShardStep, ShardVerdict
from askmill.worker.backends.hooks import before_each_request
from askmill.worker.execution.shard_actions import ShardActions
from askmill.worker.execution.shard_state_json import shard_from_json, shard_to_json
from askmill.worker.lifecycle.shard_events import (
    CreateBatch,
    CreateRefused,
    EndShard,
    ReleaseShard,
    RowsChanged,
    ShardClaimed,
    ShardDecision,
    ShardEvent,
)
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_sizes import CutSizes, sizes_after_completion, sizes_after_refusal
from askmill.worker.lifecycle.shard_state import ShardPhase, ShardState
from askmill.worker.lifecycle.shard_transitions import advance_shard
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.batch_lister import BatchLister
from askmill.worker.runtime.context import CRASH_WAIT_S, WorkerContext
from askmill.worker.runtime.interrupts import ClaimLost, Interrupts, ShuttingDown

log = structlog.get_logger()

HOLD_S = 600.0
"""How long no shard is cut after the token limit, unless a running one ends before."""


class ShardRunner:
    """Follows one claimed shard. `run` returns when the shard is ended, released or lost."""

    def __init__(
        self,
        context: WorkerContext,
        batch: BatchContext,
        claim: ShardClaim,
        interrupts: Interrupts,
        lister: BatchLister,
    ) -> None:
        self.context, self.batch, self.claim, self.interrupts = context, batch, claim, interrupts
        self.actions = ShardActions(context, batch, claim, interrupts, lister)
        self.state = shard_from_json(claim.state, context.clock, context.now_s())
        self.marked_sent = self.state.phase is ShardPhase.SENT
        """Whether the store has the mark of a create that the API has not accepted."""
        overrides = frozenset(batch.batch.spec.overrides)
        self.policy = ShardPolicy(list_interval_s=lister.interval_s, row_overrides=overrides)
        self.event: ShardEvent = ShardClaimed(*self.actions.stamp())

    async def run(self) -> None:
        """Follow the shard to its end. Stores nothing more once the claim is lost."""
        with before_each_request(self.actions.before_request):
            try:
                while await self._step():
                    pass
            except ClaimLost:
                self._note_loss()
            except (ShuttingDown, asyncio.CancelledError):
                if not self.interrupts.claim_lost:
                    await self._hand_over(0.0)
                    log.info("shard.handed_over", shard=self.claim.number, phase=self.state.phase.value)
            except Exception:
                log.exception("shard.crashed", shard=self.claim.number, phase=self.state.phase.value)
                await self._hand_over(CRASH_WAIT_S)

    def _note_loss(self) -> None:
        self.interrupts.claim_lost = True
        log.info("shard.lost", shard=self.claim.number, phase=self.state.phase.value)

    async def _hand_over(self, wait_s: float) -> None:
        try:
            await self._release(wait_s)
        except ClaimLost:
            self._note_loss()

    async def _step(self) -> bool:
        """One decision and its action. False when the shard is ended or released."""
        self.interrupts.raise_if_ending()
        decision = advance_shard(self.state, self.event, self._policy_now())
        await self._apply_side_effects(decision)
        match decision.action:
            case EndShard():
                await self._end(decision.state, decision.action)
                return False
            case ReleaseShard(wait_s=wait_s, pause=pause, resume_after_s=resume_after_s):
                self.state = decision.state
                if pause is not None:
                    await self._pause(pause, resume_after_s)
                await self._release(wait_s)
                return False
        step, must_store = self._step_of(decision), decision.store or self._is_unsent(decision.state)
        if must_store and not await self._store(decision.state, step):
            return True
        self.state = decision.state
        self.event = await self.actions.perform(decision.action, decision.state)
        if isinstance(decision.action, CreateBatch):
            self.context.dispatch_needed.set()
        await self._pause_for_a_line()
        return True

    def _policy_now(self) -> ShardPolicy:
        state = self.batch.current.state
        return replace(
            self.policy, paused=state is BatchState.PAUSED, cancelled=state is BatchState.CANCELLED
        )

    async def _apply_side_effects(self, decision: ShardDecision) -> None:
        retry, store = self.context.retry_on_outage, self.context.store
        if decision.throttled_s is not None:
            self.actions.counters["throttled"] += 1
            await retry(store.throttle, decision.throttled_s, decision.throttled_by)
        if decision.unknown_create:
            log.warning("shard.create_unknown", shard=self.claim.number, file=self.state.file_id)
            self.actions.counters["unknown_creates"] += 1
        if decision.duplicate is not None:
            # In `validating` nothing has run yet.
            assumed = 0 if decision.duplicate.status == "validating" else decision.state.worst_nano or 0
            self.actions.counters.update({"late_runs": 1, "assumed_nano": assumed})
        if decision.create_failed:
            await retry(
                store.record_create_failure,
                self.claim.batch,
                patience_s=self.context.create_failure_patience_s,
            )

    # ── the store ──

    async def _store(self, state: ShardState, step: ShardStep) -> bool:
        """Store the state and, before a create, reserve the shard's cost. Raises ClaimLost.

        Returns False when the store refuses the create; the next event says why.
        """
        counters = self._take_counters()
        verdict = await self.context.retry_on_outage(
            self.context.store.save_shard,
            self.claim,
            shard_to_json(state, self.context.clock),
            step,
            file_id=state.file_id,
            lines=self._lines(state),
            reserve_nano=state.worst_nano if step is ShardStep.SEND else None,
            result_files=[name for name in (state.output_file_id, state.error_file_id) if name],
            counters=counters,
        )
        if verdict is None:
            raise ClaimLost
        if verdict is ShardVerdict.SAVED:
            self.marked_sent = state.phase is ShardPhase.SENT
            if state.file_id is not None:
                self.claim = replace(self.claim, lines=self._lines(state))
                self.actions.claim = self.actions.results.claim = self.claim
            return True
        self.actions.counters.update(counters)
        self.state = replace(self.state, phase=ShardPhase.UPLOADED)
        at = self.actions.stamp()
        self.event = RowsChanged(*at) if verdict is ShardVerdict.ROWS_CHANGED else CreateRefused(*at)
        if verdict is ShardVerdict.STOPPED:
            await self._see_batch_state()
        return False

    def _step_of(self, decision: ShardDecision) -> ShardStep:
        if isinstance(decision.action, CreateBatch):
            return ShardStep.SEND
        if self.state.phase is ShardPhase.SENT and decision.state.phase is ShardPhase.FOLLOWED:
            return ShardStep.CREATED
        return ShardStep.UNSENT if self._is_unsent(decision.state) else ShardStep.OTHER

    def _is_unsent(self, state: ShardState) -> bool:
        """Whether the create was refused or is given up, and the store does not say so yet."""
        return self.marked_sent and state.phase in {ShardPhase.CUT, ShardPhase.UPLOADED}

    def _lines(self, state: ShardState) -> tuple[int, ...]:
        """The rows of the file, in the order of its lines."""
        built = self.actions.built
        uploaded_here = built is not None and built.sha256 == state.sha256
        return tuple(built.rows) if built is not None and uploaded_here else self.claim.lines

    async def _see_batch_state(self) -> None:
        """The batch was stopped since the last heartbeat."""
        batch = await self.context.retry_on_outage(self.context.store.batch, self.claim.batch)
        self.batch.current = replace(self.batch.current, state=batch.state)

    def _take_counters(self) -> dict[str, int]:
        counters = dict(self.actions.counters)
        self.actions.counters.clear()
        return counters

    async def _pause(self, reason: str, resume_after_s: float | None = None) -> None:
        changed = await self.context.retry_on_outage(
            self.context.store.pause_from_worker, self.claim.batch, reason, resume_after_s
        )
        if self.batch.current.state in {BatchState.QUEUED, BatchState.RUNNING}:
            self.batch.current = replace(self.batch.current, state=BatchState.PAUSED)
        if changed:
            log.error("batch.paused", reason=reason, resume_after_s=resume_after_s)

    async def _pause_for_a_line(self) -> None:
        """A line of the results says that every row would fail like it."""
        reason, self.actions.results.pause = self.actions.results.pause, None
        if reason is not None:
            await self._pause(reason)

    async def _release(self, wait_s: float) -> None:
        """Release the shard with its state. Raises ClaimLost."""
        if self._is_unsent(self.state):
            await self._store(self.state, ShardStep.UNSENT)
        await self.context.retry_on_outage(
            self.context.store.release_shard,
            self.claim,
            shard_to_json(self.state, self.context.clock),
            due_ms=self.context.due_ms(wait_s) if wait_s else 0,
            counters=self._take_counters(),
        )

    # ── the end ──

    async def _end(self, state: ShardState, action: EndShard) -> None:
        """Store an end for each row that is left, then end the shard. Raises ClaimLost."""
        if action.pause is not None:  # first, so that no other shard is cut from the rows
            await self._pause(action.pause)
        await self.actions.results.end_rest(state, action)
        await self._pause_for_a_line()
        over_budget = self.actions.built is not None and self.actions.built.over_budget
        if over_budget and state.phase is ShardPhase.CUT:
            await self._pause_without_budget()
        ended = replace(state, phase=ShardPhase.DONE)
        held = await self.context.retry_on_outage(
            self.context.store.end_shard,
            self.claim,
            shard_to_json(ended, self.context.clock),
            limits=await self._cut_limits(state, action),
            forgotten_files=state.earlier_files,
            counters=self._take_counters(),
        )
        if not held:
            raise ClaimLost
        self.context.dispatch_needed.set()
        log.info("shard.ended", shard=self.claim.number, status=state.status, lines=state.lines)

    async def _pause_without_budget(self) -> None:
        """Not one row has room in the budget: pause, unless what is in flight may leave some."""
        totals = (await self.context.retry_on_outage(self.context.store.counts, self.claim.batch)).totals
        if not totals.get("reserved_nano", 0):
            await self._pause("budget: a row may cost more than what is left")

    async def _cut_limits(self, state: ShardState, action: EndShard) -> CutLimits:
        over_budget = self.actions.built is not None and self.actions.built.over_budget
        if not action.hold_cuts and not over_budget:
            return await self._grown_limits(state)
        counts = await self.context.retry_on_outage(self.context.store.counts, self.claim.batch)
        alone = counts.totals.get("open_shards", 0) <= 1
        hold_ms = int((self.policy.list_interval_s if alone else HOLD_S) * 1000)
        if state.status != "failed":
            return CutLimits(hold_ms)
        tokens = (state.lines, state.prompt_tokens, action.token_limit)
        return CutLimits(hold_ms, *sizes_after_refusal(*tokens, alone=alone))

    async def _grown_limits(self, state: ShardState) -> CutLimits:
        """After a shard has completed, the sizes grow that a refusal has made smaller."""
        if state.status != "completed":
            return CutLimits()
        before = CutSizes(*await self.context.retry_on_outage(self.context.store.cut_sizes, self.claim.batch))
        grown = sizes_after_completion(before, state.lines)
        return CutLimits(0, *grown, before=before) if grown != before else CutLimits()

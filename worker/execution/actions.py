"""The acts of one job: each action of the lifecycle as requests to the API; the outcome is the next event."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import structlog

from askmill.jobs.model.models import BatchState, Usage
from askmill.jobs.store.records import Claim
from askmill.worker.backends.base import RunRequest
from askmill.worker.execution.request_builder import overrides_of, run_request_for, schema_error
from askmill.worker.execution.tools import call_tools
from askmill.worker.lifecycle.api_types import ENDED, ApiError, Run, RunStatus
from askmill.worker.lifecycle.polling import DELAY_WORTH, THRIFTY_WORTH, ended_between
from askmill.worker.lifecycle.retry import RequestKind, RetryPolicy, assistant_gone, may_pass, store_gone
from askmill.worker.lifecycle.state import (
    Action,
    AnswerRead,
    CallTools,
    CancelRun,
    Claimed,
    CreateRun,
    CreateSkipped,
    CreateThread,
    DeleteFailedTurn,
    Event,
    FailedTurnDeleted,
    JobState,
    LookupDone,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    RequestFailed,
    Reserve,
    Reserved,
    RunObserved,
    SubmitOutputs,
    ThreadCreated,
    ToolsCalled,
    Wait,
)
from askmill.worker.lifecycle.transitions import in_time
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext, elapsed_clock_s
from askmill.worker.runtime.interrupts import Interrupts

T = TypeVar("T")
log = structlog.get_logger()

REQUEST: dict[type[Action], RequestKind] = {
    Reserve: RequestKind.THREAD,
    CreateThread: RequestKind.THREAD,
    CreateRun: RequestKind.CREATE,
    CancelRun: RequestKind.CANCEL,
    SubmitOutputs: RequestKind.SUBMIT,
}
"""The kind of request an action makes, for the table of faults; all others read."""

END_WITHIN_S = 60.0
"""How long ending a run that nobody wants is tried again."""

STOPPED = frozenset({BatchState.PAUSED, BatchState.CANCELLED})


@dataclass
class ActionExecutor:
    """Performs actions for one claimed row. `counted`: what the batch's counters are to learn."""

    context: WorkerContext
    batch: BatchContext
    claim: Claim
    interrupts: Interrupts
    counters: Counter[str] = field(default_factory=Counter)
    hint_s: float | None = None
    seen_s: float = 0.0
    """The run's age when a look last saw it running."""
    leg_s: float = 0.0
    """How old the run was when it went on with its functions' outputs; ages count from there."""
    expected_tokens: int | None = None
    """What was booked for the run; None where whoever made it has booked."""
    create_due: bool = False
    """The next request is the create whose turn has been waited for."""

    def stamp(self) -> tuple[float, float]:
        """The time by Redis' clock, and a draw for jitter."""
        return self.context.now_s(), random.random()  # noqa: S311 -- jitter

    async def perform(self, action: Action, known: JobState) -> Event:
        """Do it; a fault of the API is an event too."""
        try:
            return await self._perform(action, known)
        except ApiError as fault:
            on = REQUEST.get(type(action), RequestKind.READ)
            chosen = frozenset(overrides_of(self.batch.batch, self.claim))
            return RequestFailed(*self.stamp(), error=fault, request=on, row_fields=chosen)

    async def _perform(self, action: Action, known: JobState) -> Event:
        match action:
            case PollRun() | CancelRun() | SubmitOutputs():
                run = await self._observe_run(action, known)
                return RunObserved(*self.stamp(), run=run)
            case Reserve():
                return await self._reserve()
            case Wait(wait_s=wait_s):
                await self.interrupts.sleep(wait_s)
                return Claimed(*self.stamp())
            case CallTools():
                return await self._call_tools(action)
            case ReadAnswer():
                return await self._read(known)
            case RecoverRun() | RecoverSubmit():
                return await self._find(action, known)
            case _:
                return await self._make(action, known)

    async def _reserve(self) -> Event:
        """See to the assistant, and wait for the run's turn: of its tokens, and of the request that makes it.

        The turn is waited for here, before the last look at the batch's state: a pause meanwhile is seen.
        """
        await self.context.retry_on_outage(
            lambda: self.batch.ensure_assistant(self.context.store, self.context.backend)
        )
        self.expected_tokens = expected = self.batch.expected_tokens()
        limits = self.context.limits
        await self.context.retry_on_outage(lambda: limits.tokens(expected, self._turn_to_start))
        await self.context.retry_on_outage(lambda: limits.request(self._turn_to_start))
        return Reserved(*self.stamp())

    async def request(self) -> None:
        """Before each request: count it, and wait for its turn where requests are limited.

        The turn of a create has been waited for (`_reserve`).
        """
        self.counters["requests"] += 1
        if self.create_due:
            self.create_due = False
        else:
            await self.context.retry_on_outage(lambda: self.context.limits.request(self._turn))

    async def request_anyhow(self) -> None:
        """The same where the row is lost already: its turn is waited for all the same."""
        self.counters["requests"] += 1
        await self.context.retry_on_outage(lambda: self.context.limits.request(asyncio.sleep))

    async def _turn(self, wait_s: float) -> None:
        """Wait so long whatever changes: earlier would be more than the limit. Raises as `Interrupts.sleep`."""
        until_s = elapsed_clock_s() + wait_s
        while (left_s := until_s - elapsed_clock_s()) > 0:
            await self.interrupts.sleep(left_s)

    async def _turn_to_start(self, wait_s: float) -> None:
        """The same, unless the batch is stopped: then nothing will be started."""
        until_s = elapsed_clock_s() + wait_s
        while self.batch.current.state not in STOPPED and (left_s := until_s - elapsed_clock_s()) > 0:
            await self.interrupts.sleep(left_s)

    async def _make(self, action: Action, known: JobState) -> Event:
        backend, ask, thread_id = self.context.backend, self._run_request(known), known.thread_id or ""
        match action:
            case DeleteFailedTurn():
                await backend.clear_turn(thread_id, known.last_message_id_before, len(ask.profile.messages))
                return FailedTurnDeleted(*self.stamp())
            case CreateThread():
                return ThreadCreated(*self.stamp(), thread_id=await backend.make_thread(ask))
            case CreateRun():
                self.leg_s, self.seen_s, self.hint_s = 0.0, 0.0, None
                run = await self._retry_with_recreated_resources(
                    known, lambda: self._create(known, thread_id)
                )
                return RunObserved(*self.stamp(), run=run) if run else CreateSkipped(*self.stamp())
        raise AssertionError(f"nobody performs {action!r}")

    async def _retry_with_recreated_resources(self, known: JobState, create: Callable[[], Awaitable[T]]) -> T:
        """What is made; an assistant or vector store of ours that was deleted is made again first, once."""
        ask = self._run_request(known)
        try:
            return await create()
        except ApiError as fault:
            if store_gone(fault, ask.resources.vector_store_id):
                gone = ask.resources.vector_store_id
            elif assistant_gone(fault) and ask.profile.assistant_id is None:
                gone = ask.assistant_id
            else:
                raise
            room, desk = self.batch, self.context
            await desk.retry_on_outage(lambda: room.ensure_assistant(desk.store, desk.backend, gone=gone))
            await desk.retry_on_outage(lambda: desk.limits.request(self._turn_to_start))
            if room.current.state in STOPPED:
                raise
        return await create()

    async def _create(self, known: JobState, thread_id: str) -> Run | None:
        """The run; None where nothing was sent: storing its mark, or waiting for our heart, took too long."""
        await self._wait_for_fresh_lease()
        if not in_time(known, self.context.now_s()):
            return None
        self.create_due = True
        return await self.context.backend.make_run(self._run_request(known), thread_id)

    async def _wait_for_fresh_lease(self) -> None:
        """No create is written unless the last acknowledged heartbeat is young: our claims surely stand."""
        while not self.context.lease_is_fresh():
            await self.interrupts.sleep(0.2)

    async def _observe_run(self, action: Action, known: JobState) -> Run:
        backend, ask = self.context.backend, self._run_request(known)
        thread_id, run_id = known.thread_id or "", known.run_id or ""
        await self._until_due(action, known)
        if isinstance(action, CancelRun):
            return await backend.cancel(thread_id, run_id)
        if isinstance(action, SubmitOutputs):
            run = await self._retry_with_recreated_resources(
                known, lambda: backend.submit(self._run_request(known), thread_id, run_id, known.outputs)
            )
            self.leg_s, self.seen_s, self.hint_s = self.leg_s + self._age_s(known), 0.0, run.poll_after_s
            return run
        run = await backend.look(ask, thread_id, run_id)
        self.hint_s = run.poll_after_s
        self._learn(run, known)
        return run

    def _learn(self, run: Run, known: JobState) -> None:
        """How old the run was when it still worked; once it does not, what that says of its batch."""
        age_s = self._age_s(known)
        if run.status not in {*ENDED, RunStatus.REQUIRES_ACTION}:
            if known.cancel_reason is None:
                self.batch.run_times.running(self.seen_s, age_s)
            self.seen_s = age_s
        elif known.cancel_reason is None:
            # A response that goes on after functions tells its own times only.
            told_s = None
            if run.created_at and run.finished_at and not known.tool_rounds:
                told_s = run.finished_at - run.created_at
            self.batch.run_times.ended(self.seen_s, *ended_between(self.seen_s, age_s, told_s))

    def _age_s(self, known: JobState) -> float:
        now_s = self.context.now_s()
        return max(0.0, now_s - (now_s if known.began_at is None else known.began_at) - self.leg_s)

    async def _until_due(self, action: Action, known: JobState) -> None:
        """Wait before this look, cancel or submit; a look without a time is planned, and planned again."""
        if not isinstance(action, PollRun) or action.after_s is not None:
            await self.interrupts.sleep(float(getattr(action, "after_s", 0.0)))
            return
        times, limited = self.batch.run_times, "requests_per_minute" in self.context.limits.set_now
        times.delay_worth, before = THRIFTY_WORTH if limited else DELAY_WORTH, self.batch.current
        while (wait_s := times.next_look_s(self._age_s(known), self.seen_s, self.hint_s)) > 0:
            left_s = wait_s if action.by is None else max(0.0, action.by - self.context.now_s())
            await self.interrupts.sleep(min(wait_s, left_s))
            if left_s < wait_s or self.batch.current != before:
                return

    async def _find(self, action: RecoverRun | RecoverSubmit, known: JobState) -> Event:
        ask, thread_id = self._run_request(known), known.thread_id or ""
        await self.interrupts.sleep(action.after_s)
        if isinstance(action, RecoverSubmit):
            found = await self.context.backend.find_submitted(ask, thread_id, known.run_id or "")
        else:
            found = await self.context.backend.find_run(ask, thread_id, known.known_run_ids)
        return LookupDone(*self.stamp(), lookup=found)

    async def _call_tools(self, action: CallTools) -> Event:
        functions = self.batch.batch.profile.functions
        outputs = await call_tools(functions, action.calls, self.context.function_limit_s)
        return ToolsCalled(*self.stamp(), outputs=outputs)

    async def _read(self, known: JobState) -> Event:
        answer = await self.context.backend.read(
            self._run_request(known), known.thread_id or "", known.run_id
        )
        if known.ended_run:
            await self._settle(known.ended_run.usage)
        missed = schema_error(self.batch.batch.profile, answer.text) if answer.messages else None
        return AnswerRead(*self.stamp(), answer=answer, schema_error=missed)

    async def _settle(self, usage: Usage) -> None:
        """Tell the limits and the estimate what the run really took."""
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return
        used = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        self.batch.add_tokens(used)
        booked = self.expected_tokens
        if booked is not None:
            await self.context.retry_on_outage(lambda: self.context.limits.settle(booked, used))

    async def fetch_files(self, known: JobState) -> JobState:
        """Keep what the run generated at once: containers end after 20 minutes."""
        if known.answer is None or not known.answer.files:
            return known
        kept = [await self._keep_file(number, file) for number, file in enumerate(known.answer.files)]
        return replace(known, answer=replace(known.answer, files=tuple(kept)))

    async def _keep_file(self, number: int, file: dict[str, Any]) -> dict[str, Any]:
        limit = self.context.file_limit_bytes
        try:
            content = await self._fetched(file, limit)
        except ApiError as fault:
            return {**file, "reason": f"could not be fetched: {fault}"}
        if len(content) > limit:
            return {**file, "reason": f"its {len(content):,} bytes are more than the {limit:,} kept"}
        keep = self.context.store.store_file
        stored = await self.context.retry_on_outage(lambda: keep(self.claim, number, content, limit))
        return {**file, "number": number} if stored else {**file, "reason": "no room left for its files"}

    async def _fetched(self, file: dict[str, Any], limit_bytes: int) -> bytes:
        """The content; trouble that may pass is waited out. Raises ApiError."""
        policy, began_s, tries = RetryPolicy(), elapsed_clock_s(), 0
        while True:
            try:
                return await self.context.backend.fetch_file(file, limit_bytes)
            except ApiError as fault:
                if not may_pass(fault) or elapsed_clock_s() - began_s > self.context.fetch_within_s:
                    raise
                told_s = fault.retry_after_s
                wait_s = policy.wait_s(tries, random.random()) if told_s is None else told_s  # noqa: S311
                if fault.status == 429:
                    await self._throttle(wait_s)
            await self.interrupts.sleep(wait_s)
            tries += 1

    async def end_run(self, thread_id: str | None, run_id: str) -> None:
        """Cancel it; trouble that may pass is waited out for a while: as long as it runs it costs money."""
        policy, began_s, tries = RetryPolicy(), elapsed_clock_s(), 0
        while True:
            try:
                await self.context.backend.cancel(thread_id or "", run_id)
            except ApiError as fault:
                if not may_pass(fault) or elapsed_clock_s() - began_s > END_WITHIN_S:
                    log.warning("run.left", run=run_id, fault=str(fault))
                    return
            else:
                return
            await asyncio.sleep(policy.wait_s(tries, random.random()))  # noqa: S311 -- jitter
            tries += 1

    async def _throttle(self, wait_s: float) -> None:
        self.counters["throttled"] += 1
        await self.context.retry_on_outage(lambda: self.context.limits.throttle(wait_s))

    def _run_request(self, known: JobState) -> RunRequest:
        return run_request_for(self.batch.batch, self.claim, known, self.batch.assistant_id)

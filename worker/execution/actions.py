"""Performs the actions of the lifecycle as requests to the API; the outcome of each is the next event."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.model.models import BatchState, Usage
from askmill.jobs.store.claim_records import Claim
from askmill.worker.backends.base import Backend, NotSent, RunRequest
from askmill.worker.execution.chat_call import create_run, with_exchange
from askmill.worker.execution.failures import request_failed
from askmill.worker.execution.request_builder import build_request
from askmill.worker.execution.result_builder import checked_answer
from askmill.worker.lifecycle.api_types import ENDED, Answer, ApiError, Run, RunStatus, ToolOutput
from askmill.worker.lifecycle.decision import (
    Action,
    CallTools,
    CancelRun,
    CreateRun,
    CreateThread,
    DeleteFailedTurn,
    PollRun,
    ReadAnswer,
    RecordRefusal,
    RecoverRun,
    RecoverSubmit,
    Reserve,
    SubmitOutputs,
    Wait,
)
from askmill.worker.lifecycle.events import (
    AnswerRead,
    CancelAccepted,
    CancelRequested,
    Claimed,
    CreateSkipped,
    Event,
    FailedTurnDeleted,
    LookupDone,
    OutputsSubmitted,
    RefusalRecorded,
    Reserved,
    RunCreated,
    RunPolled,
    ThreadCreated,
    ToolsCalled,
)
from askmill.worker.lifecycle.kept_answer import joined
from askmill.worker.lifecycle.polling import DELAY_WORTH, THRIFTY_WORTH, ended_between
from askmill.worker.lifecycle.retry import assistant_missing, vector_store_missing
from askmill.worker.lifecycle.state import JobState
from askmill.worker.lifecycle.transitions import in_time
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext, elapsed_clock_s
from askmill.worker.runtime.interrupts import ClaimLost, Interrupts

SHOWN_AFTER_S = 1.0
"""`show` has the server's status of runs that are older."""
STOPPED = frozenset({BatchState.PAUSED, BatchState.CANCELLED})


@dataclass(slots=True)
class ActionExecutor:
    """Performs actions for one claimed row."""

    context: WorkerContext
    batch: BatchContext
    claim: Claim
    interrupts: Interrupts
    backend: Backend
    """Of the batch's API."""
    counters: Counter[str] = field(default_factory=Counter)
    """Amounts for the batch's counters, stored with the row's next save."""
    server_status: str = ""  # the run's, at its last poll
    poll_hint_s: float | None = None
    """Seconds until the next poll that the server's last reply suggests; None without a hint."""
    seen_running_s: float = 0.0
    """The run's age when a poll last saw it running."""
    age_offset_s: float = 0.0
    """The run's age when it continued with tool outputs; ages count from there."""
    reserved_tokens: int | None = None
    """Tokens reserved for the run; None where another worker has reserved them."""
    create_reserved: bool = False
    """The next request is the create, whose reservation has been waited for."""

    def stamp(self) -> tuple[float, float]:
        """The time and the jitter of an event."""
        return self.context.now_s(), random.random()  # noqa: S311 -- jitter

    async def perform(self, action: Action, state: JobState) -> Event:
        """Perform the action; an error of the API is an event too."""
        try:
            event = await self._METHODS[type(action)](self, action, state)
        except ApiError as error:
            failed = await request_failed(error, action, state, self.batch, self.claim, self.backend)
            if error.partial is not None:
                failed = replace(failed, partial=self._answer_read(state, error.partial))
            at, jitter = self.stamp()
            return replace(failed, at=at, jitter=jitter)
        self.batch.taken_over.observe(event, state)
        return event

    # ── rate limits ──

    async def before_request(self) -> None:
        """Count a request and wait until the shared limit allows it; runs before each request of the job."""
        self.counters["requests"] += 1
        if self.create_reserved:
            self.create_reserved = False
            return
        # The cancel of a duplicate run must go out although the row is lost.
        sleep = asyncio.sleep if self.interrupts.claim_lost else self.interrupts.sleep_full
        await self.context.retry_on_outage(self.context.limits.acquire, "requests_per_minute", 1, sleep)

    async def _sleep_until_stopped(self, wait_s: float) -> None:
        """Wait the whole time unless the batch is paused or cancelled: then nothing will be started."""
        until_s = elapsed_clock_s() + wait_s
        while self.batch.current.state not in STOPPED and (left_s := until_s - elapsed_clock_s()) > 0:
            await self.interrupts.sleep(left_s)

    async def _reserve(self, _: Reserve, __: JobState) -> Event:
        """Ensure that the assistant exists; wait until the limits allow a run's tokens and its create.

        The wait ends before the last check of the batch's state, so that a pause meanwhile is seen.
        """
        retry, limits = self.context.retry_on_outage, self.context.limits
        await retry(self.batch.ensure_assistant, self.context.store, self.backend)
        self.reserved_tokens = self.batch.expected_tokens()
        await retry(limits.acquire, "tokens_per_minute", self.reserved_tokens, self._sleep_until_stopped)
        await retry(limits.acquire, "requests_per_minute", 1, self._sleep_until_stopped)
        return Reserved(*self.stamp())

    # ── without a request ──

    async def _wait(self, action: Wait, _: JobState) -> Event:
        await self._sleep_until_stopped(action.wait_s)
        return Claimed(*self.stamp())

    async def _record_refusal(self, action: RecordRefusal, _: JobState) -> Event:
        """Record a refusal that does not say why. Raises ClaimLost."""
        refusals = await self.context.retry_on_outage(self.context.store.record_refusal, self.claim)
        if refusals is None:
            raise ClaimLost
        return RefusalRecorded(*self.stamp(), error=action.error, refusals=refusals)

    async def _call_tools(self, action: CallTools, _: JobState) -> Event:
        """Call the functions; an error is an output for the model. A crash may repeat a call."""
        functions, calls = self.batch.batch.profile.functions, action.calls
        arguments = [(call.name, call.arguments) for call in calls]
        texts = await call_functions(functions, arguments, self.context.function_limit_s)
        outputs = tuple(ToolOutput(call.id, text) for call, text in zip(calls, texts, strict=True))
        return ToolsCalled(*self.stamp(), outputs=outputs)

    # ── create ──

    async def _create_thread(self, _: CreateThread, state: JobState) -> Event:
        thread_id = await self.backend.create_thread(self._request(state))
        return ThreadCreated(*self.stamp(), thread_id=thread_id)

    async def _delete_failed_turn(self, _: DeleteFailedTurn, state: JobState) -> Event:
        opening = len(self._request(state).profile.messages)
        await self.backend.delete_failed_turn(state.thread_id or "", state.last_message_id_before, opening)
        return FailedTurnDeleted(*self.stamp())

    async def _create_run(self, _: CreateRun, state: JobState) -> Event:
        self.age_offset_s, self.seen_running_s, self.poll_hint_s = 0.0, 0.0, None
        try:
            return await self._send_create(state)
        except ApiError as error:
            await self._recreate_missing(error, state)
        return await self._send_create(state)

    async def _send_create(self, state: JobState) -> Event:
        """Send the create, unless the heartbeat or the stored mark is too old: then the claim may be lost."""

        def may_send() -> bool:
            return self.context.lease_is_fresh() and in_time(state, self.context.now_s())

        request = replace(self._request(state), may_send=may_send)
        if chat := self.backend.api == "chat":
            request = await with_exchange(request, self.context, self.claim, self.batch)
        while True:
            while not self.context.lease_is_fresh():
                await self.interrupts.sleep(0.2)
            if not in_time(state, self.context.now_s()):
                return CreateSkipped(*self.stamp())
            self.create_reserved = True
            with suppress(NotSent):
                if chat:
                    return await self._call(request, state)
                run = await self.backend.create_run(request, state.thread_id or "")
                return RunCreated(*self.stamp(), run=run)
            self.counters["requests"] -= 1

    async def _call(self, request: RunRequest, state: JobState) -> Event:
        """Chat completions: the run has ended with its create, and its answer is read."""
        run = await create_run(request, state, self)
        if run is None:
            return CancelRequested(*self.stamp())
        await self._settle_tokens(run.usage)
        read = self._answer_read(state, run.answer) if run.answer and run.status in ENDED else None
        return RunCreated(*self.stamp(), run=run, answer=read)

    async def _recreate_missing(self, error: ApiError, state: JobState) -> None:
        """Create the assistant or vector store again that the API no longer has; re-raise any other error."""
        request = self._request(state)
        if vector_store_missing(error, request.resources.vector_store_id):
            missing = request.resources.vector_store_id
        elif assistant_missing(error) and request.profile.assistant_id is None:
            missing = request.assistant_id
        else:
            raise error
        retry, context = self.context.retry_on_outage, self.context
        await retry(self.batch.ensure_assistant, context.store, self.backend, missing=missing)
        await retry(context.limits.acquire, "requests_per_minute", 1, self._sleep_until_stopped)
        if self.batch.current.state in STOPPED:
            raise error

    # ── a run that exists ──

    async def _poll_run(self, action: PollRun, state: JobState) -> Event:
        await self._wait_for_poll(action, state)
        run = await self.backend.poll_run(self._request(state), state.thread_id or "", state.run_id or "")
        self.poll_hint_s, self.server_status = run.poll_after_s, run.status
        self._record_run_time(run, state)
        return RunPolled(*self.stamp(), run=run)

    async def _wait_for_poll(self, action: PollRun, state: JobState) -> None:
        """Wait as the action says, else as the batch's polling plan says, which may change meanwhile."""
        if action.after_s is not None:
            self._note_poll(state, action.after_s)
            await self.interrupts.sleep(action.after_s)
            return
        times, limited = self.batch.run_times, "requests_per_minute" in self.context.limits.current
        times.delay_worth, before = THRIFTY_WORTH if limited else DELAY_WORTH, self.batch.current
        # The last poll may have made the run younger (`began_at_corrected`).
        self.seen_running_s = min(self.seen_running_s, self._run_age_s(state))
        while (
            wait_s := times.next_poll_s(self._run_age_s(state), self.seen_running_s, self.poll_hint_s)
        ) > 0:
            left_s = wait_s if action.by is None else max(0.0, action.by - self.context.now_s())
            self._note_poll(state, min(wait_s, left_s))
            await self.interrupts.sleep(min(wait_s, left_s))
            if left_s < wait_s or self.batch.current != before:
                return

    def _note_poll(self, state: JobState, next_s: float) -> None:
        """What `show` says of a run that takes a while."""
        if self.server_status and self._run_age_s(state) >= SHOWN_AFTER_S:
            self.batch.note_poll(self.claim, self.server_status, self.context.due_ms(next_s))

    def _record_run_time(self, run: Run, state: JobState) -> None:
        """Add this poll to the run times of the batch, unless the run is being cancelled."""
        age_s, counts = self._run_age_s(state), state.cancel_reason is None
        if run.status not in {*ENDED, RunStatus.REQUIRES_ACTION}:
            if counts:
                self.batch.run_times.running(self.seen_running_s, age_s)
            self.seen_running_s = age_s
        elif counts:
            # A response that continues after functions reports its own times only.
            reported_s = None
            if run.created_at and run.finished_at and not state.tool_rounds:
                reported_s = run.finished_at - run.created_at
            bounds = ended_between(self.seen_running_s, age_s, reported_s)
            self.batch.run_times.ended(self.seen_running_s, *bounds)

    def _run_age_s(self, state: JobState) -> float:
        now_s = self.context.now_s()
        return max(0.0, now_s - (now_s if state.began_at is None else state.began_at) - self.age_offset_s)

    async def _cancel_run(self, action: CancelRun, state: JobState) -> Event:
        await self.interrupts.sleep(action.after_s)
        run = await self.backend.cancel(state.thread_id or "", state.run_id or "")
        return CancelAccepted(*self.stamp(), run=run)

    async def _submit_outputs(self, action: SubmitOutputs, state: JobState) -> Event:
        await self.interrupts.sleep(action.after_s)
        try:
            run = await self._send_outputs(state)
        except ApiError as error:
            await self._recreate_missing(error, state)
            run = await self._send_outputs(state)
        self.age_offset_s += self._run_age_s(state)
        self.seen_running_s, self.poll_hint_s = 0.0, run.poll_after_s
        return OutputsSubmitted(*self.stamp(), run=run)

    async def _send_outputs(self, state: JobState) -> Run:
        request, thread_id, run_id = self._request(state), state.thread_id or "", state.run_id or ""
        return await self.backend.submit(request, thread_id, run_id, state.outputs)

    async def _recover_run(self, action: RecoverRun, state: JobState) -> Event:
        """Search for a run whose create got no reply."""
        await self.interrupts.sleep(action.after_s)
        request, thread_id = self._request(state), state.thread_id or ""
        lookup = await self.backend.recover_run(request, thread_id, state.known_run_ids)
        return LookupDone(*self.stamp(), lookup=lookup)

    async def _recover_submit(self, action: RecoverSubmit, state: JobState) -> Event:
        """Look at a run whose submit got no reply."""
        await self.interrupts.sleep(action.after_s)
        request, thread_id = self._request(state), state.thread_id or ""
        lookup = await self.backend.recover_submit(request, thread_id, state.run_id or "")
        return LookupDone(*self.stamp(), lookup=lookup)

    async def _read_answer(self, _: ReadAnswer, state: JobState) -> Event:
        part = await self.backend.read_answer(self._request(state), state.thread_id or "", state.run_id)
        if state.ended_run and state.unsettled_since is None:
            await self._settle_tokens(state.ended_run.usage)
        return self._answer_read(state, part)

    def _answer_read(self, state: JobState, part: Answer) -> AnswerRead:
        answer, missed = checked_answer(self.batch.batch.profile, joined(state, part))
        return AnswerRead(*self.stamp(), answer=answer, schema_error=missed)

    async def _settle_tokens(self, usage: Usage) -> None:
        """Correct the reserved and the expected tokens by what the run has used."""
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return
        used = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        self.batch.runs_seen += 1
        self.batch.tokens_seen += used
        if self.reserved_tokens is not None:
            await self.context.retry_on_outage(self.context.limits.settle_tokens, self.reserved_tokens, used)

    def _request(self, state: JobState) -> RunRequest:
        return build_request(self.batch.batch, self.claim, state, self.batch.assistant_id)

    _METHODS: ClassVar[dict[type[Action], Callable[["ActionExecutor", Any, JobState], Awaitable[Event]]]] = {
        Reserve: _reserve,
        Wait: _wait,
        RecordRefusal: _record_refusal,
        CallTools: _call_tools,
        CreateThread: _create_thread,
        DeleteFailedTurn: _delete_failed_turn,
        CreateRun: _create_run,
        PollRun: _poll_run,
        CancelRun: _cancel_run,
        SubmitOutputs: _submit_outputs,
        RecoverRun: _recover_run,
        RecoverSubmit: _recover_submit,
        ReadAnswer: _read_answer,
    }
    """The method of each action that the runner does not carry out itself."""

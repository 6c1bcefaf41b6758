"""From a line of a shard's results to the end of its row, or its next attempt. Pure.

answered            as a run that has ended with its answer (`worker.lifecycle.on_run_ended`)
refused             the row fails; for a reason that concerns all rows, it returns and the batch pauses
again               429, 5xx, expired: an attempt that cost nothing, then another one
missing, unreadable may be paid: counted, then another attempt, or `failed` (`--on-unknown stop`)
poison             its line kills the worker that reads it: failed, paid at its worst price
"""

from collections import Counter
from dataclasses import dataclass, field, replace

from askmill.jobs.model.api_errors import reason_of
from askmill.jobs.model.models import JobStatus, OnIncomplete, Usage
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.shard_records import RowEnd
from askmill.worker.backends.batch_lines import TIER, Again, Answered, LineContext, Outcome, Refused
from askmill.worker.execution.costs import RowCosts
from askmill.worker.execution.request_builder import row_overrides, row_policy, row_profile
from askmill.worker.execution.result_builder import (
    attempts_of,
    build_result,
    checked_answer,
    missed_counters,
)
from askmill.worker.execution.stored_state import (
    convert_attempts,
    from_store,
    initial_state,
    state_to_json,
)
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run, RunStatus
from askmill.worker.lifecycle.decision import Decision, Finish, PauseBatch, ReleaseRow, Wait
from askmill.worker.lifecycle.error_rule import ErrorClass, report_of
from askmill.worker.lifecycle.events import AnswerRead
from askmill.worker.lifecycle.kept_answer import joined, with_kept_answer
from askmill.worker.lifecycle.on_lost_call import on_lost_call
from askmill.worker.lifecycle.on_run_ended import on_run_ended
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState, Phase
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.redis_clock import RedisClock

NOTHING_BILLED = Usage(prompt_tokens=0, completion_tokens=0)


def _unbilled(status: str, code: str | None = None, message: str | None = None) -> Run:
    """A line that did not run, as a run that cost nothing."""
    return Run("", status, error_code=code, error_message=message, usage=NOTHING_BILLED, tier=TIER)


@dataclass
class ShardRows:
    """The ends of a shard's rows, and what they count.

    `sent_at`, `now_s`: the jobs' time of the create, and now. `pause`: why the batch must pause.
    """

    batch: BatchContext
    prices: Prices
    clock: RedisClock
    sent_at: float
    now_s: float
    jitter: float
    counters: Counter[str] = field(default_factory=Counter)
    ends: list[RowEnd] = field(default_factory=list)
    pause: str | None = None

    def state_of(self, claim: Claim) -> JobState:
        """The row's state in this shard's attempt."""
        state = from_store(initial_state(claim, self.batch.batch), self.clock, self.now_s)
        return replace(state, began_at=self.sent_at, create_sent_at=self.sent_at)

    def line_context(self, claim: Claim, state: JobState) -> LineContext:
        """What a line does not say about its row."""
        profile = row_profile(self.batch.batch, claim)
        return LineContext(
            attempt=state.attempt,
            footnotes=profile.response_schema is None,
            row_overrides=frozenset(row_overrides(self.batch.batch, claim)),
            model=profile.model,
        )

    def add(self, claim: Claim, outcome: Outcome) -> None:
        """The end of a row by its line."""
        state = self.state_of(claim)
        match outcome:
            case Answered(run=run):
                self.counters["runs"] += 1
                self._decide(claim, state, run, run.answer or Answer())
            case Refused(error=error, fault=fault) if fault.error_class is ErrorClass.BATCH:
                self.pause = self.pause or reason_of(report_of(error))
                self.ends.append(RowEnd(claim.row))
            case Refused(error=error):
                self.refuse(claim, str(error))
            case Again(error=error):
                self._decide(claim, state, _unbilled_run(error), Answer())
            case _:
                self.lose(claim, outcome.reason)

    def refuse(self, claim: Claim, error: str) -> None:
        """The row's own line was refused, or never sent: nothing ran."""
        self._finish(claim, self.state_of(claim), Finish(JobStatus.FAILED, error=error))

    def fail_answered(self, claim: Claim, error: str) -> None:
        """The row's line has run, and cannot be read."""
        state = replace(self.state_of(claim), ended_run=Run("", "unknown"))
        self._finish(claim, state, Finish(JobStatus.FAILED, error=error))

    def lose(self, claim: Claim, reason: str) -> None:
        """The row has no line that can be read, and may be paid."""
        state, policy = self.state_of(claim), self._policy(claim)
        self._follow(claim, on_lost_call(state, self._event(), reason, policy))

    def expire(self, claim: Claim) -> None:
        """The API's batch expired before the row's turn."""
        self._decide(claim, self.state_of(claim), _unbilled("expired"), Answer())

    def cancel(self, claim: Claim) -> None:
        """The batch was cancelled before the row's turn."""
        self._finish(claim, self.state_of(claim), Finish(JobStatus.CANCELLED))

    def _policy(self, claim: Claim) -> RetryPolicy:
        batch = self.batch.batch
        policy = replace(row_policy(batch, self.batch.current.limits, claim), stateless=True)
        if policy.on_incomplete is OnIncomplete.CONTINUE and batch.api != "chat":
            return replace(policy, on_incomplete=OnIncomplete.KEEP)  # a line has no conversation to go on in
        return policy

    def _event(self, answer: Answer | None = None, schema_error: str | None = None) -> AnswerRead:
        return AnswerRead(self.now_s, self.jitter, answer=answer or Answer(), schema_error=schema_error)

    def _decide(self, claim: Claim, state: JobState, run: Run, answer: Answer) -> None:
        profile = row_profile(self.batch.batch, claim)
        answer, schema_error = checked_answer(profile, joined(state, answer))
        ended = replace(state, phase=Phase.READING, run_id=run.id or None, ended_run=run)
        self._follow(claim, on_run_ended(ended, self._event(answer, schema_error), self._policy(claim)))

    def _follow(self, claim: Claim, decision: Decision) -> None:
        if decision.unknown_create:
            self.counters["unknown_creates"] += 1
        if decision.retry_reason is not None:
            self.counters[f"retries:{decision.retry_reason}"] += 1
        match decision.action:
            case Finish():
                self._finish(claim, decision.state, decision.action)
            case PauseBatch(reason=reason):
                self.pause = self.pause or reason
                self._again(claim, decision.state, 0.0)
            case Wait(wait_s=wait_s) | ReleaseRow(wait_s=wait_s):
                self._again(claim, decision.state, wait_s)
            case _:
                raise AssertionError(f"no line is followed by {decision.action!r}")

    def _again(self, claim: Claim, state: JobState, wait_s: float) -> None:
        stored = state_to_json(state, self.clock)
        due_ms = int((self.clock.to_redis(self.now_s) + wait_s) * 1000) if wait_s else 0
        self.ends.append(RowEnd(claim.row, None, stored, self._costs(claim).spent_nano(state), due_ms))

    def _finish(self, claim: Claim, state: JobState, finish: Finish) -> None:
        state, finish = with_kept_answer(state, finish)
        costs = self._costs(claim)
        attempts = costs.priced(attempts_of(state, finish, self._event()))
        if self.clock.stepped_s:
            attempts = convert_attempts(attempts, self.clock.to_redis)
        result = build_result(claim.row, state, finish, attempts)
        self.counters.update(costs.final_counters(result, state))
        self.counters.update(missed_counters(self.batch.batch.profile, result))
        self.ends.append(RowEnd(claim.row, result))

    def _costs(self, claim: Claim) -> RowCosts:
        return RowCosts(self.batch.batch, claim, self.prices)


def _unbilled_run(error: ApiError) -> Run:
    """A line that did not run, as a run: expired, or failed with a code that another attempt may not meet."""
    if error.code == "batch_expired":
        return _unbilled(RunStatus.EXPIRED)
    if error.code == "batch_cancelled":
        return _unbilled(RunStatus.CANCELLED)
    code = "rate_limit_exceeded" if error.status == 429 else "server_error"
    return _unbilled(RunStatus.FAILED, code, str(error))

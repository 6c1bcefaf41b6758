"""What follows an ended run: the row is finished, or another attempt is made. Pure, as `worker.lifecycle.transitions`.

completed            → completed (failed: no message, or the answer misses its schema)
incomplete           → keep, once more with the limit doubled, or go on in the same thread
money refused, or the profile's model is unknown, under any code
                     → the batch pauses: nothing is marked failed, the row's limit of attempts moves on
expired · server_error · rate_limit_exceeded · deadline · gone
                     → another attempt while there is one; the last attempt decides
failed otherwise     → failed          cancelled → cancelled
"""

from dataclasses import replace

from askmill.jobs.model.api_refusals import ErrorReport, model_missing, money_refused
from askmill.jobs.model.models import Attempt, JobStatus, OnIncomplete
from askmill.worker.lifecycle.api_types import Answer, Run
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import (
    AnswerRead,
    CancelReason,
    Decision,
    Event,
    Finish,
    JobState,
    PauseBatch,
    Phase,
    RecoverRun,
    ReleaseRow,
    Wait,
)

RETRIED_CODES = frozenset({"server_error", "rate_limit_exceeded"})
"""Run.last_error codes that a new run may not meet (OpenAPI: RunObject.last_error; empirical #210)."""

TOKEN_LIMITS = {
    "max_completion_tokens": "max_completion_tokens",
    "max_output_tokens": "max_completion_tokens",
    "max_prompt_tokens": "max_prompt_tokens",
}
"""Reasons of `incomplete` that are limits, on either API, and the limit each names."""


def on_run_ended(known: JobState, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """The run has ended and what it wrote is read."""
    if known.create_repeated and not event.checked:
        checking = replace(
            known,
            phase=Phase.CHECKING_DUPLICATES,
            answer=event.answer,
            schema_error=event.schema_error,
            failures=0,
        )
        return Decision(checking, RecoverRun(), store=True)
    run = known.ended_run or Run(id=event.answer.run_id or "", status="completed")
    if run.status == "completed":
        return _completed(known, run, event)
    if known.cancel_reason is CancelReason.USER or (
        run.status == "cancelled" and known.cancel_reason is None
    ):
        return _finish(known, run, event.answer, JobStatus.CANCELLED)
    if run.status == "incomplete":
        return _incomplete(known, run, event, policy)
    return _dead(known, run, event, policy)


def _completed(known: JobState, run: Run, event: AnswerRead) -> Decision:
    answer = event.answer
    if answer.messages == 0:
        return _finish(known, run, answer, JobStatus.FAILED, "no_message")
    if answer.refusal:
        return _finish(known, run, answer, JobStatus.COMPLETED, "refusal")
    if event.schema_error:
        return _finish(known, run, answer, JobStatus.FAILED, f"schema: {event.schema_error}")
    return _finish(known, run, answer, JobStatus.COMPLETED, answer.note)


def _incomplete(known: JobState, run: Run, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """A limit or a filter ended the run: as the policy says, where it can."""
    reason = run.incomplete_reason or "incomplete"
    if not event.answer.text and money_refused(
        ErrorReport(run.error_message or "", run.error_code, type=reason)
    ):
        unpaid = replace(run, error_code=run.error_code or reason)
        return _paused(known, unpaid, event)
    limit = TOKEN_LIMITS.get(reason)
    if _left(known, policy) > 0:
        if policy.on_incomplete is OnIncomplete.RAISE_LIMIT and _can_double(known, limit, policy):
            assert limit is not None
            doubled = replace(known, doubled_limits=(*known.doubled_limits, limit))
            return another_attempt(doubled, run, reason, event, policy)
        if policy.on_incomplete is OnIncomplete.CONTINUE and limit == "max_completion_tokens":
            return _going_on(known, run, event, reason)
    return _finish(known, run, event.answer, JobStatus.INCOMPLETE, reason)


def _can_double(known: JobState, limit: str | None, policy: RetryPolicy) -> bool:
    have = policy.completion_limit if limit == "max_completion_tokens" else policy.prompt_limit
    return limit is not None and have is not None and limit not in known.doubled_limits


def _going_on(known: JobState, run: Run, event: AnswerRead, reason: str) -> Decision:
    """The next attempt asks for the rest, on the same thread."""
    fresh = _fresh(known, run, reason, event)
    going_on = replace(
        fresh,
        thread_id=known.thread_id,
        follow_up=True,
        delete_failed_turn=False,
        continuing=True,
        partial_answers=(*known.partial_answers, event.answer.text),
    )
    return Decision(going_on, Wait(), store=True, retry_reason=reason)


def _dead(known: JobState, run: Run, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """Expired, failed, or ended by us: another attempt where that may help."""
    status, error = _verdict(known, run)
    code = error.partition(":")[0]
    report = ErrorReport(run.error_message or "", code=run.error_code)
    unknown_model = model_missing(report)
    if money_refused(report) or (unknown_model and "model" not in policy.row_fields):
        return _paused(known, run, event)
    if unknown_model:
        return _finish(known, run, event.answer, JobStatus.FAILED, _error_of(run))
    may_help = status is JobStatus.EXPIRED or code in RETRIED_CODES or code == "deadline"
    if may_help and _left(known, policy) > 0:
        return another_attempt(known, run, error, event, policy)
    return _finish(known, run, event.answer, status, None if status is JobStatus.EXPIRED else error)


def _paused(known: JobState, run: Run, event: AnswerRead) -> Decision:
    """Every row would end like this: nothing is marked failed, the attempt is kept, the limit moves on."""
    error = _error_of(run)
    fresh = replace(_fresh(known, run, error, event), attempts_before_retry=known.attempts_before_retry + 1)
    return Decision(fresh, PauseBatch(reason=error), retry_reason=error.partition(":")[0])


def _verdict(known: JobState, run: Run) -> tuple[JobStatus, str]:
    """The status and error this run would end the row with."""
    if known.cancel_reason is CancelReason.DEADLINE and run.status != "expired":
        if known.unknown_status is not None:
            return JobStatus.FAILED, known.unknown_status
        return JobStatus.FAILED, "deadline: the run took longer than it may and was cancelled"
    if known.cancel_error is not None:
        return JobStatus.FAILED, known.cancel_error
    if run.status == "expired":
        return JobStatus.EXPIRED, "expired"
    return JobStatus.FAILED, _error_of(run)


def _error_of(run: Run) -> str:
    """The API's code and words for how the run ended."""
    words = f": {run.error_message}" if run.error_message else ""
    return f"{run.error_code or run.status}{words}"


def gone(known: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """The server no longer has the run."""
    run = replace(known.ended_run, status="gone") if known.ended_run else Run(known.run_id or "", "gone")
    error = "run_gone: the server no longer has this run"
    if known.cancel_reason is CancelReason.USER:
        return _finish(known, run, Answer(), JobStatus.CANCELLED)
    if _left(known, policy) > 0:
        return another_attempt(known, run, error, event, policy)
    return _finish(known, run, Answer(), JobStatus.FAILED, error)


def another_attempt(known: JobState, run: Run, error: str, event: Event, policy: RetryPolicy) -> Decision:
    """A new attempt after a back-off: a single row on a fresh thread, a conversation's row on its own."""
    wait_s = policy.attempt_wait_s(known.attempt - known.attempts_before_retry, event.draw)
    action = ReleaseRow(wait_s=wait_s) if wait_s > policy.slot_wait_s else Wait(wait_s=wait_s)
    return Decision(
        _fresh(known, run, error, event), action, store=True, retry_reason=error.partition(":")[0]
    )


def _fresh(known: JobState, run: Run, error: str, event: Event) -> JobState:
    return JobState(
        attempt=known.attempt + 1,
        attempts_before_retry=known.attempts_before_retry,
        shared_thread=known.shared_thread,
        thread_id=known.thread_id if known.shared_thread else None,
        last_message_id_before=known.last_message_id_before,
        earlier_runs=known.earlier_runs,
        follow_up=known.shared_thread,
        delete_failed_turn=known.shared_thread,
        doubled_limits=known.doubled_limits,
        past_attempts=(*known.past_attempts, attempt_of(known, run, error, event)),
        steps=(*known.steps, *(event.answer.steps if isinstance(event, AnswerRead) else ())),
    )


def attempt_of(known: JobState, run: Run, error: str | None, event: Event) -> Attempt:
    """This attempt, for the ledger, timed by us: the API tells whole seconds only, and by another clock."""
    return Attempt(
        number=known.attempt,
        thread_id=known.thread_id,
        run_id=known.run_id or None,
        status=run.status,
        error=error,
        started_at=known.began_at,
        finished_at=event.at,
        usage=run.usage,
    )


def _finish(
    known: JobState, run: Run, answer: Answer, status: JobStatus, error: str | None = None
) -> Decision:
    text = "".join((*known.partial_answers, answer.text))
    last = replace(known, ended_run=run, answer=answer)
    return Decision(last, Finish(status, error=error, answer=text))


def _left(known: JobState, policy: RetryPolicy) -> int:
    """Attempts that may still be made."""
    return known.attempts_before_retry + policy.attempts - known.attempt

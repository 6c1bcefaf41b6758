"""Transitions after a run has ended: the row is finished, or another attempt begins.

completed            → completed (failed: no message, or the answer misses its schema)
incomplete           → keep, another attempt with the limit doubled, or continue on the same thread
money refused, or the profile's model is unknown, under any code
                     → the batch pauses: nothing is marked failed, the attempt does not count
expired · server_error · rate_limit_exceeded · deadline · run_gone
                     → another attempt while there is one; the last attempt decides
failed otherwise     → failed          cancelled → cancelled
still alive          → failed, or cancelled: the server does not end it, so no other run is made
tokens, no message   → read again for some seconds

Pure, as `worker.lifecycle.transitions`.
"""

from dataclasses import replace

from askmill.jobs.model.api_errors import (
    ErrorReport,
    content_refused,
    model_missing,
    money_refused,
    requested_wait_s,
)
from askmill.jobs.model.models import Attempt, JobStatus, OnIncomplete
from askmill.worker.lifecycle.api_types import ACTIVE, ENDED, Answer, Run
from askmill.worker.lifecycle.decision import (
    Decision,
    Finish,
    PauseBatch,
    ReadAnswer,
    RecoverRun,
    Wait,
    wait_or_release,
)
from askmill.worker.lifecycle.events import AnswerRead, Event
from askmill.worker.lifecycle.kept_answer import CONTINUE_PROMPT, better
from askmill.worker.lifecycle.on_no_capacity import has_no_capacity
from askmill.worker.lifecycle.retry import LONG_WAIT_S, RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, KeptAnswer, Phase

RETRIED_CODES = frozenset({"server_error", "rate_limit_exceeded"})
"""Values of `run.last_error.code` that a new run may not meet (OpenAPI: RunObject.last_error; empirical
#210)."""

TOKEN_LIMITS = {
    "max_completion_tokens": "max_completion_tokens",
    "max_output_tokens": "max_completion_tokens",
    "max_prompt_tokens": "max_prompt_tokens",
}
"""Reasons of `incomplete` that are limits, on either API, and the limit that each names."""


def on_run_ended(state: JobState, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """The run has ended, or the server does not end it, and its answer is read."""
    if not policy.stateless and _message_is_late(state, event):
        return _read_again(state, event, policy)
    if state.create_repeated and not event.duplicates_checked:
        checking = replace(
            state,
            phase=Phase.CHECKING_DUPLICATES,
            answer=event.answer,
            schema_error=event.schema_error,
            failures=0,
        )
        return Decision(checking, RecoverRun(), store=True)
    run = state.ended_run or Run(id=event.answer.run_id or "", status="completed")
    if run.status == "completed":
        return _completed(state, run, event)
    if run.status in ACTIVE:
        return _not_cancelled(state, run, event, policy)
    if state.cancel_reason is CancelReason.USER or (
        run.status == "cancelled" and state.cancel_reason is None
    ):
        return _finish(state, run, event.answer, JobStatus.CANCELLED)
    if run.status == "incomplete":
        return _incomplete(state, run, event, policy)
    return _not_completed(state, run, event, policy)


def on_run_gone(state: JobState, event: Event, policy: RetryPolicy) -> Decision:
    """The server no longer has the run."""
    run = replace(state.ended_run, status="gone") if state.ended_run else Run(state.run_id or "", "gone")
    error = "run_gone: the server no longer has this run"
    if state.cancel_reason is CancelReason.USER:
        return _finish(state, run, Answer(), JobStatus.CANCELLED)
    if attempts_left(state, policy) > 0:
        return _another_attempt(state, run, error, event, policy)
    return _finish(state, run, Answer(), JobStatus.FAILED, error)


def _message_is_late(state: JobState, event: AnswerRead) -> bool:
    """Whether the run wrote tokens that no message shows yet: some servers list a message seconds later.

    Reasoning is listed only by an API whose replies are whole (Responses).
    """
    run, answer = state.ended_run, event.answer
    if state.phase is not Phase.READING or run is None or run.status not in {"completed", "incomplete"}:
        return False
    # A continued answer begins with the text and the files of the attempts before.
    own = not state.continuing and (answer.text or answer.files)
    reasoned = any(step.type == "reasoning" for step in answer.steps)
    if own or answer.messages or answer.refusal or reasoned or not run.usage.completion_tokens:
        return False
    return not state.last_read


def _read_again(state: JobState, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """Wait for the message. When the time is over, read once more: the machine may have slept meanwhile."""
    since = state.unsettled_since if state.unsettled_since is not None else event.at
    if event.at - since >= policy.late_message_s:
        return Decision(replace(state, last_read=True), ReadAnswer())
    wait_s = policy.settle_wait_s(event.at - since, event.jitter)
    return Decision(replace(state, unsettled_since=since), ReadAnswer(after_s=wait_s))


def _not_cancelled(state: JobState, run: Run, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """The server shows the run alive long after its cancel: it may still be paid, so no other is made.

    Except for one that was never started: its create failed at the server, and it is still queued.
    """
    if state.cancel_refusal:
        refusal = f"the server refused to cancel the run ({state.cancel_refusal})"
    else:
        refusal = f"the server has not ended the run since its cancel, it is {run.status}"
    _, error = _status_and_error(state, run)
    error = f"{error}; {refusal}: {run.id} may still be paid"
    if state.cancel_reason is CancelReason.USER:
        decision = _finish(state, run, event.answer, JobStatus.CANCELLED, error)
    elif state.cancel_reason is CancelReason.NEVER_STARTED and attempts_left(state, policy) > 0:
        decision = _another_attempt(state, run, error, event, policy)
    else:
        decision = _finish(state, run, event.answer, JobStatus.FAILED, error)
    return replace(decision, uncancelled_run=True)


def _completed(state: JobState, run: Run, event: AnswerRead) -> Decision:
    answer = event.answer
    if answer.messages == 0:
        return _finish(state, run, answer, JobStatus.FAILED, "no_message")
    if answer.refusal:
        return _finish(state, run, answer, JobStatus.COMPLETED, "refusal")
    if event.schema_error:
        return _finish(state, run, answer, JobStatus.FAILED, f"schema: {event.schema_error}")
    return _finish(state, run, answer, JobStatus.COMPLETED, answer.note)


def _incomplete(state: JobState, run: Run, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """A limit or a filter ended the run: follow `--on-incomplete` where it applies."""
    reason = run.incomplete_reason or "incomplete"
    if not event.answer.text and money_refused(
        ErrorReport(run.error_message or "", run.error_code, type=reason)
    ):
        return _pause_batch(state, replace(run, error_code=run.error_code or reason), event)
    limit = TOKEN_LIMITS.get(reason)
    if limit is not None and attempts_left(state, policy) > 0:
        if policy.on_incomplete is OnIncomplete.RAISE_LIMIT and _can_double(state, limit, policy):
            doubled = replace(state, doubled_limits=(*state.doubled_limits, limit))
            return _another_attempt(doubled, run, reason, event, policy)
        if policy.on_incomplete is OnIncomplete.CONTINUE and limit == "max_completion_tokens":
            return _continue_answer(state, run, event, reason)
    return _finish(state, run, event.answer, JobStatus.INCOMPLETE, reason)


def _can_double(state: JobState, limit: str, policy: RetryPolicy) -> bool:
    current = policy.completion_limit if limit == "max_completion_tokens" else policy.prompt_limit
    return current is not None and limit not in state.doubled_limits


def _continue_answer(state: JobState, run: Run, event: AnswerRead, reason: str) -> Decision:
    """The next attempt asks for the rest of the answer, on the same thread."""
    asking = [run.message, {"role": "user", "content": CONTINUE_PROMPT}] if run.message else []
    continuing = replace(
        next_attempt(state, run, reason, event),
        thread_id=state.thread_id,
        follow_up=True,
        delete_failed_turn=False,
        continuing=True,
        messages=(*state.messages, *asking),
        kept=KeptAnswer(replace(event.answer, steps=()), reason),
    )
    return Decision(continuing, Wait(), store=True, retry_reason=reason)


def _not_completed(state: JobState, run: Run, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """Expired, failed, or cancelled by the worker: another attempt where that may help."""
    status, error = _status_and_error(state, run)
    report = ErrorReport(run.error_message or "", code=run.error_code)
    if money_refused(report):
        return _pause_batch(state, run, event)
    if has_no_capacity(report, state, policy):
        return _served_later(state, run, event, policy)
    refused = content_refused(report)
    if not refused and model_missing(report, policy.model):
        if "model" not in policy.row_overrides:
            return _pause_batch(state, run, event)
        refused = True
    if refused:
        return _finish(state, run, event.answer, JobStatus.FAILED, _run_error(run))
    requested_s = requested_wait_s(report)
    if requested_s is not None and requested_s > LONG_WAIT_S:
        return _pause_batch(state, run, event, resume_after_s=requested_s)
    code = error.partition(":")[0]
    may_help = status is JobStatus.EXPIRED or code in RETRIED_CODES | {"deadline", "never_started"}
    if may_help and run.status in ENDED and attempts_left(state, policy) > 0:
        decision = _another_attempt(state, run, error, event, policy, requested_s or 0.0)
    else:
        expired = status is JobStatus.EXPIRED
        decision = _finish(state, run, event.answer, status, None if expired else error)
    # A wait that a run's error names holds new runs as a 429 does.
    return decision if requested_s is None else replace(decision, throttled_s=requested_s, throttled_by=error)


def _served_later(state: JobState, run: Run, event: AnswerRead, policy: RetryPolicy) -> Decision:
    """The tier had no capacity for a run that it had accepted: the attempt is kept and does not count."""
    error, falls_back = _run_error(run), policy.tier_fallback
    fresh = replace(
        next_attempt(state, run, error, event),
        attempts_before_retry=state.attempts_before_retry + 1,
        tier_fallen_back=falls_back,
    )
    wait = wait_or_release(0.0 if falls_back else policy.cap_s, policy)
    return Decision(fresh, wait, store=True, retry_reason=error.partition(":")[0], tier_fallback=falls_back)


def _pause_batch(
    state: JobState, run: Run, event: AnswerRead, resume_after_s: float | None = None
) -> Decision:
    """Every row would end like this: the attempt is kept and does not count against the row's limit."""
    error = _run_error(run)
    fresh = replace(
        next_attempt(state, run, error, event), attempts_before_retry=state.attempts_before_retry + 1
    )
    pause = PauseBatch(reason=error, resume_after_s=resume_after_s)
    return Decision(fresh, pause, retry_reason=error.partition(":")[0])


def _status_and_error(state: JobState, run: Run) -> tuple[JobStatus, str]:
    """The status and error that this run would end the row with."""
    if state.cancel_reason is CancelReason.DEADLINE and run.status != "expired":
        if state.unknown_status is not None:
            return JobStatus.FAILED, state.unknown_status
        if run.status in ACTIVE:
            return JobStatus.FAILED, "deadline: the run took longer than it may"
        return JobStatus.FAILED, "deadline: the run took longer than it may and was cancelled"
    if state.cancel_reason is CancelReason.USER:
        return JobStatus.CANCELLED, "cancelled"
    if state.cancel_error is not None:
        return JobStatus.FAILED, state.cancel_error
    if run.status == "expired":
        return JobStatus.EXPIRED, "expired"
    return JobStatus.FAILED, _run_error(run)


def _run_error(run: Run) -> str:
    """The API's code and message for how the run ended."""
    message = f": {run.error_message}" if run.error_message else ""
    return f"{run.error_code or run.status}{message}"


def _another_attempt(
    state: JobState, run: Run, error: str, event: Event, policy: RetryPolicy, requested_s: float = 0.0
) -> Decision:
    """A new attempt after a backoff, on a fresh thread; a conversation's row stays on its thread.

    `requested_s`: the wait that the API asks for; the attempt does not begin before.
    """
    backoff_s = policy.attempt_wait_s(state.attempt - state.attempts_before_retry, event.jitter)
    wait_s = max(backoff_s, requested_s * (1 + 0.1 * event.jitter))
    return Decision(
        next_attempt(state, run, error, event),
        wait_or_release(wait_s, policy),
        store=True,
        retry_reason=error.partition(":")[0],
    )


def next_attempt(state: JobState, run: Run, error: str, event: Event) -> JobState:
    """The state of the attempt that follows; the last one becomes a record.

    On chat completions it begins behind the rounds of functions whose answers have arrived.
    """
    answer = event.answer if isinstance(event, AnswerRead) else Answer()
    return JobState(
        attempt=state.attempt + 1,
        attempts_before_retry=state.attempts_before_retry,
        shared_thread=state.shared_thread,
        thread_id=state.thread_id if state.shared_thread else None,
        last_message_id_before=state.last_message_id_before,
        earlier_runs=state.earlier_runs,
        follow_up=state.shared_thread,
        delete_failed_turn=state.shared_thread,
        doubled_limits=state.doubled_limits,
        messages=state.messages,
        past_attempts=(*state.past_attempts, attempt_of(state, run, error, event)),
        past_steps=(*state.past_steps, *answer.steps),
        kept=better(state.kept, answer, run.incomplete_reason if run.status == "incomplete" else None),
    )


def attempt_of(state: JobState, run: Run, error: str | None, event: Event) -> Attempt:
    """This attempt's record. Times are the worker's: the API reports whole seconds of another clock."""
    return Attempt(
        number=state.attempt,
        thread_id=state.thread_id,
        run_id=state.run_id or None,
        status=run.status,
        error=error,
        started_at=state.began_at,
        finished_at=event.at,
        usage=state.rounds_usage.plus_request(run.usage),
        model=run.model,
        tier=run.tier,
    )


def _finish(
    state: JobState, run: Run, answer: Answer, status: JobStatus, error: str | None = None
) -> Decision:
    ending = replace(state, ended_run=run, answer=answer)
    return Decision(ending, Finish(status, error=error, answer=answer.text))


def attempts_left(state: JobState, policy: RetryPolicy) -> int:
    """How many more attempts the row may make."""
    return state.attempts_before_retry + policy.attempts - state.attempt

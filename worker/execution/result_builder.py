"""From what is known at the end of a job to the result that is kept. Pure."""

from dataclasses import replace

from askmill.jobs.model.models import Attempt, Result, Usage
from askmill.worker.lifecycle.api_types import Answer, Run
from askmill.worker.lifecycle.on_run_ended import attempt_of
from askmill.worker.lifecycle.state import Event, Finish, JobState


def result_of(row: int, known: JobState, finish: Finish, attempts: tuple[Attempt, ...]) -> Result:
    """The row's result: every attempt counted, tokens and cost the sum of what is known."""
    answer = known.answer or Answer()
    model = known.ended_run.model if known.ended_run else None
    return Result(
        row=row,
        status=finish.status,
        answer=finish.answer,
        error=finish.error,
        attempts=attempts,
        thread_id=known.thread_id or (attempts[-1].thread_id if attempts else None),
        run_id=attempts[-1].run_id if attempts else None,
        model=model,
        usage=total_usage(attempts),
        cost_usd=total_cost(attempts),
        duration_s=_duration_s(attempts),
        citations=answer.citations,
        files=answer.files,
        steps=(*known.steps, *(replace(step, attempt=known.attempt) for step in answer.steps)),
    )


def total_usage(attempts: tuple[Attempt, ...]) -> Usage:
    """Tokens of all attempts, as far as known."""
    total = Usage()
    for attempt in attempts:
        total = total.plus(attempt.usage)
    return total


def total_cost(attempts: tuple[Attempt, ...]) -> float | None:
    """Money of all attempts, as far as known; None when nothing is."""
    known = [attempt.cost_usd for attempt in attempts if attempt.cost_usd is not None]
    return sum(known) if known else None


def attempts_of(known: JobState, finish: Finish, event: Event) -> tuple[Attempt, ...]:
    """Every attempt ever made for the row, the last one included if its run was made."""
    if known.run_id is None and known.ended_run is None:
        return known.past_attempts
    run = known.ended_run or Run(id=known.run_id or "", status="unknown")
    return (*known.past_attempts, attempt_of(known, run, finish.error, event))


def _duration_s(attempts: tuple[Attempt, ...]) -> float | None:
    if not attempts or attempts[0].started_at is None or attempts[-1].finished_at is None:
        return None
    return round(max(0.0, attempts[-1].finished_at - attempts[0].started_at), 3)


def nano(usd: float | None) -> int | None:
    """Dollars as the store counts them: whole billionths."""
    return None if usd is None else round(usd * 1_000_000_000)


def line_of(result: Result) -> dict[str, object]:
    """What the one log line of a finished job says."""
    return {
        "status": result.status.value,
        "error": result.error,
        "attempts": result.attempt_count,
        "thread": result.thread_id,
        "run": result.run_id,
        "duration_s": None if result.duration_s is None else round(result.duration_s, 3),
        "prompt_tokens": result.usage.prompt_tokens,
        "completion_tokens": result.usage.completion_tokens,
        "cost_usd": result.cost_usd,
    }

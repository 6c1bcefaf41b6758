"""From a row's final state to its stored result. Pure."""

from dataclasses import replace
from typing import Any

import orjson

from askmill.jobs.model.answer_fields import fields_of, misses_schema, plain_schema, without_fence
from askmill.jobs.model.models import Attempt, Result, Usage
from askmill.jobs.model.profile import Profile
from askmill.worker.lifecycle.api_types import Answer, Run
from askmill.worker.lifecycle.decision import Finish
from askmill.worker.lifecycle.events import Event
from askmill.worker.lifecycle.on_run_ended import attempt_of
from askmill.worker.lifecycle.state import JobState

WHOLE_ANSWER = "(answer)"
"""In the counts of what misses the schema: the answer is no object of it, or no JSON."""
MAX_COUNTED_FIELDS = 50
"""Of one answer: a schema may have thousands of fields."""


def internal_error(crash: Exception) -> str:
    """The error of a row whose processing raises an unexpected exception."""
    return f"internal: {type(crash).__name__}: {crash}"


def attempts_of(state: JobState, finish: Finish, event: Event) -> tuple[Attempt, ...]:
    """Every attempt ever made for the row, the last one included if its run was created."""
    if state.run_id is None and state.ended_run is None and not state.messages:
        return state.past_attempts
    run = state.ended_run or Run(id=state.run_id or "", status="unknown")
    return (*state.past_attempts, attempt_of(state, run, finish.error, event))


def build_result(row: int, state: JobState, finish: Finish, attempts: tuple[Attempt, ...]) -> Result:
    """The row's result. Tokens, cost and duration are those of all attempts, as far as they are known."""
    answer = state.answer or Answer()
    first, last = (attempts[0], attempts[-1]) if attempts else (None, None)
    usage = Usage()
    for attempt in attempts:
        usage = usage.plus(attempt.usage)
    costs = [attempt.cost_usd for attempt in attempts if attempt.cost_usd is not None]
    duration_s = None
    if first and last and first.started_at is not None and last.finished_at is not None:
        duration_s = round(max(0.0, last.finished_at - first.started_at), 3)
    return Result(
        row=row,
        status=finish.status,
        answer=finish.answer,
        error=finish.error,
        attempts=attempts,
        thread_id=state.thread_id or (last.thread_id if last else None),
        run_id=last.run_id if last else None,
        model=state.ended_run.model if state.ended_run else None,
        usage=usage,
        cost_usd=sum(costs) if costs else None,
        duration_s=duration_s,
        citations=answer.citations,
        files=answer.files,
        steps=(*state.past_steps, *(replace(step, attempt=state.attempt) for step in answer.steps)),
    )


def checked_answer(profile: Profile, answer: Answer) -> tuple[Answer, str | None]:
    """The answer checked against the profile's response schema.

    Returns:
        The answer, without the Markdown code fence that a model may put around its JSON, and how it misses
        the schema; None when it does not, or there is no schema.
    """
    if profile.response_schema is None or not answer.messages:
        return answer, None
    answer = replace(answer, text=without_fence(answer.text))
    return answer, schema_error(profile.response_schema, answer.text)


def schema_error(response_schema: dict[str, Any], text: str) -> str | None:
    """How a text misses a response schema; None when it does not."""
    import jsonschema  # noqa: PLC0415 -- a twentieth of a worker's start

    try:
        jsonschema.validate(orjson.loads(text), plain_schema(response_schema))
    except orjson.JSONDecodeError:
        return "the answer is not JSON"
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path)
        return f"{place}: {error.message}" if place else error.message
    return None


def missed_counters(profile: Profile, result: Result) -> dict[str, int]:
    """The batch's counters of an answer that misses the schema: 1 for each top-level field that does.

    `schema:(answer)` is that of an answer that is no JSON or no object of the schema.
    """
    if profile.response_schema is None or not misses_schema(result.error):
        return {}
    known = fields_of(profile.response_schema)
    names = _missed_fields(plain_schema(profile.response_schema), result.answer)
    shown = [name if known and name in known.names else WHOLE_ANSWER for name in names]
    return dict.fromkeys((f"schema:{name}" for name in shown[:MAX_COUNTED_FIELDS]), 1)


def _missed_fields(schema: dict[str, Any], text: str) -> list[str]:
    from jsonschema.validators import validator_for  # noqa: PLC0415 -- as above

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [WHOLE_ANSWER]
    errors = validator_for(schema)(schema).iter_errors(value)
    return list(dict.fromkeys(name for error in errors for name in _fields_in(error)))


def _fields_in(error: Any) -> list[str]:
    """The fields that an error is about. The error of a missing field stands at the object around it."""
    if error.absolute_path:
        return [str(error.absolute_path[0])]
    if error.validator == "required" and isinstance(error.instance, dict):
        return [str(name) for name in error.validator_value if name not in error.instance]
    return [WHOLE_ANSWER]


def log_fields(result: Result) -> dict[str, object]:
    """The fields of the log line of a finished row."""
    return {
        "status": result.status.value,
        "error": result.error,
        "attempts": result.attempt_count,
        "thread": result.thread_id,
        "run": result.run_id,
        "duration_s": result.duration_s,
        "prompt_tokens": result.usage.prompt_tokens,
        "completion_tokens": result.usage.completion_tokens,
        "cost_usd": result.cost_usd,
    }

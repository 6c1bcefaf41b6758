"""From a row's final state to its stored result. Pure."""

import re
from dataclasses import replace
from typing import Any

import orjson

from askmill.jobs.model.models import Attempt, Result, Usage
from askmill.jobs.model.profile import Profile
from askmill.worker.lifecycle.api_types import Answer, Run
from askmill.worker.lifecycle.decision import Finish
from askmill.worker.lifecycle.events import Event
from askmill.worker.lifecycle.on_run_ended import attempt_of
from askmill.worker.lifecycle.state import JobState

CODE_FENCE = re.compile(
    r"\s*(?P<mark>`{3,}|~{3,})[\w+-]*[ \t]*\r?\n(?P<content>.*?)\r?\n?[ \t]*(?P=mark)\s*", re.DOTALL
)


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


def without_fence(text: str) -> str:
    """The text inside a code fence that surrounds all of it and holds JSON; else the text as it is."""
    match = CODE_FENCE.fullmatch(text)
    if match is None:
        return text
    try:
        orjson.loads(match["content"])
    except orjson.JSONDecodeError:
        return text
    return match["content"].strip()


def schema_error(response_schema: dict[str, Any], text: str) -> str | None:
    """How a text misses a response schema; None when it does not."""
    import jsonschema  # noqa: PLC0415 -- a twentieth of a worker's start

    schema = response_schema.get("schema", response_schema)
    try:
        jsonschema.validate(orjson.loads(text), schema)
    except orjson.JSONDecodeError:
        return "the answer is not JSON"
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path)
        return f"{place}: {error.message}" if place else error.message
    return None


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

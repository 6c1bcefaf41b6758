"""From a row's final state to its result: every attempt counted once, sums of known numbers, ids of the last run."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.model.models import Attempt, JobStatus, Step, Usage
from askmill.jobs.model.profile import Profile
from askmill.worker.execution.result_builder import attempts_of, build_result, checked_answer, log_fields
from askmill.worker.lifecycle.api_types import Answer, LookupKind, Run, RunLookup
from askmill.worker.lifecycle.decision import Finish
from askmill.worker.lifecycle.events import AnswerRead, Event, LookupDone
from askmill.worker.lifecycle.state import JobState
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import ANSWER, ENDED, NOW, POLLING, READING, SENT, P

FAILED = Finish(JobStatus.FAILED, error="deadline: too long")
DEAD = Attempt(
    number=1,
    thread_id="thread_0",
    run_id="run_0",
    status="expired",
    error="expired",
    started_at=NOW - 100,
    finished_at=NOW - 50,
    usage=Usage(7, None),
    cost_usd=0.25,
)


def ended_row(state: JobState, finish: Finish = FAILED, event: Event | None = None):
    """The result of a row that ends here."""
    return build_result(3, state, finish, attempts_of(state, finish, event or Event(NOW)))


def test_a_row_that_never_had_a_run_has_no_attempt() -> None:
    """Refused before its create: no run, no tokens, no cost, no duration; unknown is empty, never 0."""
    result = ended_row(SENT)

    assert (result.attempts, result.run_id, result.thread_id) == ((), None, "thread_1")
    assert (result.usage, result.cost_usd, result.duration_s, result.model) == (Usage(), None, None, None)
    assert (result.row, result.status, result.error) == (3, JobStatus.FAILED, "deadline: too long")


def test_the_last_run_is_counted_beside_the_earlier_ones() -> None:
    """Tokens add up where they are known; the row's ids are the last run's, its time runs from first to last."""
    state = replace(
        READING, attempt=2, past_attempts=(DEAD,), ended_run=replace(ENDED, model="m", usage=Usage(10, 5))
    )
    result = ended_row(state)

    assert [(one.number, one.run_id, one.status) for one in result.attempts] == [
        (1, "run_0", "expired"),
        (2, "run_1", "completed"),
    ]
    assert result.attempts[1].error == "deadline: too long"
    assert (result.usage, result.cost_usd, result.model) == (Usage(17, 5), 0.25, "m")
    assert (result.run_id, result.thread_id, result.duration_s) == ("run_1", "thread_1", 100.0)


def test_a_row_refused_at_its_second_attempt_has_the_first_ones_ids() -> None:
    """The attempt that was not made is not counted; what was paid for is."""
    result = ended_row(JobState(attempt=2, past_attempts=(DEAD,)))

    assert (result.attempts, result.thread_id, result.run_id) == ((DEAD,), "thread_0", "run_0")


def test_a_run_that_could_not_be_read_is_counted_as_unknown() -> None:
    """It was paid for."""
    (attempt,) = ended_row(POLLING).attempts

    assert (attempt.run_id, attempt.status, attempt.started_at, attempt.finished_at) == (
        "run_1",
        "unknown",
        NOW - 4,
        NOW,
    )


def test_an_adopted_answer_has_an_attempt_without_a_run_id() -> None:
    """After earlier attempts too: an unknown id is empty, never an earlier attempt's."""
    adopted = advance(
        replace(SENT, attempt=2, past_attempts=(DEAD,)),
        LookupDone(NOW, lookup=RunLookup(LookupKind.ANSWER)),
        P,
    ).state
    event = AnswerRead(NOW, answer=replace(ANSWER, run_id=None))
    decision = advance(adopted, event, P)
    assert isinstance(decision.action, Finish)
    result = ended_row(decision.state, decision.action, event)

    assert [attempt.run_id for attempt in result.attempts] == ["run_0", None]
    assert (result.run_id, result.thread_id, result.answer) == (None, "thread_1", "42")


def test_steps_of_every_attempt_are_kept_with_its_number() -> None:
    """Those of dead attempts as they were stored, the last one's marked as its own."""
    old = Step(run_id="run_0", attempt=1, type="message", status="completed")
    new = Step(run_id="run_1", attempt=1, type="message", status="completed")
    answer = Answer(steps=(new,), citations=({"a": 1},), files=({"name": "f"},))
    result = ended_row(replace(READING, attempt=2, past_attempts=(DEAD,), past_steps=(old,), answer=answer))

    assert [(step.run_id, step.attempt) for step in result.steps] == [("run_0", 1), ("run_1", 2)]
    assert (result.citations, result.files) == (({"a": 1},), ({"name": "f"},))


@pytest.mark.parametrize(
    ("first", "last", "took"),
    [(NOW, NOW + 1.2345678, 1.235), (NOW + 5, NOW, 0.0), (None, NOW, None), (NOW, None, None)],
)
def test_a_duration_is_known_when_both_ends_are(first, last, took) -> None:
    """In milliseconds, and never negative: clocks may be set."""
    state = replace(
        READING,
        past_attempts=(replace(DEAD, started_at=first, finished_at=last),),
        run_id=None,
        ended_run=None,
    )

    assert ended_row(state).duration_s == took


def test_the_start_of_a_run_nobody_saw_begin_is_unknown() -> None:
    """The API's `created_at` is by another clock than `finished_at`: their difference would mean nothing."""
    seen = replace(READING, began_at=None, ended_run=Run("run_1", "completed", created_at=NOW - 9))
    result = ended_row(seen)

    assert (result.attempts[0].started_at, result.duration_s) == (None, None)


tokens = st.one_of(st.none(), st.integers(0, 10**9))
attempt_lists = st.lists(
    st.builds(
        lambda usage, cost: replace(DEAD, usage=Usage(*usage), cost_usd=cost),
        st.tuples(tokens, tokens),
        st.one_of(st.none(), st.floats(0, 1e3)),
    )
).map(tuple)


@given(attempt_lists)
def test_sums_take_what_is_known(attempts: tuple[Attempt, ...]) -> None:
    """A sum is None exactly when nothing is known, and else counts each known number once."""
    result = build_result(3, JobState(), FAILED, attempts)
    for total, numbers in (
        (result.usage.prompt_tokens, [attempt.usage.prompt_tokens for attempt in attempts]),
        (result.usage.completion_tokens, [attempt.usage.completion_tokens for attempt in attempts]),
        (result.cost_usd, [attempt.cost_usd for attempt in attempts]),
    ):
        known = [number for number in numbers if number is not None]
        assert total == (sum(known) if known else None)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("text", "missed"),
    [
        ('{"a": [1]}', None),
        ("forty-two", "the answer is not JSON"),
        ('{"a": ["x"]}', "a.0: 'x' is not of type 'integer'"),
        ("3", "3 is not of type 'object'"),
    ],
)
def test_an_answer_misses_its_schema_at_a_place(wrapped: bool, text: str, missed: str | None) -> None:
    """The error says where and how; the schema may come bare or as the API wraps it."""
    properties = {"a": {"type": "array", "items": {"type": "integer"}}}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    response_schema = {"name": "s", "schema": schema} if wrapped else schema

    answer = Answer(text=text, messages=1)
    assert checked_answer(Profile(response_schema=response_schema), answer) == (answer, missed)
    assert checked_answer(Profile(), answer) == (answer, None)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ('```json\n{"a": [1]}\n```', '{"a": [1]}'),
        ('\n```\n\n{"a": [1]}\n\n```\n', '{"a": [1]}'),
        ('~~~~ json5\n{"a": []}\n~~~~', '~~~~ json5\n{"a": []}\n~~~~'),
        ('````JSON\r\n{"a": ["```"]}\r\n````', '{"a": ["```"]}'),
        ('Here:\n```json\n{"a": [1]}\n```', 'Here:\n```json\n{"a": [1]}\n```'),
        ("```python\nprint(1)\n```", "```python\nprint(1)\n```"),
        ('```json\n{"a": [1', '```json\n{"a": [1'),
    ],
)
def test_a_code_fence_around_json_is_removed_before_the_check(text: str, stored: str) -> None:
    """Case A21: models put JSON into a Markdown fence; the answer that is stored is the JSON alone."""
    profile = Profile(response_schema={"type": "object", "properties": {"a": {"type": "array"}}})
    answer, missed = checked_answer(profile, Answer(text=text, messages=1))

    assert answer.text == stored
    assert (missed is None) == (stored != text)
    assert checked_answer(Profile(), Answer(text=text, messages=1))[0].text == text


def test_the_log_line_has_status_ids_usage_and_cost() -> None:
    """Status, error, attempts, ids, time, tokens and money, all of the whole row."""
    line = log_fields(ended_row(replace(READING, attempt=2, past_attempts=(DEAD,))))

    assert line == {
        "status": "failed",
        "error": "deadline: too long",
        "attempts": 2,
        "thread": "thread_1",
        "run": "run_1",
        "duration_s": 100.0,
        "prompt_tokens": 17,
        "completion_tokens": 5,
        "cost_usd": 0.25,
    }
    assert log_fields(ended_row(SENT))["duration_s"] is None

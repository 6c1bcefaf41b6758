"""From a line of a shard's results to the end of its row: every kind of line, and what the batch counts for it."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from askmill.jobs.model.fault_table import FaultSubject
from askmill.jobs.model.models import Attempt, JobStatus, Limits, OnIncomplete, OnUnknown, Result, Usage
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.price import Price
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.shard_records import RowEnd
from askmill.worker.backends.batch_lines import Again, Answered, LineContext, Outcome, Refused, Unreadable
from askmill.worker.execution.shard_rows import ShardRows
from askmill.worker.execution.stored_state import STATE_JSON
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run
from askmill.worker.lifecycle.error_rule import ErrorClass
from askmill.worker.lifecycle.retry import Fault
from askmill.worker.lifecycle.state import JobState, KeptAnswer
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.redis_clock import RedisClock
from tests.unit.execution.rows import EARLIER_RESULT, batch_of, claim_of

SENT_AT, NOW_S = 900.0, 1000.0
CLOCK = RedisClock(redis_ahead_s=5.0, ahead_s=2.0, stepped_s=3.0)
"""Redis' clock is 3 s ahead of the jobs' time."""
PRICES = Prices({"gpt-x": Price(2.0, 20.0, tiers={"batch": Price(prompt_usd=1.0, completion_usd=10.0)})})
PROFILE = Profile(model="gpt-x", max_prompt_tokens=1000, max_completion_tokens=500, service_tier="batch")
RUN = Run("resp_1", "completed", model="gpt-x", usage=Usage(100, 10), tier="batch", answer=Answer("4", 1))
UNBILLED = Usage(0, 0)
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def shard_rows(profile: Profile = PROFILE, limits: Limits | None = None, **batch: Any) -> ShardRows:
    """The reader of a shard of this batch, without jitter."""
    claim = claim_of()
    context = BatchContext(batch_of(profile, **{"api": "responses", **batch}), claim.update, 0)
    context.current = replace(context.current, limits=limits or Limits())
    return ShardRows(context, PRICES, CLOCK, SENT_AT, NOW_S, 0.0)


def added(
    outcome: Outcome, claim: Claim | None = None, rows: ShardRows | None = None
) -> tuple[RowEnd, ShardRows]:
    """The end of row 4 by this line."""
    rows = rows or shard_rows()
    rows.add(claim or claim_of(), outcome)
    (end,) = rows.ends
    return end, rows


def attempt(number: int, status: str, error: str | None, **changed: Any) -> Attempt:
    """The record of an attempt, at Redis' times in a result, at the jobs' in memory."""
    return Attempt(number, None, None, status, error, SENT_AT, NOW_S, **changed)


def state_of(end: RowEnd) -> JobState:
    """The stored state of a row that goes on, with its times moved back to the jobs' clock."""
    assert end.result is None
    stored = STATE_JSON.validate_json(end.state)
    past = tuple(
        replace(one, started_at=(one.started_at or 0) - 3, finished_at=(one.finished_at or 0) - 3)
        for one in stored.past_attempts
    )
    return replace(stored, past_attempts=past)


def test_an_answered_line_ends_its_row() -> None:
    """A run, its tokens and its cost are counted; times are Redis'; the price is the one of the tier that it names."""
    end, rows = added(Answered("x", RUN))
    record = Attempt(
        1, None, "resp_1", "completed", None, 903.0, 1003.0, Usage(100, 10), 0.0002, "gpt-x", "batch"
    )
    expected = Result(
        4,
        JobStatus.COMPLETED,
        answer="4",
        attempts=(record,),
        run_id="resp_1",
        model="gpt-x",
        usage=Usage(100, 10),
        cost_usd=0.0002,
        duration_s=100.0,
    )
    assert end == RowEnd(4, expected)
    assert rows.counters == Counter(runs=1, prompt=100, completion=10, cost_nano=200_000)
    assert rows.pause is None


def test_a_line_without_a_message_fails_its_row_at_once() -> None:
    """The file is final: no message can be late, though the run wrote tokens."""
    end, _ = added(Answered("x", replace(RUN, answer=Answer())))
    assert end.result is not None
    assert (end.result.status, end.result.error) == (JobStatus.FAILED, "no_message")


def test_what_several_lines_count_is_added() -> None:
    """Runs, retries, and creates of unknown outcome."""
    rows, error = shard_rows(), ApiError(500, message="boom")
    for outcome in (Answered("x", RUN), Again("x", error), Unreadable("x", "not JSON")):
        for _ in range(2):
            rows.add(claim_of(), outcome)
    retries = {"retries:server_error": 2, "retries:unknown_outcome": 2}
    money = {"prompt": 200, "completion": 20, "cost_nano": 400_000}
    assert rows.counters == Counter({"runs": 2, "unknown_creates": 2, **retries, **money})
    assert len(rows.ends) == 6


@pytest.mark.parametrize("expires", [False, True])
def test_a_continuation_that_did_not_run_keeps_the_first_half(expires: bool) -> None:
    """With the reason why it is only half: what ends the row later does not hide it."""
    kept = KeptAnswer(Answer("the first half", 1), "max_completion_tokens")
    state = STATE_JSON.dump_json(JobState(attempt=2, continuing=True, kept=kept))
    rows = shard_rows(api="chat")
    if expires:
        rows.expire(claim_of(state=state))
    else:
        rows.add(claim_of(state=state), Again("x", ApiError(500, message="boom")))
    following = state_of(rows.ends[0])
    assert (following.attempt, following.continuing, following.kept) == (3, False, kept)


def test_an_answer_that_misses_its_schema_is_counted_by_field() -> None:
    """Failed, and paid for."""
    end, rows = added(
        Answered("x", replace(RUN, answer=Answer('{"a": 1}', 1))),
        rows=shard_rows(PROFILE.model_copy(update={"response_schema": SCHEMA})),
    )
    assert end.result is not None
    assert end.result.error == "schema: a: 1 is not of type 'string'"
    assert rows.counters["schema:a"] == 1


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_only_chat_completions_continue_a_cut_answer(api: str) -> None:
    """Another API's line has no conversation to go on in: the row keeps what it has."""
    cut = replace(
        RUN, status="incomplete", incomplete_reason="max_completion_tokens", message={"role": "assistant"}
    )
    limits = Limits(on_incomplete=OnIncomplete.CONTINUE)
    end, rows = added(Answered("x", cut), rows=shard_rows(limits=limits, api=api))
    if api == "responses":
        assert end.result is not None
        assert (end.result.status, end.result.answer) == (JobStatus.INCOMPLETE, "4")
        return
    state = state_of(end)
    assert (state.continuing, state.attempt, state.run_id, end.due_ms) == (True, 2, None, 0)
    assert rows.counters == Counter({"runs": 1, "retries:max_completion_tokens": 1})
    assert end.spent_nano == 200_000
    rest, _ = added(Answered("y", RUN), claim_of(state=end.state), shard_rows(limits=limits, api=api))
    assert rest.result is not None
    assert rest.result.answer == "44"
    raised = shard_rows(limits=Limits(on_incomplete=OnIncomplete.RAISE_LIMIT), api=api)
    assert state_of(added(Answered("x", cut), rows=raised)[0]).doubled_limits == ("max_completion_tokens",)


@pytest.mark.parametrize("error_class", [ErrorClass.ROW, ErrorClass.UNCLEAR])
def test_a_refused_line_fails_its_row_alone(error_class: ErrorClass) -> None:
    """Nothing ran and nothing is counted."""
    error = ApiError(400, code="bad", message="no")
    end, rows = added(Refused("x", error, Fault(error_class, FaultSubject.CONTENT)))
    assert end == RowEnd(4, Result(4, JobStatus.FAILED, error="bad: no"))
    assert (rows.counters, rows.pause) == (Counter(), None)


def test_a_refusal_of_all_rows_pauses_the_batch_and_puts_the_row_back() -> None:
    """The first reason stays."""
    fault = Fault(ErrorClass.BATCH, FaultSubject.MONEY)
    end, rows = added(Refused("x", ApiError(429, code="insufficient_quota", message="no money"), fault))
    assert end == RowEnd(4)
    assert rows.pause == "insufficient_quota: no money"
    rows.add(claim_of(), Refused("x", ApiError(401, code="other", message="no"), fault))
    assert rows.pause == "insufficient_quota: no money"
    assert rows.counters == Counter()


@pytest.mark.parametrize(
    ("error", "status", "record"),
    [
        (ApiError(429, message="slow down"), "failed", "rate_limit_exceeded: http_429: slow down"),
        (ApiError(500, message="boom"), "failed", "server_error: http_500: boom"),
        (ApiError(None, code="batch_expired"), "expired", "expired"),
    ],
)
def test_a_line_that_did_not_run_costs_an_attempt_and_no_money(
    error: ApiError, status: str, record: str
) -> None:
    """After its backoff by Redis' clock; the second wait is twice the first."""
    end, rows = added(Again("x", error))
    past = attempt(1, status, record, usage=UNBILLED, tier="batch")
    assert state_of(end) == JobState(attempt=2, past_attempts=(past,))
    assert (end.row, end.spent_nano, end.due_ms) == (4, 0, 1_003_500)
    code = record.partition(":")[0]
    assert rows.counters == Counter({f"retries:{code}": 1})
    second, _ = added(Again("x", error), claim_of(state=end.state))
    assert (state_of(second).attempt, second.due_ms) == (3, 1_004_000)
    last, rows = added(Again("x", error), claim_of(state=second.state))
    assert last.result is not None
    assert (len(last.result.attempts), last.result.cost_usd) == (3, 0.0)
    assert rows.counters == Counter(prompt=0, completion=0, cost_nano=0)


def test_a_line_of_a_cancelled_batch_ends_its_row() -> None:
    """Cancelled by the API's code, or by the end of the job; the second has made no attempt."""
    end, _ = added(Again("x", ApiError(None, code="batch_cancelled")))
    assert end.result is not None
    assert (end.result.status, end.result.error) == (JobStatus.CANCELLED, None)
    rows = shard_rows()
    rows.cancel(claim_of())
    assert rows.ends == [RowEnd(4, Result(4, JobStatus.CANCELLED))]
    assert rows.counters == Counter()


def test_rows_of_an_expired_batch_are_asked_again() -> None:
    """As a line that says so."""
    rows = shard_rows()
    rows.expire(claim_of())
    past = attempt(1, "expired", "expired", usage=UNBILLED, tier="batch")
    assert state_of(rows.ends[0]) == JobState(attempt=2, past_attempts=(past,))


def test_a_missing_line_may_be_paid() -> None:
    """Counted, and its worst price is spent; the row is asked again, or fails if the user says so."""
    end, rows = added(Unreadable("x", "not JSON"))
    assert state_of(end) == JobState(attempt=2, past_attempts=(attempt(1, "unknown", "not JSON"),))
    assert rows.counters == Counter({"unknown_creates": 1, "retries:unknown_outcome": 1})
    assert end.spent_nano == 6_000_000
    rows = shard_rows(limits=Limits(on_unknown=OnUnknown.STOP))
    rows.lose(claim_of(), "no line")
    assert rows.ends[0].result is not None
    assert rows.ends[0].result.error == "unknown_outcome: no line"
    assert rows.counters["unknown_creates"] == 1
    assert rows.counters["assumed_nano"] == 6_000_000


def test_a_line_that_kills_its_reader_is_counted_at_its_worst_price() -> None:
    """Its attempt is of unknown outcome; with what an earlier result had."""
    rows = shard_rows()
    rows.fail_answered(claim_of(previous=EARLIER_RESULT), "poison_row: its line killed its worker 2 times")
    (end,) = rows.ends
    assert end.result is not None
    error = "poison_row: its line killed its worker 2 times"
    assert (end.result.status, end.result.error) == (JobStatus.FAILED, error)
    assert [(one.number, one.status) for one in end.result.attempts] == [(1, "failed"), (2, "unknown")]
    assert rows.counters == Counter(assumed_nano=6_000_000)


def test_an_error_that_all_rows_share_pauses_the_batch_and_keeps_the_attempt() -> None:
    """A run that ended for money: the row waits with its record, due at once."""
    run = Run(
        "resp_1", "failed", error_code="insufficient_quota", error_message="You exceeded your current quota"
    )
    end, rows = added(Answered("x", run))
    assert (state_of(end).attempt, end.due_ms) == (2, 0)
    assert rows.pause == "insufficient_quota: You exceeded your current quota"
    rows.add(claim_of(), Answered("y", replace(run, error_message="other")))
    assert rows.pause == "insufficient_quota: You exceeded your current quota"


def test_kept_text_ends_a_row_whose_line_fails() -> None:
    """What an earlier attempt wrote and was paid for."""
    rows = shard_rows()
    before = replace(
        EARLIER_RESULT, status=JobStatus.INCOMPLETE, answer="half", error="max_completion_tokens"
    )
    rows.refuse(claim_of(previous=before), "bad: no")
    result = rows.ends[0].result
    assert result is not None
    assert (result.status, result.answer, result.error) == (
        JobStatus.INCOMPLETE,
        "half",
        "max_completion_tokens: then bad: no",
    )


def test_what_a_line_does_not_say_about_its_row() -> None:
    """Its attempt, the row's own settings and its model; no footnotes where an answer is JSON."""
    rows, claim = shard_rows(), claim_of("q", "", "gpt-own")
    state = rows.state_of(claim)
    assert (state.began_at, state.create_sent_at) == (SENT_AT, SENT_AT)
    expected = LineContext(attempt=3, footnotes=True, row_overrides=frozenset({"model"}), model="gpt-own")
    assert rows.line_context(claim, replace(state, attempt=3)) == expected
    typed = shard_rows(PROFILE.model_copy(update={"response_schema": SCHEMA}))
    assert typed.line_context(claim_of(), JobState()) == LineContext(footnotes=False, model="gpt-x")

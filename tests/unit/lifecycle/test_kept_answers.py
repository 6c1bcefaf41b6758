"""No text that was paid for is dropped: whatever follows it, the row ends with it (cases A6, A12)."""

from collections import deque
from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus, OnIncomplete, Step, Usage
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run
from askmill.worker.lifecycle.decision import Finish, ReadAnswer
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import AnswerRead, CancelRequested, RequestFailed
from askmill.worker.lifecycle.kept_answer import better, joined, with_kept_answer
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState, KeptAnswer, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.simulation import Simulation
from tests.unit.lifecycle.states import ANSWER, NOW, READING, P, finish_of

CUT = Run("run_1", "incomplete", incomplete_reason="max_completion_tokens")
HALF = replace(ANSWER, text="the first half")
STEP = Step("run_2", 2, "message", "completed")
REFUSAL = RequestFailed(NOW, error=ApiError(400, code="bad", message="no"), request=RequestKind.CREATE)
LOCKED = RequestFailed(NOW + 700, error=ApiError(400, code="conversation_locked"), request=RequestKind.CREATE)
GONE = RequestFailed(NOW, error=ApiError(404, message="No thread found"), request=RequestKind.CREATE)
ENDS = {"refused": REFUSAL, "locked": LOCKED, "thread gone": GONE}
"""Events that end the row in its second attempt."""


def second_attempt(policy: OnIncomplete) -> JobState:
    """A row whose first run was cut off, and whose second create is out."""
    rules = RetryPolicy(on_incomplete=policy, completion_limit=256)
    state = advance(replace(READING, ended_run=CUT), AnswerRead(NOW, answer=HALF), rules).state
    return replace(state, phase=Phase.CREATE_SENT, thread_id="t", create_sent_at=NOW, locked_since=NOW)


@pytest.mark.parametrize("policy", [OnIncomplete.CONTINUE, OnIncomplete.RAISE_LIMIT])
@pytest.mark.parametrize("end", ENDS)
def test_a_refusal_after_half_an_answer_keeps_the_half(policy: OnIncomplete, end: str) -> None:
    """Case A12: `incomplete`, with the text that was paid for; the error says what followed."""
    state = replace(second_attempt(policy), shared_thread=end == "thread gone")
    decision = advance(state, ENDS[end], P)
    _, finish = with_kept_answer(decision.state, finish_of(decision))
    assert (finish.status, finish.answer) == (JobStatus.INCOMPLETE, "the first half")
    assert (finish.error or "").startswith("max_completion_tokens: then ")


@pytest.mark.parametrize("policy", [OnIncomplete.CONTINUE, OnIncomplete.RAISE_LIMIT])
def test_a_cancel_after_half_an_answer_keeps_the_half(policy: OnIncomplete) -> None:
    """The row is `cancelled`, as the user asked, with its text."""
    decision = advance(replace(second_attempt(policy), phase=Phase.NEW), CancelRequested(NOW), P)
    state, finish = with_kept_answer(decision.state, finish_of(decision))
    assert (finish.status, finish.answer, state.answer and state.answer.text) == (
        JobStatus.CANCELLED,
        "the first half",
        "the first half",
    )


@pytest.mark.parametrize(
    ("ended", "text", "kept"),
    [
        (Run("run_2", "expired"), "", "the first half"),
        (Run("run_2", "failed", error_code="bad"), " and", "the first half and"),
        (Run("run_2", "completed"), " and the rest", "the first half and the rest"),
    ],
)
def test_a_continuation_that_fails_leaves_what_there_is(ended: Run, text: str, kept: str) -> None:
    """Deadline, expiry, failure while continuing: incomplete, with both parts; completed: both parts joined."""
    state = replace(second_attempt(OnIncomplete.CONTINUE), phase=Phase.READING, ended_run=ended, attempt=3)
    part = Answer(text, messages=bool(text))
    decision = advance(state, AnswerRead(NOW, answer=joined(state, part)), P)
    _, finish = with_kept_answer(decision.state, finish_of(decision))
    whole = ended.status == "completed"
    assert (finish.status, finish.answer) == (
        JobStatus.COMPLETED if whole else JobStatus.INCOMPLETE,
        kept,
    )


def test_the_longest_text_of_the_attempts_is_kept() -> None:
    """Two expired attempts with some text: the row is as its last one ended, with the longer text."""
    first = advance(
        replace(READING, ended_run=Run("run_1", "expired")), AnswerRead(NOW, answer=HALF), P
    ).state
    last = replace(first, attempt=3, phase=Phase.READING, run_id="run_2", ended_run=Run("run_2", "expired"))
    decision = advance(last, AnswerRead(NOW, answer=replace(HALF, text="the")), P)
    _, finish = with_kept_answer(decision.state, finish_of(decision))
    assert (finish.status, finish.error, finish.answer) == (JobStatus.EXPIRED, None, "the first half")


def test_a_whole_answer_is_not_replaced_by_a_longer_half() -> None:
    """A completed run's text stands, also where it misses its schema."""
    state = replace(READING, kept=KeptAnswer(HALF, "max_completion_tokens"), answer=ANSWER)
    for finish in (
        Finish(JobStatus.COMPLETED, answer="42"),
        Finish(JobStatus.FAILED, error="schema: no", answer="42"),
    ):
        assert with_kept_answer(state, finish) == (state, finish)


def test_parts_are_joined_with_their_citations_and_files() -> None:
    """The steps and the ids are the last part's; without a part before it, an answer is as it came."""
    first = Answer("one ", 1, citations=({"id": 1},), files=({"file_id": "a"},), run_id="run_1")
    last = Answer(
        "two",
        2,
        citations=({"id": 2},),
        files=({"file_id": "b"},),
        steps=(STEP,),
        last_message_id="m",
        run_id="run_2",
    )
    both = replace(
        last, text="one two", citations=({"id": 1}, {"id": 2}), files=({"file_id": "a"}, {"file_id": "b"})
    )
    assert joined(JobState(kept=KeptAnswer(first), continuing=True), last) == both
    assert joined(JobState(kept=KeptAnswer(first)), last) == last
    assert joined(JobState(continuing=True), last) == last


def test_of_two_texts_the_longer_is_kept_and_of_two_alike_the_older() -> None:
    """Without steps, which are stored once; with the reason of the incomplete one."""
    old, new = KeptAnswer(Answer("four", 1), "old"), Answer("fifth", 1, steps=(STEP,), run_id="run_2")
    assert better(old, new, "new") == KeptAnswer(replace(new, steps=()), "new")
    assert better(old, replace(new, text="five"), "new") is old
    assert better(old, replace(new, text="six"), "new") is old
    assert better(None, Answer()) is None


def test_a_continuation_that_adds_nothing_leaves_the_reason_of_the_first_half() -> None:
    """It expires without text, and the attempt after it is refused: `incomplete`, as without the continuation."""
    expired = replace(
        second_attempt(OnIncomplete.CONTINUE), phase=Phase.READING, ended_run=Run("run_2", "expired")
    )
    third = advance(expired, AnswerRead(NOW, answer=joined(expired, Answer())), P).state
    assert third.attempt == 3
    refused = Finish(JobStatus.FAILED, error="bad: no")
    _, finish = with_kept_answer(third, refused)
    error = "max_completion_tokens: then bad: no"
    assert finish == Finish(JobStatus.INCOMPLETE, error=error, answer="the first half")


def test_a_row_ends_with_the_kept_text_and_what_followed_it() -> None:
    """Steps and the last message are the last attempt's, where a conversation goes on; equally long, its own text."""
    own = Answer("4", 0, steps=(STEP,), last_message_id="m_2")
    state = replace(READING, ended_run=Run("run_1", "expired"), kept=KeptAnswer(HALF, "cut"), answer=own)
    kept = replace(HALF, steps=(STEP,), last_message_id="m_2")
    for finish, error in (
        (Finish(JobStatus.FAILED, error="bad: no", answer="4"), "cut: then bad: no"),
        (Finish(JobStatus.EXPIRED, answer="4"), "cut: then expired"),
    ):
        expected = Finish(JobStatus.INCOMPLETE, error=error, answer="the first half")
        assert with_kept_answer(state, finish) == (replace(state, answer=kept), expected)
    alike = replace(state, answer=replace(own, text="THE FIRST HALF"))
    finish = Finish(JobStatus.FAILED, error="bad: no", answer="THE FIRST HALF")
    assert with_kept_answer(alike, finish) == (alike, finish)


# ── a message that is late (A6) ──

DONE = Run("run_1", "completed", usage=Usage(10, 5))


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_a_late_message_is_waited_for(status: str) -> None:
    """Case A6: tokens are told, no message is listed: read again for 10 s, then `no_message`."""
    run = replace(DONE, status=status, incomplete_reason="content_filter")
    late = advance(replace(READING, ended_run=run), AnswerRead(NOW, jitter=1.0), P)
    assert late.action == ReadAnswer(after_s=1.0)
    there = advance(late.state, AnswerRead(NOW + 2, answer=ANSWER), P)
    assert finish_of(there).answer == "42"
    once_more = advance(late.state, AnswerRead(NOW + P.late_message_s), P)
    assert once_more.action == ReadAnswer()
    over = finish_of(advance(once_more.state, AnswerRead(NOW + P.late_message_s), P))
    assert over.error == ("no_message" if status == "completed" else "content_filter")


@pytest.mark.parametrize(
    ("run", "answer"),
    [
        (replace(DONE, usage=Usage(10, None)), Answer()),
        (replace(DONE, usage=Usage(10, 0)), Answer()),
        (DONE, Answer(steps=(Step("run_1", 1, "reasoning", "completed"),))),
        (DONE, Answer(messages=1, files=({"file_id": "f"},))),
        (replace(DONE, status="expired"), Answer()),
    ],
)
def test_nothing_is_waited_for_without_a_sign_of_a_message(run: Run, answer: Answer) -> None:
    """No output tokens, or only reasoning or files: the row ends at once."""
    state = replace(READING, ended_run=run, attempt=3)
    finish_of(advance(state, AnswerRead(NOW, answer=answer), P))


@pytest.mark.parametrize("policy", [OnIncomplete.CONTINUE, OnIncomplete.RAISE_LIMIT])
@pytest.mark.parametrize(
    "then", ["expired", "failed:other", "failed:server_error", "stuck", "gone", "odd", "silent", "cancelled"]
)
def test_whatever_ends_the_second_run_keeps_the_half(policy: OnIncomplete, then: str) -> None:
    """Case A12: from the first create to the row's end, with each ending of the second run."""
    rules = RetryPolicy(attempts=2, deadline_s=40.0, on_incomplete=policy, completion_limit=256)
    world = Simulation(deque(), outcomes=("incomplete:max_completion_tokens", then), policy=rules).play()
    assert world.finish is not None
    by_user = then == "cancelled"
    assert world.finish.status is (JobStatus.CANCELLED if by_user else JobStatus.INCOMPLETE)
    assert world.finish.answer == "42"

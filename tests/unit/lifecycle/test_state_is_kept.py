"""Which fields a decision changes: nothing else of the state is lost, and every attempt is recorded."""

from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus
from askmill.worker.lifecycle.api_types import ApiError, LookupKind, Run, RunLookup
from askmill.worker.lifecycle.decision import (
    Action,
    CancelRun,
    PauseBatch,
    PollRun,
    ReadAnswer,
    RecoverRun,
    RecoverSubmit,
    ReleaseRow,
    Reserve,
    SubmitOutputs,
    Wait,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import (
    AnswerRead,
    BudgetFull,
    CancelRequested,
    Claimed,
    Event,
    LookupDone,
    OutputsSubmitted,
    RequestFailed,
    RunCreated,
    RunPolled,
)
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import CancelReason, JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import (
    ANSWER,
    CALLING_TOOLS,
    ENDED,
    NO_REPLY,
    NOW,
    POLLING,
    READING,
    RUN_NOT_FOUND,
    RUN_REQUIRING_ACTION,
    SENT,
    P,
    finish_of,
)

NOTHING = LookupDone(NOW, jitter=1.0, lookup=RunLookup(LookupKind.NOTHING))
BUSY = ApiError(503)
RUNNING = Run("run_1", "in_progress")
CHECKING = replace(READING, phase=Phase.CHECKING_DUPLICATES, answer=ANSWER, create_repeated=True)
STOPPING = replace(POLLING, cancel_reason=CancelReason.DEADLINE, cancel_requested_at=NOW)


def faulted(error: ApiError, on: RequestKind = RequestKind.READ) -> RequestFailed:
    return RequestFailed(NOW, jitter=1.0, error=error, request=on)


GOES_ON = [
    (JobState(), Claimed(NOW), Reserve()),
    (SENT, Claimed(NOW), RecoverRun()),
    (POLLING, Claimed(NOW), PollRun(after_s=0.0)),
    (CALLING_TOOLS, Claimed(NOW), RecoverSubmit()),
    (READING, Claimed(NOW), ReadAnswer()),
    (CHECKING, Claimed(NOW), RecoverRun()),
    (JobState(attempt=2), BudgetFull(NOW, jitter=1.0), ReleaseRow(wait_s=3.0)),
    (STOPPING, RunPolled(NOW + 1, jitter=1.0, run=RUNNING), CancelRun(after_s=1.0)),
    (CALLING_TOOLS, NOTHING, SubmitOutputs(after_s=0.0)),
    (replace(POLLING, cancel_reason=CancelReason.USER), CancelRequested(NOW), PollRun(after_s=0.0)),
]
"""State, event and action: the state stays as it was."""


@pytest.mark.parametrize(("state", "event", "action"), GOES_ON)
def test_continuing_does_not_change_the_state(state: JobState, event: Event, action: Action) -> None:
    """A claim, a wait or a poll that shows nothing new leaves the state as it was."""
    decision = advance(state, event, P)

    assert (decision.action, decision.state) == (action, state)


REPEATED = [
    (JobState(), faulted(BUSY, RequestKind.THREAD), Wait(wait_s=0.5)),
    (SENT, NOTHING, RecoverRun(after_s=0.5)),
    (SENT, faulted(NO_REPLY, RequestKind.CREATE), RecoverRun(after_s=0.5)),
    (SENT, faulted(BUSY), RecoverRun(after_s=0.5)),
    (POLLING, faulted(BUSY), PollRun(after_s=0.5)),
    (CALLING_TOOLS, faulted(NO_REPLY, RequestKind.SUBMIT), RecoverSubmit(after_s=0.5)),
    (CALLING_TOOLS, faulted(ApiError(None, sent=False), RequestKind.SUBMIT), SubmitOutputs(after_s=0.5)),
    (CALLING_TOOLS, faulted(BUSY), RecoverSubmit(after_s=0.5)),
    (READING, faulted(BUSY), ReadAnswer(after_s=0.5)),
    (CHECKING, faulted(BUSY), RecoverRun(after_s=0.5)),
]


@pytest.mark.parametrize(("state", "event", "action"), REPEATED)
def test_a_failure_is_counted_and_nothing_else_changes(state: JobState, event: Event, action: Action) -> None:
    """The step is repeated after the policy's wait; tries and their begin are all that is new."""
    decision = advance(state, event, P)

    assert (decision.action, decision.state) == (action, replace(state, failures=1, failing_since=NOW))


FAILED = [
    (SENT, faulted(ApiError(400, code="invalid_prompt"), RequestKind.CREATE), "invalid_prompt"),
    (
        replace(SENT, shared_thread=True),
        faulted(ApiError(404, message="No thread found"), RequestKind.CREATE),
        "thread_gone",
    ),
    (
        replace(SENT, locked_since=0.0),
        faulted(ApiError(400, code="conversation_locked"), RequestKind.CREATE),
        "deadline",
    ),
    (replace(POLLING, failing_since=1.0, began_at=1.0), faulted(BUSY), "unreadable"),
]


@pytest.mark.parametrize(("state", "event", "error"), FAILED)
def test_a_row_that_fails_keeps_its_state(state: JobState, event: Event, error: str) -> None:
    """Its thread and run are in the row, however it ended."""
    decision = advance(state, event, P)
    finish = finish_of(decision)

    assert (finish.status, (finish.error or "").split(":")[0]) == (JobStatus.FAILED, error)
    assert (decision.state.thread_id, decision.state.run_id) == (state.thread_id, state.run_id)


def test_an_unknown_model_fails_the_row_that_overrides_it() -> None:
    """`--override model`: the row fails, the batch continues."""
    event = replace(
        faulted(ApiError(404, code="model_not_found"), RequestKind.CREATE), row_overrides=frozenset({"model"})
    )

    assert finish_of(advance(SENT, event, P)).error == "model_not_found"
    assert isinstance(advance(SENT, replace(event, row_overrides=frozenset()), P).action, PauseBatch)


def test_a_new_thread_is_created_after_a_wait() -> None:
    """The policy's wait, as for any error."""
    gone = faulted(ApiError(404, message="No thread found with id 'thread_1'."), RequestKind.CREATE)

    assert advance(SENT, gone, P).action == Wait(wait_s=0.5)


def test_a_row_is_not_released_for_a_404_of_its_run() -> None:
    """Its run exists: the next poll waits, in the slot."""
    assert advance(replace(POLLING, failures=9), faulted(RUN_NOT_FOUND), P).action == PollRun(after_s=30.0)


# ── what a poll shows ──


def test_a_poll_that_shows_nothing_new_is_not_stored() -> None:
    """A thousand polls would be a thousand writes for nothing."""
    decision = advance(POLLING, RunPolled(NOW, run=RUNNING), P)

    assert not decision.store
    assert decision.state == POLLING


def test_a_run_seen_for_the_first_time_is_stored_with_its_times() -> None:
    """Its id, when it began and how long it lives; the row's own state is otherwise new."""
    decision = advance(SENT, RunCreated(NOW, run=replace(RUNNING, created_at=77.0, expires_at=677.0)), P)

    assert decision.store
    state = decision.state
    assert (state.run_id, state.began_at, state.lifetime_s, state.tool_rounds) == ("run_1", NOW, 600.0, 0)
    later = advance(state, RunPolled(NOW + 1, run=RUNNING), P)
    assert (later.state.began_at, later.state.lifetime_s) == (NOW, 600.0)


def test_outputs_that_arrived_are_stored_as_done() -> None:
    """The same run continues: the outputs are deleted, the round is counted, a kill does not submit them twice."""
    decision = advance(CALLING_TOOLS, OutputsSubmitted(NOW, run=RUNNING), P)

    assert decision.store
    assert (decision.state.outputs, decision.state.tool_rounds, decision.state.phase) == (
        (),
        1,
        Phase.POLLING,
    )


def test_a_run_that_has_ended_is_stored_before_it_is_read() -> None:
    """With how it ended: the next worker reads it and does not poll."""
    decision = advance(POLLING, RunPolled(NOW, run=ENDED), P)

    assert (decision.action, decision.store) == (ReadAnswer(), True)
    assert decision.state == replace(POLLING, phase=Phase.READING, ended_run=ENDED)


@pytest.mark.parametrize(("rounds", "more"), [(1, True), (2, False)])
def test_rounds_of_functions_hold_their_limit(rounds: int, more: bool) -> None:
    """The model that asks once more is stopped, and the row says why."""
    policy = RetryPolicy(tool_rounds=2)
    decision = advance(replace(POLLING, tool_rounds=rounds), RunPolled(NOW, run=RUN_REQUIRING_ACTION), policy)

    assert isinstance(decision.action, CancelRun) is not more
    if not more:
        state = decision.state
        assert (state.cancel_reason, state.cancel_requested_at, state.run_id) == (
            CancelReason.ROW,
            NOW,
            "run_1",
        )
        assert state.cancel_error == "tool_rounds: the model asked for functions more than 2 times"
        assert decision.store


def test_a_run_beside_a_lookup_without_result_is_ignored() -> None:
    """Only a run that is said to be found is followed."""
    beside = LookupDone(NOW, lookup=RunLookup(LookupKind.NOTHING, run=Run("run_9", "in_progress")))

    assert advance(SENT, beside, P).state.run_id is None


# ── adopted answers ──


@pytest.mark.parametrize(
    "state", [replace(SENT, create_unconfirmed=True), CALLING_TOOLS], ids=["create", "submit"]
)
@pytest.mark.parametrize(
    ("run", "status"), [(None, JobStatus.COMPLETED), (Run("", "incomplete"), JobStatus.INCOMPLETE)]
)
def test_an_adopted_answer_is_what_its_items_show(
    state: JobState, run: Run | None, status: JobStatus
) -> None:
    """After a lost create or a lost submission: one that was cut short is incomplete; no id is made up."""
    adopted = advance(state, LookupDone(NOW, lookup=RunLookup(LookupKind.ANSWER, run=run)), P)
    assert (adopted.state.phase, adopted.state.run_id, adopted.state.ended_run) == (Phase.READING, None, run)
    assert (adopted.state.create_unconfirmed, adopted.store) == (False, True)

    end = advance(adopted.state, AnswerRead(NOW, answer=replace(ANSWER, run_id=None)), P)
    assert finish_of(end).status is status
    assert end.state.ended_run == (run or Run("", "completed"))


def test_an_answer_that_names_its_run_says_so() -> None:
    """Where only the answer tells the run, the row has its id."""
    end = advance(replace(READING, ended_run=None), AnswerRead(NOW, answer=ANSWER), P)

    assert end.state.ended_run == Run("run_1", "completed")

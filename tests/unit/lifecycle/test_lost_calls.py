"""Calls of chat completions: nothing can be looked up, so what is unknown is counted before it is sent again."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.model.models import BatchState, JobStatus, OnIncomplete, OnUnknown, Usage
from askmill.worker.execution.result_builder import attempts_of
from askmill.worker.execution.stored_state import STATE_JSON
from askmill.worker.lifecycle.api_types import Answer, ApiError, Run, ToolCall, ToolOutput
from askmill.worker.lifecycle.decision import (
    CallTools,
    CreateRun,
    CreateThread,
    Decision,
    Finish,
    ReleaseRow,
    Reserve,
    Wait,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import (
    AnswerRead,
    CancelRequested,
    Claimed,
    Event,
    RequestFailed,
    Reserved,
    RunCreated,
    ThreadCreated,
    ToolsCalled,
)
from askmill.worker.lifecycle.kept_answer import joined, with_kept_answer
from askmill.worker.lifecycle.on_batch_state import apply_batch_state
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState, Phase
from askmill.worker.lifecycle.transitions import advance
from tests.unit.lifecycle.states import NOW, finish_of

P = RetryPolicy(stateless=True)
SENT = JobState(phase=Phase.CREATE_SENT, thread_id="b-1", create_sent_at=NOW - 5)
LOST = ApiError(None, code="connection_lost", message="reset")
USAGE = Usage(10, 5)


def failed(error: ApiError, at: float = NOW) -> RequestFailed:
    return RequestFailed(at, jitter=1.0, error=error, request=RequestKind.CREATE)


# ── one event at a time ──


@pytest.mark.parametrize(
    "event",
    [
        failed(LOST),
        failed(ApiError(200, code="stream_ended", began=True)),
        failed(ApiError(200, code="bad_reply")),
        failed(ApiError(504, message="Gateway Timeout")),
        failed(ApiError(None, code="deadline", message="no whole answer within 9 s")),
        failed(ApiError(429, message="slow down", began=True)),
        Claimed(NOW),
    ],
)
def test_a_lost_answer_is_counted_before_another_attempt(event: Event) -> None:
    """Also of a worker that died: the next one finds the mark. The attempt is recorded with an unknown end."""
    decision = advance(SENT, event, P)

    assert decision.unknown_create
    assert decision.store
    assert (decision.state.phase, decision.state.attempt) == (Phase.NEW, 2)
    (attempt,) = decision.state.past_attempts
    assert (attempt.status, attempt.started_at, attempt.usage) == ("unknown", NOW - 5, Usage())


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (LOST, "unknown_outcome: connection_lost"),
        (ApiError(None, code="deadline", message="9 s"), "deadline: 9 s"),
    ],
)
def test_the_last_attempt_ends_the_row(error: ApiError, begins: str) -> None:
    """`deadline` where the time was over, else `unknown_outcome`; what had come of the answer is kept."""
    partial = AnswerRead(NOW, answer=Answer("half", 1))
    event = replace(failed(error), partial=partial)
    decision = advance(replace(SENT, attempt=3), event, P)
    _, finish = with_kept_answer(decision.state, finish_of(decision))

    assert (finish.status, finish.answer) == (JobStatus.FAILED, "half")
    assert (finish.error or "").startswith(begins)
    assert decision.unknown_create


@pytest.mark.parametrize("event", [failed(LOST), Claimed(NOW), failed(ApiError(None, code="deadline"))])
def test_on_unknown_stop_asks_nobody_again(event: Event) -> None:
    """The row ends at its first lost call, and `retry` asks."""
    finish = finish_of(advance(SENT, event, replace(P, on_unknown=OnUnknown.STOP)))

    assert finish.status is JobStatus.FAILED
    assert (finish.error or "").startswith("unknown_outcome")


@pytest.mark.parametrize(
    "error",
    [
        ApiError(None, sent=False, code="not_connected"),
        ApiError(429, message="slow down"),
        ApiError(503, message="busy"),
        ApiError(500, message="boom"),
        ApiError(502, message="Bad Gateway", page=True),
        ApiError(200, code="503", message="full"),
    ],
)
def test_an_answered_or_unsent_call_is_not_unknown(error: ApiError) -> None:
    """It is made again within the attempt."""
    decision = advance(SENT, failed(error), P)

    assert not decision.unknown_create
    assert (decision.state.phase, decision.state.attempt) == (Phase.NEW, 1)
    assert isinstance(decision.action, Wait | ReleaseRow)


def test_a_full_server_slows_everybody_down() -> None:
    """A 503 without a word does what a 429 does."""
    assert advance(SENT, failed(ApiError(503)), P).throttled_s is not None


def test_a_failing_server_costs_attempts_only_in_the_end() -> None:
    """With three attempts it fails longer than it takes an unreachable API to pause the batch (300 s)."""
    state, at, waited = SENT, NOW, 0.0
    for _ in range(500):
        decision = advance(
            state, RequestFailed(at, error=ApiError(500, message="x"), request=RequestKind.CREATE), P
        )
        if isinstance(decision.action, Finish):
            break
        assert isinstance(decision.action, Wait | ReleaseRow)
        waited += decision.action.wait_s
        state = replace(decision.state, phase=Phase.CREATE_SENT, create_sent_at=at)
    assert finish_of(decision).error == "server_error: x (HTTP 500)"
    assert 300 < waited < 900


def test_a_run_that_the_server_calls_failed_is_another_attempt() -> None:
    """OpenAI's `server_error`, as at the end of a run."""
    decision = advance(SENT, failed(ApiError(500, code="server_error", message="x")), P)
    assert (decision.state.attempt, decision.retry_reason, decision.unknown_create) == (
        2,
        "server_error",
        False,
    )


def test_a_paused_or_cancelled_batch_keeps_the_count() -> None:
    """The lost call is counted although no other is made."""
    lost = advance(SENT, failed(LOST), P)
    paused = apply_batch_state(lost, BatchState.PAUSED, Claimed(NOW), P)
    cancelled = apply_batch_state(lost, BatchState.CANCELLED, Claimed(NOW), P)

    assert (paused.unknown_create, paused.state.attempt) == (True, 2)
    assert cancelled.unknown_create
    assert finish_of(cancelled).status is JobStatus.CANCELLED
    closed = advance(SENT, CancelRequested(NOW), P)
    assert (finish_of(closed).status, closed.unknown_create) == (JobStatus.CANCELLED, False)


# ── whole histories ──

STEPS = st.lists(
    st.sampled_from(
        [
            "ok",
            "ok",
            "ok",
            "lost",
            "lost_partly",
            "500",
            "429",
            "unsent",
            "kill",
            "kill_after",
            "gateway",
        ]
    ),
    max_size=14,
)
OUTCOMES = st.lists(st.sampled_from(["calls", "length", "stop"]), min_size=1, max_size=6)


@dataclass
class World:
    """A server that forgets every call, and one row. `carried_out`: calls with what they wrote."""

    steps: list[str]
    outcomes: list[str]
    policy: RetryPolicy
    state: JobState = field(default_factory=JobState)
    stored: bytes = b""
    at: float = NOW
    carried_out: int = 0
    arrived: int = 0
    unknown: int = 0
    seen: list[int] = field(default_factory=list)
    """How many messages each call had behind its question."""
    finish: Finish | None = None
    runs: int = 0

    def play(self) -> "World":
        """Follow the row to its end."""
        self.stored = STATE_JSON.dump_json(self.state, exclude_defaults=True)
        event: Event = Claimed(self.at)
        for _ in range(2000):
            decision = advance(self.state, event, self.policy)
            self.unknown += decision.unknown_create
            if isinstance(decision.action, Finish):
                self.state, self.finish = with_kept_answer(decision.state, decision.action)
                self.runs = len(attempts_of(self.state, self.finish, event))
                return self
            if decision.store or isinstance(decision.action, ReleaseRow):
                self.stored = STATE_JSON.dump_json(decision.state, exclude_defaults=True)
            self.state = decision.state
            event = self._act(decision)
        raise AssertionError("the row never ends")

    def _next_worker(self) -> Event:
        self.state = STATE_JSON.validate_json(self.stored)
        self.at += 20
        return Claimed(self.at)

    def _act(self, decision: Decision) -> Event:
        self.at += 1
        match decision.action:
            case Reserve():
                return Reserved(self.at)
            case CreateThread():
                return ThreadCreated(self.at, thread_id="b-1")
            case CallTools(calls=calls):
                return ToolsCalled(self.at, outputs=tuple(ToolOutput(call.id, "42") for call in calls))
            case CreateRun():
                return self._call(decision.state)
            case Wait() | ReleaseRow():
                return Claimed(self.at)
        raise AssertionError(decision.action)

    def _call(self, state: JobState) -> Event:
        step = self.steps.pop(0) if self.steps else "ok"
        refusals = {"500": ApiError(500), "429": ApiError(429), "unsent": ApiError(None, sent=False)}
        if step in refusals:
            return RequestFailed(self.at, error=refusals[step], request=RequestKind.CREATE)
        if step == "kill":  # before the send
            return self._next_worker()
        self.carried_out += 1
        self.seen.append(len(state.messages))
        if step == "kill_after":  # also before the reply is stored
            return self._next_worker()
        if step in {"lost", "lost_partly", "gateway"}:
            errors = {
                "lost": LOST,
                "gateway": ApiError(504),
                "lost_partly": ApiError(200, code="stream_ended", began=True),
            }
            return RequestFailed(self.at, error=errors[step], request=RequestKind.CREATE)
        self.arrived += 1
        return self._reply(state)

    def _reply(self, state: JobState) -> Event:
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        number = self.arrived
        message = {"role": "assistant", "content": f"part {number}. "}
        run = Run(
            f"c{number}", "completed", usage=USAGE, message=message, answer=Answer(f"part {number}. ", 1)
        )
        if outcome == "calls" and state.tool_rounds < 4:
            call = ToolCall(f"call_{number}", "add", "{}")
            return RunCreated(self.at, run=replace(run, status="requires_action", tool_calls=(call,)))
        if outcome == "length":
            run = replace(run, status="incomplete", incomplete_reason="max_completion_tokens")
        assert run.answer is not None
        return RunCreated(self.at, run=run, answer=AnswerRead(self.at, answer=joined(state, run.answer)))


@given(STEPS, OUTCOMES, st.sampled_from(OnIncomplete), st.sampled_from(OnUnknown))
def test_what_was_carried_out_arrived_or_is_counted(
    steps: list[str], outcomes: list[str], on_incomplete: OnIncomplete, on_unknown: OnUnknown
) -> None:
    """Through errors, kills and rounds of functions: every row ends; no call is neither answered nor counted; an
    answer that arrived is behind every later call; `stop` makes no call after an unknown one."""
    policy = replace(P, on_incomplete=on_incomplete, on_unknown=on_unknown, completion_limit=100)
    world = World(list(steps), list(outcomes), policy).play()

    assert world.finish is not None
    killed_unsent = steps.count("kill")
    assert world.arrived <= world.carried_out <= world.arrived + world.unknown
    assert world.unknown <= world.carried_out - world.arrived + killed_unsent
    assert world.seen == sorted(world.seen), "a round of functions was bought again"
    if on_unknown is OnUnknown.STOP:
        assert world.unknown <= 1
    assert world.runs <= policy.attempts
    if world.finish.status is JobStatus.COMPLETED:
        text = world.finish.answer
        assert text.endswith(f"part {world.arrived}. ")

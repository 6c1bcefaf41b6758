"""From a claimed row to what is asked: first state, policy, the question with the row's own settings, money."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.model.models import (
    Attempt,
    BatchState,
    InputSpec,
    JobStatus,
    Limits,
    OnIncomplete,
    Result,
    Step,
    Usage,
)
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.pricing import Price, Prices
from askmill.jobs.store.records import Batch, BatchUpdate, Claim, RowDetail, RowView
from askmill.worker.execution.request_builder import (
    GO_ON,
    KNOWN,
    RUNS_TOLD,
    assumed_nano,
    belongs_to,
    doubled,
    initial_state,
    overrides_of,
    policy_for,
    previous_turn_of,
    priced,
    profile_of,
    run_request_for,
    schema_error,
    spent_nano,
    worst_case_nano,
)
from askmill.worker.lifecycle.state import JobState, Phase
from tests.unit.lifecycle.lifecycle_moments import ACTING, FOLLOWING, READING, SAID, SENT

COLUMNS = (
    "question",
    "who",
    "model",
    "max_completion_tokens",
    "temperature",
    "image",
    "file",
    "instructions",
)
OVERRIDES = COLUMNS[2:]
DEAD = Attempt(number=1, thread_id="thread_0", run_id="run_0", status="failed")
STEP = Step(run_id="run_0", attempt=1, type="message", status="completed")
BEFORE = Result(1, JobStatus.FAILED, attempts=(DEAD,), steps=(STEP,))
PRICES = Prices({"gpt-x": Price(prompt_usd=1.0, completion_usd=10.0)})


def batch_of(profile: Profile | None = None, **changed: Any) -> Batch:
    spec = InputSpec(COLUMNS, "question", conversation_column="who", overrides=OVERRIDES)
    known: dict[str, Any] = {
        "id": "b_1",
        "name": "",
        "file": "q.csv",
        "rows": 9,
        "spec": spec,
        "profile": profile or Profile(instructions="Be brief.", model="gpt-p"),
        "resources": Resources(),
        "api": "assistants",
        "base_url": "",
        "model": "gpt-x",
        "limits": Limits(),
        "identity": "",
        "options": {},
        "state": BatchState.RUNNING,
        "paused_reason": None,
        "accepted": True,
        "submitted_at_ms": 0,
        "started_at_ms": None,
        "finished_at_ms": None,
    }
    return Batch(**{**known, **changed})


def claim_of(*cells: str, **changed: Any) -> Claim:
    known: dict[str, Any] = {
        "batch": "b_1",
        "row": 4,
        "worker": "w",
        "fence": "f",
        "cells": list(cells or ("What is 2 + 2?",)),
        "state": None,
        "previous_turn": None,
        "kills": 0,
        "previous": None,
        "now_ms": 0,
        "update": BatchUpdate(BatchState.RUNNING, Limits()),
    }
    return Claim(**{**known, **changed})


# ── the first state ──


def test_a_new_row_starts_from_nothing() -> None:
    """Its first attempt, on a thread yet to be made, all its own."""
    assert initial_state(claim_of(), batch_of()) == JobState()


def test_a_row_left_by_another_worker_goes_on_from_its_state() -> None:
    """Whatever else the claim says."""
    claim = claim_of(state=KNOWN.dump_json(FOLLOWING), previous_turn=b'{"thread_id": "t"}', previous=BEFORE)

    assert initial_state(claim, batch_of()) == FOLLOWING


@pytest.mark.parametrize(("cell", "shared"), [("anna", True), ("  ", False)])
def test_a_row_with_a_conversation_shares_its_thread(cell: str, shared: bool) -> None:
    """A blank cell is a conversation of its own."""
    assert initial_state(claim_of("q", cell), batch_of()).shared_thread is shared


def test_a_later_turn_goes_on_behind_the_last_one() -> None:
    """On its thread, behind its last message; the question goes along with the run."""
    known = initial_state(
        claim_of("q", "anna", previous_turn=b'{"thread_id": "t", "anchor": "m"}'), batch_of()
    )

    assert known == JobState(shared_thread=True, thread_id="t", last_message_id_before="m", follow_up=True)


@pytest.mark.parametrize("seed", [None, b'{"thread_id": "t", "anchor": null}'])
def test_a_retried_row_counts_on_and_clears_a_shared_thread(seed: bytes | None) -> None:
    """Its limit counts from here, the ledger goes on; only on a thread that stood is there a turn to delete."""
    known = initial_state(claim_of("q", "anna", previous_turn=seed, previous=BEFORE), batch_of())

    assert (known.attempt, known.attempts_before_retry, known.past_attempts, known.steps) == (
        2,
        1,
        (DEAD,),
        (STEP,),
    )
    assert known.delete_failed_turn is (seed is not None)
    assert not initial_state(
        claim_of("q", "", previous_turn=seed, previous=BEFORE), batch_of()
    ).delete_failed_turn


def test_a_retried_row_that_never_had_a_run_starts_anew() -> None:
    """There is nothing to count on from."""
    assert initial_state(claim_of(previous=Result(1, JobStatus.CANCELLED)), batch_of()) == JobState()


@pytest.mark.parametrize(
    ("known", "seed"),
    [
        (
            replace(READING, shared_thread=True, answer=replace(SAID, last_message_id="m")),
            ("thread_1", "m", ["run_1"]),
        ),
        (replace(READING, shared_thread=True, run_id=None), ("thread_1", None, [])),
        (JobState(shared_thread=True), None),
        (READING, None),
    ],
)
def test_a_turn_leaves_the_next_its_thread_last_message_and_runs(known: JobState, seed: object) -> None:
    """A row by itself leaves nothing."""
    left = previous_turn_of(known)

    assert (left and tuple(orjson.loads(left).values())) == seed


def test_a_turn_knows_the_last_runs_before_it() -> None:
    """Where nothing names a run, those are not taken for its own; a long conversation's old ones are left out."""
    known = replace(
        READING, shared_thread=True, past_attempts=(replace(DEAD, run_id="run_0"),), earlier_runs=("run_e",)
    )
    later = initial_state(claim_of("q", "anna", previous_turn=previous_turn_of(known)), batch_of())
    assert later.earlier_runs == ("run_e", "run_0", "run_1")
    assert later.known_run_ids == {"run_e", "run_0", "run_1"}

    old = replace(known, earlier_runs=tuple(f"run_{n}" for n in range(10, 99)))
    last = initial_state(claim_of("q", "anna", previous_turn=previous_turn_of(old)), batch_of()).earlier_runs
    assert (len(last), last[-3:]) == (RUNS_TOLD, ("run_98", "run_0", "run_1"))


@given(
    st.sampled_from(
        [JobState(), SENT, FOLLOWING, ACTING, READING, replace(READING, past_attempts=(DEAD,), steps=(STEP,))]
    )
)
def test_what_is_known_survives_being_stored(known: JobState) -> None:
    """Short, too: what is as at the start is left out."""
    assert KNOWN.validate_json(KNOWN.dump_json(known, exclude_defaults=True)) == known


# ── whose run it is ──


@pytest.mark.parametrize(
    ("known", "attempt", "ours"),
    [
        (replace(FOLLOWING, run_id="run_9"), 1, True),
        (replace(FOLLOWING, past_attempts=(replace(DEAD, run_id="run_9"),)), 1, True),
        (SENT, 1, True),
        (SENT, 2, False),
        (FOLLOWING, 1, False),
        (None, 1, False),
    ],
)
def test_a_late_run_is_the_rows_while_it_follows_or_will_find_it(
    known: JobState | None, attempt: int, ours: bool
) -> None:
    """Any other is surplus, and cancelled."""
    state = None if known is None else KNOWN.dump_json(known)
    detail = RowDetail(RowView(4, [], JobStatus.RUNNING, None), state, None, None, 0)

    assert belongs_to(detail, "run_9", attempt) is ours


# ── what the row chose itself ──


def test_a_row_asks_with_what_it_chose_itself() -> None:
    """Blank cells leave the profile's; numbers are numbers."""
    claim = claim_of("q", "", " gpt-y ", "64", "0.5", "", " ", "In French.")
    assert overrides_of(batch_of(), claim) == {
        "model": "gpt-y",
        "max_completion_tokens": "64",
        "temperature": "0.5",
        "instructions": "In French.",
    }
    profile = profile_of(batch_of(), claim)
    assert (profile.model, profile.instructions) == ("gpt-y", "In French.")
    assert (profile.max_completion_tokens, profile.temperature) == (64, 0.5)

    plain = profile_of(batch_of(), claim_of())
    assert (plain.model, plain.instructions, plain.temperature) == ("gpt-x", "Be brief.", None)


def test_a_stored_assistant_keeps_its_model() -> None:
    """The batch's is not put over it."""
    assert profile_of(batch_of(Profile(assistant_id="asst_1")), claim_of()).model is None


def test_only_the_limits_that_were_raised_are_doubled() -> None:
    """From what the profile, or the row, set."""
    profile = Profile(max_completion_tokens=300, max_prompt_tokens=400)

    assert doubled(profile, ()) is profile
    raised = doubled(profile, ("max_completion_tokens",))
    assert (raised.max_completion_tokens, raised.max_prompt_tokens) == (600, 400)


def test_an_attempt_is_asked_whole() -> None:
    """Question, files, place in its conversation, and the raised limit."""
    claim = claim_of("What?", "", "", "50", "", "a.png", "b.pdf")
    known = JobState(
        attempt=2, follow_up=True, last_message_id_before="m", doubled_limits=("max_completion_tokens",)
    )
    ask = run_request_for(batch_of(), claim, known, "asst_1")

    assert (ask.batch, ask.row, ask.attempt, ask.question) == ("b_1", 4, 2, "What?")
    assert (ask.image, ask.file, ask.assistant_id) == ("a.png", "b.pdf", "asst_1")
    assert (ask.follow_up, ask.after) == (True, "m")
    assert ask.max_completion_tokens == ask.profile.max_completion_tokens == 100


def test_going_on_asks_for_the_rest_only() -> None:
    """The question and its files are on the thread already."""
    ask = run_request_for(
        batch_of(), claim_of("What?", "", "", "", "", "a.png", "b.pdf"), JobState(continuing=True), None
    )

    assert (ask.question, ask.image, ask.file) == (GO_ON, None, None)


def test_the_policy_is_the_batchs_as_it_is_now_and_the_rows_limits() -> None:
    """Changed limits hold for rows under way."""
    limits = Limits(attempts=7, deadline_s=9.0, on_incomplete=OnIncomplete.CONTINUE)
    policy = policy_for(batch_of(Profile(max_prompt_tokens=300)), limits, claim_of("q", "", "", "64"))

    assert (policy.attempts, policy.deadline_s, policy.on_incomplete) == (7, 9.0, OnIncomplete.CONTINUE)
    assert (policy.completion_limit, policy.prompt_limit) == (64, 300)


# ── structured answers ──


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
    """Said where and how; the schema may come bare or as the API wraps it."""
    properties = {"a": {"type": "array", "items": {"type": "integer"}}}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    given_ = {"name": "s", "schema": schema} if wrapped else schema

    assert schema_error(Profile(response_schema=given_), text) == missed
    assert schema_error(Profile(), text) is None


# ── money ──


LIMITED = Profile(max_prompt_tokens=1000, max_completion_tokens=500)
ONE_RUN_NANO = 6_000_000
"""1,000 tokens at 1 USD and 500 at 10 USD a million."""


def test_the_worst_case_is_exact_where_limits_bound_it() -> None:
    """In billionths of a dollar; raised limits count as raised."""
    assert worst_case_nano(batch_of(LIMITED), claim_of(), JobState(), PRICES) == ONE_RUN_NANO
    raised = JobState(doubled_limits=("max_completion_tokens",))
    assert worst_case_nano(batch_of(LIMITED), claim_of(), raised, PRICES) == 11_000_000


def test_an_unknown_price_bounds_nothing() -> None:
    """The row's own model counts, where it names one."""
    unheard = claim_of("q", "", "gpt-unheard-of")
    assert worst_case_nano(batch_of(LIMITED), unheard, JobState(), PRICES) is None
    assert assumed_nano(batch_of(LIMITED), unheard, JobState(), (DEAD,), PRICES) == 0


def test_attempts_that_the_batch_has_not_counted_yet_are_spent() -> None:
    """At their cost where it is known, else at the worst; those of before a retry have been counted."""
    cheap = replace(DEAD, usage=Usage(1000, 100))
    known = JobState(attempt=4, past_attempts=(DEAD, cheap, DEAD))
    claim = claim_of(previous=BEFORE)

    assert spent_nano(batch_of(LIMITED), claim, known, PRICES) == 2_000_000 + ONE_RUN_NANO
    assert spent_nano(batch_of(LIMITED), claim, replace(known, past_attempts=(DEAD,)), PRICES) is None


def test_a_run_of_unknown_cost_is_assumed_at_its_worst() -> None:
    """Each run that was made and told no tokens; known costs are not touched."""
    told = replace(DEAD, cost_usd=0.5)

    assert assumed_nano(batch_of(LIMITED), claim_of(), JobState(), (told,), PRICES) == 0
    assert (
        assumed_nano(batch_of(LIMITED), claim_of(), JobState(), (DEAD, told, DEAD), PRICES)
        == 2 * ONE_RUN_NANO
    )


def test_without_limits_the_worst_case_is_an_estimate_from_the_question() -> None:
    """Twice its tokens and some for what the API adds; a thousand for the answer."""
    short = worst_case_nano(batch_of(Profile()), claim_of("a"), JobState(), PRICES)
    long = worst_case_nano(batch_of(Profile()), claim_of("a" * 40_000), JobState(), PRICES)

    assert short is not None
    assert long is not None
    assert 10_000_000 < short < 10_300_000
    assert 19_000_000 < long - short < 21_000_000


def test_attempts_are_priced_once_and_by_the_model_that_ran() -> None:
    """A cost that is known stays; a model from the API that nobody has a price for costs what was asked for."""
    told, open_ = replace(DEAD, cost_usd=9.0), replace(DEAD, usage=Usage(1_000_000, 0))
    profile = Profile(model="gpt-x")

    assert [one.cost_usd for one in priced((told, open_, DEAD), None, profile, PRICES)] == [9.0, 1.0, None]
    assert priced((open_,), "gpt-x-2025-08-07", profile, PRICES)[0].cost_usd == 1.0
    dear = Prices({**PRICES.own, "gpt-y": Price(prompt_usd=3.0, completion_usd=3.0)})
    assert priced((open_,), "gpt-y", profile, dear)[0].cost_usd == 3.0
    unheard = profile.model_copy(update={"model": "gpt-unheard-of"})
    assert priced((open_,), None, unheard, PRICES)[0].cost_usd is None
    waiting = profile.model_copy(update={"completion_window": "2h"})
    assert priced((open_,), None, waiting, PRICES)[0].cost_usd == pytest.approx(0.7)


def test_a_phase_never_seen_is_refused_and_not_guessed() -> None:
    """A state of another version of askmill is a fault, not a fresh start that would pay twice."""
    with pytest.raises(ValueError, match="phase"):
        initial_state(claim_of(state=b'{"phase": "dreaming"}'), batch_of())
    assert {phase.value for phase in Phase} == {"new", "sent", "follow", "act", "read", "check"}

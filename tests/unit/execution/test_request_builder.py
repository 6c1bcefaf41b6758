"""From a claimed row to the request: the row's overrides, its profile, policy and question."""

from askmill.jobs.model.models import Limits, OnIncomplete
from askmill.jobs.model.profile import Profile
from askmill.worker.execution.request_builder import (
    CONTINUE_PROMPT,
    attempt_profile,
    build_request,
    row_overrides,
    row_policy,
    row_profile,
)
from askmill.worker.lifecycle.state import JobState
from tests.unit.execution.rows import batch_of, claim_of


def test_a_row_overrides_the_profile() -> None:
    """Blank cells keep the profile's settings; numbers are numbers."""
    claim = claim_of("q", "", " gpt-y ", "64", "0.5", "", " ", "In French.")
    assert row_overrides(batch_of(), claim) == {
        "model": "gpt-y",
        "max_completion_tokens": "64",
        "temperature": "0.5",
        "instructions": "In French.",
    }
    profile = row_profile(batch_of(), claim)
    assert (profile.model, profile.instructions) == ("gpt-y", "In French.")
    assert (profile.max_completion_tokens, profile.temperature) == (64, 0.5)

    plain = row_profile(batch_of(), claim_of())
    assert (plain.model, plain.instructions, plain.temperature) == ("gpt-x", "Be brief.", None)


def test_a_stored_assistant_keeps_its_model() -> None:
    """The batch's model does not override it."""
    assert row_profile(batch_of(Profile(assistant_id="asst_1")), claim_of()).model is None


def test_only_the_raised_limits_are_doubled() -> None:
    """From the profile's value, or the row's."""
    batch = batch_of(Profile(max_completion_tokens=300, max_prompt_tokens=400))
    plain = attempt_profile(batch, claim_of(), JobState())
    assert (plain.max_completion_tokens, plain.max_prompt_tokens) == (300, 400)

    raised = attempt_profile(batch, claim_of(), JobState(doubled_limits=("max_completion_tokens",)))
    assert (raised.max_completion_tokens, raised.max_prompt_tokens) == (600, 400)


def test_a_request_has_everything_of_the_attempt() -> None:
    """Question, files, place in its conversation, and the raised limit."""
    claim = claim_of("What?", "", "", "50", "", "a.png", "b.pdf")
    state = JobState(
        attempt=2, follow_up=True, last_message_id_before="m", doubled_limits=("max_completion_tokens",)
    )
    request = build_request(batch_of(), claim, state, "asst_1")

    assert (request.batch, request.row, request.attempt, request.question) == ("b_1", 4, 2, "What?")
    assert (request.image, request.file, request.assistant_id) == ("a.png", "b.pdf", "asst_1")
    assert (request.follow_up, request.after_message_id) == (True, "m")
    assert request.max_completion_tokens == request.profile.max_completion_tokens == 100


def test_a_continued_answer_asks_for_the_rest_only() -> None:
    """The question and its files are on the thread already."""
    claim = claim_of("What?", "", "", "", "", "a.png", "b.pdf")
    request = build_request(batch_of(), claim, JobState(continuing=True), None)

    assert (request.question, request.image, request.file) == (CONTINUE_PROMPT, None, None)


def test_the_policy_has_the_batchs_current_limits_and_the_rows_token_limits() -> None:
    """Changed limits apply to rows in progress."""
    limits = Limits(attempts=7, deadline_s=9.0, on_incomplete=OnIncomplete.CONTINUE)
    policy = row_policy(batch_of(Profile(max_prompt_tokens=300)), limits, claim_of("q", "", "", "64"))

    assert (policy.attempts, policy.deadline_s, policy.on_incomplete) == (7, 9.0, OnIncomplete.CONTINUE)
    assert (policy.completion_limit, policy.prompt_limit) == (64, 300)

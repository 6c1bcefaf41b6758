"""`[emulate: …]` in a question: what it says, what is left of the question, and how a slip is reported."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.emulator.simulation.directives import DirectiveError, Outcome, parse_directives, parse_outcome


def test_one_outcome_an_attempt_in_order() -> None:
    """Outcomes are read in order, with their arguments."""
    outcomes, question = parse_directives("[emulate: expired, failed(server_error), completed] What is 2+2?")
    assert [(o.name, o.arg) for o in outcomes] == [
        ("expired", ""),
        ("failed", "server_error"),
        ("completed", ""),
    ]
    assert question == "What is 2+2?"


def test_the_direction_may_stand_anywhere() -> None:
    """Only the direction is taken out of the question."""
    assert parse_directives("What is 2+2? [emulate: stuck]")[1] == "What is 2+2?"
    assert parse_directives("No direction [here]") == ((), "No direction [here]")


def test_after_holds_for_its_outcome_or_for_all() -> None:
    """`after=` behind an outcome is that one's; by itself it is everybody's who has none."""
    (first, second), _ = parse_directives("[emulate: expired after=1.5, completed, after=7] q")
    assert (first.after_s, second.after_s) == (1.5, 7.0)
    (only,), _ = parse_directives("[emulate: after=3]")
    assert only == Outcome(after_s=3.0)


def test_rounds_are_of_outcomes_that_call_functions() -> None:
    """`rounds=` behind `requires_action(…)` is how often it asks; nothing else takes it."""
    (outcome, last), _ = parse_directives("[emulate: requires_action(f, {}) rounds=3 after=2, completed] q")
    assert (outcome.rounds, outcome.after_s, last.rounds) == (3, 2.0, 1)
    with pytest.raises(DirectiveError, match="rounds=2"):
        parse_directives("[emulate: completed rounds=2] q")


arguments = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), arguments), min_size=1, max_size=3))
def test_arguments_of_functions_are_any_json(calls: list[tuple[str, object]]) -> None:
    """Brackets, commas and quotes inside JSON do not end the direction, and the JSON arrives unchanged."""
    written = ", ".join(f"{name}, {json.dumps(value)}" for name, value in calls)
    (outcome,), question = parse_directives(f"[emulate: requires_action({written})] rest")
    assert [(name, json.loads(text)) for name, text in outcome.calls] == calls
    assert question == "rest"


def test_spaces_do_not_matter() -> None:
    """Blanks around any word or bracket are passed over."""
    (outcome, last), question = parse_directives(
        "[emulate:requires_action( f , {}  , g, [1] ) ,stuck  after=2 ]q"
    )
    assert outcome.calls == (("f", "{}"), ("g", "[1]"))
    assert (last.name, last.after_s, question) == ("stuck", 2.0, "q")


@pytest.mark.parametrize(
    ("direction", "named"),
    [
        ("[emulate: explode]", "explode"),
        ("[emulate: failed]", "failed"),
        ("[emulate: incomplete(boredom)]", "boredom"),
        ("[emulate: completed(sideways)]", "sideways"),
        ("[emulate: expired", "emulate"),
        ("[emulate: requires_action(f, {oops})]", "not JSON"),
        ("[emulate: requires_action({})]", "requires_action"),
        ("[emulate: stuck completed]", "completed"),
    ],
)
def test_a_slip_is_named(direction: str, named: str) -> None:
    """A direction that cannot be played says which word is at fault; it is never passed over."""
    with pytest.raises(DirectiveError, match=named):
        parse_directives(direction)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text of a user makes the reader fail otherwise than by its own error."""
    try:
        outcomes, _ = parse_directives(f"[emulate: {text}")
    except DirectiveError:
        return
    assert outcomes


def test_a_dead_run_may_leave_half_a_message() -> None:
    """`partial` is an argument of the outcomes that die."""
    assert parse_outcome("expired(partial)").partial
    assert parse_outcome("failed(server_error, partial)").partial
    assert not parse_outcome("failed(server_error)").partial
    with pytest.raises(DirectiveError):
        parse_outcome("expired, completed")


def test_a_failure_may_say_its_own_words() -> None:
    """`failed(CODE, "MESSAGE")`, with brackets and commas in the words; `partial` stands behind them."""
    direction = "failed(server_error, \"The model 'x' (or ]) does not exist, sorry\", partial) after=2"
    (outcome,), rest = parse_directives(f"[emulate: {direction}] What?")

    assert (outcome.name, outcome.partial, outcome.after_s, rest) == ("failed", True, 2.0, "What?")
    assert outcome.message == "The model 'x' (or ]) does not exist, sorry"
    for wrong in ('failed(a, "b)', 'failed(a, "b" c)'):
        with pytest.raises(DirectiveError, match="failed"):
            parse_outcome(wrong)

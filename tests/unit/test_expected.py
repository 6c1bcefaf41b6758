"""Expected answers: each way to compare, the field of a schema, and the interval of the accuracy."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.model.answer_fields import fields_of
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.expected import Accuracy, Expectation, Match, is_correct
from askmill.jobs.model.models import InputSpec
from askmill.jobs.model.schema_fields import parse_fields
from askmill.jobs.results.expected import judge_of


@pytest.mark.parametrize(
    ("match", "expected", "answer", "verdict"),
    [
        ("exact", " yes\n", "yes", True),
        ("exact", "yes", "Yes", False),
        ("number", "#### 18", "So she makes 9 * 2 = $18 a day.", True),
        ("number", "1,234.50", "That is 1234.5", True),
        ("number", "-3", "x = \u22123", True),
        ("number", "3", "5-3", True),
        ("number", "0.3", "0.1 + 0.2 = 0.30000000000000004", True),
        ("number", "1000", "1e3", True),
        ("number", "18", "eighteen", False),
        ("number", "18", "17.", False),
        ("number", "none", "18", None),
        ("contains", "New  York", "in new york.", True),
        ("contains", "Paris", "London", False),
        ("regex", r"^\d{4}$", "2024", True),
        ("regex", "^a", "b", False),
        ("regex", "(", "b", None),
        ("json", '{"a": 1, "b": [2]}', '```json\n{"b": [2], "a": 1.0}\n```', True),
        ("json", '{"a": 1}', '{"a": 2}', False),
        ("json", '{"a": 1}', "no JSON", False),
        ("json", "no JSON", "1", None),
    ],
)
def test_how_answers_are_compared(match: str, expected: str, answer: str, verdict: bool | None) -> None:
    """Each `--match`, and what an expected text that cannot be used so gives: nothing."""
    assert is_correct(Match(match), expected, answer) is verdict


@pytest.mark.parametrize(
    ("correct", "judged", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (1, 1, 0.2065, 1.0)],
)
def test_the_interval_is_wilsons(correct: int, judged: int, low: float, high: float) -> None:
    """81 of 263 is the example of Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    assert Accuracy(judged, correct).interval == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_the_interval_holds_the_share(judged: int, correct: int) -> None:
    """Whatever the numbers, 0 ≤ low ≤ share ≤ high ≤ 1."""
    accuracy = Accuracy(judged, min(judged, correct))
    low, high = accuracy.interval
    assert accuracy.share is not None
    assert 0 <= low <= accuracy.share + 1e-12
    assert accuracy.share - 1e-12 <= high <= 1
    assert Accuracy(0, 0).share is None


def test_accuracy_in_words_and_as_json() -> None:
    """As `status` prints it, and `status --json`."""
    accuracy = Accuracy(1200, 1117)
    assert accuracy.text() == "accuracy 93.1 % (95 %: 91.5 to 94.4 %), 1,200 judged"
    assert accuracy.to_json() == {
        "judged": 1200,
        "correct": 1117,
        "share": 1117 / 1200,
        "low": accuracy.interval[0],
        "high": accuracy.interval[1],
    }
    nothing = Accuracy(0, 0)
    assert (nothing.share_text(), nothing.to_json()["share"]) == ("unknown", None)
    assert nothing.text() == "accuracy unknown: no completed row has an expected answer"


SPEC = InputSpec(("question", "label"), "question")
DONE: dict[str, Any] = {"answer": '{"label": "a", "score": 2}', "error": None}


def test_a_field_of_the_columns_name_is_compared() -> None:
    """With a response schema `label` is compared with the field `label`; else the only field, or the answer."""
    both = judge_of(
        Expectation("label"), SPEC, fields_of(parse_fields("label: a|b, score: int")), stored=True
    )
    only = judge_of(Expectation("label"), SPEC, fields_of(parse_fields("score: int")), stored=True)
    answer = judge_of(Expectation("label"), SPEC, None, stored=True)
    assert both
    assert only
    assert answer
    assert [both(["q", cell], "completed", DONE) for cell in ("a", "b", "", None)] == [
        True,
        False,
        None,
        None,
    ]
    assert both(["q", "a"], "failed", DONE) is None
    assert both(["q"], "completed", DONE) is None
    assert both.accuracy == Accuracy(2, 1)
    assert only(["q", 2], "completed", DONE) is True
    assert answer(["q", DONE["answer"]], "completed", DONE) is True


def test_a_function_of_the_user_compares_only_where_the_command_names_it(tmp_path, monkeypatch) -> None:
    """A stored `MODULE.py:FUNCTION` is never imported: whoever writes into the Redis would run code here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judges.py").write_text(
        "def near(expected, answer):\n    return abs(int(expected) - int(answer)) < 2\n"
    )
    near = Expectation("label", "judges.py:near")
    judge = judge_of(near, SPEC, None, stored=False)
    assert judge is not None
    assert judge(["q", "5"], "completed", {"answer": "6"}) is True
    assert judge_of(near, SPEC, None, stored=True) is None
    with pytest.raises(UsageError, match=r"judges\.py:near failed with ValueError"):
        judge(["q", "five"], "completed", {"answer": "6"})
    with pytest.raises(UsageError, match="has no function far"):
        judge_of(Expectation("label", "judges.py:far"), SPEC, None, stored=False)


@pytest.mark.parametrize(("expectation", "words"), [(Expectation("labels"), "did you mean 'label'"), (Expectation("label", "fuzzy"), "choose exact, number, contains, regex, json")])  # fmt: skip
def test_a_wrong_column_or_match_is_refused(expectation: Expectation, words: str) -> None:
    """Exit 2, before anything is asked."""
    with pytest.raises(UsageError, match=words):
        judge_of(expectation, SPEC, None, stored=False)

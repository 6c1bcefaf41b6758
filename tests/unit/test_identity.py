"""What makes a batch the same work: what is asked of whom, not how it was said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from askmill.jobs.intake import IntakeOptions, check
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.profile import Profile
from askmill.jobs.submit.submit import SubmitRequest, identity_of

TARGET = Target("assistants", "http://api", SecretStr("k"), offline=False)


def _identity(file: Path, **options: Any) -> str:
    asked = IntakeOptions(**options)
    with check(str(file), asked) as intake:
        return identity_of(intake, SubmitRequest(asked, Profile(), TARGET))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "sums.csv"
    made.write_text("question,topic\nWhat is 1 + 1?,sums\nWhat is 2 + 2?,sums\n", encoding="utf-8")
    return made


@pytest.mark.parametrize(
    "options",
    [
        {"question_column": "question"},
        {"delimiter": ","},
        {"delimiter": "comma"},
        {"encoding": "utf-8"},
        {"encoding": "UTF8"},
        {"skip_bad_rows": True},
    ],
    ids=str,
)
def test_an_option_that_says_what_is_so_anyway_pays_nothing_twice(
    file: Path, options: dict[str, Any]
) -> None:
    """The default said aloud, or leave to skip bad rows where none is: the same work."""
    assert _identity(file, **options) == _identity(file)


@pytest.mark.parametrize(
    "options",
    [
        {"question_column": "topic"},
        {"template": "{question}"},
        {"conversation_column": "topic"},
        {"encoding": "cp1251"},
        {"limit": 1},
    ],
    ids=str,
)
def test_an_option_that_asks_something_else_is_other_work(file: Path, options: dict[str, Any]) -> None:
    """Other questions, other threads, other letters, fewer rows."""
    assert _identity(file, **options) != _identity(file)


def test_rows_that_were_not_asked_are_other_work(file: Path) -> None:
    """What was judged bad then and is good now is asked."""
    with check(str(file)) as intake:
        order = SubmitRequest(IntakeOptions(), Profile(), TARGET)
        assert identity_of(replace(intake, rejected=1), order) != identity_of(intake, order)


def test_another_account_is_other_work(file: Path) -> None:
    """Organisation and project are who pays; without them a batch is named as it always was."""
    with check(str(file)) as intake:
        accounts: list[dict[str, str]] = [{}, {"organization": "o"}, {"project": "o"}]
        orders = [
            SubmitRequest(IntakeOptions(), Profile(), replace(TARGET, **account)) for account in accounts
        ]
        assert len({identity_of(intake, order) for order in orders}) == 3

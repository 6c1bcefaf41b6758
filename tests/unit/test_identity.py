"""A batch's identity: the same for the same questions and server, however the options are written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from askmill.jobs.intake import IntakeOptions, check
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.profile import Profile
from askmill.jobs.submit.request import SubmitRequest, identity_of

TARGET = Target("assistants", "http://api", SecretStr("k"), offline=False)


def _identity(file: Path, **options: Any) -> str:
    intake_options = IntakeOptions(**options)
    with check(str(file), intake_options) as intake:
        return identity_of(intake, SubmitRequest(intake_options, Profile(), TARGET))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sums.csv"
    path.write_text("question,topic\nWhat is 1 + 1?,sums\nWhat is 2 + 2?,sums\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"question_column": "question"},
        {"delimiter": ","},
        {"delimiter": "comma"},
        {"encoding": "utf-8"},
        {"quoting": "csv"},
        {"encoding": "UTF8"},
        {"skip_bad_rows": True},
    ],
    ids=str,
)
def test_explicit_defaults_keep_the_identity(file: Path, options: dict[str, Any]) -> None:
    """An explicit default, or --skip-bad-rows without bad rows, does not change the identity."""
    assert _identity(file, **options) == _identity(file)


@pytest.mark.parametrize(
    "options",
    [
        {"question_column": "topic"},
        {"template": "{question}"},
        {"conversation_column": "topic"},
        {"encoding": "cp1251"},
        {"quoting": "none"},
        {"limit": 1},
    ],
    ids=str,
)
def test_options_that_change_the_questions_change_the_identity(file: Path, options: dict[str, Any]) -> None:
    """Other questions, other conversations, another encoding, fewer rows."""
    assert _identity(file, **options) != _identity(file)


def test_rejected_rows_change_the_identity(file: Path) -> None:
    """A row that was rejected before and is valid now makes another batch."""
    with check(str(file)) as intake:
        request = SubmitRequest(IntakeOptions(), Profile(), TARGET)
        assert identity_of(replace(intake, rejected=1), request) != identity_of(intake, request)


def test_another_account_changes_the_identity(file: Path) -> None:
    """The organization and the project that are billed are part of the identity."""
    with check(str(file)) as intake:
        accounts: list[dict[str, str]] = [{}, {"organization": "o"}, {"project": "o"}]
        requests = [
            SubmitRequest(IntakeOptions(), Profile(), replace(TARGET, **account)) for account in accounts
        ]
        assert len({identity_of(intake, request) for request in requests}) == 3


def test_c3_an_idempotency_key_is_part_of_the_identity(file: Path) -> None:
    """C3: a nightly job gives a date as its key: each night is a batch, and a repeat finds that night's."""
    with check(str(file)) as intake:
        keys = (None, "2026-11-28", "2026-11-29", "2026-11-29")
        identities = [
            identity_of(intake, SubmitRequest(IntakeOptions(), Profile(), TARGET, idempotency_key=key))
            for key in keys
        ]
    assert len(set(identities)) == 3
    assert identities[2] == identities[3]

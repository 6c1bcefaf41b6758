"""How a command ends: what was not expected is never success."""

import click
import pytest

from askmill.jobs.cli.exit_codes import exit_code_for
from askmill.jobs.model.errors import UsageError, WriteFault


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        (SystemExit(), 0, ""),
        (SystemExit(7), 7, ""),
        (SystemExit("bye"), 1, "Error: bye\n"),
        (click.exceptions.Exit(4), 4, ""),
        (UsageError("no"), 2, "Error: no\n"),
        (WriteFault("full"), 3, "Error: full\n"),
        (BaseExceptionGroup("of a task", [WriteFault("full")]), 3, "Error: full\n"),
    ],
    ids=repr,
)
def test_each_ending_has_its_code_and_its_words(
    ended: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A module that exits with a sentence has not done what was asked."""
    assert exit_code_for(ended) == code
    assert capsys.readouterr().err == said

"""Exit codes: an unexpected exception is never a success."""

from pathlib import Path

import click
import pytest
from pydantic_core import SchemaError

from askmill.jobs.cli.exit_codes import exit_code_for
from askmill.jobs.model.errors import UsageError, WriteFault

INTERRUPTED = "\nInterrupted. To resume: askmill"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SystemExit(), 0, ""),
        (SystemExit(7), 7, ""),
        (SystemExit("bye"), 1, "Error: bye\n"),
        (click.exceptions.Exit(4), 4, ""),
        (UsageError("no"), 2, "Error: no\n"),
        (WriteFault("full"), 3, "Error: full\n"),
        (
            SchemaError(f"Error building `tuple` serializer:\n  {KeyboardInterrupt.__name__}"),
            130,
            INTERRUPTED,
        ),
        (SchemaError("Error building `tuple` serializer"), 1, "Error: "),
        (BaseExceptionGroup("of a task", [WriteFault("full")]), 3, "Error: full\n"),
    ],
    ids=repr,
)
def test_each_exception_has_its_code_and_message(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A module that exits with a sentence counts as a failure."""
    monkeypatch.setattr("sys.argv", ["askmill"])
    monkeypatch.setenv("ASKMILL_DATA_DIR", str(tmp_path))
    assert exit_code_for(error) == code
    assert capsys.readouterr().err.startswith(message)

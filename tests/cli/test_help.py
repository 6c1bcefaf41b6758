"""The help of the command line: complete, current, and printed without slow imports."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from askmill.jobs.cli.root import MODULE_OF, SUMMARIES, askmill

ROOT = Path(__file__).parents[2]
CONTRACT_OPTIONS = [
    "--question-column",
    "--template",
    "--id-column",
    "--conversation-column",
    "--override",
    "--profile",
    "--assistant-id",
    "--model",
    "--instructions",
    "--temperature",
    "--top-p",
    "--reasoning-effort",
    "--tool",
    "--functions",
    "--file",
    "--max-prompt-tokens",
    "--max-completion-tokens",
    "--truncation",
    "--response-schema",
    "--on-incomplete",
    "--on-unknown",
    "--attempts",
    "--deadline",
    "--budget",
    "--name",
    "--limit",
    "--new",
    "--reuse-answers",
    "--delimiter",
    "--encoding",
    "--skip-bad-rows",
    "--expected",
    "--match",
]


def _command(name: str) -> click.Command:
    command = askmill.get_command(click.Context(askmill), name)
    assert command is not None
    return command


def test_the_stored_root_help_is_current() -> None:
    """`COLUMNS=80 python -m askmill.jobs.cli.root --help > jobs/cli/help.txt` was run after the last change."""
    command = [sys.executable, "-m", "askmill.jobs.cli.root", "--help"]
    environment = {**os.environ, "COLUMNS": "80"}

    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)

    assert done.stdout == (ROOT / "jobs" / "cli" / "help.txt").read_text(encoding="utf-8")


def test_the_root_help_loads_nothing_slow() -> None:
    """No click, no pydantic, no redis: it is the first command that a new user waits for."""
    script = (
        "import sys; sys.argv = ['askmill', '--help']; from askmill.jobs.cli import main; main(); "
        "print(sorted({'click', 'pydantic', 'redis', 'openai', 'celery', 'rich'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_run_starts_without_what_it_rarely_needs() -> None:
    """Before its first row it waits for neither the panel's nor the log's modules; garbage is collected."""
    script = (
        "import gc, sys; from askmill.jobs.cli import main; sys.argv = ['askmill', 'run', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'openai', 'celery', 'rich', 'structlog'} & set(sys.modules)), gc.isenabled())"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[] True"


@pytest.mark.parametrize("name", MODULE_OF)
def test_every_command_and_option_has_help(name: str) -> None:
    """The root help has its summary, and each of its options has a help text."""
    command = _command(name)

    assert command.get_short_help_str(limit=200) == SUMMARIES[name]
    for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
        assert option.help, f"{name} {option.opts[0]} has no help"


@pytest.mark.parametrize("name", ["run", "submit", "estimate"])
def test_every_option_of_a_batch_exists(name: str) -> None:
    """`run`, `submit` and `estimate` take the same options."""
    opts = {opt for parameter in _command(name).params for opt in parameter.opts}

    assert set(CONTRACT_OPTIONS) <= opts


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "x.csv", "--attempts", "0"],
        ["run", "x.csv", "--budget", "nan"],
        ["run", "x.csv", "--deadline", "-1"],
        ["collect", "--status", "lost"],
        ["show"],
    ],
)
def test_bad_usage_is_exit_code_2(arguments: list[str]) -> None:
    """The error is on stderr; stdout stays empty."""
    result = CliRunner().invoke(askmill, arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr

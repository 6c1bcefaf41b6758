"""Who may use whose key: a Redis named by a `.env`, batches of strangers in a shared Redis, functions of theirs."""

from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine, terminal
from tests.stack import Stack

KEY = "sk-environment-0123456789"


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    """A folder with a file of one question."""
    user = terminal(tmp_path)
    user.write("q.csv", "question", "What is 1 + 1?")
    return user


def test_d10_a_redis_of_a_planted_file_gets_no_work_of_the_environments_key(
    tmp_path: Path, user: CommandLine
) -> None:
    """Commands that use the key refuse, those that only read do not; with the option `run` and its worker work."""
    with Stack(tmp_path) as stack:
        settings = stack.settings() | {"OPENAI_API_KEY": KEY}
        user.write(".env", f"ASKMILL_REDIS_URL={settings.pop('ASKMILL_REDIS_URL')}")
        user = user.with_settings(**settings)
        for command in (("run", "q.csv"), ("worker",), ("doctor",)):
            refused = user.askmill(*command)
            output = refused.stdout + refused.stderr
            assert refused.returncode == 2, (command, output)
            assert "ASKMILL_REDIS_URL in " in output
            assert "--trust-env-file" in output
        assert user.askmill("list").returncode == 0
        assert stack.stats()["runs_created"] == 0

        done = user.askmill("run", "q.csv", "--trust-env-file")
        assert done.returncode == 0, done.stderr


def test_d10_a_file_that_holds_key_and_redis_works_without_questions(
    tmp_path: Path, user: CommandLine
) -> None:
    """Key, address and Redis in one `.env`: `run` and its worker use them, and so does `doctor`."""
    with Stack(tmp_path) as stack:
        user.write(".env", *(f"{name}={value}" for name, value in stack.settings().items()))
        done = user.askmill("run", "q.csv")
        assert done.returncode == 0, done.stderr
        assert user.askmill("doctor").returncode == 0

"""docs/reference/features.md: each example prints the output shown, and each test, option and example it names exists."""

import re
from pathlib import Path

import pytest

from askmill.jobs.cli.chat import chat_command
from askmill.jobs.cli.run import run_command
from askmill.jobs.model.profile import Profile
from tests.helpers.requests import StackUser
from tests.helpers.screens import PAGE, ROOT, blocks, printed
from tests.stack import Stack


@pytest.mark.checks
def test_every_example_prints_the_output_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, in one folder, as a reader would type them."""
    monkeypatch.chdir(ROOT)  # the worker looks for examples/weather.py from where it was started
    with Stack(tmp_path) as stack:
        stack.worker()
        stack.worker(ASKMILL_API="responses")
        user = StackUser.of(stack, tmp_path / "work")
        outdated = {
            command: output for command, shown in blocks() if (output := printed(user, command)) != shown
        }

    assert not outdated, "python -m tests.helpers.screens rewrites the page"


def test_every_name_on_the_page_exists() -> None:
    """Test files, examples, options and profile fields."""
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tests|examples)/[\w./*-]+)`", text):
        assert list(ROOT.glob(name)), name
    for name in re.findall(r"`(test_\w+\.py)`", text):
        assert list((ROOT / "tests").rglob(name)), name
    options = {
        option
        for command in (run_command, chat_command)
        for parameter in command.params
        for option in parameter.opts
    }
    for name in re.findall(r"`(--[a-z-]+)", text):
        assert name in options, name
    for name in re.findall(r"`([a-z_]+)` field", text):
        assert name in Profile.model_fields, name

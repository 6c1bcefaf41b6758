"""Progress of a batch: a panel on a terminal, plain lines in a pipe, new answers with --show-answers."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine, terminal

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    return terminal(tmp_path)


def _on_terminal(user: CommandLine, columns: int, *arguments: str) -> tuple[int, str]:
    """Run the command on a terminal of that width; returns its exit code and its output."""
    parent_side, child_side = pty.openpty()
    fcntl.ioctl(child_side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {**user.env(), "TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    env.pop("CI", None)
    process = subprocess.Popen(
        user.script(*arguments),
        cwd=user.folder,
        env=env,
        stdin=child_side,
        stdout=child_side,
        stderr=child_side,
    )
    os.close(child_side)
    written = b""
    try:
        while part := os.read(parent_side, 65536):
            written += part
    except OSError:
        pass  # the terminal's other side is closed: the command has ended
    os.close(parent_side)
    return process.wait(30), written.decode()


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_shows_a_panel_and_the_answers(user: CommandLine, columns: int) -> None:
    """It is redrawn in place, its lines fit, and control codes of a question do not reach the terminal."""
    malicious = "What is 6 * 7? \x1b[2J\x1b]0;gone\x07 [emulate: completed after=1]"
    user.write(
        "q.csv", "question", malicious, '"What is 2 + 2? [emulate: failed(server_error), completed after=2]"'
    )

    code, written = _on_terminal(user, columns, "run", "q.csv", "--offline", "--show-answers")

    assert code == 0
    assert "\x1b[2J" not in written
    assert "\x1b]0;" not in written
    lines = [line.strip() for line in ESCAPE.sub("", written).replace("\r", "\n").split("\n")]
    assert "Starting a worker …" in lines
    assert any(re.search(r"░+  0 of 2 · 0 %$", line) and len(line) <= columns for line in lines)
    assert any(line.startswith("1 completed: What is 6 * 7?") for line in lines)
    assert any("retries: server_error 1" in line for line in lines)
    assert not any(len(line) > columns for line in lines if "·" in line and "done" not in line)


def test_in_a_pipe_the_answers_are_lines_beside_the_results(user: CommandLine) -> None:
    """They go to stderr; stdout has only the results."""
    user.write("q.csv", "question", "What is 6 * 7? [emulate: completed after=1]")

    done = user.askmill("run", "q.csv", "--offline", "--show-answers", "-o", "-", "--columns", "answer")

    assert done.stdout == "answer\n6*7 = 42.\n"
    line = "1 completed: What is 6 * 7? [emulate: completed after=1] → 6*7 = 42."
    assert line in done.stderr.splitlines()
    assert "\x1b" not in done.stderr


def test_show_answers_requires_watch(user: CommandLine) -> None:
    """`status` without --watch reads the batch once, so it has no new answers to show."""
    done = user.askmill("status", "--show-answers")

    assert done.returncode == 2
    assert "--watch" in done.stderr

"""What a person sees while a batch works: on a terminal a panel, in a pipe plain lines, answers if wanted."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.helpers.command_line import Terminal, terminal

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def user(tmp_path: Path) -> Terminal:
    return terminal(tmp_path)


def _on_terminal(user: Terminal, columns: int, *arguments: str) -> tuple[int, str]:
    """The exit code, and all that the command wrote to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {**user.env(), "TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    going = subprocess.Popen(
        user.script(*arguments), cwd=user.folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:
        pass  # the terminal's other side is closed: the command has ended
    os.close(ours)
    return going.wait(30), written.decode()


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_shows_a_panel_and_the_answers(user: Terminal, columns: int) -> None:
    """Drawn anew in place, in lines that fit; what a question brings along takes nothing over."""
    evil = "What is 6 * 7? \x1b[2J\x1b]0;gone\x07 [emulate: completed after=1]"
    user.write(
        "q.csv", "question", evil, '"What is 2 + 2? [emulate: failed(server_error), completed after=2]"'
    )

    code, written = _on_terminal(user, columns, "run", "q.csv", "--offline", "--show-answers")

    assert code == 0
    assert "\x1b[2J" not in written
    assert "\x1b]0;" not in written
    lines = [line.strip() for line in ESCAPE.sub("", written).replace("\r", "\n").split("\n")]
    assert "A worker starts …" in lines
    assert any(re.search(r"░+  0 of 2 · 0 %$", line) and len(line) <= columns for line in lines)
    assert any(line.startswith("1 completed: What is 6 * 7?") for line in lines)
    assert any("repeated: server_error 1" in line for line in lines)
    assert not any(len(line) > columns for line in lines if "·" in line and "done" not in line)


def test_in_a_pipe_the_answers_are_lines_beside_the_results(user: Terminal) -> None:
    """On stderr; the results on stdout stay as they are."""
    user.write("q.csv", "question", "What is 6 * 7? [emulate: completed after=1]")

    done = user.askmill("run", "q.csv", "--offline", "--show-answers", "-o", "-", "--columns", "answer")

    assert done.stdout == "answer\n6*7 = 42.\n"
    assert done.stderr.startswith("1 completed: What is 6 * 7? [emulate: completed after=1] → 6*7 = 42.\n")
    assert "\x1b" not in done.stderr


def test_answers_are_shown_while_somebody_watches(user: Terminal) -> None:
    """`status` alone looks once: it has no answers to show."""
    done = user.askmill("status", "--show-answers")

    assert done.returncode == 2
    assert "--watch" in done.stderr

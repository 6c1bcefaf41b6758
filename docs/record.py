"""Records what each command shows: `python docs/record.py` remakes docs/reference/screens.md, by tmux.

`python docs/record.py picture` remakes docs/images/terminal.svg alone.

Ids, times and rates differ between recordings, so no test compares them; a test checks that no command is
missing. Everything is offline, in a temporary folder.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from terminal_svg import Frame, draw

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "reference" / "screens.md"
WIDTHS = (80, 200)
LIMIT_S = 60.0
PICTURE = Path(__file__).parent / "images" / "terminal.svg"
PICTURE_SIZE = (80, 20)
PICTURE_TITLE = "askmill run is interrupted by Ctrl-C; the same command resumes and ends with one run a row."
QUESTIONS = """question
What is 12 * (3 + 4)?
"Solve 3x + 11 = 14"
"What is 7 * 8? [emulate: failed(server_error), completed]"
What is 7 * 9? [emulate: failed(content_policy)]
"""
SLOW = (
    "question\n"
    + "\n".join(f"What is {n} * {n}? [emulate: completed after={n}]" for n in range(2, 42))
    + "\n"
)
COMMANDS = (
    ("estimate questions.csv", 80),
    ("run questions.csv --offline", 80),
    ("status", 80),
    ("status", 200),
    ("show 1", 80),
    ("retry", 80),
    ("run questions.csv --offline", 80),
    ("report -o report.html", 80),
    ("collect -o - --columns row,status,error,attempts", 80),
    ("list", 80),
    ("run questions.csv --offline --instructions Briefly. --name brief", 80),
    ("compare $(askmill list --json | head -2 | cut -d'\"' -f4)", 120),
    ("submit slow.csv", 80),
    ("pause $(askmill list --json | head -1 | cut -d'\"' -f4)", 80),
    ("status", 80),
    ("resume", 80),
    ("cancel $(askmill list --json | head -1 | cut -d'\"' -f4)", 80),
    ("purge $(askmill list --json | head -1 | cut -d'\"' -f4)", 80),
    ("worker --check", 80),
    ("doctor", 80),
    ("chat --offline   # typed: What is 12 * (3 + 4)? | Solve 3x + 11 = 14 | exit", 80),
    ("worker --help", 80),
    ("web --help", 80),
    ("emulator --help", 80),
    ("run slow.csv --offline   # under way", 80),
    ("run slow.csv --offline   # under way", 200),
)
"""Command and terminal width. `under way`: the screen before the end; `typed`: answers to its prompts."""


class Screen:
    """A private tmux server with one window."""

    def __init__(self, folder: Path) -> None:
        self._socket = f"askmill-{os.getpid()}"
        bare = {
            name: value for name, value in os.environ.items() if not name.startswith(("ASKMILL_", "OPENAI_"))
        }
        self._env = {**bare, "ASKMILL_DATA_DIR": str(folder / "data"), "LANG": "C.UTF-8", "PS1": "$ "}
        self._env["OPENAI_BASE_URL"] = (
            "http://localhost:8080/v1"  # local: `submit` needs no key, nobody listens
        )
        self._env["ASKMILL_API"] = "responses"  # nobody is asked
        self._env["PATH"] = f"{Path(sys.executable).parent}:{bare['PATH']}"
        shell = "bash --norc --noprofile"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "60", "-c", str(folder / "work"), shell
        )
        self._tmux("set", "-g", "window-size", "manual")
        self._type("PS1='$ '")

    def close(self) -> None:
        self._tmux("kill-server")

    def film(self) -> list[Frame]:
        """A run that is interrupted and resumed, as frames."""
        columns, rows = PICTURE_SIZE
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))
        self._type("clear")
        self._until(lambda text: text.strip() == "$")
        frames = []
        # On a busy machine the panel may go from 5 rows to 8.
        for until in (r"\b([6-9]|1\d) of 20 ·", r"done: 20 completed"):
            self._type("askmill run questions.csv --offline")
            frames.append(Frame(self._screen(), 1.5))
            deadline = time.monotonic() + LIMIT_S
            while re.search(until, self._screen()) is None:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{until!r} did not appear within {LIMIT_S:g} s:\n{self._screen()}")
                time.sleep(0.5)
                if self._screen() != frames[-1].ansi:
                    frames.append(Frame(self._screen(), 0.5))
            if not frames[-1].ansi.count("Interrupted"):
                self._tmux("send-keys", "C-c")
                self._until(lambda text: "Interrupted" in text and text.rstrip().endswith("\n$"))
                frames.append(Frame(self._screen(), 2.5))
        self._until(lambda text: text.rstrip().endswith("\n$"))
        return [*frames, Frame(self._screen(), 6)]

    def _screen(self) -> str:
        """The screen with its colours; lines that were wrapped are joined."""
        return self._tmux("capture-pane", "-p", "-e", "-J").rstrip("\n")

    def record(self, command: str, width: int) -> str:
        """The screen after the command; for `under way`, while it runs."""
        self._tmux("resize-window", "-x", str(width), "-y", "60")
        self._type("clear")
        self._until(lambda text: text.strip() == "$")
        arguments, _, mode = command.partition("   # ")
        self._type(f"askmill {arguments}; echo ENDED")
        for answer in mode.removeprefix("typed: ").split(" | ") if mode.startswith("typed: ") else ():
            self._until(lambda text: text.rstrip().endswith("\n>"))
            self._type(answer)
        under_way = mode == "under way"
        text = self._until(lambda text: (" left · " if under_way else "\nENDED") in text)
        if under_way:
            self._tmux("send-keys", "C-c")
            self._until(lambda text: "Interrupted" in text and "\nENDED" in text)
        output = text[text.index("ENDED") + 5 :] if "ENDED" in text else text
        return output.replace("\nENDED", "\n").rstrip().removesuffix("$").strip("\n")

    def _type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def _until(self, done: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            text = self._tmux("capture-pane", "-p", "-J")
            if done(text):
                return text
            time.sleep(0.1)
        raise SystemExit(f"the expected output did not appear within {LIMIT_S:g} s:\n{text}")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=True).stdout


def record_page() -> None:
    """Record all commands and write the page."""
    parts = [f"# What the commands show\n\n{__doc__.splitlines()[0]}\n"] if __doc__ else []
    with terminal({"questions.csv": QUESTIONS, "slow.csv": SLOW}) as (screen, folder):
        for command, width in COMMANDS:
            text = screen.record(command, width).replace(str(folder / "work"), "/home/me")
            text = re.sub(re.escape(str(folder)), "/home/me/.local/share/askmill", text)
            parts.append(f"## askmill {command}\n\n{width} columns:\n\n```text\n{text}\n```\n")
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def record_picture() -> None:
    """Film a run that is interrupted and resumed, and write the picture."""
    rows = [f"What is {n} * {n}? [emulate: completed after={n / 2 + 1}]" for n in range(1, 21)]
    with terminal({"questions.csv": "\n".join(["question", *rows, ""])}) as (screen, folder):
        home = str(folder / "work")
        frames = [replace(frame, ansi=frame.ansi.replace(home, "/home/me")) for frame in screen.film()]
    PICTURE.write_text(draw(frames, PICTURE_SIZE[0], PICTURE_TITLE), encoding="utf-8")


@contextmanager
def terminal(files: Mapping[str, str]) -> Iterator[tuple[Screen, Path]]:
    """A screen in a folder of its own, with these files in `work`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        for file, content in files.items():
            (folder / "work" / file).write_text(content)
        screen = Screen(folder)
        try:
            yield screen, folder
        finally:
            screen.close()


if __name__ == "__main__":
    if shutil.which("tmux") is None:
        raise SystemExit(
            "tmux is required as the terminal. Install it, for example with `apt-get install tmux`."
        )
    if sys.argv[1:] != ["picture"]:
        record_page()
    record_picture()

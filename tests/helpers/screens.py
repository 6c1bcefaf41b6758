"""The outputs shown in docs/reference/features.md: each `console` block is a command and what it really prints.

python -m tests.helpers.screens     asks the commands again and writes what they print into the page
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.requests import Asker
from tests.stack import Stack

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "features.md"
BLOCK = re.compile(r"```console\n\$ ((?:[^\n]*\\\n)*[^\n]*)\n(.*?)```", re.DOTALL)
CHANGING = (
    (re.compile(r"\bb_[a-z0-9]{6}\b"), "b_7hq2m9"),
    (re.compile(r"\b(thread|run|conv|resp|msg|asst|file|step)[_-][0-9a-f]{16,}\b"), r"\1_…"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "2026-11-23 09:00:00"),
    (re.compile(r"(for|\+)( ?)\d+\.\d s"), r"\1\g<2>0.1 s"),
)
"""What is another at each run, and how the page shows it."""


def steady(text: str) -> str:
    """The output without what changes from run to run."""
    for pattern, shown in CHANGING:
        text = pattern.sub(shown, text)
    return text


def printed(asker: Asker, command: str) -> str:
    """What the command prints on stdout, asked at the mill instead of an emulator of its own."""
    folder = asker.user.folder
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    line = command.replace(" --offline", "").replace("\\\n", " ")
    env = {**asker.user.env(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{shlex.quote(command)}: {done.stderr}"
    return steady(done.stdout)


def blocks() -> Iterator[tuple[str, str]]:
    """Each command of the page and what is shown for it."""
    for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        yield found[1], found[2]


def main() -> None:
    """Writes the page anew."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as mill:
        mill.worker()
        mill.worker(ASKMILL_API="responses")
        asker = Asker.of(mill, Path(folder) / "work")

        def again(found: re.Match[str]) -> str:
            return f"```console\n$ {found[1]}\n{printed(asker, found[1])}```"

        PAGE.write_text(BLOCK.sub(again, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

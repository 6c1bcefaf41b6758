"""The outputs shown in docs/reference/features.md: each `console` block is a command and what it really prints.

python -m tests.helpers.screens     runs the commands again and writes their output into the page
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import preloaded
from tests.helpers.requests import StackUser
from tests.stack import Stack

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "features.md"
BLOCK = re.compile(r"```console\n\$ ((?:[^\n]*\\\n)*[^\n]*)\n(.*?)```", re.DOTALL)
VARIABLE_PARTS = (
    (re.compile(r"\bb_[a-z0-9]{6}\b"), "b_7hq2m9"),
    (re.compile(r"\b(thread|run|conv|resp|msg|asst|file|step)[_-][0-9a-f]{16,}\b"), r"\1_…"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "2026-11-23 09:00:00"),
    (re.compile(r"(for|\+)( ?)\d+\.\d s"), r"\1\g<2>0.1 s"),
)
"""What differs from run to run, and what the page shows instead."""


def steady(text: str) -> str:
    """The output without what differs from run to run."""
    for pattern, replacement in VARIABLE_PARTS:
        text = pattern.sub(replacement, text)
    return text


def printed(user: StackUser, command: str) -> str:
    """The command's stdout. It uses the stack's services instead of an emulator of its own."""
    folder = user.cli.folder
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    line = command.replace(" --offline", "").replace("\\\n", " ")
    env = {
        **user.cli.env(),
        "PATH": f"{preloaded.shell_folder()}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{shlex.quote(command)}: {done.stderr}"
    return steady(done.stdout)


def blocks() -> Iterator[tuple[str, str]]:
    """Each command of the page and the output that the page shows."""
    for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        yield found[1], found[2]


def main() -> None:
    """Run all commands and rewrite the page."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        stack.worker()
        stack.worker(ASKMILL_API="responses")
        user = StackUser.of(stack, Path(folder) / "work")

        def rerun(found: re.Match[str]) -> str:
            return f"```console\n$ {found[1]}\n{printed(user, found[1])}```"

        PAGE.write_text(BLOCK.sub(rerun, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

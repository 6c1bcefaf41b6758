"""A command on a pseudo-terminal, which a test types into."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.helpers import preloaded
from tests.helpers.command_line import CommandLine

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LIMIT_S = 60.0


class PtyCommand:
    """A running command: `expect` waits for a text, `type` sends a line, `interrupt` is Ctrl-C."""

    def __init__(self, process: "subprocess.Popen[Any]", side: int) -> None:
        self._process, self._side = process, side
        self.output = ""
        self._seen = 0

    def expect(self, text: str, limit_s: float = LIMIT_S) -> bool:
        """Read until the text stands behind what an earlier call has found; False at the limit."""
        until_s = time.monotonic() + limit_s
        while (found := self.output.find(text, self._seen)) < 0:
            ready, _, _ = select.select([self._side], [], [], max(0.0, until_s - time.monotonic()))
            if not ready or not self._read():
                return False
        self._seen = found + len(text)
        return True

    def type(self, line: str) -> None:
        """Send a line, as its keys and Return do."""
        os.write(self._side, line.encode() + b"\r")

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        return self._process.wait(LIMIT_S)

    def _read(self) -> bool:
        try:
            part = os.read(self._side, 65536)
        except OSError:  # the command has ended
            return False
        self.output += ESCAPE.sub("", part.decode(errors="replace")).replace("\r", "")
        return bool(part)


@contextmanager
def on_terminal(
    user: CommandLine, *arguments: str, columns: int = 80, **settings: str
) -> Iterator[PtyCommand]:
    """Start the command on a terminal of that width; it is killed if the block leaves it running."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {name: value for name, value in user.env().items() if name not in {"CI", "COLUMNS", "NO_COLOR"}}
    process = preloaded.Popen(
        user.script(*arguments),
        cwd=user.folder,
        env={**env, "TERM": "xterm-256color", **settings},
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    try:
        yield PtyCommand(process, parent)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(parent)

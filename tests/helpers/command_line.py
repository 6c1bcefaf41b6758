"""Runs the real command as a process, in a folder of its own and without other settings than those given."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from tests.helpers import preloaded

SETTING_PREFIXES = ("ASKMILL_", "OPENAI_")
LIMIT_S = 90


@dataclass(frozen=True)
class CommandLine:
    """One user: a working folder, a data directory, and environment variables.

    With `offline`, `run` and `chat` get `--offline` unless the settings name an API.
    """

    folder: Path
    settings: dict[str, str]
    offline: bool = False
    fresh: bool = False
    """Start Python afresh for each command instead of forking a process that has imported askmill."""

    def env(self) -> dict[str, str]:
        bare = {name: value for name, value in os.environ.items() if not name.startswith(SETTING_PREFIXES)}
        return {**bare, **self.settings}

    def askmill(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = LIMIT_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end; `stdin` is its standard input."""
        return preloaded.run(
            self.script(*arguments),
            cwd=self.folder,
            env=self.env(),
            input=stdin,
            text=True,
            timeout=timeout_s,
            fresh=self.fresh,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command without waiting for it."""
        pipe = subprocess.PIPE
        return preloaded.Popen(
            self.script(*arguments),
            cwd=self.folder,
            env=self.env(),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            fresh=self.fresh,
        )

    def batches(self) -> list[str]:
        """The ids of the batches, the newest first."""
        lines = self.askmill("list", "--json").stdout.splitlines()
        return [json.loads(line)["batch"] for line in lines]

    def script(self, *arguments: str) -> list[str]:
        """The command line as a list of arguments."""
        argv = list(arguments)
        if (
            self.offline
            and argv[0] in {"run", "chat"}
            and not any("OPENAI" in name for name in self.settings)
        ):
            argv.insert(1, "--offline")
        return [str(Path(sys.executable).with_name("askmill")), *argv]

    def write(self, name: str, *lines: str) -> str:
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name

    def with_settings(self, **settings: str) -> "CommandLine":
        return replace(self, settings={**self.settings, **settings})


def terminal(folder: Path, *, offline: bool = False) -> CommandLine:
    """A user without settings whose data directory is in the folder."""
    work = folder / "work"
    work.mkdir()
    return CommandLine(work, {"ASKMILL_DATA_DIR": str(folder / "data")}, offline)

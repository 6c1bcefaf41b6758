"""A user of a stack: runs the real command, reads its result rows and the objects at the API."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.command_line import CommandLine
from tests.stack import Stack

Row = dict[str, Any]


@dataclass(frozen=True)
class StackUser:
    """A user whose Redis, API and worker are those of a stack."""

    stack: Stack
    cli: CommandLine

    @classmethod
    def of(cls, stack: Stack, folder: Path) -> "StackUser":
        folder.mkdir(exist_ok=True)
        settings = {
            "ASKMILL_REDIS_URL": stack.redis_url,
            "ASKMILL_DATA_DIR": str(folder / "data"),
            "OPENAI_BASE_URL": stack.base_url,
            "OPENAI_API_KEY": "offline",
            "ASKMILL_API": stack.api,
        }
        return cls(stack, CommandLine(folder, settings))

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `askmill run` to its end, with results in `out.jsonl`."""
        return self.cli.askmill("run", *arguments, "-o", "out.jsonl")

    def rows(self, file: str, *options: str, code: int = 0) -> list[Row]:
        """Run, and return the result rows; fails unless the exit code is `code`."""
        done = self.run(file, *options)
        assert done.returncode == code, done.stderr
        return self.results()

    def results(self, name: str = "out.jsonl") -> list[Row]:
        text = (self.cli.folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def table(self, name: str, header: Sequence[str], *rows: Sequence[str]) -> str:
        """Write a CSV with all cells quoted."""
        quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [header, *rows])
        return self.cli.write(name, *quoted)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Get an object from the API."""
        return dict(self.stack.request("GET", path, params=query).raise_for_status().json())

    def messages(self, thread_id: str) -> list[tuple[str, str]]:
        """(role, text) of all messages of a thread or conversation, oldest first."""
        kind = "messages" if self.stack.api == "assistants" else "items"
        collection = "threads" if self.stack.api == "assistants" else "conversations"
        listed = self.get(f"{collection}/{thread_id}/{kind}", order="asc", limit="100")["data"]
        return [(entry["role"], _text(entry)) for entry in listed if "role" in entry]

    def requests(self, endpoint: str) -> int:
        """The number of requests to the endpoint."""
        return int(self.stack.stats()["requests"].get(endpoint, 0))


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    texts = (part.get("text", "") for part in content)
    return "".join(text if isinstance(text, str) else text["value"] for text in texts)

"""The emulator as a process, and a backend that asks it: what the tests of both APIs share."""

import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.base import Backend, RunRequest
from askmill.worker.backends.factory import backend_for
from askmill.worker.lifecycle.api_types import Answer, Run
from tests.helpers import preloaded
from tests.support import wait_until_async

KEY = "sk-emulated-0123456789"
OVER = frozenset({"cancelled", "failed", "completed", "incomplete", "expired", "requires_action"})
TUTOR = Profile(model="gpt-5-mini", instructions="You are a mathematics tutor.", tools=("code_interpreter",))


@contextmanager
def emulator_running(folder: Path) -> Iterator[str]:
    """`http://127.0.0.1:PORT/v1` of an emulator with a state of its own."""
    command = [sys.executable, "-P", "-m", "askmill.emulator", "--port", "0", "--state", str(folder)]
    process = preloaded.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode()
        yield line.split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass
class Bench:
    """One backend at one emulator, and the asking of a question step by step."""

    url: str
    backend: Backend
    batch: str = field(default_factory=lambda: f"b_{secrets.token_hex(3)}")
    asked: int = 0

    def scenario(self, toml: str) -> None:
        """Let the emulator play this from now on; "" is peace."""
        url = self.url.removesuffix("/v1") + "/emulator/scenario"
        request = urllib.request.Request(url, data=toml.encode(), method="PUT")
        urllib.request.urlopen(request).close()

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/emulator/stats") as reply:
            return dict(json.load(reply))

    async def ask(self, question: str, profile: Profile = TUTOR, **more: Any) -> RunRequest:
        """What the runner would hand over for a new row of a batch."""
        self.asked += 1
        resources = more.get("resources", Resources())
        assistant_id = await self.backend.ready(profile, resources)
        return RunRequest(
            batch=self.batch,
            row=self.asked,
            attempt=1,
            question=question,
            profile=profile,
            assistant_id=assistant_id,
            **more,
        )

    async def begin(self, ask: RunRequest) -> tuple[str, Run]:
        """Make the thread and the run."""
        thread_id = await self.backend.make_thread(ask)
        return thread_id, await self.backend.make_run(ask, thread_id)

    async def over(
        self, ask: RunRequest, thread_id: str, run_id: str, until: Callable[[Run], bool] | None = None
    ) -> Run:
        """Look at the run until it has ended, or waits for outputs, or as said."""

        async def look() -> Run | None:
            run = await self.backend.look(ask, thread_id, run_id)
            return run if (until(run) if until else run.status in OVER) else None

        seen = await wait_until_async(look, f"run {run_id} is over")
        assert seen is not None
        return seen

    async def answered(self, question: str, profile: Profile = TUTOR, **more: Any) -> tuple[Run, Answer]:
        """Ask a question and read its answer."""
        ask = await self.ask(question, profile, **more)
        thread_id, run = await self.begin(ask)
        ended = await self.over(ask, thread_id, run.id)
        return ended, await self.backend.read(ask, thread_id, run.id)

    def next_turn(self, ask: RunRequest, question: str, answer: Answer) -> RunRequest:
        """The next question of the same conversation."""
        self.asked += 1
        return replace(ask, row=self.asked, question=question, follow_up=True, after=answer.last_message_id)


def bench(url: str, api: str) -> Bench:
    """A backend of its own connections."""
    client = make_client(KEY, url, timeout_s=10)
    return Bench(url, backend_for(api, client))  # type: ignore[arg-type]

"""The emulator as a process, and backends connected to it, for the tests of both APIs."""

import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.base import Backend, RunRequest
from askmill.worker.backends.factory import BACKENDS
from askmill.worker.lifecycle.api_types import ENDED, Answer, LookupKind, Run, RunLookup
from tests.helpers import preloaded
from tests.support import wait_until_async

KEY = "sk-emulated-0123456789"
TUTOR = Profile(model="gpt-5-mini", instructions="You are a mathematics tutor.", tools=("code_interpreter",))


@contextmanager
def emulator_running(folder: Path) -> Iterator[str]:
    """The base URL of an emulator with its own state."""
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
class BackendSession:
    """One backend connected to one emulator, and the steps of a run."""

    url: str
    backend: Backend
    batch: str = field(default_factory=lambda: f"b_{secrets.token_hex(3)}")
    rows: int = 0
    calls: dict[str, Run] = field(default_factory=dict)
    """The last run of each thread, as its create returned it: on chat completions it has ended."""

    def set_scenario(self, toml: str) -> None:
        """Replace the emulator's scenario; "" ends all faults."""
        url = self.url.removesuffix("/v1") + "/emulator/scenario"
        request = urllib.request.Request(url, data=toml.encode(), method="PUT")
        urllib.request.urlopen(request).close()

    def stats(self) -> dict[str, Any]:
        """The emulator's counters."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/emulator/stats") as reply:
            return dict(json.load(reply))

    async def new_request(self, question: str, profile: Profile = TUTOR, **fields: Any) -> RunRequest:
        """The request of a new row's first attempt."""
        self.rows += 1
        resources = fields.get("resources", Resources())
        assistant_id = await self.backend.ensure_assistant(profile, resources)
        return RunRequest(
            batch=self.batch,
            row=self.rows,
            attempt=1,
            question=question,
            profile=profile,
            assistant_id=assistant_id,
            **fields,
        )

    async def start(self, request: RunRequest) -> tuple[str, Run]:
        """Create the thread and the run."""
        thread_id = await self.backend.create_thread(request)
        run = self.calls[thread_id] = await self.backend.create_run(request, thread_id)
        return thread_id, run

    async def wait(
        self, request: RunRequest, thread_id: str, run_id: str, until: Callable[[Run], bool] | None = None
    ) -> Run:
        """Poll the run until it has ended or waits for outputs, or until `until` holds."""
        if self.backend.api == "chat":
            return self.calls[thread_id]

        async def poll() -> Run | None:
            run = await self.backend.poll_run(request, thread_id, run_id)
            done = until(run) if until else run.status in ENDED or run.status == "requires_action"
            return run if done else None

        run = await wait_until_async(poll, f"run {run_id} has ended")
        assert run is not None
        return run

    async def start_and_wait(self, request: RunRequest) -> tuple[str, Run]:
        """Create the thread and the run, and wait until the run has ended or waits for outputs."""
        thread_id, run = await self.start(request)
        return thread_id, await self.wait(request, thread_id, run.id)

    async def answer(self, question: str, profile: Profile = TUTOR, **fields: Any) -> tuple[Run, Answer]:
        """Run a question to its end. Returns the run and its answer."""
        request = await self.new_request(question, profile, **fields)
        thread_id, run = await self.start_and_wait(request)
        return run, run.answer or await self.backend.read_answer(request, thread_id, run.id)

    async def until_found(self, look_up: Callable[[], Awaitable[RunLookup]]) -> RunLookup:
        """Repeat a lookup until it finds something."""

        async def attempt() -> RunLookup | None:
            lookup = await look_up()
            return lookup if lookup.kind is not LookupKind.NOTHING else None

        lookup = await wait_until_async(attempt, "the lookup finds the run")
        assert lookup is not None
        return lookup

    def next_turn_request(self, request: RunRequest, question: str, answer: Answer) -> RunRequest:
        """The next question of the same conversation."""
        self.rows += 1
        return replace(
            request, row=self.rows, question=question, follow_up=True, after_message_id=answer.last_message_id
        )


def open_session(url: str, api: Api) -> BackendSession:
    """A backend with its own connections."""
    return BackendSession(url, BACKENDS[api](make_client(KEY, url, timeout_s=10)))

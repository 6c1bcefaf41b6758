"""The emulator as a process of its own, with options, and clients that ask it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, BaseModel, DefaultAsyncHttpxClient
from openai.types.beta import Assistant
from openai.types.beta.threads import Run

from tests.helpers import preloaded
from tests.support import wait_until_async

KEY = "sk-emulated-9876543210"
OVER = frozenset({"cancelled", "failed", "completed", "incomplete", "expired", "requires_action"})
JSON_HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "OpenAI-Beta": "assistants=v2",
    "Content-Type": "application/json",
}


@dataclass
class Emulator:
    """A running emulator."""

    url: str
    process: subprocess.Popen[bytes]

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/emulator/stats") as reply:
            return dict(json.load(reply))

    def set_scenario(self, toml: str) -> None:
        """Change the scenario."""
        url = f"{self.url.removesuffix('/v1')}/emulator/scenario"
        urllib.request.urlopen(urllib.request.Request(url, data=toml.encode(), method="PUT")).close()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


def command(*options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "askmill.emulator", *options]


@contextmanager
def run_emulator(*options: str, scenario: str = "", folder: Path | None = None) -> Iterator[Emulator]:
    """An emulator started with these options, and a scenario written into `folder`."""
    if scenario:
        assert folder is not None
        path = folder / "scenario.toml"
        path.write_text(scenario)
        options = (*options, "--scenario", str(path))
    process = preloaded.Popen(command(*options), stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    try:
        assert line.startswith("emulator listening on http://"), line
        yield Emulator(line.split()[-1], process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass(frozen=True)
class Exchange:
    """One request and its answer. `path` is without `/v1`."""

    method: str
    path: str
    status: int
    request: Any
    body: Any


@dataclass
class Recorder:
    """Remembers every exchange of JSON that a client has."""

    exchanges: list[Exchange] = field(default_factory=list)

    async def record(self, response: Any) -> None:
        if not response.headers.get("content-type", "").startswith("application/json"):
            return
        body = json.loads(await response.aread())
        request = response.request
        is_json = request.headers.get("content-type") == "application/json" and request.content
        sent = json.loads(request.content) if is_json else None
        path = request.url.path.removeprefix("/v1")
        self.exchanges.append(Exchange(request.method, path, response.status_code, sent, body))


@asynccontextmanager
async def open_client(
    url: str, recorder: Recorder | None = None, timeout_s: float = 10
) -> AsyncIterator[AsyncOpenAI]:
    """A client of the SDK that never retries."""
    hooks: dict[str, Any] = {"response": [recorder.record]} if recorder else {}
    # Without TLS: the certificates, which no emulator has, take 20 ms to load.
    http_client = DefaultAsyncHttpxClient(event_hooks=hooks, verify=False)
    async with AsyncOpenAI(
        api_key=KEY, base_url=url, max_retries=0, timeout=timeout_s, http_client=http_client
    ) as client:
        yield client


async def create_assistant(client: AsyncOpenAI, **fields: Any) -> Assistant:
    return await client.beta.assistants.create(**({"model": "gpt-5", "instructions": "Answer."} | fields))


async def run_to_end(client: AsyncOpenAI, thread_id: str, run_id: str) -> Run:
    """Poll the run until it has ended or waits for outputs."""

    async def finished() -> Run | None:
        run = await client.beta.threads.runs.retrieve(run_id, thread_id=thread_id)
        return run if run.status in OVER else None

    run = await wait_until_async(finished, f"run {run_id} is over")
    assert run is not None
    return run


async def run_question(client: AsyncOpenAI, question: str, **fields: Any) -> Run:
    """Run a question on a new thread and return the run at its end."""
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": question}])
    if "assistant_id" not in fields:
        fields["assistant_id"] = (await create_assistant(client)).id
    run = await client.beta.threads.runs.create(thread.id, **fields)
    return await run_to_end(client, thread.id, run.id)


async def message_texts(client: AsyncOpenAI, run: Run) -> list[str]:
    """The texts of the messages that the run wrote, in order."""
    messages = await client.beta.threads.messages.list(run.thread_id, run_id=run.id, order="asc")
    return [part.text.value for message in messages.data for part in message.content if part.type == "text"]


async def respond_to_end(client: AsyncOpenAI, question: Any, **fields: Any) -> Any:
    """Create a background response and return it at its end."""
    created = await client.responses.create(
        **({"model": "gpt-5", "input": question, "background": True, "store": True} | fields)
    )

    async def finished() -> Any:
        response = await client.responses.retrieve(created.id, include=fields.get("include") or [])
        return response if response.status in OVER else None

    return await wait_until_async(finished, f"response {created.id} is over")


def unknown_fields(model: Any, at: str = "") -> Iterator[str]:
    """Paths of fields that the SDK's model does not have."""
    if isinstance(model, list):
        for one in model:
            yield from unknown_fields(one, f"{at}[]")
    elif isinstance(model, BaseModel):
        yield from (f"{at}.{name}" for name in model.model_extra or {})
        for name in type(model).model_fields:
            yield from unknown_fields(getattr(model, name), f"{at}.{name}")

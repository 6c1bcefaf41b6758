"""Everything that askmill needs, for a test: a Redis that survives kill -9, the emulator with its state, workers.

Each is a process of its own that a test may kill, freeze and start again at the same address.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import redis

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.redis_service import server_binary
from askmill.jobs.model.models import Api, InputSpec, Limits, OnIncomplete
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import Store
from askmill.jobs.store.broker import publish
from askmill.jobs.store.records import NewBatch, NewRow
from askmill.jobs.store.views import RowView, StatusView
from tests.helpers import preloaded
from tests.helpers.key_leaks import assert_no_leaks
from tests.support import wait_until, wait_until_async

QUICK = {"HEARTBEAT_S": 0.5, "LIFETIME_S": 3.0, "MARGIN_S": 1.2, "MAINTENANCE_S": 0.5, "CREATE_LIMIT_S": 4.0}
"""Time constants of a worker: its death is noticed after 3 s instead of 12, a lost create after 4 s instead of 60."""
HELPERS = Path(__file__).parent / "helpers"
HEADERS = {"Authorization": "Bearer offline", "OpenAI-Beta": "assistants=v2"}
TUTOR = Profile(name="Math Tutor", model="gpt-5-mini", tools=("code_interpreter",))


@dataclass
class Child:
    """A process at a fixed address that can be started again; its output goes to a log file."""

    command: list[str]
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    process: preloaded.Popen | None = None

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self.process = preloaded.Popen(
                self.command, stdout=log, stderr=log, stdin=preloaded.DEVNULL, env={**os.environ, **self.env}
            )
        return self

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def leave(self, within_s: float = 10.0) -> int:
        """Send SIGTERM and return the exit code; fail if it takes longer."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(within_s)
        self.process = None
        return code


class Stack:
    """Redis, the emulator and workers, with their files in one folder. The `with` block's end stops all of them."""

    def __init__(self, folder: Path, api: Api = "assistants", scenario: str = "") -> None:
        self.folder, self.api = folder, api
        redis_port, emulator_port = free_port(), free_port()
        self.redis_url = f"redis://{HOST}:{redis_port}/0"
        self.base_url = self.emulator_url = f"http://{HOST}:{emulator_port}/v1"
        data = folder / "redis"
        data.mkdir()
        command = [str(server_binary()), "--port", str(redis_port), "--bind", HOST, "--dir", str(data)]
        command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
        self.redis = Child(command, folder / "redis.log")
        command = [
            sys.executable,
            "-P",
            "-m",
            "askmill.emulator",
            "--host",
            HOST,
            "--port",
            str(emulator_port),
        ]
        command += ["--state", str(folder / "emulator"), "--seed", "7"]
        if scenario:
            (folder / "scenario.toml").write_text(scenario)
            command += ["--scenario", str(folder / "scenario.toml")]
        self.emulator = Child(command, folder / "emulator.log")
        self.workers: list[Child] = []
        self._client = httpx2.Client(
            verify=False, trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0)
        )

    def __enter__(self) -> Self:
        self.redis.start()
        self.emulator.start()
        self.wait_for_servers()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Kill all processes; after a test that passed, also check Redis for leaks (tests/helpers/key_leaks.py)."""
        try:
            for worker in self.workers:
                worker.kill()
            if kind is None and self.redis.alive:
                assert_no_leaks(self.redis_url)
        finally:
            for child in [*self.workers, self.emulator, self.redis]:
                child.kill()
            self._client.close()

    def wait_for_servers(self) -> None:
        wait_until(self._redis_answers, "Redis answers")
        wait_until(self._emulator_answers, "the emulator answers")

    def crash(self) -> None:
        """SIGKILL to every process at once; then Redis and the emulator start again with their files."""
        children = [child for child in (*self.workers, self.emulator, self.redis) if child.alive]
        for child in children:
            child.signal(signal.SIGKILL)
        for child in children:
            child.kill()
        self.redis.start()
        self.emulator.start()
        self.wait_for_servers()

    def settings(self) -> dict[str, str]:
        """The environment variables of a process that uses this Redis and this emulator."""
        return {
            "ASKMILL_REDIS_URL": self.redis_url,
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": "offline",
            "ASKMILL_API": self.api,
            "ASKMILL_LOG_FORMAT": "json",
        }

    def worker(
        self,
        concurrency: int | None = 50,
        times: dict[str, float] | None = None,
        functions: Sequence[str] = (),
        **env: str,
    ) -> Child:
        """Start another worker; `times` replaces time constants of worker/process/worker.py, as QUICK does.

        `concurrency`: None is the settings' default. `functions`: modules that it allows.
        """
        settings = {**self.settings(), **env}
        program = ["-m", "askmill.worker"]
        if times is not None:
            program = [str(HELPERS / "workers" / "quick_worker.py")]
            settings["MILL_TIMES"] = json.dumps(times)
        command = [sys.executable, "-P", *program]
        command += [] if concurrency is None else ["--concurrency", str(concurrency)]
        command += [part for module in functions for part in ("--allow-functions", module)]
        child = Child(command, self.folder / f"worker-{len(self.workers)}.log", settings).start()
        self.workers.append(child)
        return child

    async def submit(self, questions: Sequence[str], profile: Profile = TUTOR, **limits: Any) -> str:
        """Store a batch of these questions, with these `Limits`, and return its id."""
        if "on_incomplete" in limits:
            limits["on_incomplete"] = OnIncomplete(limits["on_incomplete"])
        async with await Store.open(self.redis_url) as store:
            batch = await store.create_batch(
                NewBatch(
                    name="test",
                    file="test.csv",
                    spec=InputSpec(columns=("question",), question_column="question"),
                    profile=profile,
                    resources=Resources(),
                    api=self.api,
                    base_url=self.base_url,
                    model=profile.model or "gpt-5-mini",
                    limits=Limits(**limits),
                    identity=os.urandom(32).hex(),
                )
            )
            await store.add_rows(batch, 1, [NewRow([question]) for question in questions])
            await store.seal_batch(batch)
            publish(self.redis_url, await store.dispatch(20))
        return batch

    async def status(self, batch: str) -> StatusView:
        async with await Store.open(self.redis_url) as store:
            return await store.status(batch)

    async def wait_for(
        self, batch: str, states: Sequence[str] = ("done",), timeout_s: float = 60
    ) -> StatusView:
        """Wait until the batch's state is one of these, and return its status."""
        async with await Store.open(self.redis_url) as store:

            async def reached() -> StatusView | None:
                status = await store.status(batch)
                return status if status.batch.state in states else None

            found = await wait_until_async(reached, f"batch {batch} is {' or '.join(states)}", timeout_s)
            assert found is not None
            return found

    async def rows(self, batch: str) -> list[RowView]:
        async with await Store.open(self.redis_url) as store:
            return [row async for row in store.results(batch)]

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request to the API, as any client may."""
        return self._client.request(method, f"{self.base_url}/{path}", headers=HEADERS, **options)

    def stats(self) -> dict[str, Any]:
        """The emulator's counters."""
        return dict(self._client.get(self.emulator_url.replace("/v1", "/emulator/stats")).json())

    def ledger(self) -> dict[str, Any]:
        """What the emulator's Batch API has carried out: creates and lines."""
        return dict(self._client.get(self.emulator_url.replace("/v1", "/emulator/batches")).json())

    def scenario(self, toml: str) -> None:
        """Replace the emulator's scenario; "" is the one without faults."""
        self._client.put(
            self.emulator_url.replace("/v1", "/emulator/scenario"), content=toml
        ).raise_for_status()

    def _redis_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.redis_url, retry=None) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _emulator_answers(self) -> bool:
        try:
            return bool(self.stats())
        except httpx2.HTTPError:
            return False

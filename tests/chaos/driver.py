"""Random chaos with a seed: rows with random endings, and random kills, freezes and faults of any part.

round       submit a batch, cause accidents one after the other, end them all, wait for the batch, check
invariants  every row ends as its question says; runs at the emulator equal the recorded attempts, apart from
            those counted (`endings.run_cost`); Redis passes tests/helpers/key_leaks.py
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import redis

from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import keys
from askmill.jobs.store.views import RowView
from tests.chaos.endings import CHAT_ATTEMPTS, UNBOUNDED, Ending, endings_of, run_cost
from tests.chaos.support import counter, worker_names
from tests.helpers.key_leaks import assert_no_leaks
from tests.stack import QUICK, Child, Stack
from tests.support import wait_until

CREATES = '["POST /threads/*/runs", "POST /responses", "POST /chat/completions"]'
FAULTS = (
    "rate_429 = 0.1\nretry_after_s = 0.3",
    "rate_500 = 0.1\nrate_503 = 0.1",
    "drop_before = 0.1",
    "drop_after = 0.1",
    f"drop_after = 0.3\nonly = {CREATES}",
    f"drop_after = 0.2\nlate_s = 1.0\nonly = {CREATES}",
    "slow_s = 0.5",
)
WORKERS = 2


@dataclass
class Totals:
    """The accidents and their outcome."""

    accidents: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    rows: int = 0
    runs: int = 0
    lost: int = 0
    wrong: int = 0
    paid_twice: int = 0
    late: int = 0
    unknown: int = 0
    resent: int = 0
    """Chat: calls made again, each counted as unknown before."""
    recoveries_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The figures that the benchmark prints."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        slowest_s = round(max(self.recoveries_s, default=0.0), 1)
        return {
            **numbers,
            "accidents": dict(self.accidents),
            "slowest_recovery_s": slowest_s,
            "faults": self.faults,
        }


class Chaos:
    """Runs rounds against one stack. `quick` shortens the heartbeat; otherwise the times are the real ones."""

    def __init__(self, stack: Stack, seed: int, *, quick: bool = True, slots: int = 20) -> None:
        self.stack, self.random, self.quick, self.slots = stack, random.Random(seed), quick, slots
        self.totals = Totals()
        self.workers: list[Child] = []
        self.frozen: list[tuple[Child, float]] = []
        self.killed: list[tuple[str, float]] = []
        self.fault = ""
        self.faults_end: float | None = None
        self.ending: list[Child] = []
        """Workers that hand over their rows."""
        self.at_risk = 0.0
        """Calls that were in flight in what this round has killed, frozen or cut off."""
        self.unsafe_until_s = 0.0
        """Who has written before this moment may be gone, and cannot write again what a Redis loses."""

    async def round(self, rows: int, accidents: int) -> None:
        """Submit, cause accidents, end them, wait and check."""
        self._start_missing_workers()
        endings = [self.random.choice(endings_of(self.stack.api)) for _ in range(rows)]
        questions = [
            f"[emulate: {directive}, after={self.random.uniform(0.05, 2):.2f}] What is {row} + 1?"
            for row, (directive, *_) in enumerate(endings)
        ]
        chat = {"profile": Profile(model="local-7b"), "attempts": CHAT_ATTEMPTS}
        batch = await self.stack.submit(questions, **(chat if self.stack.api == "chat" else {}))
        self.at_risk = 0.0
        self.unsafe_until_s = time.monotonic()
        for _ in range(accidents):
            self._wait(self.random.uniform(0.1, 1.0))
            self._cause_accident()
        self._end_accidents()
        self._wait_for_end(batch)
        await self._check(batch, endings)

    # ── accidents ──

    def _accidents(self) -> dict[Callable[[], None], int]:
        """Each accident, and how often it is drawn."""
        return {
            self._kill_worker: 4,
            self._end_worker: 2,
            self._freeze_worker: 3,
            self._kill_redis: 1,
            self._freeze_redis: 1,
            self._cut_redis: 2,
            self._kill_emulator: 1,
            self._freeze_emulator: 1,
            self._http_faults: 4,
            self._redeliver: 1,
            self._lose_messages: 1,
        }

    def _cause_accident(self) -> None:
        accidents = self._accidents()
        accident = self.random.choices(list(accidents), list(accidents.values()))[0]
        accident()
        self._add_risk(accident.__name__)
        self.totals.accidents[accident.__name__.removeprefix("_")] += 1

    def _add_risk(self, accident: str) -> None:
        """Each worker may have all its slots in flight, and everything that stops something may lose them."""
        drops = accident == "_http_faults" and "drop" in self.fault
        self.at_risk += UNBOUNDED if drops else WORKERS * self.slots

    def _any_worker(self) -> Child | None:
        frozen = [child for child, _ in self.frozen]
        free = [child for child in self.workers if child.alive and child not in frozen]
        return self.random.choice(free) if free else None

    def _kill_worker(self) -> None:
        if (worker := self._any_worker()) and self._may_die(worker):
            self._remember_killed(worker)
            worker.kill()
            self.workers.remove(worker)
            self.unsafe_until_s = time.monotonic()
        self._start_missing_workers()

    def _may_die(self, worker: Child) -> bool:
        """Whether nothing is lost that this worker alone could write again."""
        return True

    def _end_worker(self) -> None:
        if worker := self._any_worker():
            worker.signal(signal.SIGTERM)
            self.workers.remove(worker)
            self.ending.append(worker)
        self._start_missing_workers()

    def _freeze_worker(self) -> None:
        if worker := self._any_worker():
            worker.freeze()
            self.frozen.append((worker, time.monotonic() + self.random.choice([0.5, 2.0, 5.0])))

    def _kill_redis(self) -> None:
        self.stack.redis.kill()
        self._wait(self.random.choice([0.0, 1.0, 4.0]))
        self.stack.redis.start()
        self.stack.wait_for_servers()

    def _freeze_redis(self) -> None:
        self.stack.redis.freeze()
        self._wait(self.random.choice([0.5, 2.0, 4.0]))
        self.stack.redis.thaw()

    def _cut_redis(self) -> None:
        with self._redis() as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(skipme=True, _type=kind)

    def _kill_emulator(self) -> None:
        self.stack.emulator.kill()
        self._wait(self.random.choice([0.0, 2.0]))
        self.stack.emulator.start()
        self.stack.wait_for_servers()

    def _freeze_emulator(self) -> None:
        self.stack.emulator.freeze()
        self._wait(self.random.choice([0.5, 2.0]))
        self.stack.emulator.thaw()

    def _http_faults(self) -> None:
        self.fault = self.random.choice(FAULTS)
        self.stack.scenario(f"[http]\n{self.fault}\n")
        self.faults_end = time.monotonic() + self.random.choice([0.5, 2.0])

    def _redeliver(self) -> None:
        with self._redis() as client:
            if messages := client.lrange("askmill", 0, -1):
                client.lpush("askmill", *messages)

    def _lose_messages(self) -> None:
        with self._redis() as client:
            client.delete("askmill")

    def _redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.stack.redis_url)

    # ── in the meantime ──

    def _wait(self, seconds: float) -> None:
        """Wait, and meanwhile thaw workers, end faults and measure recoveries."""
        end = time.monotonic() + seconds
        wait_until(lambda: self._tick() and time.monotonic() >= end, "the time is over", seconds + 60)

    def _tick(self) -> bool:
        now = time.monotonic()
        for worker, until in list(self.frozen):
            if now >= until:
                self.frozen.remove((worker, until))
                if worker.alive:
                    worker.thaw()
        if self.faults_end is not None and now >= self.faults_end:
            with suppress(httpx2.HTTPError):  # killed or frozen just now
                self.stack.scenario("")
                self.faults_end = None
        if ended := [worker for worker in self.ending if not worker.alive]:
            self.ending = [worker for worker in self.ending if worker not in ended]
            self.unsafe_until_s = now
        self._measure_recoveries(now)
        return True

    def _remember_killed(self, worker: Child) -> None:
        """Remember a worker with rows that is about to be killed."""
        assert worker.process is not None
        with suppress(redis.RedisError), self._redis() as client:
            name = worker_names(client).get(worker.process.pid)
            if name is not None and client.scard(keys.claims(name)):
                self.killed.append((keys.claims(name), time.monotonic()))

    def _measure_recoveries(self, now: float) -> None:
        if not self.killed or not self.stack.redis.alive:
            return
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(self.stack.redis_url, socket_timeout=0.2) as client,
        ):
            names = [name.decode() for name in client.zrange(keys.WORKERS, 0, -1)]
            killed = {held for held, _ in self.killed}
            survivors = [
                name
                for name in names
                if keys.claims(name) not in killed and client.hexists(keys.worker(name), "slots")
            ]
            unrecovered = [held for held, _ in self.killed if client.exists(held)]
            self.totals.recoveries_s += [
                now - since for held, since in self.killed if held not in unrecovered
            ]
            # Without another worker nothing can recover the rows: the time counts from its first heartbeat.
            self.killed = [
                (held, since if survivors else now) for held, since in self.killed if held in unrecovered
            ]

    def _start_missing_workers(self) -> None:
        self.workers = [worker for worker in self.workers if worker.alive]
        while len(self.workers) < WORKERS:
            self.workers.append(self.stack.worker(self.slots, QUICK if self.quick else None))

    def _end_accidents(self) -> None:
        for worker, _ in self.frozen:
            if worker.alive:
                worker.thaw()
        self.frozen.clear()
        self.faults_end = None
        self.stack.scenario("")
        self._start_missing_workers()

    def _wait_for_end(self, batch: str) -> None:
        def is_done() -> bool:
            self._tick()
            with (
                suppress(redis.RedisError),
                self._redis() as client,
            ):  # on a busy machine it may not answer in 5 s
                return client.hget(keys.batch(batch), "state") == b"done"
            return False

        try:
            wait_until(is_done, f"batch {batch} is done", 150)
        except AssertionError as error:
            self.totals.faults.append(str(error))

    # ── invariants ──

    async def _check(self, batch: str, endings: list[Ending]) -> None:
        stats, rows = self.stack.stats()["runs_by_job"], await self.stack.rows(batch)
        late, unknown = counter(self.stack, batch, "late_runs"), counter(self.stack, batch, "unknown_creates")
        runs = list[tuple[RowView, Ending, int]]()
        for row, ending in zip(rows, endings, strict=True):
            directive, status, attempts = ending
            if row.result is None or row.status in {JobStatus.QUEUED, JobStatus.RUNNING}:
                self._add_fault("lost", f"{batch}:{row.row} [{directive}] is {row.status}")
                continue
            runs.append((row, ending, stats.get(f"{batch}:{row.row}", 0)))
            # A call that the server answers with a 500 is another attempt; a run is not.
            same_attempts = row.result.attempt_count == attempts or unknown or self.stack.api == "chat"
            if row.status is not status or not same_attempts:
                outcome = f"{row.status} {row.result.error} after {row.result.attempt_count}"
                self._add_fault("wrong", f"{batch}:{row.row} [{directive}] ended {outcome}")
        cost = run_cost(self.stack.api, runs, late, unknown, self.at_risk)
        self.totals.runs += cost.runs
        self.totals.paid_twice += cost.paid_twice
        self.totals.resent += cost.resent
        self.totals.faults += [f"{batch}: {fault}" for fault in cost.faults]
        self.totals.late, self.totals.unknown = self.totals.late + late, self.totals.unknown + unknown
        self.totals.rows, self.totals.rounds = self.totals.rows + len(endings), self.totals.rounds + 1
        try:
            wait_until(self._has_no_leaks, "Redis has no leaks", 20)
        except AssertionError:
            assert_no_leaks(self.stack.redis_url)

    def _add_fault(self, kind: str, message: str) -> None:
        setattr(self.totals, kind, getattr(self.totals, kind) + 1)
        self.totals.faults.append(message)

    def _has_no_leaks(self) -> bool:
        try:
            assert_no_leaks(self.stack.redis_url)
        except AssertionError:
            return False
        return True

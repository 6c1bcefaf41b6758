"""Random chaos, seeded: rows with random endings, and random kills, freezes and faults of any part meanwhile.

round     a batch ─▶ accidents, one after the other ─▶ everything healed ─▶ all rows end ─▶ invariants
invariants  every row ended as its question directs; runs at the emulator = attempts recorded, but for those
            counted as late (and, on Responses, as unknown); Redis as tests/helpers/key_leaks.py has it
"""

import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import redis

from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import keys
from tests.chaos.support import counter
from tests.helpers.key_leaks import assert_no_leaks
from tests.stack import QUICK, Child, Stack
from tests.support import wait_until

CREATES = '["POST /threads/*/runs", "POST /responses"]'
ENDINGS: tuple[tuple[str, JobStatus, int], ...] = (
    ("completed", JobStatus.COMPLETED, 1),
    ("completed", JobStatus.COMPLETED, 1),
    ("completed(two_messages)", JobStatus.COMPLETED, 1),
    ("failed(server_error), completed", JobStatus.COMPLETED, 2),
    ("failed(server_error)", JobStatus.FAILED, 3),
    ("failed(invalid_prompt)", JobStatus.FAILED, 1),
    ("incomplete(max_completion_tokens)", JobStatus.INCOMPLETE, 1),
)
"""What a question plays, how its row must end, and after how many runs."""
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
    """What was done and what came of it."""

    accidents: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    rows: int = 0
    runs: int = 0
    lost: int = 0
    wrong: int = 0
    paid_twice: int = 0
    late: int = 0
    unknown: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """As the benchmark prints it."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        slowest_s = round(max(self.recoveries_s, default=0.0), 1)
        return {
            **numbers,
            "accidents": dict(self.accidents),
            "slowest_recovery_s": slowest_s,
            "faults": self.faults,
        }


class Chaos:
    """One mill, ill-treated round after round. `quick`: hearts that beat fast, else the real times."""

    def __init__(self, mill: Stack, seed: int, *, quick: bool = True, slots: int = 20) -> None:
        self.mill, self.chance, self.quick, self.slots = mill, random.Random(seed), quick, slots
        self.totals = Totals()
        self.workers: list[Child] = []
        self.frozen: list[tuple[Child, float]] = []
        self.mourned: list[tuple[str, float]] = []
        self.healing: float | None = None

    async def round(self, rows: int, accidents: int) -> None:
        """Submit, do harm, heal, wait, check."""
        self._staff()
        chosen = [self.chance.choice(ENDINGS) for _ in range(rows)]
        asked = [
            f"[emulate: {plays}, after={self.chance.uniform(0.05, 2):.2f}] What is {row} + 1?"
            for row, (plays, *_) in enumerate(chosen)
        ]
        batch = await self.mill.submit(asked)
        for _ in range(accidents):
            self._last(self.chance.uniform(0.1, 1.0))
            self._harm()
        self._heal()
        self._wait_for_end(batch)
        await self._check(batch, chosen)

    # ── accidents ──

    def _harm(self) -> None:
        harms = {
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
        harm = self.chance.choices(list(harms), list(harms.values()))[0]
        harm()
        self.totals.accidents[harm.__name__.removeprefix("_")] += 1

    def _any_worker(self) -> Child | None:
        icy = [child for child, _ in self.frozen]
        free = [child for child in self.workers if child.alive and child not in icy]
        return self.chance.choice(free) if free else None

    def _kill_worker(self) -> None:
        if worker := self._any_worker():
            self._mourn(worker)
            worker.kill()
            self.workers.remove(worker)
        self._staff()

    def _end_worker(self) -> None:
        if worker := self._any_worker():
            worker.signal(signal.SIGTERM)
            self.workers.remove(worker)
        self._staff()

    def _freeze_worker(self) -> None:
        if worker := self._any_worker():
            worker.freeze()
            self.frozen.append((worker, time.monotonic() + self.chance.choice([0.5, 2.0, 5.0])))

    def _kill_redis(self) -> None:
        self.mill.redis.kill()
        self._last(self.chance.choice([0.0, 1.0, 4.0]))
        self.mill.redis.start()
        self.mill.wait_for_servers()

    def _freeze_redis(self) -> None:
        self.mill.redis.freeze()
        self._last(self.chance.choice([0.5, 2.0, 4.0]))
        self.mill.redis.thaw()

    def _cut_redis(self) -> None:
        with self._redis() as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(skipme=True, _type=kind)

    def _kill_emulator(self) -> None:
        self.mill.emulator.kill()
        self._last(self.chance.choice([0.0, 2.0]))
        self.mill.emulator.start()
        self.mill.wait_for_servers()

    def _freeze_emulator(self) -> None:
        self.mill.emulator.freeze()
        self._last(self.chance.choice([0.5, 2.0]))
        self.mill.emulator.thaw()

    def _http_faults(self) -> None:
        self.mill.scenario("[http]\n" + self.chance.choice(FAULTS) + "\n")
        self.healing = time.monotonic() + self.chance.choice([0.5, 2.0])

    def _redeliver(self) -> None:
        with self._redis() as client:
            if messages := client.lrange("askmill", 0, -1):
                client.lpush("askmill", *messages)

    def _lose_messages(self) -> None:
        with self._redis() as client:
            client.delete("askmill")

    def _redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.mill.redis_url)

    # ── what goes on meanwhile ──

    def _last(self, seconds: float) -> None:
        """Let it last, and do what is due: thaw, end faults, look who has been replaced."""
        until = time.monotonic() + seconds
        wait_until(lambda: self._tick() and time.monotonic() >= until, "it has lasted", seconds + 60)

    def _tick(self) -> bool:
        now = time.monotonic()
        for worker, until in list(self.frozen):
            if now >= until:
                self.frozen.remove((worker, until))
                if worker.alive:
                    worker.thaw()
        if self.healing is not None and now >= self.healing:
            with suppress(httpx2.HTTPError):  # killed or frozen just now
                self.mill.scenario("")
                self.healing = None
        self._look_for_the_dead(now)
        return True

    def _mourn(self, worker: Child) -> None:
        """Remember a worker that holds rows and is about to be killed."""
        assert worker.process is not None
        with suppress(redis.RedisError), self._redis() as client:
            for name in client.zrange(keys.WORKERS, 0, -1):
                same = client.hget(keys.worker(name.decode()), "pid") == str(worker.process.pid).encode()
                if same and client.scard(keys.held(name.decode())):
                    self.mourned.append((keys.held(name.decode()), time.monotonic()))

    def _look_for_the_dead(self, now: float) -> None:
        if not self.mourned or not self.mill.redis.alive:
            return
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(self.mill.redis_url, socket_timeout=0.2) as client,
        ):
            names = [name.decode() for name in client.zrange(keys.WORKERS, 0, -1)]
            dead = {held for held, _ in self.mourned}
            heirs = [
                name
                for name in names
                if keys.held(name) not in dead and client.hexists(keys.worker(name), "slots")
            ]
            still = [held for held, _ in self.mourned if client.exists(held)]
            self.totals.recoveries_s += [now - since for held, since in self.mourned if held not in still]
            # Without another worker alive there is nobody to recover: the time counts from its heart's first beat.
            self.mourned = [(held, since if heirs else now) for held, since in self.mourned if held in still]

    def _staff(self) -> None:
        self.workers = [worker for worker in self.workers if worker.alive]
        while len(self.workers) < WORKERS:
            self.workers.append(self.mill.worker(self.slots, QUICK if self.quick else None))

    def _heal(self) -> None:
        for worker, _ in self.frozen:
            if worker.alive:
                worker.thaw()
        self.frozen.clear()
        self.healing = None
        self.mill.scenario("")
        self._staff()

    def _wait_for_end(self, batch: str) -> None:
        def over() -> bool:
            self._tick()
            with self._redis() as client:
                return client.hget(keys.batch(batch), "state") == b"done"

        try:
            wait_until(over, f"batch {batch} is done", 150)
        except AssertionError as late:
            self.totals.faults.append(str(late))

    # ── invariants ──

    async def _check(self, batch: str, chosen: list[tuple[str, JobStatus, int]]) -> None:
        stats, rows = self.mill.stats()["runs_by_job"], await self.mill.rows(batch)
        late, unknown = counter(self.mill, batch, "late_runs"), counter(self.mill, batch, "unknown_creates")
        surplus = 0
        for row, (plays, status, attempts) in zip(rows, chosen, strict=True):
            if row.result is None or row.status in {JobStatus.QUEUED, JobStatus.RUNNING}:
                self._blame("lost", f"{batch}:{row.row} [{plays}] is {row.status}")
                continue
            made = stats.get(f"{batch}:{row.row}", 0)
            surplus += abs(made - row.result.attempt_count)
            self.totals.runs += made
            if row.status is not status or (row.result.attempt_count != attempts and not unknown):
                said = f"{row.status} {row.result.error} after {row.result.attempt_count}"
                self._blame("wrong", f"{batch}:{row.row} [{plays}] ended {said}")
        twice = max(0, surplus - late - (unknown if self.mill.api == "responses" else 0))
        if twice:
            self._blame("paid_twice", f"{batch}: {surplus} runs more than attempts, {late} late", twice)
        self.totals.late, self.totals.unknown = self.totals.late + late, self.totals.unknown + unknown
        self.totals.rows, self.totals.rounds = self.totals.rows + len(chosen), self.totals.rounds + 1
        try:
            wait_until(self._sound, "Redis is as it must be", 20)
        except AssertionError:
            assert_no_leaks(self.mill.redis_url)

    def _blame(self, kind: str, sentence: str, by: int = 1) -> None:
        setattr(self.totals, kind, getattr(self.totals, kind) + by)
        self.totals.faults.append(sentence)

    def _sound(self) -> bool:
        try:
            assert_no_leaks(self.mill.redis_url)
        except AssertionError:
            return False
        return True

"""What machines do, one function for each: each begins an accident on a stack, and ends it before it returns.

`ACCIDENTS` is what `python -m benchmarks.chaos machines` and tests/chaos/test_machines.py measure. The random
rounds (driver.py) take some of them, at random moments and together with other accidents.
"""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from askmill.jobs.model.models import STATUS_OF_BYTE, UNFINISHED, Api
from tests.chaos.endings import CHAT_ATTEMPTS
from tests.chaos.machines import RDB_ONLY, MachineStack
from tests.chaos.support import counter, outage, status_bytes, wait_for_finished
from tests.helpers.clocks import WallClock, faketime_library
from tests.helpers.tcp_relay import Direction
from tests.stack import QUICK, Child
from tests.support import wait_until

HOUR_S = 3600
LIFETIME_S = QUICK["LIFETIME_S"]
MAX_LOST_S = 2.0
UNCUT_S = 2.0
"""How long old connections still write to a master that has been replaced."""
Act = Callable[[MachineStack, Random], None]


# ── Redis goes back in time ──


def power(stack: MachineStack, random: Random) -> None:
    """Redis loses its last 0.1 to 2 s; the workers live."""
    stack.lose_power(random.uniform(0.1, MAX_LOST_S))


def rdb(stack: MachineStack, _: Random) -> None:
    """Redis without AOF (`save 5 1`) loses what its last snapshot does not have; the workers live."""
    stack.lose_power(0)


def power_and_workers(stack: MachineStack, random: Random) -> None:
    """Redis loses its last 0.1 to 2 s, and the workers die with it."""
    stack.lose_power(random.uniform(0.1, MAX_LOST_S), workers=True)


def power_and_workers_on_disk(stack: MachineStack, _: Random) -> None:
    """The same with `ASKMILL_DURABILITY=disk`: what Redis has answered is on its disk, so its file is whole."""
    stack.lose_power(0, workers=True)


def lag(stack: MachineStack, random: Random) -> None:
    """The master dies, and a replica 0.1 to 2 s behind it is promoted."""
    replica, link = stack.take_replica()
    link.block("replies")
    outage(random.uniform(0.1, MAX_LOST_S))
    stack.redis.kill()
    stack.promote(replica)


def failover(stack: MachineStack, _: Random) -> None:
    """A planned failover: the replica is promoted, and all connections are cut."""
    replica, _ = stack.take_replica()
    old = stack.redis
    stack.promote(replica)
    stack.demote(old)


def failover_uncut(stack: MachineStack, _: Random) -> None:
    """A planned failover: old connections write to the old master for 2 s, then get READONLY. None is cut."""
    replica, _ = stack.take_replica()
    old = stack.redis
    stack.promote(replica, cut=False)
    outage(UNCUT_S)
    stack.demote(old)


# ── clocks ──


def redis_clock_step(stack: MachineStack, random: Random) -> None:
    """Redis' clock is set by an hour, ahead or back."""
    assert stack.clock is not None
    stack.clock.set(random.choice([HOUR_S, -HOUR_S]))


def redis_clock_drift(stack: MachineStack, _: Random) -> None:
    """Redis' clock goes 2 % too fast, ten times as fast as any that NTP still corrects."""
    assert stack.clock is not None
    stack.clock.set(0, rate=1.02)


def failover_to_another_clock(stack: MachineStack, random: Random) -> None:
    """A replica whose clock is an hour ahead or behind is promoted."""
    clock = WallClock(stack.folder, "clock-of-replica")
    clock.set(random.choice([HOUR_S, -HOUR_S]))
    replica, _ = stack.start_replica(clock)
    stack.promote(replica)


def worker_clock_step(stack: MachineStack, random: Random) -> None:
    """The workers' wall clock is set by an hour, ahead or back."""
    clock = WallClock(stack.folder, WORKER_CLOCK)
    clock.set(random.choice([HOUR_S, -HOUR_S]))


WORKER_CLOCK = "clock-of-workers"


# ── machines that sleep ──


def suspended_worker(stack: MachineStack, _: Random) -> None:
    """One of the workers is suspended for longer than its claims live."""
    _suspend([stack.workers[0]], LIFETIME_S * 1.5)


def suspended_machine(stack: MachineStack, _: Random) -> None:
    """Workers and Redis are suspended, as by the lid of a laptop; the API's runs go on."""
    _suspend([*stack.workers, stack.redis], LIFETIME_S * 1.5)


def _suspend(children: list[Child], seconds: float) -> None:
    for child in children:
        child.signal(signal.SIGSTOP)
    outage(seconds)
    for child in children:
        child.signal(signal.SIGCONT)


# ── networks and disks ──


def _partition(direction: Direction, *, deliver: bool, api: bool = False) -> Act:
    way = f"{direction} {'to' if direction == 'requests' else 'from'} {'the API' if api else 'Redis'}"

    def act(stack: MachineStack, random: Random) -> None:
        relay = stack.api_relay if api else stack.redis_relay
        relay.block(direction)
        outage(random.uniform(1.0, LIFETIME_S * 1.5))
        relay.unblock(direction, deliver=deliver)

    act.__doc__ = f"All {way} are held for 1 to 4.5 s, then {'delivered' if deliver else 'lost'}."
    return act


def disk(stack: MachineStack, random: Random) -> None:
    """The disk of Redis is full for 1 to 4.5 s: it refuses all writes."""
    stack.fill_disk()
    outage(random.uniform(1.0, LIFETIME_S * 1.5))
    stack.clear_disk()


@dataclass(frozen=True)
class Accident:
    """What happens, and the stack on which it happens."""

    act: Act
    workers: int = 1
    options: dict[str, str] = field(default_factory=dict)
    """Options of Redis."""
    durability: str = "process"
    replica: bool = False
    """Whether a replica is there before the batch is submitted."""
    redis_clock: bool = False
    worker_clock: bool = False
    promised: bool = True
    """Whether durability `process` promises that nothing is paid twice."""
    may_be_late: bool = False
    """Whether a run of a lost claim, cancelled and counted, is within the promise: the worker could not know."""
    begins_at: tuple[float, float] = (0.1, 0.5)
    """When it happens: after a share of the rows between these."""
    case: str = ""
    """The numbers in the list of cases."""

    @property
    def missing(self) -> str:
        """What is not installed here; '' if nothing is."""
        return "libfaketime" if self.redis_clock and faketime_library() is None else ""

    @contextmanager
    def stack(
        self, api: Api, slots: int = 50, times: dict[str, float] | None = QUICK
    ) -> Iterator[MachineStack]:
        """The running stack, without workers; each of them will have so many slots."""
        with ExitStack() as resources:
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
            stack = MachineStack(
                folder,
                api,
                persistence=self.options,
                clock=WallClock(folder) if self.redis_clock else None,
                times=times,
            )
            stack.slots, stack.durability = slots, self.durability
            yield resources.enter_context(stack)

    def start_workers(self, stack: MachineStack) -> None:
        """Start its workers."""
        clock = WallClock(stack.folder, WORKER_CLOCK) if self.worker_clock else None
        stack.start_workers(self.workers, clock)


ACCIDENTS: dict[str, Accident] = {
    "power": Accident(power, case="D1"),
    "power_and_workers": Accident(power_and_workers, promised=False, case="D2"),
    "power_and_workers_on_disk": Accident(
        power_and_workers_on_disk, options={"--appendfsync": "always"}, durability="disk", case="D2"
    ),
    "rdb": Accident(rdb, options=RDB_ONLY, case="D3"),
    "lag": Accident(lag, replica=True, case="D4"),
    "failover": Accident(failover, replica=True, case="D6"),
    "failover_uncut": Accident(failover_uncut, replica=True, case="D5, D6"),
    "redis_clock_step": Accident(redis_clock_step, workers=2, redis_clock=True),
    "redis_clock_drift": Accident(redis_clock_drift, workers=2, redis_clock=True),
    "failover_to_another_clock": Accident(failover_to_another_clock, redis_clock=True),
    "worker_clock_step": Accident(worker_clock_step, worker_clock=True, case="D8"),
    "suspended_worker": Accident(suspended_worker, workers=2, may_be_late=True),
    "suspended_machine": Accident(suspended_machine, workers=2),
    "partition_requests": Accident(_partition("requests", deliver=True)),
    "partition_requests_lost": Accident(_partition("requests", deliver=False)),
    "partition_replies": Accident(_partition("replies", deliver=True)),
    "partition_replies_lost": Accident(_partition("replies", deliver=False)),
    "partition_api_requests": Accident(_partition("requests", deliver=True, api=True)),
    "partition_api_replies_lost": Accident(_partition("replies", deliver=False, api=True)),
    "disk": Accident(disk, case="D14"),
}


# ── the measurement ──


@dataclass
class Outcome:
    """What accidents cost. All numbers are counts of rows, but for `accidents`, `late` and `seconds`."""

    accidents: int = 0
    rows: int = 0
    lost: int = 0
    """Rows of a batch that is gone, or that ended without a result."""
    hung: int = 0
    """Rows that had not ended when none had ended for `stall_s`."""
    paid_twice: int = 0
    """Rows with more than one run at the emulator, the late ones included."""
    late: int = 0
    """Runs of claims that were lost, found, cancelled and counted by the batch."""
    unknown: int = 0
    recovered_writes: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


async def measure(
    accident: Accident, stack: MachineStack, random: Random, rows: int, stall_s: float = 60.0
) -> Outcome:
    """One batch, the accident in its midst, and what it has cost when all rows have ended or none ends any more.

    Args:
        accident: what happens.
        stack: of this accident, just started.
        random: decides when it happens, how much is lost, and how long runs take (0.3 to 3 s).
        rows: of the batch.
        stall_s: after how long without the end of a row the others have hung.
    """
    questions = [
        f"[emulate: completed after={random.uniform(0.3, 3):.2f}] What is {row} + 1?" for row in range(rows)
    ]
    if accident.replica:
        stack.start_replica()
    limits = {"attempts": CHAT_ATTEMPTS} if stack.api == "chat" else {}
    batch, began_s = await stack.submit(questions, **limits), time.monotonic()
    stack.batch = batch
    if accident.options == RDB_ONLY:
        _wait_for_snapshot(stack)
    accident.start_workers(stack)
    wait_for_finished(stack, batch, int(rows * random.uniform(*accident.begins_at)), timeout_s=120)
    # No accident takes the submit itself away: what a client has stored is not what is measured here.
    outage(max(0.0, began_s + MAX_LOST_S + 0.2 - time.monotonic()))
    assert _unfinished(stack, batch), "the batch has ended before the accident: give it more rows"
    accident.act(stack, random)
    hung = _wait_for_end(stack, batch, stall_s)
    return await _outcome(stack, batch, rows, hung, time.monotonic() - began_s)


def rows_ended(stack: MachineStack) -> int:
    """How many rows of the measured batch have ended."""
    bytes_ = status_bytes(stack, stack.batch)
    return sum(rows for byte, rows in bytes_.items() if STATUS_OF_BYTE[byte] not in UNFINISHED)


def _wait_for_snapshot(stack: MachineStack) -> None:
    """Until a snapshot has the whole batch."""
    with stack.connect() as client:
        since = client.lastsave()
        wait_until(lambda: client.lastsave() > since, "a snapshot is written", 30)


def _wait_for_end(stack: MachineStack, batch: str, stall_s: float) -> int:
    """Wait until all rows have ended, or none has for `stall_s`; return how many have not."""
    last, changed_s = -1, time.monotonic()

    def is_over() -> bool:
        nonlocal last, changed_s
        unfinished = _unfinished(stack, batch)
        if unfinished != last:
            last, changed_s = unfinished, time.monotonic()
        return last == 0 or time.monotonic() - changed_s > stall_s

    wait_until(is_over, "the batch ends or stalls", 3600)
    return last


def _unfinished(stack: MachineStack, batch: str) -> int:
    bytes_ = status_bytes(stack, batch)
    return sum(rows for byte, rows in bytes_.items() if STATUS_OF_BYTE[byte] in UNFINISHED)


async def _outcome(stack: MachineStack, batch: str, rows: int, hung: int, seconds: float) -> Outcome:
    results = [row.result for row in await stack.rows(batch)]
    runs = stack.stats()["runs_by_job"]
    twice = sum(count > 1 for name, count in runs.items() if name.startswith(f"{batch}:"))
    counted = {
        name: counter(stack, batch, name) for name in ("late_runs", "unknown_creates", "recovered_writes")
    }
    return Outcome(
        accidents=1,
        rows=rows,
        lost=rows - hung - sum(result is not None for result in results),
        hung=hung,
        paid_twice=twice,
        late=counted["late_runs"],
        unknown=counted["unknown_creates"],
        recovered_writes=counted["recovered_writes"],
        seconds=round(seconds, 1),
    )

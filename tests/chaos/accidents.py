"""What machines do, one function for each: each begins an accident on a stack, and ends it before it returns.

`ACCIDENTS` is what `python -m benchmarks.chaos machines` and tests/chaos/test_machines.py measure. The random
rounds (driver.py) take some of them, at random moments and together with other accidents.
"""

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from askmill.jobs.model.models import Api
from tests.chaos.machines import RDB_ONLY, MachineStack
from tests.chaos.support import outage
from tests.helpers.clocks import WallClock, faketime_library
from tests.helpers.tcp_relay import Direction
from tests.stack import QUICK, Child

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


def lag(stack: MachineStack, random: Random) -> None:
    """The master dies, and a replica 0.1 to 2 s behind it is promoted."""
    replica, link = stack.take_replica()
    link.block("replies")
    outage(random.uniform(0.1, MAX_LOST_S))
    stack.redis.kill()
    _take_over(stack, replica)


def lag_and_workers(stack: MachineStack, random: Random) -> None:
    """The same, and the workers die with the master."""
    replica, link = stack.take_replica()
    link.block("replies")
    outage(random.uniform(0.1, MAX_LOST_S))
    dying = [worker for worker in stack.workers if worker.alive]
    stack.kill_together(*dying, stack.redis)
    _take_over(stack, replica)
    stack.start_workers(len(dying))


def _take_over(stack: MachineStack, replica: Child) -> None:
    """Promote it; durability `replica` needs another replica then."""
    stack.promote(replica)
    if stack.durability == "replica":
        stack.start_replica()


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

    def with_durability(self, durability: str) -> "Accident":
        """The same accident at this `ASKMILL_DURABILITY`, on a Redis that gives it."""
        options = {**self.options, **({"--appendfsync": "always"} if durability == "disk" else {})}
        replica = self.replica or durability == "replica"
        return replace(self, durability=durability, options=options, replica=replica)

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
    "power_and_workers_on_disk": Accident(power_and_workers, case="D2").with_durability("disk"),
    "rdb": Accident(rdb, options=RDB_ONLY, case="D3"),
    "lag": Accident(lag, replica=True, case="D4"),
    "lag_and_workers": Accident(lag_and_workers, replica=True, promised=False, case="D2, D4"),
    "lag_and_workers_with_replica": Accident(lag_and_workers, case="D2, D4").with_durability("replica"),
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

"""Random chaos with accidents of machines as well: power, replicas, clocks, sleep, partitions, a full disk.

What a Redis loses is never older than the last death of a worker, nor than the submit, and no worker dies before it
has written again what was lost: durability `process` promises nothing about what nobody can write again.
"""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import redis

from askmill.jobs.model.models import Api
from askmill.jobs.store import keys
from tests.chaos.accidents import HOUR_S
from tests.chaos.driver import Chaos
from tests.chaos.machines import MachineStack
from tests.chaos.support import worker_names
from tests.helpers.clocks import WallClock, faketime_library
from tests.stack import QUICK, Child

LONGEST_LOSS_S = 2.0
RECOVERED_WITHIN_S = 20.0
"""How long a worker is waited for before it is killed; one that is still starting is spared."""


def machine_stack(folder: Path, api: Api, *, quick: bool = True) -> MachineStack:
    """The stack of these rounds; its Redis has a clock that can be set, where libfaketime is installed."""
    clock = WallClock(folder) if faketime_library() else None
    return MachineStack(folder, api, clock=clock, times=QUICK if quick else None)


class MachineChaos(Chaos):
    """As `Chaos`, on a `MachineStack`."""

    stack: MachineStack
    random: Random

    def _accidents(self) -> dict[Callable[[], None], int]:
        accidents = {
            self._lose_power: 3,
            self._promote_a_late_replica: 1,
            self._fail_over_uncut: 1,
            self._suspend_everything: 1,
            self._partition: 3,
            self._fill_disk: 1,
        }
        if self.stack.clock is not None:
            accidents[self._set_redis_clock] = 2
        return {**super()._accidents(), **accidents}

    def _may_die(self, worker: Child) -> bool:
        """A worker that dies before it has written again what a Redis has lost dies with that Redis."""
        assert worker.process is not None
        until_s = time.monotonic() + RECOVERED_WITHIN_S
        while time.monotonic() < until_s:
            if self._has_confirmed(worker.process.pid):
                return True
            self._wait(0.1)
        return False

    def _has_confirmed(self, pid: int) -> bool:
        """Whether the worker has said of the present server that its writes are there.

        The server's own `keys.SERVER` may be what it held before it lost them: no worker may have called since.
        """
        with suppress(redis.RedisError), self._redis() as client:
            server = f"{client.info('server')['run_id']}/{client.info('replication')['master_replid']}"
            if (name := worker_names(client).get(pid)) is not None:
                return bool(client.hget(keys.worker(name), "server") == server.encode())
        return False

    def _longest_loss_s(self) -> float:
        """How much a Redis may lose now; 0: nothing, for a worker is ending."""
        self._tick()
        return 0.0 if self.ending else min(LONGEST_LOSS_S, time.monotonic() - self.unsafe_until_s - 0.1)

    def _lose_power(self) -> None:
        if (most_s := self._longest_loss_s()) > 0:
            self.stack.lose_power(self.random.uniform(0.0, most_s))

    def _promote_a_late_replica(self) -> None:
        if self.ending:
            return
        replica, link = self.stack.take_replica()
        link.block("replies")
        self._wait(self.random.uniform(0.1, LONGEST_LOSS_S))
        self.stack.redis.kill()
        self.stack.promote(replica)
        self.stack.wait_for_servers()

    def _fail_over_uncut(self) -> None:
        if self.ending:
            return
        replica, _ = self.stack.take_replica()
        old = self.stack.redis
        self.stack.promote(replica, cut=False)
        self._wait(self.random.uniform(0.1, LONGEST_LOSS_S))
        self.stack.demote(old)
        self._wait(1.0)
        old.kill()

    def _suspend_everything(self) -> None:
        children = [child for child in (*self.workers, self.stack.redis, self.stack.emulator) if child.alive]
        for child in children:
            child.signal(signal.SIGSTOP)
        # No wait that thaws workers: the machine sleeps.
        time.sleep(self.random.choice([0.5, 4.0]))
        for child in children:
            if child not in [worker for worker, _ in self.frozen]:
                child.signal(signal.SIGCONT)

    def _partition(self) -> None:
        relay = self.random.choice([self.stack.redis_relay, self.stack.api_relay])
        direction = self.random.choice(["requests", "replies"])
        relay.block(direction)
        self._wait(self.random.choice([0.5, 2.0, 4.0]))
        relay.unblock(direction, deliver=self.random.choice([True, False]))
        self.stack.wait_for_servers()

    def _fill_disk(self) -> None:
        self.stack.fill_disk()
        self._wait(self.random.choice([1.0, 4.0]))
        self.stack.clear_disk()

    def _set_redis_clock(self) -> None:
        assert self.stack.clock is not None
        self.stack.clock.set(self.random.choice([-HOUR_S, -30, -3, 0, 3, 30, HOUR_S]))

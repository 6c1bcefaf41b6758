"""The pool against a model: slots and outcomes are right, whatever Celery does and in whatever order."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from askmill.worker.celery import greenlet_pool
from askmill.worker.celery.greenlet_pool import await_coroutine
from tests.helpers.workers.pool_driver import Callbacks, PoolDriver


@dataclass(eq=False)
class ModelTask:
    """One task: its callbacks so far, and those expected so far."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    callbacks: Callbacks = field(default_factory=Callbacks)
    expected: list[str] = field(default_factory=list)
    revoked: bool = False
    fails: bool = False


def suspended_body(task: ModelTask) -> None:
    await_coroutine(task.gate.wait())
    if task.fails:
        raise ValueError


class PoolMachine(RuleBasedStateMachine):
    """First in, first out; never more running tasks than the limit; each ends with one outcome or none."""

    @initialize(limit=st.integers(1, 4))
    def start(self, limit: int) -> None:
        self.driver = PoolDriver(limit)
        self.limit = limit
        self.tasks: list[ModelTask] = []
        self.waiting: list[ModelTask] = []
        self.running: list[ModelTask] = []

    @rule()
    def celery_applies(self) -> None:
        task = ModelTask()
        task.callbacks = self.driver.apply(suspended_body, task)
        self.tasks.append(task)
        self.waiting.append(task)
        self.fill()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans())
    def a_body_ends(self, data: st.DataObject, fails: bool) -> None:
        task = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        task.fails = fails
        task.expected.append("error" if fails else "value")
        greenlet_pool.event_loop().call_soon_threadsafe(task.gate.set)
        self.fill()

    @precondition(lambda self: self.running or self.waiting)
    @rule(data=st.data())
    def celery_terminates(self, data: st.DataObject) -> None:
        alive = self.running + self.waiting
        task = alive[data.draw(st.integers(0, len(alive) - 1))]
        task.revoked = True
        assert task.callbacks.task is not None
        task.callbacks.task.terminate()
        if task in self.running:
            self.running.remove(task)
        self.fill()

    @rule(n=st.integers(1, 3))
    def celery_grows(self, n: int) -> None:
        self.driver.pool.grow(n)
        self.limit += n
        self.fill()

    @rule(n=st.integers(1, 3))
    def celery_shrinks(self, n: int) -> None:
        self.driver.pool.shrink(n)
        self.limit = max(1, self.limit - n)

    @rule()
    def the_connection_is_lost(self) -> None:
        self.driver.pool.flush()
        self.waiting.clear()

    def fill(self) -> None:
        while self.waiting and len(self.running) < self.limit:
            task = self.waiting.pop(0)
            task.expected.append("accepted")
            if not task.revoked:
                self.running.append(task)

    @invariant()
    def the_pool_agrees(self) -> None:
        def agrees() -> bool:
            info = self.driver.pool.info
            return (
                [t.callbacks.names for t in self.tasks] == [t.expected for t in self.tasks]
                and info["running"] == len(self.running)
                and info["waiting"] == len(self.waiting)
                and info["max-concurrency"] == self.limit
            )

        self.driver.until(agrees, "the pool agrees with the model")

    def teardown(self) -> None:
        for task in self.tasks:
            greenlet_pool.event_loop().call_soon_threadsafe(task.gate.set)
        self.driver.pool.stop()
        ended = [t.callbacks.names for t in self.running]
        assert all(names == ["accepted", "value"] for names in ended)
        self.driver.close()


PoolMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
test_the_pool_behaves_as_its_model = PoolMachine.TestCase

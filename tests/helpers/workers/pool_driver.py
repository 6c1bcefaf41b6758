"""A pool without a worker: the test is the main thread, and Celery's hub runs only while the test waits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kombu.asynchronous import Hub

from askmill.worker.celery.greenlet_pool import PoolTask, TaskPool
from tests.support import wait_until


@dataclass
class Callbacks:
    """The pool's callbacks for one task, in order: `accepted`, `value`, `error`, `timeout`."""

    events: list[tuple[str, Any]] = field(default_factory=list)
    task: PoolTask | None = None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    @property
    def outcome(self) -> Any:
        return self.events[-1][1]


class PoolDriver:
    """A running pool with its hub."""

    def __init__(self, limit: int, **options: Any) -> None:
        self.pool = TaskPool(limit, **options)
        self.hub = Hub()
        self.pool.start()
        self.pool.register_with_event_loop(self.hub)
        self.hub.timer.call_repeatedly(0.001, lambda: None)  # otherwise `run_once` waits for a second

    def apply(self, body: Callable[..., Any], *args: Any, timeout: float | None = None) -> Callbacks:
        """Pass `body` to the pool as Celery passes its tracer."""
        callbacks = Callbacks()
        task = self.pool.apply_async(
            body,
            args,
            correlation_id="b_1:1:1",
            timeout=timeout,
            accept_callback=lambda *_: callbacks.events.append(("accepted", None)),
            callback=lambda value: callbacks.events.append(("value", value)),
            error_callback=lambda info: callbacks.events.append(("error", info.exception.exc)),
            timeout_callback=lambda soft, limit_s: callbacks.events.append(("timeout", (soft, limit_s))),
        )
        callbacks.task = task
        return callbacks

    def until(self, predicate: Callable[[], Any], description: str) -> None:
        """Run the hub until `predicate` holds."""

        def run_hub_once() -> Any:
            self.hub.run_once()
            return predicate()

        wait_until(run_hub_once, description)

    def close(self) -> None:
        self.pool.terminate()
        self.hub.close()


@contextmanager
def pool_driver(limit: int = 10, **options: Any) -> Iterator[PoolDriver]:
    """A pool that ends with the test."""
    driver = PoolDriver(limit, **options)
    try:
        yield driver
    finally:
        driver.close()

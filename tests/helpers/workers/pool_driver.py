"""A pool without a worker: the test is the main thread, and Celery's hub turns only while the test waits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kombu.asynchronous import Hub

from askmill.worker.celery.greenlet_pool import InFlight, TaskPool
from tests.support import wait_until


@dataclass
class Told:
    """What the pool told Celery of one task, in order: `accepted`, `value`, `error`, `timeout`."""

    events: list[tuple[str, Any]] = field(default_factory=list)
    flight: InFlight | None = None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    @property
    def outcome(self) -> Any:
        return self.events[-1][1]


class Driver:
    """A started pool and its hub."""

    def __init__(self, limit: int, **options: Any) -> None:
        self.pool = TaskPool(limit, **options)
        self.hub = Hub()
        self.pool.start()
        self.pool.register_with_event_loop(self.hub)
        self.hub.timer.call_repeatedly(0.001, lambda: None)  # or `run_once` would wait for a second

    def apply(self, body: Callable[..., Any], *args: Any, timeout: float | None = None) -> Told:
        """Hand `body` to the pool as Celery hands its tracer."""
        told = Told()
        flight = self.pool.apply_async(
            body,
            args,
            correlation_id="b_1:1:1",
            timeout=timeout,
            accept_callback=lambda *_: told.events.append(("accepted", None)),
            callback=lambda value: told.events.append(("value", value)),
            error_callback=lambda info: told.events.append(("error", info.exception.exc)),
            timeout_callback=lambda soft, limit_s: told.events.append(("timeout", (soft, limit_s))),
        )
        told.flight = flight
        return told

    def until(self, predicate: Callable[[], Any], description: str) -> None:
        """Turn the hub until `predicate` holds."""

        def turn() -> Any:
            self.hub.run_once()
            return predicate()

        wait_until(turn, description)

    def close(self) -> None:
        self.pool.terminate()
        self.hub.close()


@contextmanager
def driven(limit: int = 10, **options: Any) -> Iterator[Driver]:
    """A pool that ends with the test."""
    driver = Driver(limit, **options)
    try:
        yield driver
    finally:
        driver.close()

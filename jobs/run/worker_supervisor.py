"""The workers that `run` sees to: one of its own where there is none, and another when that is killed."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from askmill.jobs.local import Child
from askmill.jobs.model.errors import LocalFault
from askmill.jobs.store.records import StatusView

ALONE_S = 30.0
"""How long nobody must have been alive before `run` starts a worker of its own in somebody else's Redis."""


BOOT_S = 60.0
"""Longest time a worker may take from its start to its first heartbeat."""


class WorkerSupervisor:
    """`start` makes a worker that ends with `stack`."""

    def __init__(
        self, start: Callable[[], AbstractContextManager[Child]], stack: ExitStack, log: Path
    ) -> None:
        self._start, self._stack, self._log = start, stack, log
        self._own: Child | None = None
        self._beat = False
        self._seen_s = self._started_s = time.monotonic()

    def reinforce(self) -> None:
        """Start a worker of our own."""
        self._own = self._stack.enter_context(self._start())
        self._beat = False
        self._seen_s = self._started_s = time.monotonic()

    def watch(self, view: StatusView) -> None:
        """Look after the workers. Raises LocalFault when our own ended before it could work at all."""
        if view.workers:
            self._seen_s = time.monotonic()
        if self._own is None:
            if time.monotonic() - self._seen_s > ALONE_S:
                self.reinforce()
            return
        self._beat = self._beat or any(card.pid == self._own.pid for card in view.workers)
        try:
            self._own.check()
        except LocalFault:
            # One that never worked would never work; one that was killed is replaced.
            if not self._beat:
                raise
            self.reinforce()
        if not self._beat and time.monotonic() - self._started_s > BOOT_S:
            raise LocalFault(
                f"The worker has not come to work within {BOOT_S:g} s; its log, {self._log}, may say why. "
                "Nothing is lost; the same command goes on."
            )

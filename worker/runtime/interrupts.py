"""What interrupts a waiting job: the end of the process, a cancelled or paused batch, a lost claim."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from askmill.worker.runtime.context import elapsed_clock_s


class ClaimLost(Exception):
    """Another worker holds the row now, or the row is gone: this worker must not store anything for it."""


class ShuttingDown(Exception):
    """The process is ending: the row must be released with its state."""


@dataclass(slots=True)
class Interrupts:
    """The interrupts of one job. `wake` ends its wait."""

    shutting_down: bool = False
    claim_lost: bool = False
    task: asyncio.Task[object] | None = None
    """The job's task, which is cancelled when it does not end in time."""
    wake_pending: bool = False
    """`wake` was called while the job did not wait: the next wait ends at once."""
    waiting: asyncio.Future[None] | None = None
    on_wake: Callable[[], None] | None = None
    """Called by `wake`: a request in progress may have to end."""

    def raise_if_ending(self) -> None:
        """Raises ClaimLost or ShuttingDown when the job must end."""
        if self.claim_lost:
            raise ClaimLost
        if self.shutting_down:
            raise ShuttingDown

    def wake(self) -> None:
        """End the current wait, or the next one: something has changed."""
        self.wake_pending = True
        self._end_wait()
        if self.on_wake is not None:
            self.on_wake()

    async def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until `wake`. Raises as `raise_if_ending`."""
        self.raise_if_ending()
        if seconds > 0:
            if not self.wake_pending:
                # A future and a timer use less memory than any other wait, and thousands of jobs wait.
                loop = asyncio.get_running_loop()
                self.waiting = loop.create_future()
                timer = loop.call_later(seconds, self._end_wait)
                try:
                    await self.waiting
                finally:
                    timer.cancel()
                    self.waiting = None
            self.wake_pending = False
        self.raise_if_ending()

    async def sleep_full(self, seconds: float) -> None:
        """Wait the whole time, whatever wakes the job. Raises as `raise_if_ending`."""
        until_s = elapsed_clock_s() + seconds
        while (left_s := until_s - elapsed_clock_s()) > 0:
            await self.sleep(left_s)

    def _end_wait(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

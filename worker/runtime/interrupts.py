"""What may interrupt a waiting job: the end of the process, a cancelled or paused batch, a lost claim."""

import asyncio
from dataclasses import dataclass


class ClaimLost(Exception):
    """Another worker holds the row now, or the row is gone: nothing of ours counts any more."""


class ShuttingDown(Exception):
    """The process is to end: give the row back with all that is known."""


@dataclass(slots=True)
class Interrupts:
    """One a job. `wake` ends its wait; `leaving` and `lost` say that there is no use in going on."""

    shutting_down: bool = False
    claim_lost: bool = False
    task: asyncio.Task[object] | None = None
    """What follows the row, to be cut off when it does not leave in time."""
    wake_pending: bool = False
    """Something has changed that no wait has heard of yet."""
    waiting: asyncio.Future[None] | None = None

    def raise_if_ending(self) -> None:
        """Raises Stale or ShuttingDown when there is no use in going on."""
        if self.claim_lost:
            raise ClaimLost
        if self.shutting_down:
            raise ShuttingDown

    def wake(self) -> None:
        """Something has changed: end the wait, or the next one."""
        self.wake_pending = True
        self._end_wait()

    async def sleep(self, seconds: float) -> None:
        """Wait, or less when something has changed. Raises as `raise_if_ending`."""
        self.raise_if_ending()
        if seconds > 0:
            if not self.wake_pending:
                await self._wait(seconds)
            self.wake_pending = False
        self.raise_if_ending()

    async def _wait(self, seconds: float) -> None:
        """A future and a timer: of all ways to wait the one that takes least, and thousands wait."""
        loop = asyncio.get_running_loop()
        self.waiting = loop.create_future()
        timer = loop.call_later(seconds, self._end_wait)
        try:
            await self.waiting
        finally:
            timer.cancel()
            self.waiting = None

    def _end_wait(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

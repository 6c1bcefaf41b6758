"""What may interrupt a waiting job: the end of the process, a cancelled or paused batch, a lost claim."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field


class Stale(Exception):
    """Another worker holds the row now, or the row is gone: nothing of ours counts any more."""


class HandOver(Exception):
    """The process is to end: give the row back with all that is known."""


@dataclass
class Signals:
    """One a job. `changed` wakes it; `leaving` and `lost` say that there is no use in going on."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: bool = False
    lost: bool = False
    task: asyncio.Task[object] | None = None
    """What follows the row, to be cut off when it does not leave in time."""

    def raise_if_ending(self) -> None:
        """Raises Stale or HandOver when there is no use in going on."""
        if self.lost:
            raise Stale
        if self.leaving:
            raise HandOver

    async def sleep(self, seconds: float) -> None:
        """Wait, or less when something has changed. Raises as `raise_if_ending`."""
        self.raise_if_ending()
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.changed.wait()
            self.changed.clear()
        self.raise_if_ending()

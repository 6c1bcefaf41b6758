"""What all workers together may ask of the API: one booking a request, one a run's tokens, on Redis' clock.

Nothing is booked where no limit is set, so that an unlimited batch costs no round trip. Runs in flight are
limited where rows are handed out (`jobs/store/lua/dispatch.lua`): a claimed row never waits for another's end.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from askmill.jobs.store import Store

Sleep = Callable[[float], Awaitable[None]]


@dataclass
class SharedLimits:
    """This process' view of the limits; `refresh` with each heartbeat makes changes known."""

    store: Store
    set_now: dict[str, int] = field(default_factory=dict)

    async def refresh(self) -> None:
        """Learn the limits that are set now."""
        self.set_now = await self.store.limits()

    async def request(self, sleep: Sleep) -> None:
        """Wait for the turn of one request."""
        if "requests_per_minute" in self.set_now:
            await sleep(await self.store.reserve_rate("requests_per_minute", 1))

    async def tokens(self, expected: int, sleep: Sleep) -> None:
        """Wait for the turn of a run that will take about so many tokens."""
        if "tokens_per_minute" in self.set_now:
            await sleep(await self.store.reserve_rate("tokens_per_minute", expected))

    async def settle(self, expected: int, used: int | None) -> None:
        """The run took so many tokens: what was booked too much is given back, or more is taken."""
        if used is not None and used != expected and "tokens_per_minute" in self.set_now:
            await self.store.reserve_rate("tokens_per_minute", used - expected)

    async def throttle(self, wait_s: float) -> None:
        """The API told us to wait: everybody does, with half as many runs in flight."""
        await self.store.throttle(wait_s)

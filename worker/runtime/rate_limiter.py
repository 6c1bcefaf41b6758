"""The rate limits that all workers share: one reservation per request, and one per run for its tokens.

Redis keeps the limits and the reservations, on its own clock. Where no limit is set nothing is reserved, so
an unlimited batch costs no round trip. The number of runs in flight is limited at dispatch
(`jobs/store/lua/dispatch.lua`): a claimed row never waits for the end of another.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from askmill.jobs.store import Store

Sleep = Callable[[float], Awaitable[None]]


@dataclass
class SharedLimits:
    """This process' copy of the limits; each heartbeat refreshes it."""

    store: Store
    current: dict[str, int] = field(default_factory=dict)

    async def refresh(self) -> None:
        """Read the limits that are set now."""
        self.current = await self.store.read_limits()

    async def acquire(self, limit: str, amount: int, sleep: Sleep) -> None:
        """Wait until the limit (`requests_per_minute`, `tokens_per_minute`) allows so much more."""
        if limit in self.current:
            await sleep(await self.store.reserve_rate(limit, amount))

    async def settle_tokens(self, expected: int, used: int) -> None:
        """Correct the reservation once the run's real usage is known."""
        if used != expected and "tokens_per_minute" in self.current:
            await self.store.reserve_rate("tokens_per_minute", used - expected)

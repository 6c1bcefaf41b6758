"""What all workers together may ask of the API: limits users set, and those the API told one of them."""

from askmill.jobs.store import keys
from askmill.jobs.store.connection import Connection

LIMITS = ("requests_per_minute", "tokens_per_minute", "max_runs")
GIVEN = "given:"
"""Before a limit's name: what a worker's settings said, so that a change by hand is told from it."""


class RateLimitMixin:
    """The shared limits. They are kept in Redis, so that they can be changed while workers run."""

    _at: Connection

    async def set_limits(self, **limits: int | None) -> None:
        """Set those that are given a number; the others stay as they are."""
        given = [part for name, value in limits.items() if value is not None for part in (name, value)]
        if given:
            await self._at.pipeline(("HSET", keys.LIMITS, *given))

    async def begin_limits(self, *, alone: bool, **settings: int | None) -> None:
        """Set what the settings of a worker that starts say.

        With no other worker there (`alone`), what earlier ones had set and nobody changed by hand goes.
        """
        (stored,) = await self._at.pipeline(("HGETALL", keys.LIMITS))
        told = {name.decode(): value for name, value in stored.items()}
        old = [name for name in LIMITS if alone and name in told and told[name] == told.get(GIVEN + name)]
        if old:
            await self._at.pipeline(("HDEL", keys.LIMITS, *old, *(GIVEN + name for name in old)))
        await self.set_limits(**settings, **{GIVEN + name: value for name, value in settings.items()})

    async def limits(self) -> dict[str, int]:
        """The limits that are set, by name."""
        (stored,) = await self._at.pipeline(("HGETALL", keys.LIMITS))
        found = {name.decode(): int(value) for name, value in stored.items()}
        return {name: value for name, value in found.items() if name in LIMITS}

    async def reserve_rate(self, kind: str, cost: int) -> float:
        """Book `cost` requests or tokens; returns the seconds to wait before using them."""
        return await self._at.scripts.reserve_rate(kind, cost) / 1000

    async def throttle(self, wait_s: float) -> int | None:
        """The API told somebody to wait so long. Returns the runs that may be in flight; None: any number."""
        return await self._at.scripts.throttle(int(wait_s * 1000))

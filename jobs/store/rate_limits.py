"""Limits that all workers share: those that users set, and those that the API set with a 429."""

from askmill.config.log_warning import log_warning
from askmill.jobs.store import keys
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.scripts import new_request
from askmill.jobs.store.waits import MAX_WORDS

LIMITS = ("requests_per_minute", "tokens_per_minute", "max_runs")
_FROM_SETTINGS = "from_settings:"
"""Prefix of the field with the value of a worker's settings: a limit that differs was changed by hand."""


class RateLimitMixin:
    """The shared limits. They are in Redis, so they can be changed while workers run."""

    _connection: Connection

    async def set_limits(self, **limits: int | None) -> None:
        """Set the limits that have a number; None leaves a limit as it is."""
        values = [part for name, value in limits.items() if value is not None for part in (name, value)]
        if values:
            await self._connection.pipeline(("HSET", keys.LIMITS, *values))

    async def apply_worker_limits(self, *, alone: bool, **settings: int | None) -> None:
        """Set the limits of a starting worker's settings.

        Args:
            alone: no other worker is alive: limits that earlier workers' settings have set are removed first,
                but not those changed by hand.
            settings: limit → value; None sets nothing.
        """
        (stored,) = await self._connection.pipeline(("HGETALL", keys.LIMITS))
        values = {name.decode(): value for name, value in stored.items()}
        outdated = [
            name
            for name in LIMITS
            if alone and name in values and values[name] == values.get(_FROM_SETTINGS + name)
        ]
        if outdated:
            fields = [*outdated, *(_FROM_SETTINGS + name for name in outdated)]
            await self._connection.pipeline(("HDEL", keys.LIMITS, *fields))
        marked = {_FROM_SETTINGS + name: value for name, value in settings.items()}
        await self.set_limits(**settings, **marked)

    async def read_limits(self) -> dict[str, int]:
        """Return the limits that are set, by name. One that is no number is left out and logged."""
        (stored,) = await self._connection.pipeline(("HMGET", keys.LIMITS, *LIMITS))
        limits = dict[str, int]()
        for name, value in zip(LIMITS, stored, strict=True):
            try:
                limits |= {} if value is None else {name: int(value)}
            except ValueError:
                log_warning("limits.unreadable", limit=name, value=value.decode(errors="replace")[:40])
        return limits

    async def reserve_rate(self, kind: str, cost: int) -> float:
        """Reserve `cost` requests or tokens; returns the seconds to wait before using them."""
        return await self._connection.scripts.reserve_rate(new_request(), kind, cost) / 1000

    async def throttle(self, wait_s: float, words: str = "", *, request: str | None = None) -> int | None:
        """Record a 429 with its wait and words. Returns the runs that may be in flight; None: any number.

        Called again with the same `request`, it counts once.
        """
        request, wait_ms = request or new_request(), int(wait_s * 1000)
        return await self._connection.scripts.throttle(request, wait_ms, words[:MAX_WORDS])

"""Whether Redis gives the durability of the settings: asked at the start, and of every other server.

at the start                       no: the worker ends with exit code 2
later, as after a failover         no: it creates no run and says why, until that Redis is set up
a master without a replica         where durability `replica` is needed: no create is confirmed; it says why

Each new connection asks as well (jobs/store/redis_pool.py): the mark before a create is refused at once, and
the next heartbeat reports why.
"""

import secrets
from collections.abc import Iterable

import structlog

from askmill.jobs.model.errors import UsageError
from askmill.jobs.store import Store
from askmill.jobs.store.waits import Fault

log = structlog.get_logger()


class DurabilityCheck:
    """Belongs to one worker process."""

    def __init__(self, store: Store) -> None:
        self.is_due = False
        """Another server has answered, or the last one did not do."""
        self._store = store
        self._refusal = ""

    async def check(self) -> None:
        """Log how this Redis may lose batches. Raises UsageError where the durability cannot be had."""
        weaknesses = await self._store.check_server()
        missing = "".join(weakness.sentence for weakness in weaknesses if weakness.stops_creates)
        if not missing or missing != self._refusal:
            for weakness in weaknesses:
                log.warning("redis.may_lose_batches", reason=weakness.sentence)
        if self._refusal and not missing:
            log.warning("redis.durable_again")
        self.is_due, self._refusal = bool(missing), missing

    async def allows_creates(self, batches: Iterable[str]) -> bool:
        """Return whether runs may be created; where none can be, report why as a fault of these batches."""
        if not (self.is_due or self._store.may_forget):
            return True
        try:
            await self.check()
        except UsageError as fault:
            if str(fault) != self._refusal:
                self._refusal = str(fault)
                # No traceback: the sentence says what to do.
                log.error(  # noqa: TRY400
                    "redis.not_durable", reason=self._refusal
                )
            await self._report(batches)
            return False
        if self._refusal:
            await self._report(batches)
        return True

    async def _report(self, batches: Iterable[str]) -> None:
        for batch in list(batches):
            words = f"No run is created: {self._refusal}"
            await self._store.record_fault(batch, Fault("not_durable", words, "", 1, secrets.token_hex(8)))

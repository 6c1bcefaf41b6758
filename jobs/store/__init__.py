"""All state of batches and rows, in Redis. Nothing else reads or writes it.

    mixin                           used by     methods
    ──────────────────────────────  ──────────  ──────────────────────────────────────────────────────────
    IngestMixin     ingest.py       submit      find_identity, take_identity, create_batch, renew_lease,
                                                drop_batch, add_rows, seal_batch, set_resources;
                                                acquire_resource, store_resource, release_resource,
                                                list_resources, unlink_unused
    QueryMixin      queries.py      anybody     newest_batch, batch, list_batches, counts, status, workers
    RowQueryMixin   row_queries.py  anybody     status_bytes, results, result_chunks, row, find_row_by_id,
                                                created_objects, unfinished_states, read_file
    RowPageMixin    row_pages.py    web page    rows_after, rows_before, search
    ControlMixin    batch_control   commands    pause, resume, cancel, retry, update_limits, change_limits,
                                                update_retention, purge
    ClaimMixin      claims.py       workers     enable_write_recovery, heartbeat, deregister_worker, claim,
                                                save, finish, release, abandon_claim, store_file,
                                                pause_from_worker, incr_counters, record_create_failure,
                                                record_refusal
    ShardMixin      shards.py       workers     claim_shard, save_shard, shard_rows, end_rows, end_shard,
                                                adopt_shard, release_shard, shards_of_files; list_shards
    SchedulerMixin  scheduler.py    workers     dispatch, requeue_lost, reap_dead_workers
    RateLimitMixin  rate_limits.py  workers     set_limits, apply_worker_limits, read_limits, reserve_rate,
                                                throttle
    FaultMixin      waits.py        workers     record_fault; hold, for commands

The keys are listed in jobs/store/keys.py, a row's states in jobs/model/models.py. Each change of state is one
Lua script in jobs/store/lua. Reasons: docs/decisions/store.md.
"""

from types import TracebackType
from typing import Self

from askmill.config.redis_address import is_sentinel, shown_address
from askmill.config.settings import Durability
from askmill.jobs.model.errors import UsageError
from askmill.jobs.store.batch_control import ControlMixin
from askmill.jobs.store.claims import ClaimMixin
from askmill.jobs.store.connection import Connection, connect
from askmill.jobs.store.ingest import IngestMixin
from askmill.jobs.store.queries import QueryMixin
from askmill.jobs.store.rate_limits import RateLimitMixin
from askmill.jobs.store.redis_errors import translate_redis_errors
from askmill.jobs.store.row_pages import RowPageMixin
from askmill.jobs.store.row_queries import RowQueryMixin
from askmill.jobs.store.scheduler import SchedulerMixin
from askmill.jobs.store.server_check import Weakness, read_server, unmet, weaknesses
from askmill.jobs.store.shards import ShardMixin
from askmill.jobs.store.waits import FaultMixin


class Store(
    IngestMixin,
    QueryMixin,
    RowQueryMixin,
    RowPageMixin,
    ControlMixin,
    ClaimMixin,
    ShardMixin,
    SchedulerMixin,
    RateLimitMixin,
    FaultMixin,
):
    """An open store. Each process and event loop has its own; `async with` closes it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._fences = {}
        self._suspects = {}
        self._rows_added = {}
        self._server_id = ""

    @classmethod
    async def open(
        cls, url: str, *, lifetime_s: float = 12.0, durability: Durability = Durability.PROCESS
    ) -> Self:
        """Connect to `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `rediss+sentinel://`.

        Args:
            url: see `ASKMILL_REDIS_URL`.
            lifetime_s: how long a worker's claims outlive its last heartbeat.
            durability: what a create waits for; see `check_server`, `ensure_durable`.

        Raises:
            RedisUnavailable: Redis does not answer, refuses the password or is full.
            UsageError: the address cannot be read, or another version of askmill has written there.
        """
        return cls(await connect(url, lifetime_s, durability))

    async def check_server(self) -> list[Weakness]:
        """Return each way in which this Redis may lose batches.

        Raises:
            UsageError: it is a Cluster, or cannot give the durability that the store was opened with.
            RedisUnavailable: it does not answer.
        """
        connection = self._connection
        place = f"Redis at {shown_address(connection.url)}"
        with translate_redis_errors(connection.url):
            server = await read_server(connection.redis)
        if (fault := unmet(server, place, connection.durability)) is not None:
            raise UsageError(fault)
        if self.may_forget:
            await connection.pools[0].confirm_disk()
        by_sentinel = is_sentinel(connection.url)
        return list(weaknesses(server, place, connection.durability, by_sentinel=by_sentinel))

    @property
    def may_forget(self) -> bool:
        """Whether a server without durability `disk` has answered since the last good check."""
        return self._connection.pools[0].may_forget

    async def ensure_durable(self) -> None:
        """Return once all that was stored before is as durable as a mark before a create.

        Raises:
            RedisUnavailable: no replica acknowledges it, or the server does not write it through.
        """
        await self._connection.scripts.ensure_durable()

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

"""The way to Redis: one pool a process, waits instead of failing at once, errors that speak to the person.

Every script may safely run twice: a reply can be lost, and then redis-py asks again.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from askmill.jobs.model.errors import UsageError
from askmill.jobs.store import keys
from askmill.jobs.store.redis_errors import address, translate_redis_errors
from askmill.jobs.store.scripts import Scripts

# About 8 s of trying: a restart of Redis passes unseen, and a claim (12 s) is still ours.
_RETRIES, _LONGEST_WAIT_S = 12, 1.0


@dataclass(frozen=True)
class Connection:
    """What each room of the store works with."""

    url: str
    redis: "Redis"
    scripts: Scripts
    lifetime_ms: int

    async def execute(self, *command: Any) -> Any:
        """One command; names and text come back as bytes."""
        with translate_redis_errors(self.url):
            return await self.redis.execute_command(*command)  # type: ignore[no-untyped-call]

    async def pipeline(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Several commands in one round trip, as one transaction."""
        pipe = self.redis.pipeline(transaction=True)
        for command in commands:
            pipe.execute_command(*command)
        with translate_redis_errors(self.url):
            return await pipe.execute()


async def connect(url: str, lifetime_s: float) -> Connection:
    """Connect and check that this Redis has a layout we know.

    Raises:
        RedisUnavailable: see `translate_redis_errors`.
        UsageError: the address cannot be read.
        UsageError: a newer askmill has written here.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=30,
            timeout=20,
            socket_connect_timeout=5,
            socket_timeout=5,
            retry=Retry(ExponentialBackoff(cap=_LONGEST_WAIT_S, base=0.02), _RETRIES),
        )
    except ValueError as fault:
        raise UsageError(f"ASKMILL_REDIS_URL: {fault}; a good one: redis://localhost:6379/0") from None
    redis = Redis.from_pool(pool)
    connection = Connection(url, redis, Scripts(redis, url), int(lifetime_s * 1000))
    try:
        await _check_schema(connection)
    except BaseException:
        await redis.aclose()
        raise
    return connection


async def _check_schema(connection: Connection) -> None:
    await _answers(connection)
    _, stored = await connection.pipeline(
        ("SET", keys.SCHEMA, keys.SCHEMA_VERSION, "NX"), ("GET", keys.SCHEMA)
    )
    layout, ours, where = int(stored), keys.SCHEMA_VERSION, f"Redis at {address(connection.url)}"
    if layout > ours:
        raise UsageError(
            f"{where} was written by a newer askmill (layout {layout}, this one knows {ours}): "
            "upgrade with `pip install -U askmill`"
        )
    if layout < ours:
        raise UsageError(
            f"{where} was written by an older askmill (layout {layout}, this one reads {ours}): "
            "collect what is in it with that one, and give this one a Redis of its "
            "own (another number at the end of ASKMILL_REDIS_URL, or without it another ASKMILL_DATA_DIR)"
        )


async def _answers(connection: Connection) -> None:
    """One try within seconds: who starts a command wants to know at once that Redis is not there."""
    probe = Redis.from_url(connection.url, retry=Retry(ExponentialBackoff(), 0), socket_connect_timeout=5)
    try:
        with translate_redis_errors(connection.url):
            async with asyncio.timeout(10):
                await probe.ping()
    finally:
        await probe.aclose()

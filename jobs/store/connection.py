"""The connection to Redis: a pool, waiting through short outages, and the check of the stored layout.

A reply can be lost, and redis-py then sends the command again: so every script may run twice.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from askmill.jobs.model.errors import UsageError
from askmill.jobs.store import keys
from askmill.jobs.store.redis_errors import address, translate_redis_errors
from askmill.jobs.store.scripts import Scripts

# Retries take about 8 s: a restart of Redis goes unnoticed, and claims, which live 12 s, are kept.
_RETRIES, _LONGEST_WAIT_S = 12, 1.0


@dataclass(frozen=True)
class Connection:
    """What the store's mixins share."""

    url: str
    redis: "Redis"
    scripts: Scripts
    lifetime_ms: int
    """How long a worker's claims outlive its last heartbeat."""

    async def execute(self, *command: Any) -> Any:
        """Run one command; names and text come back as bytes."""
        with translate_redis_errors(self.url):
            return await self.redis.execute_command(*command)  # type: ignore[no-untyped-call]

    async def pipeline(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Run several commands in one round trip, as one transaction."""
        pipe = self.redis.pipeline(transaction=True)
        for command in commands:
            pipe.execute_command(*command)
        with translate_redis_errors(self.url):
            return await pipe.execute()


async def connect(url: str, lifetime_s: float) -> Connection:
    """Connect, and check that the data there has this version's layout.

    Raises:
        RedisUnavailable: see `translate_redis_errors`.
        UsageError: the address cannot be read, or another version of askmill has written there.
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
        await _ping(url)
        await _check_schema(connection)
    except BaseException:
        await redis.aclose()
        raise
    return connection


async def _ping(url: str) -> None:
    """Try once, for seconds at most: a command should report at once that Redis is not there."""
    probe = Redis.from_url(url, retry=Retry(ExponentialBackoff(), 0), socket_connect_timeout=5)
    try:
        with translate_redis_errors(url):
            async with asyncio.timeout(10):
                await probe.ping()
    finally:
        await probe.aclose()


async def _check_schema(connection: Connection) -> None:
    _, stored = await connection.pipeline(
        ("SET", keys.SCHEMA, keys.SCHEMA_VERSION, "NX"), ("GET", keys.SCHEMA)
    )
    layout, ours = int(stored), keys.SCHEMA_VERSION
    if layout == ours:
        return
    folder = await _embedded_folder(connection)
    place = f"The embedded Redis in {folder}" if folder else f"Redis at {address(connection.url)}"
    if layout > ours:
        raise UsageError(
            f"{place} was written by a newer askmill (layout {layout}, this one reads {ours}): "
            "upgrade with `pip install -U askmill`"
        )
    another = (
        f"move that folder away (mv {folder} {folder}-layout-{layout}) or set ASKMILL_DATA_DIR to another one"
        if folder
        else "give this one an empty database: another number at the end of ASKMILL_REDIS_URL"
    )
    raise UsageError(
        f"{place} was written by an older askmill (layout {layout}, this one reads {ours}). "
        f"Finish and collect its batches with that version, then {another}."
    )


async def _embedded_folder(connection: Connection) -> Path | None:
    """Return the data folder of an embedded Redis; None for a server that askmill has not started."""
    with translate_redis_errors(connection.url):
        server = await connection.redis.info("server")
    configuration = Path(server.get("config_file", ""))
    return configuration.parent if _is_embedded(configuration) else None


def _is_embedded(configuration: Path) -> bool:
    try:
        return configuration.read_text(encoding="utf-8").startswith("# Written by askmill")
    except (OSError, UnicodeDecodeError):
        return False

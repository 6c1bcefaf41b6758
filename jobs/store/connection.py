"""The connections to Redis: pools, waiting through short outages, and the check of the stored layout.

    pool        used by                                                          waits at most
    ──────────  ───────────────────────────────────────────────────────────────  ─────────────
    redis       everything else                                                  about 8 s
    heartbeats  the heartbeat alone: never behind files or a full pool           about 4 s
    files       generated files alone: megabytes over a slow line take a while   60 s a reply

A reply can be lost, and redis-py then sends the command again: so every script may run twice.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from askmill.config.redis_address import shown_address
from askmill.config.settings import GOOD_EXAMPLES, Durability
from askmill.jobs.model.errors import RedisUnavailable, UsageError
from askmill.jobs.store import keys
from askmill.jobs.store.redis_errors import translate_redis_errors
from askmill.jobs.store.redis_pool import RedisPool, open_pool
from askmill.jobs.store.scripts import Scripts

_RETRIES = 12
"""They take about 8 s: a restart of Redis goes unnoticed, and claims, which live 12 s, are kept."""
_POOL_SIZE, _REPLY_S = 30, 5.0
_HEARTBEAT_REPLY_S, _HEARTBEAT_RETRIES = 2.0, 1
"""The next heartbeat is due after 3 s, and reaches a server that has moved as well as a retry does."""
_FILE_REPLY_S = 60.0


@dataclass(frozen=True)
class Connection:
    """What the store's mixins share."""

    url: str
    redis: "Redis"
    scripts: Scripts
    heartbeats: Scripts
    """For the heartbeat alone, on a connection of its own."""
    pools: tuple[RedisPool, ...]
    durability: Durability
    """What a create waits for."""
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

    async def write_refusal(self) -> str | None:
        """Return why Redis takes no changes just now, such as a full disk; None if it takes them."""
        try:
            await self.execute("SET", keys.REPLICATED, 1, "PX", 1)
        except RedisUnavailable as refusal:
            return str(refusal)
        return None

    async def reconnect(self) -> None:
        """Close all connections: the next use of each resolves the address, or asks the Sentinels, again."""
        await asyncio.gather(*(pool.reconnect() for pool in self.pools))

    async def close(self) -> None:
        """Close all connections for good."""
        await asyncio.gather(*(pool.aclose() for pool in self.pools))


async def connect(url: str, lifetime_s: float, durability: Durability) -> Connection:
    """Connect, and check that the data there has this version's layout.

    Raises:
        RedisUnavailable: see `translate_redis_errors`.
        UsageError: the address cannot be read, or another version of askmill has written there.
    """
    try:
        pools = (
            open_pool(url, _POOL_SIZE, _REPLY_S, _RETRIES),
            open_pool(url, 1, _HEARTBEAT_REPLY_S, _HEARTBEAT_RETRIES),
            open_pool(url, 1, _FILE_REPLY_S, _RETRIES),
        )
    except ValueError as fault:
        example = GOOD_EXAMPLES["ASKMILL_REDIS_URL"]
        raise UsageError(f"ASKMILL_REDIS_URL: {fault}; a good one: {example}") from None
    pools[0].needs_disk = durability is Durability.DISK
    lifetime_ms = int(lifetime_s * 1000)
    redis, heartbeats, files = (Redis(connection_pool=pool) for pool in pools)
    connection = Connection(
        url=url,
        redis=redis,
        scripts=Scripts(redis, url, files, lifetime_ms, replicated=durability is Durability.REPLICA),
        heartbeats=Scripts(heartbeats, url, files, lifetime_ms),
        pools=pools,
        durability=durability,
        lifetime_ms=lifetime_ms,
    )
    try:
        await _ping(url)
        await _check_schema(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _ping(url: str) -> None:
    """Try once, for seconds at most: a command should report at once that Redis is not there.

    With TIME, because a Redis that cannot write to its disk refuses PING but still reads.
    """
    probe = Redis.from_pool(open_pool(url, 1, _REPLY_S, 0))
    try:
        with translate_redis_errors(url):
            async with asyncio.timeout(10):
                await probe.time()
    finally:
        await probe.aclose()


async def _check_schema(connection: Connection) -> None:
    stored = await connection.execute("GET", keys.SCHEMA)
    if stored is None:  # written only then: a Redis that takes no changes can still be read
        _, stored = await connection.pipeline(
            ("SET", keys.SCHEMA, keys.SCHEMA_VERSION, "NX"), ("GET", keys.SCHEMA)
        )
    layout, current = int(stored), keys.SCHEMA_VERSION
    if layout == current:
        return
    folder = await _embedded_folder(connection)
    place = f"The embedded Redis in {folder}" if folder else f"Redis at {shown_address(connection.url)}"
    if layout > current:
        raise UsageError(
            f"{place} was written by a newer askmill (layout {layout}, this one reads {current}): "
            "upgrade with `pip install -U askmill`"
        )
    another = (
        f"move that folder away (mv {folder} {folder}-layout-{layout}) or set ASKMILL_DATA_DIR to another one"
        if folder
        else "give this one an empty database: another number at the end of ASKMILL_REDIS_URL"
    )
    raise UsageError(
        f"{place} was written by an older askmill (layout {layout}, this one reads {current}). "
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

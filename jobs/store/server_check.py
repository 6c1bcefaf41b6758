"""What this Redis would forget, and whether it does what ASKMILL_DURABILITY needs.

INFO says most of it, also where CONFIG is forbidden, as on managed Redis. What neither says is reported as
unknown. Sources: redis.io/docs/latest/operate/oss_and_stack/management/persistence, …/management/replication.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from askmill.config.settings import Durability

_DISK_CONFIG = ("appendfsync", "no-appendfsync-on-rewrite")
_CONFIG = (*_DISK_CONFIG, "min-replicas-to-write")
MANAGED = "docs/how-to/managed-redis.md"


@dataclass(frozen=True)
class Server:
    """What a Redis server says about itself; None where it does not say."""

    is_cluster: bool
    has_aof: bool | None
    memory_is_limited: bool
    eviction: str | None
    """maxmemory-policy."""
    replicas: int | None
    """Replicas that are connected."""
    appendfsync: str | None
    skips_fsync: bool | None
    """no-appendfsync-on-rewrite: nothing is written through while the AOF is rewritten."""
    min_replicas: int | None
    """min-replicas-to-write."""


async def read_server(redis: "Redis") -> Server:
    """Ask the server. Raises redis-py's errors, except that CONFIG may be forbidden or unknown."""
    info = await redis.info()
    pipe = redis.pipeline(transaction=False)
    for name in _CONFIG:
        pipe.execute_command("CONFIG", "GET", name)
    replies = await pipe.execute(raise_on_error=False)
    config = dict(_value(name, reply) for name, reply in zip(_CONFIG, replies, strict=True))
    rewriting, minimum = config["no-appendfsync-on-rewrite"], config["min-replicas-to-write"]
    return Server(
        is_cluster=info.get("redis_mode") == "cluster" or bool(info.get("cluster_enabled")),
        has_aof=bool(info["aof_enabled"]) if "aof_enabled" in info else None,
        memory_is_limited=info.get("maxmemory") != 0,
        eviction=info.get("maxmemory_policy"),
        replicas=info.get("connected_slaves"),
        appendfsync=config["appendfsync"],
        skips_fsync=None if rewriting is None else rewriting == "yes",
        min_replicas=int(minimum) if minimum else None,
    )


def _value(name: str, reply: Any) -> tuple[str, str | None]:
    """The value in a reply to CONFIG GET: a mapping or a flat list, of bytes or text; None for an error."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    if not isinstance(reply, Mapping):
        return name, None
    value = reply.get(name, reply.get(name.encode()))
    return name, value.decode() if isinstance(value, bytes) else value


async def writes_through(ask: Callable[..., Awaitable[Any]]) -> bool:
    """Whether what the server confirms is on its disk. Where it does not say, it counts as not.

    Args:
        ask: sends a command on one connection and returns the raw reply.
    """
    try:
        info = await ask("INFO", "persistence")
        config = dict([_value(name, await ask("CONFIG", "GET", name)) for name in _DISK_CONFIG])
    except ResponseError:
        return False
    has_aof = b"aof_enabled:1" in (info if isinstance(info, bytes) else str(info).encode())
    return not _set_for_disk(has_aof, config["appendfsync"], config["no-appendfsync-on-rewrite"] != "no")


class Weakness(NamedTuple):
    """A way in which batches may be lost, as a sentence with what to do."""

    sentence: str
    in_normal_use: bool = False
    """Without any crash or failover: `doctor` reports a fault."""
    stops_creates: bool = False
    """No run is created until it has ended."""


def weaknesses(
    server: Server, place: str, durability: Durability, *, by_sentinel: bool
) -> Iterator[Weakness]:
    """Yield each way in which batches may be lost there.

    Args:
        server: what it says about itself.
        place: its name in the sentences, such as `Redis at redis://localhost:6379/0`.
        durability: what runs shall survive.
        by_sentinel: whether Sentinels may promote a replica.
    """
    if server.has_aof is False:
        yield Weakness(
            f"{place} keeps no append-only file (AOF): a crash loses its last minutes or everything, and "
            "rows may be paid twice. Set appendonly to yes."
        )
    if server.has_aof is None:
        yield Weakness(
            f"{place} does not say whether it keeps an append-only file (AOF). Without one a crash loses "
            f"batches: {MANAGED} says what each provider offers."
        )
    if server.memory_is_limited and server.eviction is None:
        yield Weakness(
            f"{place} does not say what it does when its memory is full. Unless its maxmemory-policy is "
            "noeviction, it may evict batches."
        )
    elif server.memory_is_limited and server.eviction != "noeviction":
        yield Weakness(
            f"{place} may evict batches when its memory is full (maxmemory-policy {server.eviction}). Set "
            "maxmemory-policy to noeviction.",
            in_normal_use=True,
        )
    if durability is Durability.REPLICA or by_sentinel:
        yield from _replication(server, place, durability)


def _replication(server: Server, place: str, durability: Durability) -> Iterator[Weakness]:
    if server.min_replicas is None:
        yield Weakness(
            f"{place} does not let min-replicas-to-write be read. Unless it is 1, a master that is cut off "
            "from its replicas takes writes that a failover loses."
        )
    elif server.min_replicas == 0:
        yield Weakness(
            f"{place} takes writes without a replica: a master that is cut off takes writes that a failover "
            "loses. Set min-replicas-to-write to 1."
        )
    if durability is Durability.REPLICA and server.replicas is not None and server.replicas < 2:
        found = "no replica" if server.replicas == 0 else "one replica"
        alone = server.replicas == 0
        effect = "no run is created" if alone else "no run is created after a failover"
        yield Weakness(
            f"{place} has {found}, and ASKMILL_DURABILITY=replica needs two: {effect}.",
            in_normal_use=alone,
            stops_creates=alone,
        )


def _set_for_disk(has_aof: bool | None, appendfsync: str | None, skips_fsync: bool | None) -> list[str]:
    """What to set so that all that is confirmed is on the disk; empty where nothing has to be."""
    wrong = [] if has_aof else ["appendonly yes"]
    wrong += [] if appendfsync == "always" else ["appendfsync always"]
    wrong += ["no-appendfsync-on-rewrite no"] if skips_fsync else []
    return wrong


def unmet(server: Server, place: str, durability: Durability) -> str | None:
    """Return why the server cannot be used with this durability, and what to set; None if it can."""
    if server.is_cluster:
        return (
            f"{place} is a Cluster, which Celery does not support. Set ASKMILL_REDIS_URL to a single Redis."
        )
    if durability is not Durability.DISK:
        return None
    other = "or set ASKMILL_DURABILITY=process, which survives power loss as long as the workers live"
    if server.has_aof and server.appendfsync is None:
        return (
            f"ASKMILL_DURABILITY=disk needs appendfsync always, and {place} does not let it be read. Allow "
            f"this user CONFIG GET (ACL: +config|get), {other}."
        )
    wrong = _set_for_disk(server.has_aof, server.appendfsync, server.skips_fsync)
    if not wrong:
        return None
    return (
        f"ASKMILL_DURABILITY=disk: {place} may lose what it has confirmed. Set {' and '.join(wrong)} there, "
        f"{other}."
    )

"""Connection pools to Redis that follow the master: at one address, or at the one that Sentinels name.

READONLY, LOADING, MASTERDOWN or NOREPLICAS in a reply ─▶ this server is no master that takes writes: every
connection of the pool is closed and opened anew before its next use. A new connection resolves the host's
name, or asks a Sentinel, again. Otherwise connections to a demoted master would meet READONLY for ever.

A new connection may lead to another server than the last. Where durability `disk` is needed, each asks its
own server, before its first command, whether that writes through what it confirms.
"""

import asyncio
import weakref
from typing import Any, cast

import redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import BusyLoadingError, MasterDownError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from askmill.config.redis_address import SentinelAddress, is_sentinel, sentinel_address
from askmill.jobs.store.server_check import writes_through

_LONGEST_WAIT_S = 1.0
_SENTINEL_TIMEOUT_S = 1.0
"""A Sentinel that is down must not hold up the question to the next one."""


_CODES = {ReadOnlyError: "READONLY", BusyLoadingError: "LOADING", MasterDownError: "MASTERDOWN"}
"""redis-py cuts them from the texts."""


_REPLACED = {"host", "port", "connection_class"}
"""What the Sentinels and the pool decide."""


class NotWritable(RedisConnectionError):
    """The server is no master that takes writes. A ConnectionError, so redis-py tries a new connection."""


class _FollowsMaster:
    """Mixin of redis-py's connections: leaves a server that is no master that takes writes."""

    connection_pool: "RedisPool"

    def __init__(self, **kwargs: Any) -> None:
        # redis-py's Sentinel connections take it before this class does.
        if "connection_pool" in kwargs:
            self.connection_pool = kwargs.pop("connection_pool")
        super().__init__(**kwargs)

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """As redis-py's, and find out about the server if the pool needs durability `disk`."""
        connection = cast("Connection", super())
        await connection.on_connect_check_health(check_health=check_health)
        if self.connection_pool.needs_disk and not await writes_through(self._ask):
            self.connection_pool.may_forget = True

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        """As redis-py's, which loses a cancellation that comes before or while the command is written.

        It uses `asyncio.wait_for`, which before Python 3.12 returns a result that has just come instead of
        raising CancelledError: a Ctrl-C would be overlooked.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        if before:
            # One that a signal handler has asked for since the task last waited is raised here.
            await asyncio.sleep(0)
        connection = cast("Connection", super())
        await connection.send_packed_command(*args, **kwargs)
        if task and task.cancelling() > before:
            await cast("Connection", self).disconnect(nowait=True)  # its reply is nobody's
            raise asyncio.CancelledError

    async def _ask(self, *command: str) -> Any:
        await cast("Connection", self).send_command(*command, check_health=False)
        return await self.read_response()

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's. Raises NotWritable instead of READONLY, LOADING and MASTERDOWN."""
        connection = cast("Connection", super())
        try:
            return await connection.read_response(*args, **kwargs)
        except (ReadOnlyError, BusyLoadingError, MasterDownError) as error:
            await self.connection_pool.leave_server()
            await cast("Connection", self).disconnect(nowait=True)
            raise NotWritable(f"{_CODES[type(error)]} {error}") from None
        except ResponseError as error:
            if "NOREPLICAS" in str(error):
                await self.connection_pool.leave_server()
            raise


class _Tcp(_FollowsMaster, Connection):
    pass


class _Tls(_FollowsMaster, SSLConnection):
    pass


class _Unix(_FollowsMaster, UnixDomainSocketConnection):
    pass


class _SentinelTcp(SentinelManagedConnection, _Tcp):
    pass


class _SentinelTls(SentinelManagedConnection, _Tls):
    pass


_FOLLOWING = {Connection: _Tcp, SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}


class RedisPool(BlockingConnectionPool):
    """A pool that waits for a free connection, and whose connections can all be opened anew."""

    needs_disk = False
    """Whether durability `disk` is needed."""
    may_forget = False
    """Whether a server that does not write through has answered since `confirm_disk`."""

    async def confirm_disk(self) -> None:
        """Forget that a server did not write through, and let new connections find out again."""
        self.may_forget = False
        await self.reconnect()

    async def leave_server(self) -> None:
        """Open each connection anew before its next use; calls in flight may end on the old one."""
        for connection in self._in_use_connections:
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]
        idle = list(self._available_connections)
        await asyncio.gather(*(connection.disconnect(nowait=True) for connection in idle))

    async def reconnect(self) -> None:
        """Close every connection, also those in use: their calls are repeated on a new connection."""
        in_use = list(self._in_use_connections)
        await self.leave_server()
        for connection in in_use:
            # Its user meets a connection error. After `disconnect` one that is just being opened would meet
            # an AttributeError.
            if (writer := connection._writer) is not None:  # noqa: SLF001 -- redis-py has no call for it
                writer.transport.abort()


class _SentinelPool(SentinelConnectionPool, RedisPool):
    """Asks the Sentinels for the master's address at each new connection."""

    sentinel_manager: Sentinel

    async def aclose(self) -> None:
        await ConnectionPool.aclose(self)
        await self.sentinel_manager.aclose()


def open_pool(url: str, size: int, timeout_s: float, retries: int) -> RedisPool:
    """Create a pool for an ASKMILL_REDIS_URL; nothing is connected yet.

    Args:
        url: the address.
        size: the most connections.
        timeout_s: for connecting, and for each reply.
        retries: how often a command is sent again after a connection fault, over at most a second each.

    Raises:
        ValueError: the address cannot be read.
    """
    options: dict[str, Any] = {
        "max_connections": size,
        "timeout": 20,
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
        "retry": Retry(ExponentialBackoff(cap=_LONGEST_WAIT_S, base=0.02), retries),
        # Otherwise redis-py searches the installed packages for its version at each new connection.
        "driver_info": DriverInfo(lib_version=redis.__version__),
    }
    if is_sentinel(url):
        return _sentinel_pool(url, options)
    from_url = dict(parse_url(url))
    plain = cast("type[Connection]", from_url.pop("connection_class", Connection))
    options["connection_class"] = _FOLLOWING[plain]
    pool = RedisPool(**{**options, **from_url})
    pool.connection_kwargs["connection_pool"] = weakref.proxy(pool)
    return pool


def _sentinel_pool(url: str, options: dict[str, Any]) -> RedisPool:
    address = sentinel_address(url)
    nodes = {name: value for name, value in parse_url(address.node_url).items() if name not in _REPLACED}
    to_sentinels = {**sentinel_options(address), "retry": Retry(NoBackoff(), 0)}
    manager = Sentinel(address.sentinels, sentinel_kwargs=to_sentinels)  # type: ignore[no-untyped-call]
    return _SentinelPool(  # type: ignore[no-untyped-call]
        address.service,
        manager,
        connection_class=_SentinelTls if address.over_tls else _SentinelTcp,
        **{**options, **nodes},
    )


def sentinel_options(address: SentinelAddress) -> dict[str, Any]:
    """Return redis-py's options of a connection to a Sentinel, for the store and for kombu."""
    return {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "socket_timeout": _SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
        **({"ssl": True, **tls_options(address)} if address.over_tls else {}),
    }


def tls_options(address: SentinelAddress) -> dict[str, Any]:
    """Return redis-py's TLS options in the address' query, such as `ssl_ca_certs`."""
    options = parse_url(address.node_url).items()
    return {"ssl_cert_reqs": "required"} | {k: v for k, v in options if k.startswith("ssl_")}

"""kombu's Redis transport with two corrections that keep a worker alive (celery and kombu 5.7.0).

1. Redis goes away while the worker holds unacknowledged messages:

    Consumer.on_connection_error_after_connected
      connection.collect()  closes the channel, which first reads the pending BRPOP; that raises, so the
                            channel stays open, yet `transport.client` becomes None
      connection.close()    (new in celery 5.7) closes the channel again, which restores its messages, for
                            which it needs `transport.client.hostname`: AttributeError, exit code 1

   Here the transport keeps its client, so the second close meets an ordinary connection error, which
   Celery ignores as intended. `docs/decisions/celery-version.md` has the runs; drop this part when they
   pass without it.

2. Another program writes to the queue, for example one that uses the same Redis database. kombu and Celery
   discard unknown tasks and content types, but text that is not JSON, or an object that is not a message,
   ends the worker. Here such a message is dropped and logged.

A demoted master needs no correction: BRPOP answers READONLY there, or UNBLOCKED if it waits, and Celery
connects anew (`broker_channel_error_retry`). A master that still takes writes but is to be left has no such
reply: `disconnect_all` cuts its connections.
"""

import socket
import weakref
from contextlib import suppress
from itertools import count
from typing import Any
from uuid import uuid4

import structlog
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, redis

from askmill.config.text import loggable, one_line

__all__ = ("Channel", "SentinelChannel", "SentinelTransport", "Transport", "disconnect_all", "install")

log = structlog.get_logger()

_channels: "weakref.WeakSet[Any]" = weakref.WeakSet()


def disconnect_all() -> None:
    """Cut the connections of all channels; Celery then connects anew. May be called from any thread."""
    for channel in list(_channels):
        for client in (channel.__dict__.get("client"), channel.__dict__.get("subclient")):
            sock = getattr(getattr(client, "connection", None), "_sock", None)
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class _Corrections:
    """Mixin of kombu's channels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _channels.add(self)
        self._unique_tags = map(f"{uuid4()}-{{}}".format, count(1))

    def _next_delivery_tag(self) -> str:
        """Unique, as kombu's own, which asks the system for random bytes with each message."""
        return next(self._unique_tags)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except ValueError as error:  # not JSON, or a body that is not base64
            reason = one_line(f"{type(error).__name__}: {error}")
            log.warning("message.dropped", reason=reason, message=loggable(getattr(error, "doc", "?")))
            return True


class Channel(_Corrections, redis.Channel):
    """Drops messages that cannot be decoded."""


class SentinelChannel(_Corrections, redis.SentinelChannel):
    """The same, at the master that Sentinels name."""


class _KeepsClient:
    """Mixin of kombu's transports."""

    _client: Any = None

    def _deliver(self, message: Any, queue: str) -> None:
        properties = message.get("properties") if isinstance(message, dict) else None
        if isinstance(properties, dict) and "delivery_tag" in properties:
            super()._deliver(message, queue)  # type: ignore[misc]
        else:
            log.warning("message.dropped", reason="it is not a Celery message", message=loggable(message))

    @property
    def client(self) -> Any:
        """The kombu Connection whose address, password and options this transport uses."""
        return self._client

    @client.setter
    def client(self, connection: Any) -> None:
        if connection is not None:
            self._client = connection


class Transport(_KeepsClient, redis.Transport):
    """Keeps its `client` after `Connection.collect`, and drops what is not a message of kombu's."""

    Channel = Channel


class SentinelTransport(_KeepsClient, redis.SentinelTransport):
    """The same for Sentinels."""

    Channel = SentinelChannel


def install() -> None:
    """Make the Redis brokers of this process use these transports.

    It changes kombu's alias table, because a `+` in the address overrules Celery's `broker_transport`.

    Raises:
        RuntimeError: A connection came first: kombu looks each scheme up only once.
    """
    for scheme, transport in (
        ("redis", Transport),
        ("rediss", Transport),
        ("sentinel", SentinelTransport),
    ):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__qualname__}"
        if get_transport_cls(scheme) is not transport:
            raise RuntimeError(f"install() came after the first {scheme}:// connection; call it earlier.")

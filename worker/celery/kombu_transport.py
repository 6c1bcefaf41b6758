"""Keep the worker alive when Redis goes away while it holds unacked messages (celery and kombu 5.7.0).

    Redis gone ─▶ Consumer.on_connection_error_after_connected
                    connection.collect()  the channel's close() first reads the pending BRPOP, which raises:
                                          the channel stays open, yet `transport.client` becomes None
                    connection.close()    (new in celery 5.7) closes that channel again, which restores
                                          its unacked messages, which needs `transport.client.hostname`
                                          ─▶ AttributeError, no connection error to Celery ─▶ exit code 1

Here the transport remembers its client, so the second close meets an ordinary connection error, which
Celery ignores as it means to. `docs/decisions/celery-version.md` has the runs; drop that part when they
pass without it.

The other part: a message that nobody can read is dropped with a line. kombu and Celery discard some (unknown
tasks, other content types); at others, such as text that is no JSON or an object without `properties`, they
raise what ends the worker, or what they take for a lost connection (KeyError).
"""

from typing import Any

import structlog
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, redis

from askmill.config.text import loggable, one_line
from askmill.worker.celery.request import Message

__all__ = ("Channel", "Transport", "install")

log = structlog.get_logger()


def _dropped(fault: Exception, raw: Any) -> None:
    log.warning("message.dropped", reason=one_line(f"{type(fault).__name__}: {fault}"), message=loggable(raw))


class Channel(redis.Channel):
    """kombu's Redis channel, whose messages take little memory, and which drops what cannot be decoded."""

    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, RecursionError) as fault:  # of `loads`: what comes later, `_deliver` meets
            _dropped(fault, getattr(fault, "doc", "?"))
            return True


class Transport(redis.Transport):
    """kombu's Redis transport, whose `client` outlives `Connection.collect`, and whom no message ends."""

    Channel = Channel
    _client: Any = None

    def _deliver(self, message: Any, queue: str) -> None:
        """Have Celery take a message; one at which it fails is dropped."""
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        except KeyError as fault:  # a connection error to kombu, but this one is the message's
            self._drop(fault, message)
        except (*self.connection_errors, *self.channel_errors):
            raise
        except Exception as fault:  # noqa: BLE001 -- whatever a message can cause
            self._drop(fault, message)

    def _drop(self, fault: Exception, message: Any) -> None:
        """It counts as acknowledged, lest it takes a place for ever and comes back at the end."""
        _dropped(fault, message)
        for channel in self.channels:
            for tag, taken in list(channel.qos._delivered.items()):  # noqa: SLF001 -- kombu tells nobody
                if taken._raw is message:  # noqa: SLF001
                    channel.qos.ack(tag)

    @property
    def client(self) -> Any:
        """The kombu Connection whose address, password and options this transport uses."""
        return self._client

    @client.setter
    def client(self, connection: Any) -> None:
        if connection is not None:
            self._client = connection


def install() -> None:
    """Make the `redis://`, `rediss://` and `redis+socket://` brokers of this process use `Transport`.

    By kombu's alias table, because a `+` in the address overrules Celery's `broker_transport`. Raises
    RuntimeError when a connection came first: kombu looks a scheme up once.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__qualname__}"
        if get_transport_cls(scheme) is not Transport:
            raise RuntimeError(f"install() came after the first {scheme}:// connection; call it earlier.")

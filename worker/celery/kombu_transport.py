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
"""

from typing import Any

import structlog
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, redis

from askmill.config.text import loggable, one_line

__all__ = ("Channel", "Transport", "install")

log = structlog.get_logger()


class Channel(redis.Channel):
    """Drops messages that cannot be decoded."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except ValueError as error:  # not JSON, or a body that is not base64
            reason = one_line(f"{type(error).__name__}: {error}")
            log.warning("message.dropped", reason=reason, message=loggable(getattr(error, "doc", "?")))
            return True


class Transport(redis.Transport):
    """Keeps its `client` after `Connection.collect`, and drops what is not a message of kombu's."""

    Channel = Channel
    _client: Any = None

    def _deliver(self, message: Any, queue: str) -> None:
        properties = message.get("properties") if isinstance(message, dict) else None
        if isinstance(properties, dict) and "delivery_tag" in properties:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
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


def install() -> None:
    """Make the `redis://`, `rediss://` and `redis+socket://` brokers of this process use `Transport`.

    It changes kombu's alias table, because a `+` in the address overrules Celery's `broker_transport`.

    Raises:
        RuntimeError: A connection came first: kombu looks each scheme up only once.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__qualname__}"
        if get_transport_cls(scheme) is not Transport:
            raise RuntimeError(f"install() came after the first {scheme}:// connection; call it earlier.")

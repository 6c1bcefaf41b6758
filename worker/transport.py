"""Keep the worker alive when Redis goes away while it holds unacked messages (celery and kombu 5.7.0).

    Redis gone ─▶ Consumer.on_connection_error_after_connected
                    connection.collect()  the channel's close() first reads the pending BRPOP, which raises:
                                          the channel stays open, yet `transport.client` becomes None
                    connection.close()    (new in celery 5.7) closes that channel again, which restores
                                          its unacked messages, which needs `transport.client.hostname`
                                          ─▶ AttributeError, no connection error to Celery ─▶ exit code 1

Here the transport remembers its client, so the second close meets an ordinary connection error, which
Celery ignores as it means to. `docs/decisions/celery-version.md` has the runs; drop this file when they
pass without it.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, get_transport_cls, redis

from worker.messages import Message

__all__ = ("Transport", "install")


class Channel(redis.Channel):
    """kombu's, with messages that take little memory."""

    Message = Message


class Transport(redis.Transport):
    """kombu's Redis transport, whose `client` outlives `Connection.collect`."""

    Channel = Channel
    _client: Any = None

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

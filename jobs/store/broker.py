"""Publishing of rows as Celery tasks, by name. A message is a hint: the state of a row is in the store.

    broker key            type    holds; written by
    ────────────────────  ──────  ─────────────────────────────────────────────────────────────
    askmill               LIST    messages that no worker for all batches has received; publish, Celery
                                  workers. A batch's own workers have another queue (jobs/store/keys.py)
    _kombu.binding.*      SET     kombu's routing tables

Celery is imported only to publish: it takes 200 ms, which `askmill status` saves.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from askmill.config.redis_address import is_sentinel, sentinel_address
from askmill.jobs.model.errors import RedisUnavailable
from askmill.jobs.store import keys
from askmill.jobs.store.claim_records import DispatchedRow
from askmill.jobs.store.redis_pool import sentinel_options, tls_options

if TYPE_CHECKING:
    from celery import Celery
    from kombu.entity import Queue
    from kombu.messaging import Producer

QUEUE = "askmill"
TASK = "askmill.answer"
SHARD_TASK = "askmill.follow_shard"
_MESSAGES_PER_PIPELINE = 500
"""4,500 tasks/s against 2,800 one by one (measured)."""
_publishing = threading.Lock()
"""A producer belongs to one thread at a time."""


def broker_url(url: str) -> str:
    """Return the address as kombu reads it.

    `unix:///path?db=1` is `redis+socket:///path?virtual_host=1`, and Sentinels are a list with semicolons.
    """
    if is_sentinel(url):
        address = sentinel_address(url)
        credentials, at, _ = urlsplit(address.node_url).netloc.rpartition("@")
        # kombu tries one after the other, each with its own user, password and database.
        return ";".join(f"sentinel://{credentials}{at}{place}/{address.database}" for place in address.places)
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = dict(parse_qsl(parts.query))
    user = parts.netloc or (f":{quote(query['password'], safe='')}@" if "password" in query else "")
    database = f"?virtual_host={query['db']}" if "db" in query else ""
    return f"redis+socket://{user}{quote(unquote(parts.path))}{database}"


def _tls_settings(url: str) -> dict[str, Any] | None:
    """Return `broker_use_ssl`: without it kombu checks no certificate; redis-py does."""
    if is_sentinel(url):
        address = sentinel_address(url)
        return tls_options(address) if address.over_tls else None
    plain = url.startswith("rediss:") and "ssl_" not in urlsplit(url).query
    return {"ssl_cert_reqs": "required"} if plain else None


def _sentinel_settings(url: str) -> dict[str, Any]:
    """Return kombu's transport options for Sentinels."""
    if not is_sentinel(url):
        return {}
    address = sentinel_address(url)
    return {"master_name": address.service, "sentinel_kwargs": sentinel_options(address)}


def broker_settings(url: str) -> dict[str, Any]:
    """Return Celery's settings for the broker, the same for publishers and workers.

    Removes Celery's own variables from this process' environment: Celery prefers them to any setting, and
    they may be another project's.
    """
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        os.environ.pop(f"CELERY_{name}", None)
    return {
        "broker_url": broker_url(url),
        "broker_use_ssl": _tls_settings(url),
        "broker_transport_options": {
            # Emulation keeps the messages that workers have received in Redis, at eight commands a job.
            # Instead, a message that dies with its worker is found as lost: docs/decisions/celery-version.md.
            "ack_emulation": False,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            **_sentinel_settings(url),
        },
        "task_default_queue": QUEUE,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
    }


def queue_of(batch: str) -> "Queue":
    """Return the queue of a batch's own workers. It has no exchange, so kombu stores no routing table."""
    from kombu.entity import Exchange, Queue  # noqa: PLC0415 -- loaded with Celery

    name = keys.part(batch, "queue")
    return Queue(name, Exchange(""), routing_key=name)  # type: ignore[no-untyped-call]


@cache
def client_app(url: str) -> "Celery":
    """Return a Celery application that only sends."""
    from celery import Celery  # noqa: PLC0415 -- takes 200 ms

    app = Celery("askmill", set_as_current=False, fixups=[])
    app.conf.update(broker_settings(url))
    return app


@cache
def _producer(url: str) -> "Producer":
    """Return a producer with a connection of its own, which can be dropped for good after a fault."""
    from kombu.messaging import Producer  # noqa: PLC0415 -- loaded with Celery

    return Producer(  # type: ignore[no-untyped-call]
        client_app(url).connection_for_write(), auto_declare=False
    )


def publish(url: str, rows: Sequence[DispatchedRow]) -> None:
    """Send a task for each row. Blocks: call it in a thread, never on the event loop.

    After a fault the connection is closed: the next call opens another one, to a master that may have moved.

    Raises:
        RedisUnavailable: the broker does not answer or is full; `Store.requeue_lost` finds the rows later.
    """
    if not rows:
        return
    from kombu.exceptions import KombuError  # noqa: PLC0415 -- loaded with Celery
    from redis.exceptions import RedisError  # noqa: PLC0415

    with _publishing:
        try:
            _send(url, rows)
        except (KombuError, RedisError, OSError) as fault:
            # A flush that fails after others raises BatchPublishError, which is no OperationalError.
            disconnect_publisher(url)
            raise RedisUnavailable(f"the queue in Redis takes no messages ({fault})") from None


def _send(url: str, rows: Sequence[DispatchedRow]) -> None:
    app, producer = client_app(url), _producer(url)
    with producer.batch(_MESSAGES_PER_PIPELINE):  # type: ignore[no-untyped-call]
        for row in rows:
            number = row.row if row.shard is None else row.shard
            name = row.row if row.shard is None else keys.shard(row.shard)
            app.send_task(
                TASK if row.shard is None else SHARD_TASK,
                args=(row.batch, number),
                task_id=f"{row.batch}:{name}:{row.delivery}",
                queue=queue_of(row.batch) if row.own_queue else QUEUE,
                producer=producer,
                ignore_result=True,
            )


def disconnect_publisher(url: str) -> None:
    """Close the connection with which `publish` sends, if there is one; the next call opens another."""
    if _producer.cache_info().currsize:
        with suppress(Exception):  # whatever is wrong with it, it is given up
            _producer(url).connection.close()
        _producer.cache_clear()

"""Celery's side of the client: tasks are sent by name; a message is a hint, the truth is in the store.

    broker key            type    holds; written by
    ────────────────────  ──────  ─────────────────────────────────────────────────────────────
    askmill               LIST    messages not taken yet; publish, Celery workers
    _kombu.binding.*      SET     kombu's routing tables

Celery is imported only by who publishes: `askmill status` does without it.
"""

import os
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from askmill.jobs.model.errors import RedisUnavailable
from askmill.jobs.store.records import DispatchedRow

if TYPE_CHECKING:
    from celery import Celery

QUEUE = "askmill"
TASK = "askmill.answer"
_BATCH = 500
"""Messages a pipeline; 4,500 tasks/s against 2,800 one by one (measured)."""


BATCH_ID = re.compile(r"b_[a-z0-9]+")


def names_a_row(batch: Any, row: Any) -> bool:
    """Whether a message's arguments are such as `publish` writes: anybody may write into the queue."""
    return isinstance(batch, str) and bool(BATCH_ID.fullmatch(batch)) and type(row) is int and row >= 1


def broker_url(url: str) -> str:
    """The address as kombu writes it: `unix:///path?db=1` is `redis+socket:///path?virtual_host=1` there."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    asked = dict(parse_qsl(parts.query))
    who = parts.netloc or (f":{quote(asked['password'], safe='')}@" if "password" in asked else "")
    database = f"?virtual_host={asked['db']}" if "db" in asked else ""
    return f"redis+socket://{who}{quote(unquote(parts.path))}{database}"


def _plain_tls(url: str) -> bool:
    return url.startswith("rediss:") and "ssl_" not in urlsplit(url).query


def broker_settings(url: str) -> dict[str, Any]:
    """Celery's settings for the broker, the same for who publishes and who works.

    Takes Celery's own variables out of this process' environment: it prefers them to any setting, and they
    may be another project's.
    """
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        os.environ.pop(f"CELERY_{name}", None)
    return {
        "broker_url": broker_url(url),
        # kombu would check no certificate unless told to; redis-py does.
        "broker_use_ssl": {"ssl_cert_reqs": "required"} if _plain_tls(url) else None,
        "broker_transport_options": {
            # It would say in Redis, at eight commands a job, which messages are in a worker's hands just now.
            # One that dies with its worker is found as lost: docs/decisions/celery-version.md.
            "ack_emulation": False,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        "task_default_queue": QUEUE,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
    }


@cache
def client_app(url: str) -> "Celery":
    """A Celery application that only sends."""
    from celery import Celery  # noqa: PLC0415 -- 200 ms that only publishing pays

    app = Celery("askmill", set_as_current=False, fixups=[])
    app.conf.update(broker_settings(url))
    return app


def publish(app_or_url: "Celery | str", fed: Sequence[DispatchedRow]) -> None:
    """Send a task for each row. Blocks: call it in a thread, never on the event loop.

    Raises RedisUnavailable when the broker is away or full; the rows are then found by `Store.lost_messages`.
    """
    if not fed:
        return
    from kombu.exceptions import KombuError  # noqa: PLC0415 -- as Celery
    from redis.exceptions import RedisError  # noqa: PLC0415

    app = client_app(app_or_url) if isinstance(app_or_url, str) else app_or_url
    try:
        with app.producer_pool.acquire(block=True) as producer, producer.batch(_BATCH):
            for one in fed:
                _send(app, producer, one)
    except (KombuError, RedisError, OSError) as fault:
        # A flush that fails after others raises BatchPublishError, an OperationalError it is not.
        raise RedisUnavailable(f"the queue in Redis takes no messages ({fault})") from None


def _send(app: "Celery", producer: Any, one: DispatchedRow) -> None:
    app.send_task(
        TASK,
        args=(one.batch, one.row),
        task_id=f"{one.batch}:{one.row}:{one.attempt}",
        queue=QUEUE,
        producer=producer,
        ignore_result=True,
    )

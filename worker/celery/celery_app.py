"""The Celery application: `celery -A askmill.worker.celery.celery_app worker` works, and `askmill worker` starts the same.

A message is a hint, the truth is the store: so messages are acknowledged early, fetched only when a slot is
free, never retried by Celery, and their results are ignored. Why: docs/decisions/pool.md, store.md.
"""

import gc
import os
import signal
import socket
from concurrent.futures import Future
from typing import Any

import structlog
from celery import Celery
from celery.apps.worker import install_worker_int_handler, install_worker_term_handler
from celery.signals import setup_logging, worker_ready, worker_shutting_down

from askmill.config.logs import set_up_logs
from askmill.config.proxies import environment, proxy_for
from askmill.config.settings import BadSetting, Settings, load_settings, secrets_of
from askmill.jobs.model.api_target import target_of
from askmill.jobs.model.errors import UsageError
from askmill.jobs.store.broker import broker_settings
from askmill.worker.celery import kombu_transport as transport
from askmill.worker.celery.greenlet_pool import submit
from askmill.worker.process.worker import WorkerProcess


def _settings() -> Settings:
    """The settings, or an end with a sentence: a worker without them is of no use."""
    try:
        settings = load_settings()
        proxy_for(settings.base_url, environment())
    except BadSetting as bad:
        raise SystemExit(f"Error: {bad}") from None
    if settings.redis_url is None:
        raise SystemExit(
            "Error: ASKMILL_REDIS_URL is not set, so this worker has no queue to work on. "
            "Set it, for example to redis://localhost:6379/0; `askmill run` needs neither."
        )
    try:
        target_of(settings)
    except UsageError as refused:
        raise SystemExit(f"Error: {refused}") from None
    return settings


def _application(settings: Settings) -> Celery:
    assert settings.redis_url is not None
    transport.install()
    made = Celery("askmill", include=["askmill.worker.celery.tasks"], fixups=[])
    made.conf.update(broker_settings(settings.redis_url.get_secret_value()))
    made.conf.update(
        worker_pool="askmill.worker.celery.greenlet_pool:TaskPool",
        worker_concurrency=settings.concurrency,
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A full Redis refuses the consumer's bookkeeping: that is no reason to end (celery: "Unrecoverable").
        broker_channel_error_retry=True,
        worker_enable_remote_control=True,
    )
    return made


GARBAGE = 50_000
"""New objects until the collector looks: at 700 it takes a third of the CPU, 3,000 runs in flight."""

settings = _settings()
app = _application(settings)
_process: WorkerProcess | None = None


def process() -> WorkerProcess:
    """This process' heart and hands; made when the pool stands."""
    assert _process is not None, "the worker is not ready"
    return _process


def held() -> int:
    """Rows in this process' hands."""
    return len(_process.jobs) if _process is not None else 0


@setup_logging.connect
def _our_logs(**_: Any) -> None:
    set_up_logs(settings.log_format, settings.log_level, secrets_of(settings))


@worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    gc.freeze()  # what is loaded stays
    gc.set_threshold(GARBAGE)
    gc.enable()
    # A closed terminal ends the worker. Celery would start it again, by sys.argv alone: without `python -P`.
    install_worker_term_handler(sender.controller, sig="SIGHUP")
    # Ctrl-C is no fault: it hands over as SIGTERM does, and Celery's own handler would exit 1.
    install_worker_int_handler(sender.controller, exitcode=os.EX_OK)
    global _process  # noqa: PLW0603 -- one per process, as Celery's own application
    assert settings.redis_url is not None
    slots = sender.pool.num_processes
    _process = WorkerProcess(
        settings, settings.redis_url.get_secret_value(), slots, socket.gethostname(), os.getpid()
    )
    submit(_process.run()).add_done_callback(_without_heart)


def _without_heart(ended: "Future[None]") -> None:
    """A worker without its heartbeat may hold nothing: it ends, and others go on."""
    if not ended.cancelled() and (fault := ended.exception()) is not None:
        structlog.get_logger().critical("worker.failed", reason=f"{type(fault).__name__}: {fault}")
        os.kill(os.getpid(), signal.SIGTERM)


@worker_shutting_down.connect
def _hand_over(**_: Any) -> None:
    if _process is not None:
        submit(_process.shut_down())

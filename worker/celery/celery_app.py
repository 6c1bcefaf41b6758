"""The Celery application, for `askmill worker` and `celery -A askmill.worker.celery.celery_app worker`.

Rows are stored in Redis; a message only starts one. So messages are acknowledged early, fetched only when a
slot is free, never retried by Celery, and their results are ignored (docs/decisions/pool.md, store.md).
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
from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.settings import BadSetting, Settings, load_settings
from askmill.config.tls import tls_context, uses_tls
from askmill.jobs.model.api_target import api_target
from askmill.jobs.model.errors import AskmillError, UsageError
from askmill.jobs.store.broker import broker_settings, queue_of
from askmill.worker.celery import kombu_transport
from askmill.worker.celery.greenlet_pool import TaskPool, submit
from askmill.worker.process.worker import WorkerProcess, WorkerScope


def _settings() -> Settings:
    """Load the settings; exit with a message if a worker cannot run with them."""
    try:
        settings = load_settings()
        if uses_tls(settings.base_url, proxy_for(settings.base_url, proxy_environment())):
            tls_context()
        settings.durability_in_use  # noqa: B018 -- raises BadSetting
    except BadSetting as error:
        raise SystemExit(f"Error: {error}") from None
    if settings.redis_url is None:
        raise SystemExit(
            "Error: ASKMILL_REDIS_URL is not set, so this worker has no queue to work on. "
            "Set it, for example to redis://localhost:6379/0; `askmill run` needs neither."
        )
    try:
        api_target(settings)
    except UsageError as error:
        raise SystemExit(f"Error: {error}") from None
    return settings


def _application(settings: Settings) -> Celery:
    assert settings.redis_url is not None
    kombu_transport.install()
    application = Celery("askmill", include=["askmill.worker.celery.tasks"], fixups=[])
    application.conf.update(broker_settings(settings.redis_url.get_secret_value()))
    application.conf.update(
        worker_pool="askmill.worker.celery.greenlet_pool:TaskPool",
        worker_concurrency=settings.concurrency_in_use,
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A full Redis refuses the consumer's writes, which must not end the worker (celery: "Unrecoverable").
        broker_channel_error_retry=True,
        worker_enable_remote_control=True,
    )
    return application


GC_THRESHOLD = 50_000
"""New objects until the garbage collector runs. With the default of 700 it takes a third of the CPU at 3,000
runs in flight."""

settings = _settings()
app = _application(settings)
scope = WorkerScope()
"""What this process serves; set before the worker starts."""
_worker_process: WorkerProcess | None = None
_exit_code = 0


def exit_code() -> int:
    """The exit code if this process ended because of a fault: 2 for a setting; 0 otherwise."""
    return _exit_code


def worker_process() -> WorkerProcess:
    """The heartbeat, dispatch and rows of this process; created once the pool runs."""
    assert _worker_process is not None, "the worker is not ready"
    return _worker_process


def rows_in_progress() -> int:
    """The number of rows that this process works on."""
    return len(_worker_process.jobs) if _worker_process is not None else 0


def add_queue_of(batch: str) -> str:
    """Declare the queue of a batch's own workers; returns its name."""
    queue = queue_of(batch)
    app.amqp.queues.add(queue)
    return str(queue.name)


@setup_logging.connect
def _set_up_logs(**_: Any) -> None:
    set_up_logs(settings.log_format, settings.log_level)


@worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    gc.freeze()  # loaded modules are never garbage
    gc.set_threshold(GC_THRESHOLD)
    gc.enable()
    # SIGHUP (a closed terminal) ends the worker. Celery would restart it from sys.argv, without `python -P`.
    install_worker_term_handler(sender.controller, sig="SIGHUP")
    # Ctrl-C hands over as SIGTERM does and exits 0. Celery's own handler exits 1.
    install_worker_int_handler(sender.controller, exitcode=os.EX_OK)
    global _worker_process  # noqa: PLW0603 -- one per process, as Celery's own application
    assert settings.redis_url is not None
    slots = sender.pool.num_processes
    _worker_process = WorkerProcess(
        settings, settings.redis_url.get_secret_value(), slots, socket.gethostname(), os.getpid(), scope
    )
    _worker_process.disconnect_consumer = kombu_transport.disconnect_all
    submit(_worker_process.run()).add_done_callback(_end_worker)


def _end_worker(heartbeat: "Future[None]") -> None:
    """End the worker after its heartbeat failed: it may hold no rows, and other workers take them over."""
    global _exit_code  # noqa: PLW0603 -- one per process
    if not heartbeat.cancelled() and (error := heartbeat.exception()) is not None:
        _exit_code = error.exit_code if isinstance(error, AskmillError) else 1
        structlog.get_logger().critical("worker.failed", reason=f"{type(error).__name__}: {error}")
        os.kill(os.getpid(), signal.SIGTERM)


@worker_shutting_down.connect
def _hand_over(**_: Any) -> None:
    # After a cold stop the pool has ended already, and every row with it.
    if _worker_process is not None and TaskPool.current is not None:
        submit(_worker_process.shut_down())

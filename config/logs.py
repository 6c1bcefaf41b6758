"""Configures structlog: log lines on stderr, readable on a terminal, else JSON, always without the secrets
of this process (`config.text.mask_from_now_on`).
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from askmill.config.text import safe_text


def _sanitize(value: Any) -> Any:
    """The value without secrets and control characters; numbers stay as they are."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {_sanitize(name): _sanitize(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_sanitize(item) for item in value]
    return safe_text(value if isinstance(value, str) else repr(value))


def _sanitize_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _sanitize(value) for name, value in event.items()}


def set_up_logs(log_format: str | None = None, level: str = "info") -> None:
    """Send askmill's log events and those of the libraries to stderr in one format.

    Args:
        log_format: `console` or `json`; None means console on a terminal, JSON otherwise.
        level: the lowest level to log.
    """
    on_terminal = (log_format or ("console" if sys.stderr.isatty() else "json")) == "console"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        # Rich tracebacks show the variables of each frame, including the API key.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if on_terminal
        else structlog.processors.JSONRenderer()
    )
    finish = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _sanitize_event,
        renderer,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=finish))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in (
        "httpx",
        "httpx2",
        "openai",
        "aiohttp",
        "asyncio",
        "kombu",
        "celery.app.trace",
        "celery.worker.strategy",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)

"""Configures structlog: log lines on stderr, readable on a terminal, else JSON, always without secrets."""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog

from askmill.config.text import safe_text

log_secrets: set[str] = set()
"""Texts that are masked in every log line: this process's API key and Redis password."""
MIN_SECRET_LENGTH = 8
"""Shorter values are placeholders such as `any` or `offline`, which occur as words in logs."""


def _sanitize(value: Any) -> Any:
    """The value without secrets and control characters; numbers stay as they are."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {_sanitize(name): _sanitize(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_sanitize(item) for item in value]
    text = value if isinstance(value, str) else repr(value)
    for secret in log_secrets:
        text = text.replace(secret, "***")
    return safe_text(text)


def _sanitize_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _sanitize(value) for name, value in event.items()}


def set_up_logs(log_format: str | None = None, level: str = "info", secrets: Iterable[str] = ()) -> None:
    """Send askmill's log events and those of the libraries to stderr in one format.

    Args:
        log_format: `console` or `json`; None means console on a terminal, JSON otherwise.
        level: the lowest level to log.
        secrets: texts to mask in every log line.
    """
    log_secrets.update(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH)
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

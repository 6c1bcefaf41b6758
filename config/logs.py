"""Logs: structlog on stderr, for eyes on a terminal and as JSON elsewhere; ids are bound once per job."""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog

from askmill.config.text import safe_text

log_secrets: set[str] = set()
"""Texts that no log may hold, whatever they look like: this process' own key and password."""
SHORTEST_SECRET = 8
"""What is shorter is no secret but a word, such as `any` or `offline`, and logs would lack it everywhere."""


def _clean(value: Any) -> Any:
    """The value as logs may show it: numbers as they are, all else without secrets and control codes."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {_clean(name): _clean(held) for name, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(held) for held in value]
    text = value if isinstance(value, str) else repr(value)
    for secret in log_secrets:
        text = text.replace(secret, "***")
    return safe_text(text)


def _mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _clean(value) for name, value in event.items()}


def set_up_logs(log_format: str | None = None, level: str = "info", secrets: Iterable[str] = ()) -> None:
    """Send our events and those of the libraries to stderr in one form.

    `log_format` is `console` or `json`; None means console on a terminal, JSON otherwise. `secrets` are left
    out wherever they stand.
    """
    log_secrets.update(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)
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
        # Rich tracebacks show the variables of each frame, and one of them is the key.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if on_terminal
        else structlog.processors.JSONRenderer()
    )
    finish = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _mask,
        renderer,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=finish))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in (
        "httpx",
        "httpx2",
        "openai",
        "aiohttp",
        "asyncio",
        "kombu",
        "celery.app.trace",
        "celery.worker.strategy",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)

"""Logs: structlog on stderr, for eyes on a terminal and as JSON elsewhere; ids are bound once per job."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = re.compile(r"(sk-[A-Za-z0-9_\-]{4})[A-Za-z0-9_\-*]+|(?<=://)([^/@\s:]*):[^/@\s]+(?=@)|(Bearer )\S+")
"""API keys, passwords in addresses, bearer tokens: none of them may reach a log or a message."""


def masked(text: str) -> str:
    """The text without keys, passwords and tokens."""
    return SECRET.sub(lambda found: f"{found[1] or found[3] or (found[2] or '') + ':'}***", text)


def _mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = masked(value)
    return event


def set_up_logs(log_format: str | None = None, level: str = "info") -> None:
    """Send our events and those of the libraries to stderr in one form.

    `log_format` is `console` or `json`; None means console on a terminal, JSON otherwise.
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
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if on_terminal
        else structlog.processors.JSONRenderer()
    )
    finish = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _mask,
        renderer,
    ]
    if on_terminal:
        finish.remove(structlog.processors.format_exc_info)
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

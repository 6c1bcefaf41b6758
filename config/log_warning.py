"""Warnings of modules that every command loads. Commands rarely log, and structlog is slow to load."""

from typing import Any


def log_warning(event: str, **values: Any) -> None:
    """Log a warning, as `structlog.get_logger().warning` does."""
    import structlog  # noqa: PLC0415 -- see above

    structlog.get_logger().warning(event, **values)

"""Reads the objects inside an error: its codes, its messages, and the waits that it names. Pure."""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

from askmill.jobs.model.fault_table import UNIT_S

NESTED_KEYS = (
    "error",
    "message",
    "msg",
    "detail",
    "details",
    "body",
    "innererror",
    "inner_error",
    "metadata",
    "raw",
)
CODE_KEYS = ("code", "type", "status", "error_code", "error_type", "reason")
DELAY_KEY = "retryDelay"
"""Google's RetryInfo, in `details`: `{"retryDelay": "17s"}`."""
MAX_DEPTH = 8
MAX_MESSAGE_CHARACTERS = 20_000
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|s|m|h|d)", re.IGNORECASE)


def duration_s(text: str) -> float:
    """Seconds of `20s`, `6m0s`, `1h2m3.5s`, `250ms`, `5 minutes`; 0 where there is no unit."""
    parts = DURATION.findall(text)
    return float(
        sum(float(number) * UNIT_S["ms" if len(unit) > 1 else unit.lower()] for number, unit in parts)
    )


def nested_codes(value: Any) -> tuple[str, ...]:
    """The codes of an error object and of the objects in it, outermost first."""
    return tuple(dict.fromkeys(_codes_in(value, MAX_DEPTH)))


def _codes_in(value: Any, depth: int) -> Iterator[str]:
    """Codes of objects only: a message may repeat the question."""
    if isinstance(value, list) and depth:
        for entry in value[:10]:
            yield from _codes_in(entry, depth - 1)
    elif isinstance(value, dict) and depth:
        yield from _own_codes(value)
        for key in NESTED_KEYS:
            yield from _codes_in(value.get(key), depth - 1)


def _own_codes(value: dict[Any, Any]) -> Iterator[str]:
    return (str(value[key]) for key in CODE_KEYS if isinstance(value.get(key), str | int))


def delay_in_details_s(value: Any) -> float | None:
    """The wait that an error object of Google names in its details; None where there is none."""
    details = value.get("details") if isinstance(value, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get(DELAY_KEY), str):
            return duration_s(detail[DELAY_KEY])
    return None


def nested_texts(message: str, depth: int) -> Iterator[tuple[str, str]]:
    """Codes and messages of an error object inside a message, written as JSON or as a Python dict."""
    start, end = message.find("{"), message.rfind("}")
    if depth and 0 <= start < end and len(message) <= MAX_MESSAGE_CHARACTERS:
        yield from _fields(_parse_object(message[start : end + 1]), depth - 1)


def _parse_object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _fields(value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "message", value
        yield from nested_texts(value, depth)
    elif isinstance(value, list) and depth:
        for entry in value[:10]:
            yield from _fields(entry, depth - 1)
    elif isinstance(value, dict) and depth:
        yield from (("code", code) for code in _own_codes(value))
        for key in NESTED_KEYS:
            yield from _fields(value.get(key), depth - 1)

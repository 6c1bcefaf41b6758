"""Lenient reading of the API's JSON: values of the wrong type count as unknown, never as an error."""

import re
from typing import Any

Json = dict[str, Any]

MAX_TOKENS = 1e9
MAX_TIMESTAMP_S = 1e11
"""The year 5138. A larger number was not meant as seconds."""


def parse_token_count(value: Any) -> int | None:
    """A whole number of tokens, also written as `12.0` or `"12"`; None for anything else."""
    number = parse_number(value, MAX_TOKENS)
    return int(number) if number is not None and number.is_integer() else None


def parse_timestamp(value: Any) -> float | None:
    """A time in Unix seconds, an integer staying an integer; None for anything else."""
    number = parse_number(value, MAX_TIMESTAMP_S)
    return value if type(value) is int and number is not None else number


def parse_number(value: Any, limit: float) -> float | None:
    """A number from 0 up to, but not including, `limit`; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < limit else None


def json_object(data: Any, name: str) -> Json:
    """The object in field `name` of `data`; empty where there is none."""
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def optional_text(value: Any) -> str | None:
    """The value as text; None stays None."""
    return None if value is None else str(value)


def parse_tier(data: Json) -> str | None:
    """The service tier that a reply names, in lower case; None for anything but a short word."""
    tier = data.get("service_tier")
    return tier.lower() if isinstance(tier, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,32}", tier) else None

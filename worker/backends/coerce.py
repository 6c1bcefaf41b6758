"""Numbers of an API's JSON: counts and moments. What a sloppy server writes instead of one is unknown."""

from typing import Any

MOST_TOKENS = 1e9
LAST_MOMENT_S = 1e11
"""The year 5138: what is later was not meant as seconds."""


def count_of(value: Any) -> int | None:
    """Tokens: a whole number, also as `12.0` or `"12"`."""
    number = number_of(value, MOST_TOKENS)
    return int(number) if number is not None and number.is_integer() else None


def moment_of(value: Any) -> float | None:
    """Unix seconds."""
    number = number_of(value, LAST_MOMENT_S)
    return value if type(value) is int and number is not None else number


def number_of(value: Any, limit: float) -> float | None:
    """A number from 0 up to the limit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < limit else None

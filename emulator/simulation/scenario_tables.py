"""Checks of the values in a scenario's tables; each refusal names the key."""

from math import isfinite
from typing import Any


class ScenarioError(ValueError):
    """An invalid scenario; the message names the key."""


def check_keys(name: str, table: dict[str, Any], known_keys: list[str]) -> None:
    """Refuse a key that the table does not have."""
    for key in table:
        if key not in known_keys:
            raise ScenarioError(f"{name}.{key} is unknown; known: {', '.join(known_keys)}")


def read_number(key: str, value: Any, least: float = 0.0) -> float:
    """A number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ScenarioError(f"{key} must be a number, not {value!r}")
    if value < least:
        raise ScenarioError(f"{key} must be a number of at least 0, not {value!r}")
    return float(value)


def read_count(key: str, value: Any) -> int:
    """A whole number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ScenarioError(f"{key} must be a whole number of at least 0, not {value!r}")
    return value


def read_share(key: str, value: Any) -> float:
    """A share from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ScenarioError(f"{key} must be a share from 0 to 1, not {value!r}")
    return float(value)


def read_flag(key: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ScenarioError(f"{key} must be true or false, not {value!r}")
    return value


def read_word(key: str, value: Any, words: tuple[Any, ...]) -> Any:
    """One of the words."""
    if isinstance(value, bool) or value not in words:
        raise ScenarioError(f"{key} must be one of {', '.join(map(repr, words))}, not {value!r}")
    return value


def read_words(key: str, value: Any, words: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A list of words; without `words` of any."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ScenarioError(f"{key} must be a list of words, not {value!r}")
    for one in value:
        if words and one not in words:
            raise ScenarioError(f"{key} does not take {one!r}; known: {', '.join(words)}")
    return tuple(value)

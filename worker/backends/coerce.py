"""Lenient reading of the API's JSON: values of the wrong type count as unknown, never as an error."""

import re
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

Json = dict[str, Any]

MAX_DEPTH = 32
"""Levels of objects and lists that are kept of a step's details."""
MAX_DETAIL_CHARACTERS = 1_000_000
"""Characters that are kept of each text in a step's details, except the text of messages."""
MAX_WORD_CHARACTERS = 500
"""Characters that are kept of a code, a reason, a status or a name."""
MAX_ERROR_CHARACTERS = 2_000
"""Characters that are kept of an API's error message."""
MAX_ID_CHARACTERS = 1_000
"""A longer id is not believed."""
MAX_TOKENS = 1e9
MAX_TIMESTAMP_S = 1e11
"""The year 5138. A larger number was not meant as seconds."""


def parse_token_count(value: Any) -> int | None:
    """A whole number of tokens, also written as `12.0` or `"12"`; None for anything else."""
    number = parse_number(value, MAX_TOKENS)
    return int(number) if number is not None and number.is_integer() else None


def parse_date(value: str | None) -> float | None:
    """A header's date in Unix seconds; None where it is missing or none."""
    try:
        return None if value is None else parsedate_to_datetime(value).timestamp()
    except ValueError:
        return None


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


def json_objects(value: Any) -> list[Json]:
    """The objects of a list, without what is none; a single object counts as a list of one."""
    if isinstance(value, dict):
        return [value]
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def optional_text(value: Any) -> str | None:
    """The value as text of at most MAX_WORD_CHARACTERS; None stays None. For codes, reasons, models."""
    return None if value is None else cut_text(str(value), MAX_WORD_CHARACTERS)


def plain_text(value: Any) -> str:
    """A text or a number as text; anything else is not text: empty."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def identifier(value: Any) -> str | None:
    """An id: a short text or a whole number; None for anything else."""
    text = plain_text(value) if isinstance(value, str | int) else ""
    return text if 0 < len(text) <= MAX_ID_CHARACTERS else None


def cut_text(text: str, limit: int) -> str:
    """The text, or its beginning with a mark where it is longer than `limit`."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text):,} characters)"


def json_text(value: Any) -> str:
    """A value of a reply as JSON text."""
    return orjson.dumps(bounded(value)).decode()


def bounded(value: Any, depth: int = MAX_DEPTH) -> Any:
    """The value as far as it can be stored: deeper values become `…`, longer texts are cut.

    orjson writes at most 254 levels; a reply may have more.
    """
    if isinstance(value, str):
        return cut_text(value, MAX_DETAIL_CHARACTERS)
    if isinstance(value, dict | list) and not depth:
        return "…"
    if isinstance(value, dict):
        return {
            cut_text(str(name), MAX_WORD_CHARACTERS): bounded(inner, depth - 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [bounded(inner, depth - 1) for inner in value]
    return value


def shallow(value: Any, depth: int = MAX_DEPTH) -> Any:
    """The value without its levels below `depth`, which become `…`; its texts are kept whole."""
    if not isinstance(value, dict | list):
        return value
    if not depth:
        return "…"
    if isinstance(value, dict):
        return {name: shallow(inner, depth - 1) for name, inner in value.items()}
    return [shallow(inner, depth - 1) for inner in value]


def parse_tier(data: Json) -> str | None:
    """The service tier that a reply names, in lower case; None for anything but a short word."""
    tier = data.get("service_tier")
    return tier.lower() if isinstance(tier, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,32}", tier) else None

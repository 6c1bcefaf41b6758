"""Text as it may be shown: without secrets, and without what could take over a terminal; numbers with their units. Pure."""

import re
from typing import Any

SECRET = re.compile(r"(sk-[A-Za-z0-9_\-]{4})[A-Za-z0-9_\-*]+|(?<=://)([^/@\s:]*):[^/@\s]+(?=@)|(Bearer )\S+")
"""API keys, passwords in addresses, bearer tokens: none of them may reach a log or a message."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Codes that move a cursor, colour, or turn text around; tab and line feed stay."""


def redact(text: str) -> str:
    """The text without keys, passwords and tokens."""
    return SECRET.sub(lambda found: f"{found[1] or found[3] or (found[2] or '') + ':'}***", text)


def strip_control(text: str) -> str:
    """The text without what could take over a terminal."""
    return CONTROL.sub("\ufffd", text)


def safe_text(text: str) -> str:
    """Both: for what a person is told."""
    return strip_control(redact(text))


def one_line(text: str, longest: int = 200) -> str:
    """The text on one line, cut to `longest`."""
    flat = " ".join(strip_control(text).split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def format_duration(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_usd(amount: float | None) -> str:
    """Cents for large sums, as many digits as say something for small ones."""
    if amount is None:
        return "no known price"
    if 0 < amount < 0.0001:
        return "under $0.0001"
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def count_of(number: int, thing: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def loggable(raw: Any) -> str:
    """What somebody else has written, fit for a log line."""
    return one_line(redact(repr(raw)))

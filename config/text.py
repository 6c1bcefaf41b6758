"""Makes text safe to show (no secrets, no control characters) and formats numbers with units."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

SECRET = re.compile(r"(sk-[A-Za-z0-9_\-]{4})[A-Za-z0-9_\-*]+|(?<=://)([^/@\s:]*):[^/@\s]+(?=@)|(Bearer )\S+")
"""API keys, passwords in URLs, bearer tokens: none of them may appear in a log or a message."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that move the cursor, change colours or reverse text. Tab and line feed are allowed."""


MIN_SECRET_LENGTH = 8
"""Shorter values are placeholders such as `any` or `offline`, which occur as words."""
_own_secrets: set[str] = set()


def mask_from_now_on(secrets: Iterable[str]) -> None:
    """Mask these texts in everything that `redact` returns: this process's API key, token and passwords.

    A key need not look like one, and a server may quote it in any place of a reply.
    """
    _own_secrets.update(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH)


def redact(text: str) -> str:
    """Mask keys, passwords and tokens."""
    for secret in _own_secrets:
        text = text.replace(secret, "***")
    return SECRET.sub(lambda found: f"{found[1] or found[3] or (found[2] or '') + ':'}***", text)


def strip_control(text: str) -> str:
    """Replace control characters by U+FFFD."""
    return CONTROL.sub("\ufffd", text)


def safe_text(text: str) -> str:
    """Mask secrets and replace control characters."""
    return strip_control(redact(text))


def redacted_start(text: str, longest: int) -> str:
    """The beginning of the text, without secrets; none is cut in two, which would leave its beginning."""
    return redact(text[: longest + 1000])[:longest]


def one_line(text: str, longest: int = 200) -> str:
    """The text on one line, cut to `longest` characters."""
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


def format_time(at_ms: int) -> str:
    """Unix milliseconds as `2026-11-28 14:00:01 UTC`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def format_usd(amount: float | None) -> str:
    """`$12.34`, `$0.0021`, `under $0.0001`; `no known price` for None."""
    if amount is None:
        return "no known price"
    if 0 < amount < 0.0001:
        return "under $0.0001"
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def round_estimate(amount: float) -> float:
    """An estimate to two significant digits: 23,413 is 23,000."""
    return float(f"{amount:.1e}")


def about_usd(amount: float) -> str:
    """An estimated amount of money to two digits: `about $0.021`, `about $12`, `under $0.0001`."""
    if amount < 0.0001:
        return "$0" if amount == 0 else "under $0.0001"
    rounded = round_estimate(amount)
    if rounded >= 10:
        return f"about ${rounded:,.0f}"
    return f"about ${rounded:.2f}" if rounded >= 0.1 else f"about ${rounded:.2g}"


def format_rate(rows_per_s: float) -> str:
    """`3.2 rows/s`, `120 rows/s`; slower ones in the unit that leaves a whole number: `5 rows/min`."""
    if rows_per_s >= 1:
        return f"{rows_per_s:,.0f} rows/s" if rows_per_s >= 10 else f"{rows_per_s:.1f} rows/s"
    for seconds, unit in ((60, "min"), (3600, "h")):
        if rows_per_s * seconds >= 1:
            return f"{count_of(round(rows_per_s * seconds), 'row')}/{unit}"
    return "under 1 row/h"


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the name that is closest, empty where none is close."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only for a typo

    close = get_close_matches(word, list(map(str, names)), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def count_of(number: int, thing: str, things: str = "") -> str:
    """`1 run`, `2 runs`; `things` is the plural where it is not made by an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def loggable(raw: Any) -> str:
    """Foreign text on one line, without secrets, for a log event."""
    return one_line(redact(repr(raw)))

"""What the results show of a row: its fields in their order, and each as CSV. Pure."""

from collections.abc import Sequence
from typing import Any

import orjson

FIELDS = (
    "row",
    "status",
    "answer",
    "error",
    "attempts",
    "thread_id",
    "run_id",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "duration_s",
    "citations",
    "files",
)
RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet take text for a formula (OWASP, CSV Injection)."""
SHORT_NUMBER = 11


def result_values(told: dict[str, Any]) -> list[Any]:
    """FIELDS behind `status` of a result's plain data; None where it is not known, lists as lists."""
    known = told.get
    usage = known("usage") or {}
    attempts = known("attempts_made")
    if attempts is None and told:
        attempts = len(known("attempts", ()))
    return [
        known("answer"),
        known("error"),
        attempts,
        known("thread_id"),
        known("run_id"),
        known("model"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        known("cost_usd"),
        known("duration_s"),
        known("citations", ()),
        known("files", ()),
    ]


def result_cells(values: list[Any], *, spreadsheet_safe: bool = False) -> list[str]:
    """The cells of a CSV for what `result_values` says."""
    *plain, cost_usd, duration_s, citations, files = values
    known = [*plain, _number(cost_usd), _number(duration_s), _json(citations), _json(files)]
    if spreadsheet_safe:
        known = [_harmless(value) for value in known]
    return ["" if value is None else value if value.__class__ is str else str(value) for value in known]


def csv_record(cells: Sequence[str]) -> str:
    """The cells of one record, or of a part of it, quoted where needed (RFC 4180)."""
    line = ",".join(cells)
    # Most rows need no quotes: one look at all cells, not one at each.
    if line.count(",") >= len(cells) or '"' in line or "\n" in line or "\r" in line:
        line = ",".join(
            '"' + text.replace('"', '""') + '"'
            if "," in text or '"' in text or "\n" in text or "\r" in text
            else text
            for text in cells
        )
    return line


def _number(value: float | None) -> str | None:
    """Plain decimals: a spreadsheet takes 1e-05 for text."""
    if value is None:
        return None
    text = repr(value)
    if len(text) > SHORT_NUMBER or "e" in text:
        text = f"{value:.9f}".rstrip("0")
    return text.removesuffix(".0").removesuffix(".")


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode() if values else "[]"


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(RUN_BY_SPREADSHEETS) else value

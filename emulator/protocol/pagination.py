"""Cursor pagination of every list: limit, order, after, before → one page."""

from typing import Any

from askmill.emulator.protocol.routing import Json, Request
from askmill.emulator.protocol.validation import bad_field, out_of_bounds


def page(rows: list[Json], request: Request, most: int = 100, default: int = 20) -> Json:
    """One page of `rows` (oldest first), newest first unless `order=asc`.

    `first_id` and `last_id` of an empty page are empty strings: OpenAI's description allows no null there.
    """
    chosen = rows if _order(request) == "asc" else rows[::-1]
    chosen = _between(chosen, request.argument("after"), request.argument("before"))
    limit = _limit(request, most, default)
    data = chosen[-limit:] if request.argument("before") and not request.argument("after") else chosen[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
        "has_more": len(chosen) > len(data),
    }


def _order(request: Request) -> str:
    order = request.argument("order") or "desc"
    if order not in {"asc", "desc"}:
        message = f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'."
        raise bad_field(message, "order", "invalid_value")
    return order


def _limit(request: Request, most: int, default: int) -> int:
    text = request.argument("limit")
    if text is None:
        return default
    if not text.isdecimal():
        message = f"Invalid type for 'limit': expected an integer, but got '{text}' instead."
        raise bad_field(message, "limit", "invalid_type")
    limit = int(text)
    if limit < 1:
        raise out_of_bounds("limit", "integer below minimum", ">= 1", limit)
    if limit > most:
        raise out_of_bounds("limit", "integer above maximum", f"<= {most}", limit)
    return limit


def _between(rows: list[Any], after: str | None, before: str | None) -> list[Any]:
    start = _place(rows, after) + 1 if after else 0
    end = _place(rows, before) if before else len(rows)
    return rows[start:end]


def _place(rows: list[Json], row_id: str) -> int:
    for i, row in enumerate(rows):
        if row["id"] == row_id:
            return i
    raise bad_field(f"No object found with id '{row_id}'.", "after", "invalid_cursor")

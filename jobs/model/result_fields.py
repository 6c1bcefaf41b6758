"""The fields of a row's result, as every format of the results shows them."""

from collections.abc import Mapping
from typing import Any

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
"""In the order of the columns."""


def result_values(result: Mapping[str, Any]) -> list[Any]:
    """Return the values of FIELDS after `status`, of a result as plain data with the names of `Result`.

    Unknown values are None; citations and files are lists. Without a result (`{}`) nothing is known.
    """
    get = result.get
    usage = get("usage") or {}
    attempts = get("attempts_made")
    if attempts is None and result:
        attempts = len(get("attempts", ()))
    return [
        get("answer"),
        get("error"),
        attempts,
        get("thread_id"),
        get("run_id"),
        get("model"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        get("cost_usd"),
        get("duration_s"),
        get("citations", ()),
        get("files", ()),
    ]


def runs_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each attempt was charged for, of a result as plain data; unknown values are None."""
    return [_run_of(attempt) for attempt in result.get("attempts", ())]


def _run_of(attempt: Mapping[str, Any]) -> dict[str, Any]:
    get, usage = attempt.get, attempt.get("usage") or {}
    return {
        "run_id": get("run_id"),
        "attempt": get("number"),
        "status": get("status"),
        "model": get("model"),
        "tier": get("tier"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "cached_tokens": usage.get("cached_tokens"),
        "cache_write_tokens": usage.get("cache_write_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "reasoning_tokens": usage.get("reasoning_tokens"),
        "cost_usd": get("cost_usd"),
    }

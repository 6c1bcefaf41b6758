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

"""The `[batches]` table of a scenario: how a server of batches behaves.

The text under each field is its line in docs/reference/scenario.md (`python docs/remake.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from askmill.emulator.simulation.scenario_tables import (
    check_keys,
    read_count,
    read_flag,
    read_number,
    read_share,
    read_word,
    read_words,
)

ENDPOINTS = ("/v1/responses", "/v1/chat/completions")
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class BatchManners:
    """The default: OpenAI's batches, without waiting and without limits of enqueued tokens."""

    validate_s: float = 0.0
    """How long a batch is `validating`, in seconds."""
    run_s: float = 0.0
    """How long a batch is `in_progress`; its lines end evenly over that time."""
    finalize_s: float = 0.0
    """How long a batch is `finalizing`."""
    cancel_s: float = 0.0
    """How long a batch is `cancelling`."""
    expires_s: float = DAY_S
    """Time from creation to `expires_at`; what has not run by then is `batch_expired`."""
    files_s: float = 30 * DAY_S
    """Life of input and result files for which the client asks for nothing else."""
    enqueued_limit: int = 0
    """Most enqueued tokens of a model; above it a batch fails at its check. 0: any number."""
    release_s: float = 0.0
    """How long an ended batch goes on counting towards that limit."""
    max_lines: int = 50_000
    """Most lines of an input file."""
    max_bytes: int = 200_000_000
    """Most bytes of an input file."""
    bad_lines: tuple[str, ...] = ()
    """Lines with one of these texts do not pass the check, which names them."""
    missing_lines: float = 0.0
    """Share of lines that are carried out and stand in no file."""
    repeated_lines: float = 0.0
    """Share of lines that stand in the output file twice."""
    null_output_s: float = 0.0
    """How long a completed batch shows no file ids."""
    list_late_s: float = 0.0
    """How long a new batch is missing from the list."""
    style: str = "openai"
    """`"together"`: `{"job", "warning"}` on create, a bare list, upper-case states, times as text, no
    metadata.
    """
    endpoints: tuple[str, ...] = ()
    """Endpoints that are served, others are 404; empty: both. Files and batches are served with `[chat]
    only` too.
    """
    echo: bool = False
    """Whether answers repeat the question, without the tutor: for many lines."""


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "enqueued_limit": read_count,
    "max_lines": read_count,
    "max_bytes": read_count,
    "missing_lines": read_share,
    "repeated_lines": read_share,
    "style": partial(read_word, words=("openai", "together")),
    "endpoints": partial(read_words, words=ENDPOINTS),
    "echo": read_flag,
    "bad_lines": read_words,
}


def read_batch_manners(table: dict[str, Any]) -> BatchManners:
    """The manners that a `[batches]` table sets; ScenarioError naming the key of a bad value."""
    check_keys("batches", table, [field.name for field in fields(BatchManners)])
    read = {key: _reader(key)(f"batches.{key}", value) for key, value in table.items()}
    return BatchManners(**read)


def _reader(key: str) -> Callable[[str, Any], Any]:
    return _READERS.get(key, read_number)

"""The `[batches]` table of a scenario: how a server of batches behaves.

docs/decisions/emulator.md has the meaning of each key.
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
    run_s: float = 0.0
    finalize_s: float = 0.0
    cancel_s: float = 0.0
    expires_s: float = DAY_S
    """From creation to `expires_at`."""
    files_s: float = 30 * DAY_S
    """Life of input and result files for which nothing else is asked."""
    enqueued_limit: int = 0
    """Most enqueued tokens of a model; 0: any number."""
    release_s: float = 0.0
    """How long an ended batch goes on counting towards the limit."""
    max_lines: int = 50_000
    max_bytes: int = 200_000_000
    missing_lines: float = 0.0
    """Share of lines that were carried out, and stand in no file."""
    repeated_lines: float = 0.0
    null_output_s: float = 0.0
    """How long a completed batch shows no files."""
    list_late_s: float = 0.0
    """How long a new batch is missing from the list."""
    style: str = "openai"
    endpoints: tuple[str, ...] = ()
    """Endpoints that are served; empty: both."""
    echo: bool = False
    """Answers repeat the question, without the tutor."""


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "enqueued_limit": read_count,
    "max_lines": read_count,
    "max_bytes": read_count,
    "missing_lines": read_share,
    "repeated_lines": read_share,
    "style": partial(read_word, words=("openai", "together")),
    "endpoints": partial(read_words, words=ENDPOINTS),
    "echo": read_flag,
}


def read_batch_manners(table: dict[str, Any]) -> BatchManners:
    """The manners that a `[batches]` table sets; ScenarioError naming the key of a bad value."""
    check_keys("batches", table, [field.name for field in fields(BatchManners)])
    read = {key: _reader(key)(f"batches.{key}", value) for key, value in table.items()}
    return BatchManners(**read)


def _reader(key: str) -> Callable[[str, Any], Any]:
    return _READERS.get(key, read_number)

"""How rows and results lie in Redis: JSON under zstd.

A result may also be plain JSON behind a mark that a script wrote (`!previous_turn`, a line break, the older
result or nothing): the row failed for that reason without a run, and its older runs still count.
"""

from dataclasses import asdict, fields
from typing import Any

import orjson
import zstandard

from jobs.models import Attempt, JobStatus, Limits, OnIncomplete, Result, Step, Usage

BLOCK_ROWS = 16
"""Rows in one block of input: neighbours compress well together (251 bytes a row against 543)."""

# Level 1 costs half of the default 3 here, for 4 % more bytes. Used by one thread, the event loop's.
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


def pack(value: Any) -> bytes:
    """JSON under zstd."""
    return _compress(orjson.dumps(value))


def unpack(packed: bytes) -> Any:
    """What `pack` was given."""
    return orjson.loads(_decompress(packed))


def block_of(row: int) -> int:
    """The number of the block that holds a row; rows count from 1, blocks from 0."""
    return (row - 1) // BLOCK_ROWS


def pack_result(result: Result) -> bytes:
    """Only what is known of a result: an absent field has its default."""
    return pack(_known(asdict(result)))


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(part) for name, part in value.items() if part not in (None, (), {}, "")}
    return [_known(part) for part in value] if isinstance(value, tuple) else value


def unpack_result(row: int, packed: bytes) -> dict[str, Any]:
    """A stored result as plain data with the names of `Result`; fields at their default may be absent."""
    if not packed.startswith(b"!"):
        stored: dict[str, Any] = unpack(packed)
        return stored
    error, older = packed[1:].split(b"\n", 1)
    kept = unpack(older) if older else {"row": row, "attempts_made": 0}
    return {**kept, "status": JobStatus.FAILED.value, "error": error.decode(), "answer": ""}


def result_of(stored: dict[str, Any]) -> Result:
    """The result from its plain data."""
    return Result(
        **{
            **stored,
            "status": JobStatus(stored["status"]),
            "usage": Usage(**stored.get("usage", {})),
            "attempts": tuple(_made(Attempt, attempt) for attempt in stored.get("attempts", ())),
            "steps": tuple(_made(Step, step) for step in stored.get("steps", ())),
            "citations": tuple(stored.get("citations", ())),
            "files": tuple(stored.get("files", ())),
        }
    )


def _made(kind: Any, stored: dict[str, Any]) -> Any:
    # Attempt.thread_id and run_id have no default, and were left out where they are not known.
    unknown = {f.name: None for f in fields(kind) if f.name in {"thread_id", "run_id"}}
    return kind(**{**unknown, **stored, "usage": Usage(**stored.get("usage", {}))})


def limits_json(limits: Limits) -> bytes:
    """As a batch keeps them."""
    return orjson.dumps(limits)


def limits_of(stored: bytes) -> Limits:
    """What `limits_json` was given."""
    values = orjson.loads(stored)
    return Limits(**{**values, "on_incomplete": OnIncomplete(values["on_incomplete"])})

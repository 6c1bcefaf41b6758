"""How rows and results lie in Redis: JSON under zstd, results with a dictionary.

`result.zdict` is what results look like when nothing is known yet: a row with two steps is 455 bytes with it,
637 without (1,430 of JSON). It is never changed: stored results cannot be read without it.

A result may also be plain JSON behind a mark that a script wrote (`!previous_turn`, a line break, the older
result or nothing): the row failed for that reason without a run, and its older runs still count.
"""

from dataclasses import fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson
import zstandard

from jobs.models import Attempt, JobStatus, Limits, OnIncomplete, Result, Step, Usage

BLOCK_ROWS = 16
"""Rows in one block of input: neighbours compress well together (251 bytes a row against 543)."""
_NAMES = {kind: frozenset(field.name for field in fields(kind)) for kind in (Result, Attempt, Step)}

# Level 1 costs half of the default 3 here, for 4 % more bytes. Used by one thread, the event loop's.
_LEVEL = 1
_compress = zstandard.ZstdCompressor(level=_LEVEL).compress
_decompress = zstandard.ZstdDecompressor().decompress
_shape = zstandard.ZstdCompressionDict(
    (files("jobs") / "result.zdict").read_bytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
)
_compress_result = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_shape).compress
_decompress_result = zstandard.ZstdDecompressor(dict_data=_shape).decompress


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
    """A result as it is stored."""
    return _compress_result(orjson.dumps(result))


def unpack_result(row: int, packed: bytes) -> dict[str, Any]:
    """A stored result as plain data with the names of `Result`; one that a script wrote has few of them."""
    if not packed.startswith(b"!"):
        stored: dict[str, Any] = orjson.loads(_decompress_result(packed))
        return stored
    error, older = packed[1:].split(b"\n", 1)
    kept = unpack_result(row, older) if older else {"row": row, "attempts_made": 0}
    return {**kept, "status": JobStatus.FAILED.value, "error": error.decode(), "answer": ""}


def result_of(stored: dict[str, Any]) -> Result:
    """The result from its plain data; fields of a later version are passed over."""
    return Result(
        **{
            **_known(Result, stored),
            "status": JobStatus(stored["status"]),
            "usage": Usage(**stored.get("usage", {})),
            "attempts": tuple(_made(Attempt, attempt) for attempt in stored.get("attempts", ())),
            "steps": tuple(_made(Step, step) for step in stored.get("steps", ())),
            "citations": tuple(stored.get("citations", ())),
            "files": tuple(stored.get("files", ())),
        }
    )


def _made(kind: Any, stored: dict[str, Any]) -> Any:
    return kind(**{**_known(kind, stored), "usage": Usage(**stored["usage"])})


def _known(kind: Any, stored: dict[str, Any]) -> dict[str, Any]:
    names = _NAMES[kind]
    return {name: value for name, value in stored.items() if name in names}


def limits_json(limits: Limits) -> bytes:
    """As a batch keeps them."""
    return orjson.dumps(limits)


@lru_cache(64)
def limits_of(stored: bytes) -> Limits:
    """What `limits_json` was given; one object for all rows of a batch, since thousands are held."""
    values = orjson.loads(stored)
    return Limits(**{**values, "on_incomplete": OnIncomplete(values["on_incomplete"])})

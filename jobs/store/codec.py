"""How input rows and results are stored: JSON compressed with zstd, results with a trained dictionary.

A stored result is one zstd frame of two lines:

    {"status":"completed",…,"answer":"4."}    the fields of `Result` but `row` and `steps`
    [{"run_id":…,"attempt":1,…},…]            its steps, as the steps file has them, so that it copies them

When a script ends a row without a run, it writes a mark before the earlier result, or before nothing:
`!previous_turn`, a line break, the earlier frame. The row has failed with that error; its earlier attempts
count.
"""

from dataclasses import fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec
import orjson
import zstandard

from askmill.jobs.model.models import Attempt, JobStatus, Limits, OnIncomplete, OnUnknown, Result, Step, Usage
from askmill.jobs.model.result_fields import StoredResult

BLOCK_ROWS = 16
"""Rows in one block of input: similar rows compress well together (251 bytes a row against 543)."""
_MARK = ord("!")
_OFTEN_UNKNOWN = frozenset(
    ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "longest_prompt_tokens", "model", "tier")
)
_FIELD_NAMES = {
    kind: frozenset(field.name for field in fields(kind)) for kind in (Result, Attempt, Step, Usage)
}

# Level 1 costs half the time of level 3, for 4 % more bytes of input. zstd's objects are not thread-safe: all
# calls come from the thread of the event loop.
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress
_dictionary = zstandard.ZstdCompressionDict((files("askmill.jobs.store") / "result.zdict").read_bytes())
_compress_result = zstandard.ZstdCompressor(level=3, dict_data=_dictionary, write_dict_id=False).compress
_decompress_result = zstandard.ZstdDecompressor(dict_data=_dictionary).decompress
_decode_fields = msgspec.json.Decoder(StoredResult).decode


def pack(value: Any) -> bytes:
    """Return the value as compressed JSON."""
    return _compress(orjson.dumps(value))


def unpack(packed: bytes) -> Any:
    """Return the value that `pack` has packed."""
    return orjson.loads(_decompress(packed))


def raw_input(packed: bytes) -> bytes:
    """Return the JSON that `unpack` parses, for a search."""
    return _decompress(packed)


def raw_result(packed: bytes) -> bytes:
    """Return a stored result's fields as JSON, and the mark of a script before it, for a search."""
    if packed[0] == _MARK:
        mark, _, earlier = packed.partition(b"\n")
        return mark + (raw_result(earlier) if earlier else b"")
    return _fields_and_steps(packed)[0]


def block_of(row: int) -> int:
    """Return the number of the block that holds a row; rows count from 1, blocks from 0."""
    return (row - 1) // BLOCK_ROWS


def pack_result(result: Result) -> bytes:
    """Return a result as it is stored."""
    return _compress_result(serialize_result(result))


def serialize_result(result: Result) -> bytes:
    """Return the two lines that `pack_result` compresses."""
    attempts = [
        {**_without_unknown(attempt), "usage": _without_unknown(attempt.usage)} for attempt in result.attempts
    ]
    usage = _without_unknown(result.usage)
    stored = {**vars(result), "usage": usage, "attempts": attempts}
    del stored["row"], stored["steps"]
    stored["answer"] = stored.pop("answer")  # last, near its copy in the steps: fewer bytes
    return b"%b\n%b" % (orjson.dumps(stored), orjson.dumps([_step_to_json(step) for step in result.steps]))


def _without_unknown(record: Attempt | Usage) -> dict[str, Any]:
    """Return the fields, without those that many APIs do not report: they would take room in each result."""
    fields = vars(record).items()
    return {name: value for name, value in fields if value is not None or name not in _OFTEN_UNKNOWN}


def unpack_fields(packed: bytes) -> tuple[StoredResult, bytes]:
    """Return what the results show of a stored result, and its steps as JSON."""
    if packed[0] == _MARK:
        error, earlier = _error_and_earlier(packed)
        stored, steps = unpack_fields(earlier) if earlier else (StoredResult(attempts_made=0), b"[]")
        return msgspec.structs.replace(stored, error=error, answer=""), steps
    fields, steps = _fields_and_steps(packed)
    return _decode_fields(fields), steps


def unpack_result(row: int, packed: bytes) -> dict[str, Any]:
    """Return a stored result as plain data with the names of `Result`; a script's own has few of them."""
    if packed[0] == _MARK:
        error, earlier = _error_and_earlier(packed)
        stored = unpack_result(row, earlier) if earlier else {"row": row, "attempts_made": 0, "steps": []}
        return {**stored, "status": JobStatus.FAILED.value, "error": error, "answer": ""}
    fields, steps = _fields_and_steps(packed)
    return {"row": row, **orjson.loads(fields), "steps": orjson.loads(steps)}


def _error_and_earlier(packed: bytes) -> tuple[str, bytes]:
    """What a script has stored in place of a result: its error, and the stored result before it, if any."""
    error, earlier = packed[1:].split(b"\n", 1)
    return error.decode(), earlier


def _fields_and_steps(packed: bytes) -> tuple[bytes, bytes]:
    """The two lines of a stored result, as JSON."""
    fields, _, steps = _decompress_result(packed).partition(b"\n")
    return fields, steps


def result_of(stored: dict[str, Any]) -> Result:
    """Return the `Result` of plain data; unknown fields, of a later version, are left out."""
    return Result(
        **{
            **_known_fields(Result, stored),
            "status": JobStatus(stored["status"]),
            "usage": _usage_of(stored.get("usage", {})),
            "attempts": tuple(_attempt_of(attempt) for attempt in stored.get("attempts", ())),
            "steps": tuple(_step_of(step) for step in stored.get("steps", ())),
            "citations": tuple(stored.get("citations", ())),
            "files": tuple(stored.get("files", ())),
        }
    )


def _step_to_json(step: Step) -> dict[str, Any]:
    """Return a step as the results show it, with flat usage. Times are Unix seconds."""
    return {
        "run_id": step.run_id,
        "attempt": step.attempt,
        "type": step.type,
        "status": step.status,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "prompt_tokens": step.usage.prompt_tokens,
        "completion_tokens": step.usage.completion_tokens,
        "details": step.details,
    }


def _step_of(stored: dict[str, Any]) -> Step:
    usage = Usage(stored["prompt_tokens"], stored["completion_tokens"])
    return Step(**_known_fields(Step, stored), usage=usage)


def _attempt_of(stored: dict[str, Any]) -> Attempt:
    return Attempt(**{**_known_fields(Attempt, stored), "usage": _usage_of(stored["usage"])})


def _usage_of(stored: dict[str, Any]) -> Usage:
    return Usage(**_known_fields(Usage, stored))


def _known_fields(kind: Any, stored: dict[str, Any]) -> dict[str, Any]:
    names = _FIELD_NAMES[kind]
    return {name: value for name, value in stored.items() if name in names}


def limits_json(limits: Limits) -> bytes:
    """Return a batch's limits as they are stored."""
    return orjson.dumps(limits)


@lru_cache(64)
def limits_of(stored: bytes) -> Limits:
    """Return stored limits. Cached: thousands of rows of a batch share one object."""
    values = orjson.loads(stored)
    on_incomplete = OnIncomplete(values["on_incomplete"])
    on_unknown = OnUnknown(values.get("on_unknown", OnUnknown.AGAIN))
    return Limits(**{**values, "on_incomplete": on_incomplete, "on_unknown": on_unknown})

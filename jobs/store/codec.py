"""How rows and results lie in Redis: JSON under zstd, results with a dictionary.

A result is three texts in one frame, so that writing a file of results is copying (docs/decisions/store.md):

    {"status":"completed",…}              `Result` without its steps
    [{"run_id":…,"attempt":1,…},…]        the steps, as the steps file and .jsonl have them
    The answer is 4.,,1,thread_…          what a CSV shows of it, the fields behind `status`

It may also stand behind a mark that a script wrote (`!previous_turn`, a line break, the older result or
nothing): the row failed for that reason without a run, and its older runs still count.
"""

from dataclasses import fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson
import zstandard

from askmill.jobs.model.models import Attempt, JobStatus, Limits, OnIncomplete, Result, Step, Usage
from askmill.jobs.model.result_fields import csv_record, result_cells, result_values

_MARK = ord("!")
BLOCK_ROWS = 16
"""Rows in one block of input: neighbours compress well together (251 bytes a row against 543)."""
_NAMES = {kind: frozenset(field.name for field in fields(kind)) for kind in (Result, Attempt, Step)}

# Of input, level 1 costs half of 3, for 4 % more bytes. Used by one thread, the event loop's.
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress
_shape = zstandard.ZstdCompressionDict((files("askmill.jobs.store") / "result.zdict").read_bytes())
_compress_result = zstandard.ZstdCompressor(level=3, dict_data=_shape, write_dict_id=False).compress
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
    return _compress_result(pack_parts(result))


def pack_parts(result: Result) -> bytes:
    """What is packed of it."""
    told = {**vars(result), "usage": vars(result.usage)}
    del told["row"], told["steps"]
    told["answer"] = told.pop("answer")  # nearer to its copies in the other texts: 7 % fewer bytes
    steps = orjson.dumps([_step_told(step) for step in result.steps])
    return b"\n".join((orjson.dumps(told), steps, csv_tail(told)))


def unpack_parts(packed: bytes) -> tuple[bytes, bytes, bytes]:
    """The three texts of a stored result."""
    if packed[0] == _MARK:
        return _marked(packed)
    # `split` looks at each byte in turn, `partition` does not: a fifth of the whole.
    told, _, others = _decompress_result(packed).partition(b"\n")
    steps, _, end = others.partition(b"\n")
    return told, steps, end


def _marked(packed: bytes) -> tuple[bytes, bytes, bytes]:
    error, older = packed[1:].split(b"\n", 1)
    before, steps, _ = unpack_parts(older) if older else (b'{"attempts_made":0}', b"[]", b"")
    told = {
        **orjson.loads(before),
        "status": JobStatus.FAILED.value,
        "error": error.decode(),
        "answer": "",
    }
    return orjson.dumps(told), steps, csv_tail(told)


def csv_tail(told: dict[str, Any]) -> bytes:
    """A CSV record behind the row's status, of a result's plain data."""
    return csv_record(result_cells(result_values(told))).encode()


def unpack_result(row: int, packed: bytes) -> dict[str, Any]:
    """A stored result as plain data with the names of `Result`; one that a script wrote has few of them."""
    told, steps, _ = unpack_parts(packed)
    return {"row": row, **orjson.loads(told), "steps": orjson.loads(steps)}


def _step_told(step: Step) -> dict[str, Any]:
    """A step in the results. Times are Unix seconds, as both APIs give them."""
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


def _step(told: dict[str, Any]) -> Step:
    usage = Usage(told["prompt_tokens"], told["completion_tokens"])
    return Step(**_known(Step, told), usage=usage)


def result_of(stored: dict[str, Any]) -> Result:
    """The result from its plain data; fields of a later version are passed over."""
    return Result(
        **{
            **_known(Result, stored),
            "status": JobStatus(stored["status"]),
            "usage": Usage(**stored.get("usage", {})),
            "attempts": tuple(_attempt(attempt) for attempt in stored.get("attempts", ())),
            "steps": tuple(_step(step) for step in stored.get("steps", ())),
            "citations": tuple(stored.get("citations", ())),
            "files": tuple(stored.get("files", ())),
        }
    )


def _attempt(told: dict[str, Any]) -> Attempt:
    return Attempt(**{**_known(Attempt, told), "usage": Usage(**told["usage"])})


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

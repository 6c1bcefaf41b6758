"""Arrow types of columns whose values come row by row: declared by the input file, or found in the values.

A type that does not fit later values is widened, at last to text:

    bool ───────────────────▶ text, a value that is not text as JSON
    int64 ──▶ uint64, float64 ──▶
"""

import base64
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from askmill.jobs.model.models import as_text

TEXT = pa.string()
EXACT_FLOAT = 2**53
"""Whole numbers up to here are exact as a float."""
CONVERSION_FAULTS = (pa.ArrowException, ValueError, TypeError, OverflowError)


def declared_types(arrow_schema: str) -> dict[str, Any]:
    """Return the types by column of a schema as `InputSpec.arrow_schema` has it; empty without one."""
    if not arrow_schema:
        return {}
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(arrow_schema)))
    return {field.name: field.type for field in schema if _can_be_restored(field.type)}


def _can_be_restored(arrow_type: Any) -> bool:
    """Whether the intake's JSON values of this type can be turned back: bytes cannot."""
    types = pa.types
    if types.is_nested(arrow_type):
        children = [arrow_type.field(index).type for index in range(arrow_type.num_fields)]
        plain = (types.is_string, types.is_integer, types.is_boolean, types.is_float64, types.is_nested)
        return not types.is_map(arrow_type) and all(
            any(check(child) for check in plain) and _can_be_restored(child) for child in children
        )
    binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return not any(check(arrow_type) for check in (*binary, types.is_null, types.is_string_view))


def found_type(values: Sequence[Any]) -> tuple[Any, bool]:
    """Return the type of an input column's values, None where all are null.

    The second value says whether there is a whole number that a float would round.
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return None, False
    if kinds == {bool}:
        return pa.bool_(), False
    if not kinds <= {int, float}:
        return TEXT, False
    integers = [value for value in values if isinstance(value, int)]
    low, high = min(integers, default=0), max(integers, default=0)
    big = max(high, -low) > EXACT_FLOAT
    if float in kinds:
        return (TEXT if big else pa.float64()), big
    if high >= 2**63:
        return (pa.uint64() if low >= 0 else TEXT), True
    return pa.int64(), big


def widened(first: Any, second: Any, *, big: bool) -> Any:
    """Return a type for values of both types; `big`: as `found_type` says of any of them."""
    if first is None or second is None or first == second:
        return second if first is None else first
    kinds = {first, second}
    if kinds == {pa.int64(), pa.uint64()}:
        return pa.uint64()
    if pa.float64() in kinds and kinds <= {pa.int64(), pa.float64()} and not big:
        return pa.float64()
    return TEXT


def to_arrow(values: Sequence[Any], arrow_type: Any) -> Any:
    """Return JSON values as an array of this type. Raises one of CONVERSION_FAULTS where one does not fit."""
    types = pa.types
    if types.is_string(arrow_type):
        return pa.array([None if value is None else as_text(value) for value in values], arrow_type)
    if types.is_floating(arrow_type):
        numbers = [float(value) if isinstance(value, str) else value for value in values]
        return pa.array(numbers, pa.float64()).cast(arrow_type, safe=False)
    if types.is_duration(arrow_type):
        counts = [None if value is None else int(value) for value in values]
        return pa.array(counts, pa.int64()).cast(arrow_type)
    if types.is_temporal(arrow_type) or types.is_decimal(arrow_type):
        return _from_text(pa.array(values, TEXT), arrow_type)
    return pa.array(values, arrow_type)


def _from_text(texts: Any, arrow_type: Any) -> Any:
    if pa.types.is_timestamp(arrow_type) and arrow_type.tz is not None:
        # The intake writes UTC with a Z; without it no time zone database is needed.
        plain = pa.timestamp(arrow_type.unit)
        return pc.replace_substring_regex(texts, "Z$", "").cast(plain).cast(pa.int64()).cast(arrow_type)
    return texts.cast(arrow_type)


def recast(column: Any, arrow_type: Any) -> Any:
    """Return a written column as the type that later values need. Raises one of CONVERSION_FAULTS."""
    if column.type == arrow_type:
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), arrow_type)
    if pa.types.is_string(arrow_type):
        from askmill.jobs.intake.parquet_reader import json_values  # noqa: PLC0415 -- rarely needed

        return to_arrow(json_values(column), arrow_type)
    return column.cast(arrow_type)

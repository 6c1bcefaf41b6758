"""Reads a .parquet file in small batches; types that JSON does not have become text."""

import base64
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from askmill.jobs.intake.base import CHUNK_ROWS, Chunk
from askmill.jobs.intake.source import InputSource
from askmill.jobs.model.errors import Fault, InputFaults

BUFFER_BYTES = 1 << 16
"""Bytes of a column read at once, instead of a whole row group."""
# For a million rows, Arrow's own allocator keeps 35 MB more than the system's.
pa.set_memory_pool(pa.system_memory_pool())


class ParquetReader:
    """Reader of a Parquet file. Positions are row numbers. Raises InputFaults for a damaged file."""

    has_line_numbers = False
    delimiter = None
    header_line = None
    must_check_text = True

    def __init__(self, source: InputSource) -> None:
        self._name = source.name
        try:
            self._file = pq.ParquetFile(source.path, buffer_size=BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable_file(error) from error
        self.columns = list(self._file.schema_arrow.names)

    @property
    def arrow_schema(self) -> str:
        """The columns' names and types: Arrow's own bytes in base64, without the file's metadata."""
        schema = self._file.schema_arrow.remove_metadata()
        return base64.b64encode(schema.serialize().to_pybytes()).decode()

    def chunks(self) -> Iterator[Chunk]:
        first = 1
        try:
            for batch in self._file.iter_batches(batch_size=CHUNK_ROWS, use_threads=False):
                rows = list(map(list, zip(*map(json_values, batch.columns), strict=True)))
                yield Chunk(rows, first)
                first += len(rows)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable_file(error) from error

    def _unreadable_file(self, error: Exception) -> InputFaults:
        reason = f"the file is not valid Parquet ({str(error).splitlines()[0][:200]}); write it again"
        return InputFaults(self._name, [Fault(None, reason)])


def json_values(column: Any) -> list[Any]:
    """A column's values as JSON has them."""
    arrow_type = column.type
    if pa.types.is_timestamp(arrow_type) or pa.types.is_duration(arrow_type) or pa.types.is_time(arrow_type):
        # Python's times have microseconds; Arrow's text keeps nanoseconds.
        return _cast_to_text(column)
    values: list[Any] = column.to_pylist()
    if pa.types.is_string(arrow_type) or pa.types.is_integer(arrow_type) or pa.types.is_boolean(arrow_type):
        return values
    return [_to_json_value(value) for value in values]


def _cast_to_text(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        # Arrow stores zoned times in UTC; casting them to text would need a time zone database.
        utc = pc.cast(column, pa.timestamp(column.type.unit))
        return [None if text is None else f"{text}Z" for text in pc.cast(utc, pa.string()).to_pylist()]
    text: list[Any] = pc.cast(column, pa.string()).to_pylist()
    return text


def _to_json_value(value: Any) -> Any:
    """Convert a value to what JSON can hold. NaN, a missing number, becomes None."""
    if isinstance(value, dict):
        return {str(name): _to_json_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json_value(part) for part in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return _bytes_to_json(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | timedelta) else value


def _bytes_to_json(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()

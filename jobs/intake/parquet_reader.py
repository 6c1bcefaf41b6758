"""Rows of a .parquet file, a few at a time; what JSON does not know becomes text."""

import base64
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from askmill.jobs.intake.base import ROWS_A_CHUNK, Chunk
from askmill.jobs.intake.source import Source
from askmill.jobs.model.errors import Fault, InputFaults

BUFFER_BYTES = 1 << 16
"""A column is read by so much at a time, not by the whole row group."""
# Arrow's own allocator keeps 35 MB more of a million rows than the system's.
pa.set_memory_pool(pa.system_memory_pool())


class ParquetTable:
    """A Parquet file being read; rows have numbers, not lines. Raises InputFaults for a damaged one."""

    by_line = False
    separator = None
    header_line = None
    unsure = True

    def __init__(self, source: Source) -> None:
        self._name = source.name
        try:
            self._file = pq.ParquetFile(source.path, buffer_size=BUFFER_BYTES)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        self.columns = list(self._file.schema_arrow.names)

    def chunks(self) -> Iterator[Chunk]:
        first = 1
        try:
            for batch in self._file.iter_batches(batch_size=ROWS_A_CHUNK, use_threads=False):
                rows = list(map(list, zip(*map(_values, batch.columns), strict=True)))
                yield Chunk(rows, first)
                first += len(rows)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputFaults:
        reason = f"cannot be read as Parquet ({str(error).splitlines()[0][:200]}); write the file again"
        return InputFaults(self._name, [Fault(None, reason)])


def _values(column: Any) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
        # Python's own times end at microseconds; Arrow's text keeps nanoseconds.
        return _as_text(column)
    values: list[Any] = column.to_pylist()
    if pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values
    return [_plain(value) for value in values]


def _as_text(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        # Arrow keeps zoned times in UTC; casting to text would need a time zone database.
        bare = pc.cast(column, pa.timestamp(column.type.unit))
        return [None if text is None else f"{text}Z" for text in pc.cast(bare, pa.string()).to_pylist()]
    text: list[Any] = pc.cast(column, pa.string()).to_pylist()
    return text


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; a missing number (NaN) is None."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, bytes):
        return _plain_bytes(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | timedelta) else value


def _plain_float(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _plain_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()

"""Writes results as a flat Parquet file: numbers typed, input cells as text, lists and steps as JSON text."""

from collections.abc import Sequence
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from askmill.jobs.model.models import as_text
from askmill.jobs.model.result_fields import FIELDS
from askmill.jobs.results.columns import Columns, Entry

MAX_GROUP_ROWS = 8_192
MAX_GROUP_CHARACTERS = 4_000_000
"""A row group is written when either limit is reached: good compression, little memory."""
# Arrow's own allocator keeps the memory of a group; the system's frees it.
pa.set_memory_pool(pa.system_memory_pool())
INTEGER_FIELDS = frozenset({"row", "attempts", "prompt_tokens", "completion_tokens"})
FLOAT_FIELDS = frozenset({"cost_usd", "duration_s"})


class _ParquetFileWriter(pq.ParquetWriter):  # type: ignore[misc]  # pyarrow publishes no types
    """pyarrow's writer without its finalizer: an abandoned file needs no footer."""

    def __del__(self) -> None:
        """Do not write to the stream."""


class ParquetWriter:
    """Collects rows into row groups."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._columns = columns
        self._schema = pa.schema(
            [(columns.names[index], _type(index - columns.width)) for index in columns.places]
        )
        self._file = _ParquetFileWriter(stream, self._schema, compression="zstd")
        self._rows: list[list[Any]] = []
        self._characters = 0

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            row = self._columns.pick(self._row(entry))
            self._characters += sum(len(value) for value in row if isinstance(value, str))
            self._rows.append(row)
            if len(self._rows) >= MAX_GROUP_ROWS or self._characters >= MAX_GROUP_CHARACTERS:
                self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._file.close()

    def _row(self, entry: Entry) -> list[Any]:
        cells = [None if cell is None else as_text(cell) for cell in self._columns.cells(entry.cells)]
        *values, citations, files = entry.fields()
        return [*cells, *values, _json(citations), _json(files), entry.steps.decode()]

    def _flush(self) -> None:
        arrays = [
            pa.array(values, type=field.type)
            for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows, self._characters = [], 0


def _type(index: int) -> Any:
    """The type of the result column at `index`; a negative index is an input column."""
    name = FIELDS[index] if 0 <= index < len(FIELDS) else ""
    if name in INTEGER_FIELDS:
        return pa.int64()
    return pa.float64() if name in FLOAT_FIELDS else pa.string()


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode()

"""Writes rows as a flat Parquet file: input columns with their types, lists and steps as JSON text.

rows ─▶ a row group ─▶ file ─▶ stream      every column is text, or its type is fixed
                 └──▶ temporary file ─▶ stream      the type of an input column may still widen; then the
                       ▲        │                    groups so far are written once more
                       └────────┘
"""

import shutil
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from askmill.jobs.results.arrow_types import (
    CONVERSION_FAULTS,
    TEXT,
    declared_types,
    found_type,
    recast,
    to_arrow,
    widened,
)
from askmill.jobs.results.columns import ColumnKind, Columns
from askmill.jobs.results.writers import json_text

MAX_GROUP_ROWS = 8_192
MAX_GROUP_CHARACTERS = 4_000_000
"""A row group is written when either limit is reached: good compression, little memory."""
# Arrow's own allocator keeps the memory of a group; the system's frees it.
pa.set_memory_pool(pa.system_memory_pool())
FIXED_TYPES = {
    ColumnKind.TEXT: TEXT,
    ColumnKind.JSON: TEXT,
    ColumnKind.INTEGER: pa.int64(),
    ColumnKind.NUMBER: pa.float64(),
    ColumnKind.AMOUNT: pa.float64(),
    ColumnKind.BOOLEAN: pa.bool_(),
}


class _ParquetFileWriter(pq.ParquetWriter):  # type: ignore[misc]  # pyarrow publishes no types
    """pyarrow's writer without its finalizer: an abandoned file needs no footer."""

    def __del__(self) -> None:
        """Do not write to the stream."""


class ParquetWriter:
    """Collects rows into row groups."""

    def __init__(self, stream: BinaryIO, columns: Columns) -> None:
        self._stream, self._columns = stream, columns
        declared = declared_types(columns.arrow_schema)
        kinds = [columns.kinds[place] for place in columns.places]
        self._types = [
            declared.get(name) if kind is ColumnKind.INPUT else FIXED_TYPES[kind]
            for name, kind in zip(columns.header, kinds, strict=True)
        ]
        self._found = [found is None for found in self._types]
        """Whether the type of a column is found in its values."""
        self._json = [place for place, kind in enumerate(kinds) if kind is ColumnKind.JSON]
        self._big = [False] * len(kinds)
        self._spool: Any = None
        self._file: Any = None
        self._rows: list[list[Any]] = []
        self._characters = 0

    def add(self, rows: Sequence[list[Any]]) -> None:
        for complete in rows:
            row = [*self._columns.pick(complete)]
            for place in self._json:
                row[place] = json_text(row[place])
            self._characters += sum(len(value) for value in row if isinstance(value, str))
            self._rows.append(row)
            if len(self._rows) >= MAX_GROUP_ROWS or self._characters >= MAX_GROUP_CHARACTERS:
                self._flush()

    def close(self) -> None:
        if self._rows or self._file is None:
            self._flush()
        self._file.close()
        if self._spool is not None:
            self._spool.seek(0)
            shutil.copyfileobj(self._spool, self._stream)
            self._spool.close()

    def _flush(self) -> None:
        values = list(zip(*self._rows, strict=True)) or [()] * len(self._types)
        arrays = [self._array(place, column) for place, column in enumerate(values)]
        schema = self._schema()
        if self._file is None:
            self._open(schema)
        elif schema != self._file.schema:
            self._rewrite()
            schema = self._schema()
        arrays = [
            array if array.type == field.type else to_arrow(column, field.type)
            for array, column, field in zip(arrays, values, schema, strict=True)
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._rows, self._characters = [], 0

    def _schema(self) -> Any:
        names = zip(self._columns.header, self._types, strict=True)
        return pa.schema([(name, arrow_type or TEXT) for name, arrow_type in names])

    def _array(self, place: int, values: Sequence[Any]) -> Any:
        """The values of a group, after its column's type has been widened to fit them."""
        if self._found[place]:
            found, big = found_type(values)
            self._big[place] = self._big[place] or big
            self._types[place] = widened(self._types[place], found, big=self._big[place])
        try:
            return to_arrow(values, self._types[place] or TEXT)
        except CONVERSION_FAULTS:
            self._types[place] = TEXT
            return to_arrow(values, TEXT)

    def _open(self, schema: Any) -> None:
        """Write to the stream, or to a temporary file while the type of a column may change."""
        kinds = [self._columns.kinds[place] for place in self._columns.places]
        if any(
            kind is ColumnKind.INPUT and found != TEXT for kind, found in zip(kinds, self._types, strict=True)
        ):
            self._spool = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the writer
        self._file = _file(self._spool or self._stream, schema)

    def _rewrite(self) -> None:
        """Write the groups so far once more, with the present types."""
        self._file.close()
        old, written = self._spool, None
        while written is None:
            schema, self._spool = self._schema(), tempfile.TemporaryFile()  # noqa: SIM115 -- as above
            written = self._copied(pq.ParquetFile(old), schema)
        self._file = written
        old.close()

    def _copied(self, source: Any, schema: Any) -> Any:
        """A new file with the groups of another; None where a column has to become text."""
        target = _file(self._spool, schema)
        for group in range(source.num_row_groups):
            arrays = []
            for place, column in enumerate(source.read_row_group(group).columns):
                try:
                    arrays.append(recast(column.combine_chunks(), schema.field(place).type))
                except CONVERSION_FAULTS:
                    self._types[place] = TEXT
                    return None
            target.write_table(pa.Table.from_arrays(arrays, schema=schema))
        return target


def _file(stream: Any, schema: Any) -> Any:
    return _ParquetFileWriter(stream, schema, compression="zstd")

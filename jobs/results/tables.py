"""Results as a pyarrow table: what a writer writes as Parquet is read back."""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(write: Callable[[BytesIO], None]) -> "pa.Table":
    """Return as a table what `write` writes to a stream as Parquet."""
    import pyarrow as pa  # noqa: PLC0415 -- a quarter second
    from pyarrow import parquet  # noqa: PLC0415 -- as above

    pool, stream = pa.default_memory_pool(), BytesIO()
    try:
        write(stream)
    finally:
        # The writer chooses the system's allocator for its process; this one is the caller's.
        pa.set_memory_pool(pool)
    stream.seek(0)
    return parquet.read_table(stream)

"""Questions as a program has them: a path, texts, mappings, or a table. Rows become a file of JSON lines.

JSON lines do not depend on the version of a table library, so the same rows are always the same batch.
"""

import datetime as dt
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from os import PathLike, fspath
from typing import Any, Protocol
from uuid import UUID

from askmill.errors import UsageError


class ArrowTable(Protocol):
    """A table of pandas, polars, pyarrow, DuckDB, …: anything with the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


Questions = str | PathLike[str] | ArrowTable | Iterable[str | Mapping[str, Any]]
"""A path, or rows: texts are questions, mappings have columns by name, a table's columns are the input's."""
ROWS = "the rows"
"""The name of rows in messages, where a file has its path."""
UNDERSTOOD = (
    "Pass a path, texts, mappings (column → value), or a table of pandas, polars or pyarrow (anything with "
    "the Arrow PyCapsule interface)."
)


def is_path(questions: Questions) -> bool:
    """Whether the questions are in a file. Raises TypeError for what is neither a path nor rows."""
    if isinstance(questions, str | PathLike):
        return True
    unfit = isinstance(questions, bytes | bytearray | memoryview | Mapping)
    if unfit or not (hasattr(questions, "__arrow_c_stream__") or isinstance(questions, Iterable)):
        raise TypeError(f"questions cannot be {type(questions).__name__}. {UNDERSTOOD}")
    return False


@contextmanager
def question_file(questions: Questions) -> Iterator[str]:
    """Yield the path of the questions; a file of rows exists while the block runs.

    Raises TypeError for rows that are not understood, and UsageError for values without a JSON form.
    """
    if is_path(questions):
        assert isinstance(questions, str | PathLike)
        yield fspath(questions)
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="askmill-", suffix=".jsonl") as file:
        file.writelines(_json_line(number, row) for number, row in enumerate(_rows(questions), 1))
        file.flush()
        yield file.name


def _rows(questions: Any) -> Iterator[Any]:
    if not hasattr(questions, "__arrow_c_stream__"):
        yield from questions
        return
    import pyarrow as pa  # noqa: PLC0415 -- a quarter second that lists do without

    try:
        reader = pa.RecordBatchReader.from_stream(questions)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError):
        # One column without a name: a Series.
        yield from pa.chunked_array(questions).to_pylist()
        return
    # The index of a pandas table, unless it has a name.
    names = [name for name in reader.schema.names if not name.startswith("__index_level_")]
    for batch in reader:
        yield from batch.select(names).to_pylist()


def _json_line(number: int, row: Any) -> str:
    if not isinstance(row, str | Mapping):
        raise TypeError(f"row {number} is {type(row).__name__}. {UNDERSTOOD}")
    cells = {"question": row} if isinstance(row, str) else dict(row)
    try:
        return json.dumps(cells, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    except (TypeError, ValueError) as fault:
        raise UsageError(
            f"row {number} cannot be written as JSON: {fault}. Convert it to text or a plain number."
        ) from None


def _plain(value: Any) -> Any:
    """Dates, decimals and the like as text; numbers of NumPy as plain numbers."""
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | dt.timedelta):
        return str(value)
    if hasattr(value, "item") and type(value).__module__.partition(".")[0] == "numpy":
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")

"""What `compare` returns: batches of the same questions side by side, as a sequence, a table, or a file."""

import html
from collections.abc import AsyncIterator, Mapping, Sequence
from io import BytesIO
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, overload

from askmill.bridge import in_thread
from askmill.jobs.display.compare_view import comparison_lines, comparison_page, differing_line, summary_rows
from askmill.jobs.display.html_page import table
from askmill.jobs.model.models import JobStatus
from askmill.jobs.results import compare as compared
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault, plan_page
from askmill.jobs.results.tables import read_table
from askmill.tables import ArrowTable
from askmill.types import ComparedBatch, Tokens

if TYPE_CHECKING:
    import pyarrow as pa


class Comparison(ArrowTable, Sequence[Mapping[str, Any]]):
    """A row for each question: the input columns, then `NAME.answer`, `NAME.status`, … of each batch.

    `summary` has a `ComparedBatch` for each batch; `differing` counts the rows whose answers differ.
    """

    def __init__(self, comparison: compared.Comparison, rows: Sequence[list[Any]]) -> None:
        self._comparison, self._rows = comparison, rows

    @property
    def summary(self) -> list[ComparedBatch]:
        """What each batch adds up to, in the order in which they were named."""
        return [_summary(side) for side in self._comparison.sides]

    @property
    def differing(self) -> int:
        """The number of rows whose answers differ."""
        return self._comparison.differing

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "Comparison": ...
    def __getitem__(self, index: int | slice) -> "Mapping[str, Any] | Comparison":
        if isinstance(index, slice):
            return Comparison(self._comparison, self._rows[index])
        return dict(zip(self._comparison.columns.names, self._rows[index], strict=True))

    def to_arrow(self) -> "pa.Table":
        """Return a pyarrow table with the columns of `askmill compare -o both.parquet`."""
        return read_table(self._to_parquet)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the rows to a file, or a page with filter and search, as `askmill compare -o PATH` does.

        Args:
            path: the extension gives the format: .csv, .tsv, .jsonl, .parquet, .xlsx, or .html for a page.

        Raises:
            UsageError: the path cannot be written.
            Unavailable: the file system refuses.
        """
        in_thread(lambda _: self._save(fspath(path)))

    def __repr__(self) -> str:
        return "\n".join(comparison_lines(self._comparison))

    def _repr_html_(self) -> str:
        header, *rows = summary_rows(self._comparison)
        return f"{table(header, rows)}<div>{html.escape(differing_line(self._comparison))}</div>"

    def _to_parquet(self, stream: BytesIO) -> None:
        compared.to_parquet(self._comparison, self._rows, stream)

    async def _save(self, path: str) -> None:
        if path.lower().endswith((".html", ".htm")):
            page = await comparison_page(self._comparison, self._chunks())
            with oserror_to_write_fault(path), atomic_write(plan_page(path)) as file:
                file.write(page.encode())
        else:
            await compared.write_comparison(self._comparison, self._chunks(), path)

    async def _chunks(self) -> AsyncIterator[list[list[Any]]]:
        yield list(self._rows)


def _summary(side: compared.Side) -> ComparedBatch:
    totals, accuracy = side.counts.totals, side.accuracy
    return ComparedBatch(
        name=side.name,
        batch=side.batch.id,
        rows=side.batch.rows,
        completed=side.counts.by_status[JobStatus.COMPLETED],
        cost_usd=side.counts.cost_usd,
        tokens=Tokens(totals.get("prompt"), totals.get("completion")),
        duration_s=side.batch.duration_s,
        accuracy=None if accuracy is None else accuracy.to_json(),
    )

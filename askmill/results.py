"""What `run` and `collect` return: the rows of a batch as a sequence, a table, or a file."""

import html
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from io import BytesIO, StringIO
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, overload

import orjson

from askmill.bridge import in_thread
from askmill.config.settings import load_settings
from askmill.config.text import count_of, one_line
from askmill.jobs.local.open_store import open_store
from askmill.jobs.model.result_fields import FIELDS
from askmill.jobs.results import Format, ResultOptions, write_results
from askmill.jobs.results.collect import plan_stored, write_profile
from askmill.jobs.results.columns import entry_of
from askmill.jobs.results.export import write_rows
from askmill.jobs.results.tables import read_table
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import RowView
from askmill.tables import ArrowTable
from askmill.types import Row, Step

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN_ROWS = 10
SHOWN_CHARACTERS = 300
HEADINGS = ("row", "status", "question", "answer")
CELL_STYLE = "text-align:left;vertical-align:top;max-width:30em;overflow-wrap:anywhere"


class Results(ArrowTable, Sequence[Row]):
    """The rows of a batch in input order. Indexing gives a `Row`, a slice gives `Results`.

    The rows are kept compressed, as Redis stores them, and are unpacked one by one.
    """

    def __init__(
        self, batch: Batch, views: Sequence[RowView], parse: Callable[[str], Any] | None = None
    ) -> None:
        self._batch, self._views, self._parse = batch, views, parse

    @property
    def batch(self) -> str:
        """The id of the batch, such as `b_7hq2m9`."""
        return self._batch.id

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Results": ...
    def __getitem__(self, index: int | slice) -> "Row | Results":
        if isinstance(index, slice):
            return Results(self._batch, self._views[index], self._parse)
        return self._row(self._views[index])

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._views)

    def to_arrow(self) -> "pa.Table":
        """Return a pyarrow table with the columns of `askmill collect -o answers.parquet`."""
        return read_table(self._write)

    def save(self, path: str | PathLike[str], *, columns: Sequence[str] = ()) -> None:
        """Write the rows to a file, complete or not at all, as `askmill collect -o PATH` does.

        Beside it are written the steps (of a CSV), the files that runs generated, and the profile.

        Args:
            path: the extension gives the format: .csv, .tsv, .jsonl, .parquet or .xlsx; with .gz or .zst
                behind it, text is compressed.
            columns: the columns to write, in this order; empty means all.

        Raises:
            UsageError: the path cannot be written, or there is no such column.
            Unavailable: the file system refuses; or a generated file is in a Redis that does not answer.
        """
        in_thread(lambda _: self._save(fspath(path), columns))

    def __repr__(self) -> str:
        from rich.console import Console  # noqa: PLC0415 -- 100 ms that only a terminal needs
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, expand=True)
        for name, ratio in zip(HEADINGS, (None, None, 2, 3), strict=True):
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio)
        for cells in self._shown(120):
            table.add_row(*map(Text, cells))
        screen = StringIO()
        # In a notebook Rich would display the table there instead of writing it to the file.
        console = Console(file=screen, width=100, no_color=True, force_terminal=False, force_jupyter=False)
        console.print(table)
        return "\n".join(filter(None, (self._headline(), screen.getvalue().rstrip(), self._omitted())))

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f'<td style="{CELL_STYLE}">{html.escape(cell)}</td>' for cell in cells) + "</tr>"
            for cells in self._shown(SHOWN_CHARACTERS)
        )
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in HEADINGS)
        return (
            f"<div>{html.escape(self._headline())}</div><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows}</tbody></table><div>{html.escape(self._omitted())}</div>"
        )

    def _shown(self, longest: int) -> Iterator[tuple[str, str, str, str]]:
        """The cells of the first rows, without control characters."""
        for view in self._views[:SHOWN_ROWS]:
            stored = view.stored or {}
            answer = stored.get("answer") or (f"({stored['error']})" if stored.get("error") else "")
            question = self._batch.spec.question(view.cells)
            yield (str(view.row), str(view.status), one_line(question, longest), one_line(answer, longest))

    def _headline(self) -> str:
        statuses = Counter(str(view.status) for view in self._views)
        counts = " · ".join(f"{number:,} {status}" for status, number in statuses.most_common())
        return f"{count_of(len(self), 'row')} of {self.batch}" + (f": {counts}" if counts else "")

    def _omitted(self) -> str:
        left = len(self) - SHOWN_ROWS
        return f"… and {left:,} more" if left > 0 else ""

    def _row(self, view: RowView) -> Row:
        entry = entry_of(view)
        fields = dict(zip(FIELDS, entry.fields(), strict=True))
        spec, schema = self._batch.spec, self._batch.profile.response_schema
        fields |= {name: list(fields[name]) for name in ("citations", "files")}
        return Row(
            **{**fields, "status": str(view.status)},
            input=dict(zip(spec.columns, entry.cells, strict=False)),
            steps=[Step(**step) for step in orjson.loads(entry.steps)],
            parsed=self._parsed(fields["answer"]) if schema is not None else None,
        )

    def _parsed(self, answer: str | None) -> Any:
        if not answer:
            return None
        try:
            return orjson.loads(answer) if self._parse is None else self._parse(answer)
        except ValueError:  # also pydantic's ValidationError
            return None

    def _write(self, stream: BytesIO) -> None:
        # As for a file of that format: `-o -` has no steps file beside it, so steps are a column.
        plan = plan_stored(self._batch, "-", ResultOptions(Format.PARQUET), len(self))
        write_rows(self._views, plan, stream)

    async def _save(self, path: str, columns: Sequence[str]) -> None:
        plan = plan_stored(self._batch, path, ResultOptions(columns=tuple(columns)), len(self))
        async with AsyncExitStack() as stack:
            opened: list[Any] = []

            async def fetch(row: int, file: dict[str, Any]) -> bytes | None:
                if file.get("number") is None:
                    return None
                if not opened:
                    opened.append(await stack.enter_async_context(open_store(load_settings())))
                content: bytes | None = await opened[0].read_file(self.batch, row, file["number"])
                return content

            await write_results(_chunks(self._views), plan, fetch)
        if plan.output.files is not None:
            write_profile(self._batch, plan.output.files.with_suffix(".profile.json"), path)


async def _chunks(views: Sequence[RowView]) -> AsyncIterator[Iterable[RowView]]:
    yield views

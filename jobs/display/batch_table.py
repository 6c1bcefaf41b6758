"""The batches of a Redis as a table: headed and aligned; on a terminal coloured, and no wider than it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from askmill.config.text import format_usd, one_line
from askmill.jobs.display.progress import STYLES
from askmill.jobs.model.models import UNSUCCESSFUL, BatchState
from askmill.jobs.store.views import StatusView

MIN_NAME, MAX_NAME, GAP = 12, 40, 2
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Column(NamedTuple):
    """A column of the table. Those with a higher `rank` are left out first where the terminal is narrow."""

    header: str
    rank: int = 0
    right: bool = False


NAME = Column("name")
COLUMNS = (
    Column("id"),
    NAME,
    Column("state"),
    Column("rows", right=True),
    Column("failed", 1, right=True),
    Column("model", 5),
    Column("cost", 2, right=True),
    Column("accuracy", 4, right=True),
    Column("age", 3, right=True),
)


def batch_table(views: Sequence[StatusView], width: int | None) -> str:
    """The batches as lines of at most `width` columns; None is as wide as needed. Coloured on a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- 50 ms that `list --json` does without
    from rich.table import Table  # noqa: PLC0415 -- as above
    from rich.text import Text  # noqa: PLC0415 -- as above

    rows = [_cells(view) for view in views]
    shown = _columns_shown(rows, width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in shown:
        table.add_column(
            column.header,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=_name_width(rows, shown, width) if column is NAME else _width(rows, column),
        )
    for view, row in zip(views, rows, strict=True):
        cells = [Text(row[column]) for column in shown]
        cells[shown.index(COLUMNS[2])].stylize(STYLES[view.batch.state])
        table.add_row(*cells)
    # A console of the table's own width, so that Rich cuts nothing that is not to be cut.
    console = Console(width=table_width(rows, shown) + GAP)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(map(str.rstrip, captured.get().splitlines()))


def table_width(rows: Sequence[dict[Column, str]], shown: Sequence[Column]) -> int:
    """The width that these columns take, with the gaps between them."""
    return sum(_width(rows, column) for column in shown) + GAP * (len(shown) - 1)


def _columns_shown(rows: Sequence[dict[Column, str]], width: int | None) -> list[Column]:
    """The columns that have a value somewhere and fit beside a name of `MIN_NAME` characters."""
    shown = [column for column in COLUMNS if any(row[column] for row in rows)]
    while width is not None and any(column.rank for column in shown):
        name = _width(rows, NAME)
        if table_width(rows, shown) - name + min(name, MIN_NAME) <= width:
            break
        shown.remove(max(shown, key=lambda column: column.rank))
    return shown


def _name_width(rows: Sequence[dict[Column, str]], shown: Sequence[Column], width: int | None) -> int:
    """The width of the names: what the other columns leave, at least `MIN_NAME`."""
    longest = _width(rows, NAME)
    if width is None:
        return longest
    return min(longest, max(MIN_NAME, width - table_width(rows, shown) + longest))


def _width(rows: Sequence[dict[Column, str]], column: Column) -> int:
    from rich.cells import cell_len  # noqa: PLC0415 -- as above

    return max(len(column.header), *(cell_len(row[column]) for row in rows))


def _cells(view: StatusView) -> dict[Column, str]:
    batch, counts = view.batch, view.counts.by_status
    failed = sum(counts[status] for status in UNSUCCESSFUL)
    model = batch.effective_profile.model or batch.profile.assistant_id or ""
    values = (
        batch.id,
        one_line(batch.name, MAX_NAME),
        _state(view),
        f"{batch.rows - view.counts.unfinished:,} of {batch.rows:,}",
        f"{failed:,}" if failed else "",
        one_line(model, 24),
        "" if view.counts.cost_usd is None else format_usd(view.counts.cost_usd),
        "" if view.accuracy is None or view.accuracy.share is None else view.accuracy.share_text(),
        format_age((view.now_ms - batch.submitted_at_ms) / 1000),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _state(view: StatusView) -> str:
    if view.waiting is None:
        return view.batch.state.value
    until, now = (datetime.fromtimestamp(at_ms / 1000, UTC) for at_ms in (view.waiting.until_ms, view.now_ms))
    time = f"{until:%H:%M} UTC" if until.date() == now.date() else f"{until:%Y-%m-%d %H:%M} UTC"
    if view.batch.state is BatchState.PAUSED:
        return f"paused until {time}"
    return f"{view.batch.state}, waits until {time}"


def format_age(seconds: float) -> str:
    """`now`, `5 min`, `3 h`, `12 d`: whole units, rounded down."""
    for size, unit in UNITS:
        if seconds >= size:
            return f"{int(seconds // size):,} {unit}"
    return "now"

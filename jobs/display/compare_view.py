"""A comparison of batches as text for the terminal, and as an HTML page."""

from collections.abc import AsyncIterator, Sequence
from html import escape
from typing import Any

from askmill.config.text import count_of, format_duration, format_usd, one_line
from askmill.jobs.display.html_page import RowTable, page, table
from askmill.jobs.model.models import JobStatus
from askmill.jobs.results.compare import Comparison, Side

SUMMARY = ("batch", "", "completed", "cost", "tokens in", "tokens out", "time", "accuracy")


def summary_rows(comparison: Comparison) -> list[list[str]]:
    """The header, and a row for each batch."""
    judged = comparison.expected is not None
    width = len(SUMMARY) if judged else len(SUMMARY) - 1
    return [list(SUMMARY[:width]), *(_summary(side)[:width] for side in comparison.sides)]


def _summary(side: Side) -> list[str]:
    totals, cost, seconds = side.counts.totals, side.counts.cost_usd, side.batch.duration_s
    accuracy = side.accuracy
    return [
        one_line(side.name, 40),
        side.batch.id,
        f"{side.counts.by_status[JobStatus.COMPLETED]:,} of {side.batch.rows:,}",
        "unknown" if cost is None else format_usd(cost),
        f"{totals['prompt']:,}" if "prompt" in totals else "unknown",
        f"{totals['completion']:,}" if "completion" in totals else "unknown",
        "not ended" if seconds is None else format_duration(seconds),
        "" if accuracy is None else accuracy.text().removeprefix("accuracy "),
    ]


def differing_line(comparison: Comparison) -> str:
    """How many rows differ, and how many were compared."""
    line = f"{comparison.differing:,} of {count_of(comparison.rows, 'row')} differ"
    if comparison.rows < max(side.batch.rows for side in comparison.sides):
        line += "; the batches have different numbers of rows, and only those that all have were compared"
    return line


def comparison_lines(comparison: Comparison, width: int | None = None) -> list[str]:
    """The summary as aligned text, the rows that differ, and a confusion matrix for few classes.

    `width` is the terminal's in characters; None is as wide as needed.
    """
    lines = [*fitting_lines(summary_rows(comparison), width), "", differing_line(comparison)]
    for side in comparison.sides:
        if matrix := side.matrix():
            lines += ["", f"{one_line(side.name, 40)}: expected answers down, given answers across"]
            lines += _aligned(matrix)
    return lines


def fitting_lines(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The rows as aligned lines; on a narrower terminal a line per column, the batches side by side."""
    lines = _aligned(rows)
    if width is None or max(map(len, lines)) <= width:
        return lines
    return _aligned(list(zip(*rows, strict=True)))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    rows = [[one_line(cell, 80) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


async def comparison_page(comparison: Comparison, chunks: AsyncIterator[list[list[Any]]]) -> str:
    """The comparison as one HTML file, with the rows as far as a page holds them."""
    names, width = comparison.columns.names, comparison.columns.width
    question = comparison.sides[0].batch.spec
    kept = [place for place, name in enumerate(names) if place >= width and not name.endswith("duration_s")]
    rows = RowTable(("row", "question", *(names[place] for place in kept[1:-1])))
    async for chunk in chunks:
        for row in chunk:
            flags = ["differ"] if row[-1] else []
            flags += [
                f"wrong:{name}" for name, value in zip(names, row, strict=True) if _is_wrong(name, value)
            ]
            cells = [row[place] for place in kept[1:-1]]
            rows.add([row[width], question.question(row[:width]), *cells], flags)
    header, *body = summary_rows(comparison)
    matrices = [
        f"<section><h2>{escape(side.name)}</h2>{table(matrix[0], matrix[1:])}"
        "<p class=note>expected answers down, given answers across</p></section>"
        for side in comparison.sides
        if (matrix := side.matrix())
    ]
    title = " · ".join(side.name for side in comparison.sides)
    parts = [f"<h1>{escape(title)}</h1>", f"<section>{table(header, body)}</section>"]
    parts += [f"<p>{escape(differing_line(comparison))}</p>", *matrices, rows.html("Answers side by side")]
    return page(title, [*parts, "<footer>askmill compare</footer>"])


def _is_wrong(name: str, value: Any) -> bool:
    return name.endswith(".correct") and value is False

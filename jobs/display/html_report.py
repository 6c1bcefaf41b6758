"""A batch as one page that a person looks at: its cost, how it ended, how long runs took, what went wrong.

rows, streamed ─▶ Tally (numbers only) ─▶ page: HTML, its charts inline SVG; nothing is fetched, no script.
"""

from array import array
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from statistics import median
from typing import Any

from askmill.config.text import count_of, format_duration, format_usd, strip_control
from askmill.jobs.display.svg_charts import COLOURS, bars, histogram, line, stacked
from askmill.jobs.model.models import FINISHED, UNFINISHED, JobStatus
from askmill.jobs.model.result_fields import result_values
from askmill.jobs.store.records import RowView, StatusView, iso

SHOWN_ROWS = 20
LONGEST_TEXT = 160


@dataclass
class Tally:
    """What the page needs of the rows: about 40 bytes a row, whatever they hold."""

    statuses: Counter[JobStatus] = field(default_factory=Counter)
    durations_s: "array[float]" = field(default_factory=lambda: array("d"))
    prompt: "array[float]" = field(default_factory=lambda: array("d"))
    completion: "array[float]" = field(default_factory=lambda: array("d"))
    ended_at: "array[float]" = field(default_factory=lambda: array("d"))
    attempts: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    bad_rows: list[tuple[int, str, str, str]] = field(default_factory=list)
    slowest: list[tuple[float, int]] = field(default_factory=list)

    def add(self, view: RowView, question: str) -> None:
        """Count one row."""
        told = view.stored or {}
        known = dict(zip(("attempts", "prompt", "completion", "took_s"), _numbers(told), strict=True))
        self.statuses[view.status] += 1
        if known["attempts"] is not None:
            self.attempts[int(known["attempts"])] += 1
        for name, into in (("prompt", self.prompt), ("completion", self.completion)):
            if known[name] is not None:
                into.append(known[name] or 0.0)
        if (took_s := known["took_s"]) is not None:
            self.durations_s.append(took_s)
            self.slowest = sorted([*self.slowest, (took_s, view.row)], reverse=True)[:5]
        self.steps.update(str(step["type"]) for step in told.get("steps", ()))
        ended = [attempt["finished_at"] for attempt in told.get("attempts", ()) if attempt.get("finished_at")]
        self.ended_at.extend(ended[-1:])
        self._fault(view, str(told.get("error") or ""), question)

    def _fault(self, view: RowView, error: str, question: str) -> None:
        if error:
            self.errors[error.split(":", maxsplit=1)[0][:60]] += 1
        if view.status in FINISHED - {JobStatus.COMPLETED} and len(self.bad_rows) < SHOWN_ROWS:
            self.bad_rows.append((view.row, view.status, error, question))


def _numbers(told: dict[str, Any]) -> tuple[float | None, ...]:
    """Attempts, tokens in, tokens out, seconds; None where unknown."""
    values = result_values(told)
    return values[2], values[6], values[7], values[9]


async def tallied(view: StatusView, rows: AsyncIterator[RowView]) -> Tally:
    """Go through the rows once."""
    tally, spec = Tally(), view.batch.spec
    async for row in rows:
        tally.add(row, spec.question(row.cells))
    return tally


def page(view: StatusView, tally: Tally) -> str:
    """The whole HTML document."""
    batch = view.batch
    title = escape(f"{batch.name}: {batch.id}")
    style = files("askmill.jobs.display").joinpath("report.css").read_text("utf-8")
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width">',
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}</title><style>{style}</style></head><body><main>",
        f"<h1>{escape(batch.name)}</h1><p class=sub>{_subtitle(view)}</p>",
        _cards(view, tally),
        _section("How the rows ended", stacked(_shares(tally))),
        "<div class=grid>",
        _section("Time of a run, seconds", histogram(tally.durations_s), _times(tally)),
        _section("Rows finished over time", line(tally.ended_at)),
        _section("Tokens in a row", histogram(tally.prompt), _spread(tally.prompt, "")),
        _section("Tokens out a row", histogram(tally.completion), _spread(tally.completion, "")),
        _section("Attempts a row", bars([(str(n), rows) for n, rows in sorted(tally.attempts.items())])),
        _section("Steps", bars(tally.steps.most_common(8))),
        "</div>",
        _errors(tally),
        _bad_rows(tally),
        f"<footer>askmill · <code>askmill show {batch.id} ROW</code> tells the story of a row</footer>",
        "</main></body></html>",
    ]
    return strip_control("\n".join(part for part in parts if part)) + "\n"


def _subtitle(view: StatusView) -> str:
    batch = view.batch
    said = [batch.id, batch.state, batch.model or "stored assistant", f"{batch.api} API at {batch.base_url}"]
    said.append(f"submitted {str(iso(batch.submitted_at_ms))[:16].replace('T', ' ')} UTC")
    return " · ".join(escape(part) for part in said)


def _cards(view: StatusView, tally: Tally) -> str:
    batch, totals = view.batch, view.counts.totals
    finished = sum(rows for status, rows in tally.statuses.items() if status not in UNFINISHED)
    cards = [(f"{tally.statuses[JobStatus.COMPLETED]:,} of {batch.rows:,}", "rows completed")]
    if not batch.options.get("offline"):
        cards.append(
            (format_usd(view.counts.cost_usd), "spent" if finished == batch.rows else "spent so far")
        )
    cards += [
        (f"{totals.get('prompt', 0):,}", "tokens in"),
        (f"{totals.get('completion', 0):,}", "tokens out"),
        (f"{totals.get('runs', 0):,}", "runs"),
        (f"{totals.get('requests', 0):,}", "requests"),
    ]
    if batch.started_at_ms is not None and batch.finished_at_ms is not None:
        cards.append(
            (format_duration((batch.finished_at_ms - batch.started_at_ms) / 1000), "from first to last")
        )
    return (
        "<div class=cards>" + "".join(f"<div><b>{v}</b><span>{k}</span></div>" for v, k in cards) + "</div>"
    )


def _section(title: str, chart: str, note: str = "") -> str:
    if not chart:
        return ""
    told = f"<p class=note>{note}</p>" if note else ""
    return f"<section><h2>{title}</h2>{chart}{told}</section>"


def _shares(tally: Tally) -> list[tuple[str, int, str]]:
    return [(status.value, tally.statuses[status], COLOURS[status.value]) for status in JobStatus]


def _spread(values: Sequence[float], unit: str) -> str:
    if not values:
        return ""
    ordered = sorted(values)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return (
        f"median {median(ordered):,.4g}{unit} · 95 % below {late:,.4g}{unit} · most {ordered[-1]:,.4g}{unit}"
    )


def _times(tally: Tally) -> str:
    slowest = ", ".join(f"{row} ({format_duration(took_s)})" for took_s, row in tally.slowest)
    return f"{_spread(tally.durations_s, ' s')}<br>slowest rows: {slowest}"


def _errors(tally: Tally) -> str:
    rows = "".join(f"<tr><td>{escape(error)}<td class=n>{n:,}" for error, n in tally.errors.most_common(10))
    return (
        f"<section><h2>Errors</h2><table><tr><th>error<th class=n>rows{rows}</table></section>"
        if rows
        else ""
    )


def _bad_rows(tally: Tally) -> str:
    if not tally.bad_rows:
        return ""
    rows = "".join(
        f"<tr><td class=n>{row}<td>{status}<td>{_cut(error)}<td>{_cut(question)}"
        for row, status, error, question in tally.bad_rows
    )
    bad = sum(n for status, n in tally.statuses.items() if status in FINISHED - {JobStatus.COMPLETED})
    more = (
        f"<p class=note>The first {len(tally.bad_rows)} of {bad:,}.</p>" if bad > len(tally.bad_rows) else ""
    )
    head = "<tr><th class=n>row<th>status<th>error<th>question"
    return f"<section><h2>{count_of(bad, 'row')} did not complete</h2><table>{head}{rows}</table>{more}</section>"


def _cut(text: str) -> str:
    return escape(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…")

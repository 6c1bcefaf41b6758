"""A batch as one HTML page: cost, statuses, run times, tokens and errors.

rows, streamed ─▶ ReportStats (numbers only) ─▶ HTML with inline SVG charts; no script, nothing is loaded.
"""

from array import array
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import median
from typing import Any

import orjson

from askmill.config.text import count_of, format_duration, format_usd, strip_control
from askmill.jobs.display.html_page import RowTable, page, table
from askmill.jobs.display.svg_charts import COLOURS, bars, histogram, line, stacked
from askmill.jobs.model.models import UNFINISHED, UNSUCCESSFUL, JobStatus
from askmill.jobs.model.result_fields import StoredResult, result_values, runs_json
from askmill.jobs.results.columns import Judge, entry_of
from askmill.jobs.store.views import RowView, StatusView
from askmill.jobs.store.waits import iso

SHOWN_ROWS = 20
LONGEST_TEXT = 160
TOKEN_DETAILS = {"cached_tokens": "of them cached", "reasoning_tokens": "of them reasoning"}
"""Title by the name of the number: the first belongs to the input tokens, the second to the output tokens."""

ANSWER_COLUMNS = ("row", "status", "question", "answer", "correct", "error")


@dataclass
class ReportStats:
    """The numbers that the page needs from the rows: about 40 bytes per row, whatever the row holds."""

    statuses: Counter[JobStatus] = field(default_factory=Counter)
    durations_s: "array[float]" = field(default_factory=lambda: array("d"))
    prompt: "array[float]" = field(default_factory=lambda: array("d"))
    completion: "array[float]" = field(default_factory=lambda: array("d"))
    ended_at: "array[float]" = field(default_factory=lambda: array("d"))
    attempts: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    """Runs by service tier."""
    details: Counter[str] = field(default_factory=Counter)
    """Cached input tokens and reasoning tokens, where the API reports them."""
    bad_rows: list[tuple[int, str, str, str]] = field(default_factory=list)
    slowest: list[tuple[float, int]] = field(default_factory=list)
    models: dict[str, Counter[str]] = field(default_factory=dict)
    """Runs, tokens and dollars by the model that the replies name."""
    judge: Judge | None = None
    answers: RowTable | None = None
    """The rows themselves, for a page that shows them."""
    sampled: int = 0
    """How many rows were read, if not all; `statuses` are those of all rows then."""

    def add(self, view: RowView, question: str) -> None:
        """Count one row."""
        entry = entry_of(view)
        result = entry.result
        attempts, prompt, completion, duration_s = _numbers(result)
        self.statuses[view.status] += 1
        if attempts is not None:
            self.attempts[int(attempts)] += 1
        for value, values in ((prompt, self.prompt), (completion, self.completion)):
            if value is not None:
                values.append(value)
        if duration_s is not None:
            self.durations_s.append(duration_s)
            self.slowest = sorted([*self.slowest, (duration_s, view.row)], reverse=True)[:5]
        self.steps.update(str(step["type"]) for step in orjson.loads(entry.steps))
        ends = [attempt.finished_at for attempt in result.attempts or () if attempt.finished_at]
        self.ended_at.extend(ends[-1:])
        for run in runs_json(result):
            self.tiers.update([run["tier"]] if run["tier"] else ())
            self.details.update({name: run[name] for name in TOKEN_DETAILS if run[name] is not None})
            self._add_model(run)
        error = str(result.error or "")
        self._add_answer(view, question, result, error)
        if error:
            self.errors[error.split(":", maxsplit=1)[0][:60]] += 1
        if view.status in UNSUCCESSFUL and len(self.bad_rows) < SHOWN_ROWS:
            self.bad_rows.append((view.row, view.status, error, question))

    def _add_model(self, run: Mapping[str, Any]) -> None:
        numbers = self.models.setdefault(run["model"] or "unknown", Counter())
        numbers["runs"] += 1
        for name in ("prompt_tokens", "completion_tokens", "cost_usd"):
            if run[name] is not None:
                numbers[name] += run[name]

    def _add_answer(self, view: RowView, question: str, result: StoredResult, error: str) -> None:
        verdict = self.judge(view.cells, view.status, result) if self.judge else None
        correct = "" if verdict is None else str(verdict).lower()
        flags = [str(view.status), *([] if verdict is None else ["correct" if verdict else "wrong"])]
        if self.answers is not None:
            self.answers.add((view.row, view.status, question, result.answer, correct, error), flags)


def _numbers(result: StoredResult) -> tuple[float | None, float | None, float | None, float | None]:
    """Attempts, input tokens, output tokens, seconds; None where unknown."""
    values = result_values(result)
    return values[2], values[6], values[7], values[9]


async def count_rows(
    view: StatusView,
    rows: AsyncIterator[RowView],
    judge: Judge | None = None,
    *,
    with_answers: bool = True,
) -> ReportStats:
    """Read the rows once, as a stream.

    `judge` says which answers are the expected ones. `with_answers` keeps the rows for the page's table.
    """
    answers = RowTable(ANSWER_COLUMNS) if with_answers else None
    stats, spec = ReportStats(judge=judge, answers=answers), view.batch.spec
    async for row in rows:
        stats.add(row, spec.question(row.cells))
    return stats


async def sample_rows(
    view: StatusView, chunks: AsyncIterator[Sequence[RowView]], judge: Judge | None = None
) -> ReportStats:
    """Read a sample of the rows, for a page that must come at once; the statuses are those of all rows."""
    stats, spec = ReportStats(judge=judge), view.batch.spec
    async for chunk in chunks:
        for row in chunk:
            stats.add(row, spec.question(row.cells))
        stats.sampled += len(chunk)
    if stats.sampled >= view.batch.rows:
        stats.sampled = 0
    else:
        stats.statuses = Counter(view.counts.by_status)
    return stats


def report_page(view: StatusView, stats: ReportStats) -> str:
    """The whole HTML document."""
    batch = view.batch
    parts = [
        f"<h1>{escape(batch.name)}</h1><p class=sub>{_subtitle(view)}</p>",
        report_sections(view, stats),
        stats.answers.html("Answers") if stats.answers else "",
        f"<footer>askmill · <code>askmill show {batch.id} ROW</code> shows one row</footer>",
    ]
    return page(f"{batch.name}: {batch.id}", parts)


def report_sections(view: StatusView, stats: ReportStats) -> str:
    """The figures, charts and tables as HTML, without styles in it; all text is escaped."""
    parts = [
        _cards(view, stats),
        _section("Rows by status", stacked(_shares(stats))),
        _sample_note(view, stats),
        "<div class=grid>",
        _section("Duration per row, seconds", histogram(stats.durations_s), _times(stats)),
        _section("Rows finished over time", line(stats.ended_at)),
        _section("Input tokens per row", histogram(stats.prompt), _spread(stats.prompt, "")),
        _section("Output tokens per row", histogram(stats.completion), _spread(stats.completion, "")),
        _section("Attempts per row", bars([(str(n), rows) for n, rows in sorted(stats.attempts.items())])),
        _section("Steps", bars(stats.steps.most_common(8))),
        _section("Runs by service tier", bars(stats.tiers.most_common(8))),
        "</div>",
        _models(view, stats),
        _errors(stats),
        _missed_fields(view),
        _bad_rows(stats),
    ]
    return strip_control("\n".join(part for part in parts if part))


def _sample_note(view: StatusView, stats: ReportStats) -> str:
    if not stats.sampled:
        return ""
    return (
        f"<p class=note>What follows counts {stats.sampled:,} of the {view.batch.rows:,} rows, spread evenly "
        f"over the batch. <code>askmill report {view.batch.id}</code> counts all.</p>"
    )


def _subtitle(view: StatusView) -> str:
    batch = view.batch
    parts = [batch.id, batch.state, batch.model or "stored assistant", f"{batch.api} API at {batch.base_url}"]
    parts.append(f"submitted {str(iso(batch.submitted_at_ms))[:16].replace('T', ' ')} UTC")
    return " · ".join(escape(part) for part in parts)


def _cards(view: StatusView, stats: ReportStats) -> str:
    batch, totals = view.batch, view.counts.totals
    finished = sum(rows for status, rows in stats.statuses.items() if status not in UNFINISHED)
    cards = [(f"{stats.statuses[JobStatus.COMPLETED]:,} of {batch.rows:,}", "rows completed")]
    if not batch.options.get("offline"):
        cards.append(
            (format_usd(view.counts.cost_usd), "spent" if finished == batch.rows else "spent so far")
        )
    if stats.judge is not None and (share := stats.judge.accuracy.share) is not None:
        accuracy = stats.judge.accuracy
        label = f"accuracy of {accuracy.judged:,} ({accuracy.interval_text()})"
        cards.append((f"{100 * share:.1f} %", label))
    cached, reasoning = (
        [(f"{stats.details[name]:,}", title)] if name in stats.details else []
        for name, title in TOKEN_DETAILS.items()
    )
    cards += [
        (f"{totals.get('prompt', 0):,}", "tokens in"),
        *cached,
        (f"{totals.get('completion', 0):,}", "tokens out"),
        *reasoning,
        (f"{totals.get('runs', 0):,}", "runs"),
        (f"{totals.get('requests', 0):,}", "requests"),
    ]
    if batch.duration_s is not None:
        cards.append((format_duration(batch.duration_s), "duration"))
    return (
        "<div class=cards>" + "".join(f"<div><b>{v}</b><span>{k}</span></div>" for v, k in cards) + "</div>"
    )


def _section(title: str, chart: str, note: str = "") -> str:
    if not chart:
        return ""
    caption = f"<p class=note>{note}</p>" if note else ""
    return f"<section><h2>{title}</h2>{chart}{caption}</section>"


def _shares(stats: ReportStats) -> list[tuple[str, int, str]]:
    return [(status.value, stats.statuses[status], COLOURS[status.value]) for status in JobStatus]


def _spread(values: Sequence[float], unit: str) -> str:
    if not values:
        return ""
    ordered = sorted(values)
    percentile_95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    figures = {"median": median(ordered), "95 % below": percentile_95, "maximum": ordered[-1]}
    return " · ".join(f"{name} {value:,.4g}{unit}" for name, value in figures.items())


def _times(stats: ReportStats) -> str:
    slowest = ", ".join(f"{row} ({format_duration(duration_s)})" for duration_s, row in stats.slowest)
    return f"{_spread(stats.durations_s, ' s')}<br>slowest rows: {slowest}"


def _models(view: StatusView, stats: ReportStats) -> str:
    """Runs, tokens and cost by model."""
    if not stats.models or view.batch.options.get("offline"):
        return ""
    header = ("model", "runs", "tokens in", "tokens out", "cost")
    rows = [
        (
            model,
            f"{numbers['runs']:,.0f}",
            f"{numbers['prompt_tokens']:,.0f}",
            f"{numbers['completion_tokens']:,.0f}",
            format_usd(numbers["cost_usd"]) if "cost_usd" in numbers else "unknown",
        )
        for model, numbers in sorted(stats.models.items())
    ]
    return _section("Cost by model", table(header, rows))


def _missed_fields(view: StatusView) -> str:
    """Answers that missed the response schema, by field."""
    misses = view.counts.schema_misses
    rows = [(name, f"{count:,}") for name, count in misses.items()]
    return _section("Answers that missed the schema", table(("field", "answers"), rows)) if rows else ""


def _errors(stats: ReportStats) -> str:
    rows = "".join(f"<tr><td>{escape(error)}<td class=n>{n:,}" for error, n in stats.errors.most_common(10))
    return (
        f"<section><h2>Errors</h2><table><tr><th>error<th class=n>rows{rows}</table></section>"
        if rows
        else ""
    )


def _bad_rows(stats: ReportStats) -> str:
    if not stats.bad_rows:
        return ""
    rows = "".join(
        f"<tr><td class=n>{row}<td>{status}<td>{_cut(error)}<td>{_cut(question)}"
        for row, status, error, question in stats.bad_rows
    )
    bad = sum(n for status, n in stats.statuses.items() if status in UNSUCCESSFUL)
    more = (
        f"<p class=note>{'' if stats.sampled else 'The first '}{len(stats.bad_rows)} of {bad:,}.</p>"
        if bad > len(stats.bad_rows)
        else ""
    )
    head = "<tr><th class=n>row<th>status<th>error<th>question"
    title = f"{count_of(bad, 'row')} did not complete"
    return f"<section><h2>{title}</h2><table>{head}{rows}</table>{more}</section>"


def _cut(text: str) -> str:
    return escape(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…")

"""What a batch's status looks like in words: a few lines for `status`, the panel and the last word of `run`.

Pure: from a StatusView to text. Whatever comes from a file or the API loses its control codes here.
"""

from math import ceil, floor, inf
from pathlib import Path

from askmill.config.text import count_of, format_duration, format_usd, one_line, strip_control
from askmill.jobs.model.api_refusals import model_missing, money_refused, report_of_text
from askmill.jobs.model.models import FINISHED, RETRIED_BY_DEFAULT, UNSUCCESSFUL, BatchState, JobStatus
from askmill.jobs.store.eta import TimeLeft
from askmill.jobs.store.records import NANO, Batch, Counts, StatusView

BAR = {JobStatus.COMPLETED: "█", JobStatus.RUNNING: "▒"}
OTHER, NOT_YET = "▓", "░"
SHOWN_FIRST = (JobStatus.COMPLETED, JobStatus.RUNNING, JobStatus.QUEUED)
PAUSED_BY_USER = "by hand"
"""The reason that `askmill pause` gives."""
SET_ANEW = (
    "run the same `askmill run` again; workers of your own: start them with it, then `askmill resume BATCH`."
)
VALID_KEY = f"Set OPENAI_API_KEY to a valid key and {SET_ANEW}"
MOVED = (
    "A batch keeps its address: submit again with the new one (`askmill purge BATCH` deletes this one), or "
    "`askmill resume BATCH` once the redirect is gone."
)
ADD_CREDIT = "Add credit or raise the spend limit (the API's plan and billing), then `askmill resume BATCH`."
OTHER_MODEL = (
    "Run again with another --model or ASKMILL_MODEL, or make the model available there and "
    "`askmill resume BATCH`."
)
ADVICE = (
    (PAUSED_BY_USER, "`askmill resume BATCH` goes on."),
    ("redirected", MOVED),
    ("proxy_refused", f"Then: {SET_ANEW}"),
    ("price", "Start the workers with an ASKMILL_PRICES that has it, then `askmill resume BATCH`."),
    ("budget", "Run the same command with a higher --budget; that goes on."),
    ("invalid_api_key", VALID_KEY),
    ("401", VALID_KEY),
    ("403", "Check the rights of the key, then `askmill resume BATCH`."),
    ("no assistant", "Submit again with the right --assistant-id; `askmill purge BATCH` deletes this one."),
    ("model", OTHER_MODEL),
    ("api_unreachable", "Look whether the API answers (`askmill doctor`), then `askmill resume BATCH`."),
)


def advice(batch: str, reason: str | None) -> str:
    """What to do about a paused batch."""
    report = report_of_text(reason or "")
    if money_refused(report):
        return ADD_CREDIT.replace("BATCH", batch)
    if model_missing(report):
        return OTHER_MODEL.replace("BATCH", batch)
    told = (reason or "").lower()
    found = next((advised for word, advised in ADVICE if word in told), "`askmill resume BATCH` goes on.")
    return found.replace("BATCH", batch)


def bar(view: StatusView, width: int) -> str:
    """Completed, otherwise finished, running and queued rows as shares of `width`."""
    rows, counts = max(view.batch.rows, 1), view.counts.by_status
    finished = sum(counts[status] for status in FINISHED)
    marks = [
        (BAR[JobStatus.COMPLETED], counts[JobStatus.COMPLETED]),
        (OTHER, finished),
        (BAR[JobStatus.RUNNING], finished + counts[JobStatus.RUNNING]),
    ]
    drawn = ""
    for mark, upto in marks:
        drawn += mark * (upto * width // rows - len(drawn))
    return drawn + NOT_YET * (width - len(drawn))


def by_status(view: StatusView) -> str:
    """The statuses that any row has, the good news first."""
    counts = view.counts.by_status
    order = [*SHOWN_FIRST, *(status for status in JobStatus if status not in SHOWN_FIRST)]
    return " · ".join(f"{counts[status]:,} {status}" for status in order if counts[status])


def retry_command(batch: Batch, counts: Counts) -> str:
    """The command that asks again what did not complete; it names statuses that are not its default."""
    ended = [status for status in JobStatus if status in UNSUCCESSFUL and counts.by_status[status]]
    asked = [status for status in ended if status is not JobStatus.REJECTED]
    usual = set(asked) <= set(RETRIED_BY_DEFAULT)
    return f"askmill retry {batch.id}" + ("" if usual else f" --status {','.join(asked)}")


def finished_rows(view: StatusView) -> int:
    """Rows that will not change any more."""
    return view.batch.rows - view.counts.unfinished


def between(left: TimeLeft) -> str:
    """`3 to 8 min left`, in the unit in which the later end reads well."""
    units = ((120, 1, "s"), (2 * 3600, 60, "min"), (48 * 3600, 3600, "h"), (inf, 86400, "days"))
    size, unit = next((size, unit) for limit, size, unit in units if left.high_s <= limit)
    low, high = floor(left.low_s / size), ceil(left.high_s / size)
    return f"{low:,} to {high:,} {unit} left" if low else f"under {high:,} {unit} left"


def pace(view: StatusView, requests_per_minute: float | None = None) -> str:
    """How fast it goes, how long it will go on, and who works."""
    runs, requests = view.counts.totals.get("runs", 0), view.counts.totals.get("requests", 0)
    parts = [f"{view.rows_per_s:.1f} rows/s"] if view.rows_per_s else []
    if view.time_left is not None:
        parts.append(between(view.time_left))
    parts += [count_of(runs, "run"), count_of(requests, "request")]
    if requests_per_minute is not None:
        parts[-1] += f" ({requests_per_minute:,.0f}/min)"
    if view.counts.unfinished:
        parts.append(count_of(len(view.workers), "worker"))
    return " · ".join(parts)


def money(view: StatusView) -> str:
    """Tokens and dollars, spent and, by what the finished rows took, still to come."""
    totals, done = view.counts.totals, finished_rows(view)
    known = "prompt" in totals or "completion" in totals
    parts = [f"{totals.get('prompt', 0):,} tokens in, {totals.get('completion', 0):,} out"] if known else []
    cost = view.counts.cost_usd
    if cost is not None:
        parts.append(format_usd(cost))
        if done and view.counts.unfinished:
            parts.append(f"about {format_usd(cost / done * view.batch.rows)} in all")
    if view.batch.limits.budget_usd is not None:
        assumed = totals.get("assumed_nano", 0) / NANO
        untold = f" ({format_usd(assumed)} of it assumed for runs of unknown cost)" if assumed else ""
        parts.append(f"budget {format_usd(view.batch.limits.budget_usd)}{untold}")
    return " · ".join(parts)


def anomalies(view: StatusView) -> str:
    """What went otherwise than planned; empty when nothing did."""
    totals = view.counts.totals
    retries = {name.partition(":")[2]: n for name, n in totals.items() if name.startswith("retries:") and n}
    parts = [f"asked to wait {count_of(totals['throttled'], 'time')}"] if totals.get("throttled") else []
    if retries:
        parts.append("repeated: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(retries.items())))
    if totals.get("unknown_creates"):
        parts.append(f"{count_of(totals['unknown_creates'], 'create')} whose fate is unknown (docs/apis.md)")
    if totals.get("late_runs"):
        parts.append(f"{count_of(totals['late_runs'], 'late run')} cancelled")
    return " · ".join(parts)


def waits_for_worker(view: StatusView) -> bool:
    """Whether rows could be asked, were anybody there."""
    return view.batch.state in {BatchState.QUEUED, BatchState.RUNNING} and not view.workers


def stall_reason(view: StatusView) -> str:
    """Why nothing moves and what to do; empty while something does."""
    batch = view.batch
    if batch.state is BatchState.PAUSED:
        reason = one_line(batch.paused_reason or "no reason given", 400)
        return f"Paused: {_cause(batch, reason.rstrip('.'))}. {advice(batch.id, batch.paused_reason)}"
    if batch.state in {BatchState.DONE, BatchState.CANCELLED} and not view.counts.unfinished:
        return ""
    if view.workers:
        return ""
    if view.other_workers:
        other = view.other_workers[0]
        return strip_control(
            f"No worker asks {batch.api} at {batch.base_url}; one on {other.host} asks {other.api} at "
            f"{other.base_url}. Start one with ASKMILL_API={batch.api} and OPENAI_BASE_URL={batch.base_url}."
        )
    nobody = "No worker is alive"
    if batch.state is BatchState.CANCELLED:
        nobody += f" to see how {count_of(view.counts.unfinished, 'row')} ended"
    if batch.options.get("offline"):
        return f"{nobody}: the same `askmill run` as before goes on."
    return f"{nobody}: start one with `askmill worker`, or `askmill run` the same file."


def _cause(batch: Batch, reason: str) -> str:
    """Why it is paused: the API's words, and what they are about where that is known."""
    report = report_of_text(batch.paused_reason or "")
    if money_refused(report):
        return f"the API refuses to work for want of money ({reason})"
    if model_missing(report):
        return f"the API does not have the model {one_line(batch.model, 80)} ({reason})"
    return reason


def head(view: StatusView) -> str:
    """Which batch it is, and its state."""
    batch = view.batch
    named = f"{batch.id}  {one_line(batch.name, 60)}"
    if Path(batch.file).name != batch.name:
        named += f"  ({one_line(batch.file, 60)})"
    return f"{named}  {batch.state}"


def share(view: StatusView) -> str:
    """How much of it is finished, to stand beside the bar."""
    done, rows = finished_rows(view), view.batch.rows
    return f"  {done:,} of {rows:,} · {100 * done // max(rows, 1)} %"


def bar_width(view: StatusView, width: int) -> int:
    """What `share` leaves of a line, within reason."""
    return max(10, min(100, width - len(share(view))))


def status_lines(view: StatusView, width: int = 80) -> list[str]:
    """The whole status, line by line."""
    lines = [
        head(view),
        bar(view, bar_width(view, width)) + share(view),
        by_status(view),
        pace(view),
        money(view),
        anomalies(view),
        stall_reason(view),
    ]
    return [text for text in lines if text]


def plain_line(view: StatusView) -> str:
    """The status for a log: one line, as it stands in a pipe now and then."""
    parts = [f"{finished_rows(view):,} of {view.batch.rows:,}", by_status(view), pace(view)]
    cost = view.counts.cost_usd
    parts += [format_usd(cost) if cost is not None else "", anomalies(view), stall_reason(view)]
    return f"{view.batch.id}: " + " · ".join(part for part in parts if part)


def summary_line(view: StatusView) -> str:
    """What came of a batch, in one line."""
    batch, totals = view.batch, view.counts.totals
    parts = [by_status(view)]
    if batch.started_at_ms is not None and batch.finished_at_ms is not None:
        parts.append(f"in {format_duration((batch.finished_at_ms - batch.started_at_ms) / 1000)}")
    parts += [count_of(totals.get("runs", 0), "run"), money(view)]
    return f"{batch.id} {batch.state}: " + " · ".join(part for part in parts if part)

"""The status of a batch as text: one function per line, for `status`, the panel and the summary of `run`.

header_line    b_7hq2m9  questions.csv  running
bar + share    ████████████▓▓▒▒▒▒░░░░  5 of 12 · 41 %
counts_line    4 completed · 4 running · 3 queued · 1 failed
pace_line      1.1 rows/s · under 3 min left · 9 runs · 148 requests (928/min) · 1 worker
money          410 tokens in, 100 out · $0.01 · about $0.03 in total
anomalies_line rate limited 3 times · retries: server_error 1
fault_line     Last fault: POST /threads: http_500: …, 12 times since 2026-11-28 14:00:01 UTC, the last at …
accuracy_line  accuracy 93.1 % (95 %: 91.2 to 94.7 %), 1,200 judged
idle_line      12 of 20 slots are unused: ASKMILL_MAX_RUNS allows 8 runs at a time (idle_slots.py)
waiting_line   New runs wait since 2026-11-28 14:00:01 UTC until 2026-11-28 14:00:21 UTC: rate_limit …
stall_reason   Paused: budget. Run the same command with a higher --budget to resume. (stall_text.py)

Pure: from a StatusView to text. Control codes are removed from whatever comes from a file or the API.
"""

from math import ceil, floor, inf
from pathlib import Path

from askmill.config.text import (
    about_usd,
    count_of,
    format_duration,
    format_rate,
    format_time,
    format_usd,
    one_line,
)
from askmill.jobs.display.idle_slots import idle_line
from askmill.jobs.display.shards_text import shards_line
from askmill.jobs.display.stall_text import stall_or_start, stall_reason
from askmill.jobs.model.models import (
    FINISHED,
    RETRIED_BY_DEFAULT,
    UNSUCCESSFUL,
    BatchState,
    JobStatus,
)
from askmill.jobs.store.eta import TimeLeft
from askmill.jobs.store.records import NANO, Batch
from askmill.jobs.store.views import Counts, StatusView

COMPLETED_MARK, OTHER_MARK, RUNNING_MARK, QUEUED_MARK = "█", "▓", "▒", "░"
SHOWN_FIRST = (JobStatus.COMPLETED, JobStatus.RUNNING, JobStatus.QUEUED)
SHOWN_FAULT_MS = 600_000
"""A fault is shown as long as it was met in the last ten minutes."""


def header_line(view: StatusView) -> str:
    """The batch's id, name, state, and tier unless it is the standard one."""
    batch = view.batch
    names = f"{batch.id}  {one_line(batch.name, 60)}"
    if Path(batch.file).name != batch.name:
        names += f"  ({one_line(batch.file, 60)})"
    tier = batch.profile.tier_name
    return f"{names}  {batch.state}" + ("" if tier == "standard" else f"  tier {tier}")


def bar(view: StatusView, width: int) -> str:
    """Completed, otherwise finished, running and queued rows as shares of `width` characters."""
    rows, counts = max(view.batch.rows, 1), view.counts.by_status
    finished = sum(counts[status] for status in FINISHED)
    ends = [
        (COMPLETED_MARK, counts[JobStatus.COMPLETED]),
        (OTHER_MARK, finished),
        (RUNNING_MARK, finished + counts[JobStatus.RUNNING]),
    ]
    drawn = ""
    for mark, end in ends:
        drawn += mark * (end * width // rows - len(drawn))
    return drawn + QUEUED_MARK * (width - len(drawn))


def share(view: StatusView) -> str:
    """The finished rows as a count and a percentage, to stand beside the bar."""
    done, rows = finished_rows(view), view.batch.rows
    return f"  {done:,} of {rows:,} · {100 * done // max(rows, 1)} %"


def bar_width(view: StatusView, width: int) -> int:
    """The characters that `share` leaves for the bar in a line of `width`: at most 100, and 0 for below 5."""
    free = width - len(share(view))
    return min(100, free) if free >= 5 else 0


def finished_rows(view: StatusView) -> int:
    """Rows whose status is final."""
    return view.batch.rows - view.counts.unfinished


def counts_line(view: StatusView) -> str:
    """The number of rows per status, without zeros; completed, running and queued come first."""
    counts = view.counts.by_status
    order = [*SHOWN_FIRST, *(status for status in JobStatus if status not in SHOWN_FIRST)]
    return " · ".join(f"{counts[status]:,} {status}" for status in order if counts[status])


def pace_line(view: StatusView, requests_per_minute: float | None = None) -> str:
    """Rows per second, time left, runs, requests and workers."""
    runs, requests = view.counts.totals.get("runs", 0), view.counts.totals.get("requests", 0)
    parts = [format_rate(view.rows_per_s)] if view.rows_per_s else []
    if view.time_left is not None:
        parts.append(format_time_left(view.time_left))
    parts += [count_of(runs, "run"), count_of(requests, "request")]
    if requests_per_minute is not None:
        parts[-1] += f" ({requests_per_minute:,.0f}/min)"
    if view.counts.unfinished:
        parts.append(count_of(len(view.workers), "worker"))
    return " · ".join(parts)


def format_time_left(left: TimeLeft) -> str:
    """`3 to 8 min left`, in the largest unit that suits the upper bound."""
    units = ((120, 1, "s"), (2 * 3600, 60, "min"), (48 * 3600, 3600, "h"), (inf, 86400, "days"))
    size, unit = next((size, unit) for limit, size, unit in units if left.high_s <= limit)
    low, high = floor(left.low_s / size), ceil(left.high_s / size)
    return f"{low:,} to {high:,} {unit} left" if low else f"under {high:,} {unit} left"


def usage_line(view: StatusView) -> str:
    """Tokens and dollars so far, the total expected from the finished rows, and the budget."""
    totals, done = view.counts.totals, finished_rows(view)
    has_usage = "prompt" in totals or "completion" in totals
    parts = (
        [f"{totals.get('prompt', 0):,} tokens in, {totals.get('completion', 0):,} out"] if has_usage else []
    )
    cost = view.counts.cost_usd
    if cost is not None:
        parts.append(format_usd(cost))
        if done and view.counts.unfinished:
            parts.append(f"{about_usd(cost / done * view.batch.rows)} in total")
    if view.batch.limits.budget_usd is not None:
        assumed_usd = totals.get("assumed_nano", 0) / NANO
        assumed = (
            f" ({format_usd(assumed_usd)} of it assumed for runs of unknown cost)" if assumed_usd else ""
        )
        parts.append(f"budget {format_usd(view.batch.limits.budget_usd)}{assumed}")
    return " · ".join(parts)


def accuracy_line(view: StatusView) -> str:
    """The share of answers that are the expected ones, with its 95 % interval; empty without expectation.

    Also empty as long as nothing could be judged because no row has ended.
    """
    accuracy = view.accuracy
    if accuracy is None or (accuracy.share is None and view.counts.unfinished):
        return ""
    return accuracy.text()


def anomalies_line(view: StatusView) -> str:
    """Rate limits, retries, unconfirmed creates and late runs; empty when there were none."""
    totals = view.counts.totals
    retries = {name.partition(":")[2]: n for name, n in totals.items() if name.startswith("retries:") and n}
    parts = [f"rate limited {count_of(totals['throttled'], 'time')}"] if totals.get("throttled") else []
    if retries:
        parts.append("retries: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(retries.items())))
    if totals.get("tier_fallbacks"):
        parts.append(f"asked in the standard tier {count_of(totals['tier_fallbacks'], 'time')}")
    if totals.get("unknown_creates"):
        parts.append(f"{count_of(totals['unknown_creates'], 'create')} of unknown outcome")
    if totals.get("cut_contexts"):
        parts.append(f"{count_of(totals['cut_contexts'], 'prompt')} probably cut by the server (see steps)")
    if missed := view.counts.schema_misses:
        fields = ", ".join(f"{one_line(name, 40)} {rows:,}" for name, rows in missed.items())
        parts.append(f"schema missed: {fields}")
    if totals.get("recovered_writes"):
        parts.append(f"{count_of(totals['recovered_writes'], 'lost write')} repaired")
    if totals.get("late_runs"):
        parts.append(f"{count_of(totals['late_runs'], 'late run')} cancelled")
    if totals.get("uncancelled_runs"):
        parts.append(
            f"{count_of(totals['uncancelled_runs'], 'run')} not cancelled by the server, may be paid"
        )
    return " · ".join(parts)


def waiting_line(view: StatusView) -> str:
    """A wait that the API has asked of all batches: since when, until when, with its words."""
    wait = view.waiting
    if wait is None or view.batch.state is BatchState.PAUSED:
        return ""
    since = f" since {format_time(wait.since_ms)}" if wait.since_ms is not None else ""
    until, reason = format_time(wait.until_ms), one_line(wait.reason, 200).rstrip(".")
    return f"New runs wait{since} until {until}: {reason}"


def fault_line(view: StatusView) -> str:
    """The last fault of the API: how often, since when, its words; empty if long past or named by a pause."""
    fault, unfinished = view.batch.last_fault, view.counts.unfinished
    if fault is None or not unfinished or view.now_ms - fault.at_ms > SHOWN_FAULT_MS:
        return ""
    if view.batch.state is BatchState.PAUSED and fault.words in (view.batch.paused_reason or ""):
        return ""  # the pause quotes it
    request = f"{fault.request}: " if fault.request else ""
    words = one_line(f"{request}{fault.words}", 300).rstrip(".")
    since = f"{count_of(fault.count, 'time')} since {format_time(fault.since_ms)}"
    # Without its time, a fault that is over looks like one that goes on.
    last = f", the last at {format_time(fault.at_ms)}" if fault.count > 1 else ""
    return f"Last fault: {words}, {since}{last}"


def status_lines(view: StatusView, width: int = 80) -> list[str]:
    """The whole status, line by line."""
    lines = [
        header_line(view),
        (bar(view, bar_width(view, width)) + share(view)).lstrip(),
        counts_line(view),
        pace_line(view),
        usage_line(view),
        accuracy_line(view),
        anomalies_line(view),
        shards_line(view),
        fault_line(view),
        waiting_line(view),
        idle_line(view),
        stall_reason(view),
    ]
    return [text for text in lines if text]


def log_line(view: StatusView, *, worker_starting: bool = False) -> str:
    """The status as one line, for a log or a pipe."""
    stall = stall_or_start(view, worker_starting=worker_starting)
    parts = [f"{finished_rows(view):,} of {view.batch.rows:,}", counts_line(view), pace_line(view)]
    cost = view.counts.cost_usd
    parts += [format_usd(cost) if cost is not None else "", accuracy_line(view), anomalies_line(view)]
    parts += [shards_line(view), fault_line(view), waiting_line(view), idle_line(view), stall]
    return f"{view.batch.id}: " + " · ".join(part for part in parts if part)


def summary_line(view: StatusView) -> str:
    """The outcome of a batch in one line."""
    batch, totals = view.batch, view.counts.totals
    parts = [counts_line(view)]
    if batch.duration_s is not None:
        parts.append(f"in {format_duration(batch.duration_s)}")
    parts += [count_of(totals.get("runs", 0), "run"), usage_line(view), accuracy_line(view)]
    return f"{batch.id} {batch.state}: " + " · ".join(part for part in parts if part)


def missing_line(view: StatusView) -> str:
    """`1,680 of 3,000 rows have ended; the rest is queued.`; empty where every row has ended."""
    counts, rows = view.counts.by_status, view.batch.rows
    running, queued = counts[JobStatus.RUNNING], counts[JobStatus.QUEUED]
    if not (running or queued):
        return ""
    if running and queued:
        rest = f"{running:,} {_are(running)} running, {queued:,} {_are(queued)} queued"
    else:
        rest = f"the rest is {JobStatus.RUNNING if running else JobStatus.QUEUED}"
    have = "has" if rows == 1 else "have"
    return f"{finished_rows(view):,} of {count_of(rows, 'row')} {have} ended; {rest}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def retry_command(batch: Batch, counts: Counts) -> str:
    """The command that retries what did not complete; it names statuses that are not retried by default."""
    retried = retryable_statuses(counts)
    by_default = set(retried) <= set(RETRIED_BY_DEFAULT)
    return f"askmill retry {batch.id}" + ("" if by_default else f" --status {','.join(retried)}")


def commands_of_finished(batch: Batch, counts: Counts) -> str:
    """A sentence that names the commands for more answers from the file of a finished batch."""
    retry = f"`{retry_command(batch, counts)}` retries the rows that did not complete, "
    return (retry if retryable_statuses(counts) else "") + "--new creates a new batch."


def retryable_statuses(counts: Counts) -> list[JobStatus]:
    """The statuses of rows that did not complete; a rejected row has no question that could be asked."""
    ended = [status for status in JobStatus if status in UNSUCCESSFUL and counts.by_status[status]]
    return [status for status in ended if status is not JobStatus.REJECTED]

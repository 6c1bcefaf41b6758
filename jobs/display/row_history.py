"""One row as text or JSON: its question, its attempts with the steps of each run, and its answer."""

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from askmill.config.text import count_of, format_duration, format_usd, strip_control
from askmill.jobs.display.shards_text import row_lines
from askmill.jobs.model.models import UNFINISHED, Attempt, Result, Step, Usage
from askmill.jobs.model.result_fields import runs_json
from askmill.jobs.results.collect import additions_of
from askmill.jobs.results.columns import entry_of, select_columns
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import RowDetail
from askmill.jobs.store.waits import iso

INDENT = "  "


def row_json(batch: Batch, detail: RowDetail) -> dict[str, Any]:
    """The row with the fields of a line of `--format jsonl`, and what each of its runs was charged for."""
    entry = entry_of(detail.view)
    columns = select_columns(batch.spec, additions=additions_of(batch), with_steps=True)
    fields = columns.nested(columns.row(entry))
    if detail.view.status in UNFINISHED:
        state, poll = in_progress(detail), detail.poll
        fields |= {name: state[name] for name in ("thread_id", "run_id") if state.get(name)}
        fields["server_status"] = poll.status if poll else None
        fields["next_poll"] = iso(poll.next_ms) if poll else None
    if batch.in_shards:
        fields["shards"] = [
            {
                "shard": shard.number,
                "line": line,
                "file_id": shard.file_id,
                "batch_id": shard.api_batch,
                "status": shard.api_status,
                "phase": shard.phase,
            }
            for shard, line in detail.shards
        ]
    return {**fields, "runs": runs_json(entry.result)}


def row_text(batch: Batch, detail: RowDetail) -> str:
    """The row as text, without control codes."""
    view, result = detail.view, detail.view.result
    parts = [f"{batch.id} row {view.row} of {batch.rows:,}: {view.status}", *_id_line(batch, detail), ""]
    parts += ["Question", _indent(batch.spec.question(view.cells)), ""]
    if view.status in UNFINISHED:
        parts += [*_waiting_lines(detail), ""]
    if detail.shards:
        parts += [*row_lines(detail), ""]
    if result is not None:
        parts += [*_attempts_lines(result), "Answer", _indent(result.answer or "(none)")]
        if result.error:
            parts += ["", f"Error: {result.error}"]
        parts += list(_citation_and_file_lines(result))
    return strip_control("\n".join(parts).rstrip())


def _id_line(batch: Batch, detail: RowDetail) -> list[str]:
    column = batch.spec.id_column
    return [f"{column}: {batch.spec.cell(column, detail.view.cells)}"] if column else []


def _indent(text: str) -> str:
    return textwrap.indent(text, INDENT, lambda _: True)


def _waiting_lines(detail: RowDetail) -> Iterator[str]:
    if detail.worker:
        yield f"Worker {detail.worker} is processing it."
        yield from _run_lines(detail)
    elif detail.due_ms:
        yield f"The next attempt starts at {_clock(detail.due_ms / 1000)} UTC."
    elif not detail.shards:
        yield "It is waiting for a free slot."
    if detail.crashes:
        workers = count_of(detail.crashes, "worker")
        yield f"{workers} died while running its functions or processing its result."


def _run_lines(detail: RowDetail) -> Iterator[str]:
    """The run in progress: its id, the server's status, and when it is polled next."""
    run_id = in_progress(detail).get("run_id")
    if run_id is None:
        return
    if detail.poll is None:
        yield f"Its run is {run_id}."
        return
    next_poll = _clock(detail.poll.next_ms / 1000)
    yield f"Its run {run_id} was {detail.poll.status} at the last poll; the next poll is at {next_poll} UTC."


def in_progress(detail: RowDetail) -> dict[str, Any]:
    """The saved state of a row in progress; empty where there is none."""
    state = orjson.loads(detail.state) if detail.state else {}
    return state if isinstance(state, dict) else {}


def _attempts_lines(result: Result) -> Iterator[str]:
    for attempt in result.attempts:
        yield _attempt(attempt)
        start = result.steps_began_at(attempt.number)
        for step in result.steps:
            if step.attempt == attempt.number:
                yield from _step(step, start)
        yield ""
    if not result.attempts:
        reason = "the answer of an equal row was reused" if result.answer else "no run was created"
        yield from (f"No attempt: {reason}.", "")


def _attempt(attempt: Attempt) -> str:
    parts = [f"Attempt {attempt.number}: {attempt.status}"]
    if attempt.error and attempt.error != attempt.status:
        parts.append(attempt.error.rstrip("."))
    if attempt.started_at is not None:
        parts.append(f"at {_clock(attempt.started_at)} UTC")
        if attempt.finished_at is not None:
            parts.append(f"for {format_duration(attempt.finished_at - attempt.started_at)}")
    parts += _tokens(attempt.usage)
    if attempt.tier:
        parts.append(f"tier {attempt.tier}")
    if attempt.cost_usd is not None:
        parts.append(format_usd(attempt.cost_usd))
    ids = " ".join(name for name in (attempt.thread_id, attempt.run_id) if name)
    return ", ".join(parts) + (f"\n{INDENT}{ids}" if ids else "")


def _tokens(usage: Usage) -> list[str]:
    if usage.prompt_tokens is None and usage.completion_tokens is None:
        return []
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    reasoning = f" ({usage.reasoning_tokens:,} reasoning)" if usage.reasoning_tokens else ""
    return [
        f"{usage.prompt_tokens or 0:,} tokens in{cached}, {usage.completion_tokens or 0:,} out{reasoning}"
    ]


def _step(step: Step, start: float | None) -> Iterator[str]:
    parts = [step.type.replace("_", " "), step.status]
    if step.started_at is not None and start is not None:
        parts.append(f"+{max(0.0, step.started_at - start):.1f} s")
    parts += _tokens(step.usage)
    yield f"{INDENT}• {', '.join(parts)}"
    for name, value in step.details.items():
        text = value if isinstance(value, str) else None
        if text is not None and "\n" in text.strip():
            yield f"{INDENT * 2}{name}:"
            yield textwrap.indent(text.strip("\n"), INDENT * 3)
        elif value not in (None, "", [], {}):
            yield f"{INDENT * 2}{name}: {text if text is not None else _shorten(value)}"


def _shorten(value: Any) -> str:
    return textwrap.shorten(orjson.dumps(value, default=str).decode(), 2000, placeholder=" …")


def _citation_and_file_lines(result: Result) -> Iterator[str]:
    for citation in result.citations:
        yield f"Citation: {_shorten(citation)}"
    for file in result.files:
        yield f"File: {_shorten(file)}"


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")

"""The shards of `--tier batch` as text. Pure.

shards_line    shards: 12 followed (9 in_progress, 3 validating), 3 done · the API has ended 900 of
               24,000 lines · oldest 2 h · ends by …
row_lines      Line 7 of shard 3: file file-ab, batch batch_cd (completed)
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from askmill.config.text import format_duration, one_line
from askmill.jobs.store.shard_views import PHASES, ShardSummary
from askmill.jobs.store.views import RowDetail, StatusView


def shards_line(view: StatusView) -> str:
    """The shards by phase and by the API's status, the age of the oldest, and when the first one expires."""
    shards = view.shards
    if shards is None or not shards.phases:
        return ""
    parts = [f"shards: {_phases(shards)}"]
    if shards.lines_ended:
        parts.append(f"the API has ended {shards.lines_ended:,} of {shards.lines:,} lines")
    if shards.oldest_ms is not None:
        parts.append(f"oldest {format_duration(max(0.0, (view.now_ms - shards.oldest_ms) / 1000))}")
    if shards.expires_ms is not None:
        until = datetime.fromtimestamp(shards.expires_ms / 1000, UTC)
        parts.append(f"ends by {until:%Y-%m-%d %H:%M} UTC")
    return " · ".join(parts)


def _phases(shards: ShardSummary) -> str:
    return ", ".join(
        f"{count:,} {phase}{_statuses(shards) if phase == 'followed' else ''}"
        for phase in PHASES
        if (count := shards.phases.get(phase, 0))
    )


def _statuses(shards: ShardSummary) -> str:
    counts = sorted(shards.api_statuses.items())
    return (
        f" ({', '.join(f'{count:,} {one_line(status, 40)}' for status, count in counts)})" if counts else ""
    )


def row_lines(detail: RowDetail) -> Iterator[str]:
    """Where the row travels or has travelled: shard, line, file and the API's batch."""
    for shard, line in detail.shards:
        parts = [f"file {shard.file_id}" if shard.file_id else "not uploaded yet"]
        if shard.api_batch:
            parts.append(f"batch {shard.api_batch} ({shard.api_status})")
        yield f"Line {line:,} of shard {shard.number}: {', '.join(parts)}"

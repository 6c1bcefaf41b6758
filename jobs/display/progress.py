"""Progress on stderr: a live panel on a terminal, else one plain line now and then.

███████████▓▓▒▒▒░░░░░░   green: completed · red: otherwise finished · cyan: running · dim: queued
"""

import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from askmill.config import text as plain_text
from askmill.jobs.display import status_text
from askmill.jobs.model.models import BatchState
from askmill.jobs.store.records import StatusView

LINE_EVERY_S = 10.0
WINDOW_S = 60.0
"""Requests a minute are those of the last one."""
STYLES = {
    BatchState.QUEUED: "bold",
    BatchState.RUNNING: "bold cyan",
    BatchState.PAUSED: "bold yellow",
    BatchState.CANCELLED: "bold magenta",
    BatchState.DONE: "bold green",
}
COLOURS = {"█": "green", "▓": "red", "▒": "cyan", "░": "bright_black"}
"""Of the terminal's own sixteen, so that they read on light and on dark."""


class Progress:
    """Shows a batch until the block ends. `show` may be called as often as one likes.

    `workers_start`: a worker is on its way, so that nobody is told to start one.
    """

    def __init__(self, *, workers_start: bool = False) -> None:
        self._workers_start = workers_start
        self._live: Any = None
        self._said_at_s = time.monotonic()
        self._requests: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console  # noqa: PLC0415 -- 100 ms that only a terminal needs
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, view: StatusView, answers: Sequence[str] = ()) -> None:
        """Draw it anew, or, in a pipe, say it when it is time; `answers` scroll by above it."""
        per_minute = self._per_minute(view)
        for answer in answers:
            self._say(answer)
        if self._live is not None:
            shown = panel(view, self._live.console.width, per_minute, workers_start=self._workers_start)
            self._live.update(shown, refresh=True)
        elif time.monotonic() - self._said_at_s >= LINE_EVERY_S:
            self._said_at_s = time.monotonic()
            self._say(status_text.plain_line(view))

    def _say(self, text: str) -> None:
        if self._live is not None:
            from rich.text import Text  # noqa: PLC0415

            width = shutil.get_terminal_size().columns
            self._live.console.print(Text(plain_text.one_line(text, width)), soft_wrap=True)
            return
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _per_minute(self, view: StatusView) -> float | None:
        """Of the batch's requests, over the last minute that was watched; None in its first second."""
        now_s, requests = time.monotonic(), view.counts.totals.get("requests", 0)
        self._requests.append((now_s, requests))
        while now_s - self._requests[0][0] > WINDOW_S:
            self._requests.popleft()
        first_s, before = self._requests[0]
        return (requests - before) / (now_s - first_s) * 60 if now_s - first_s >= 1 else None


def panel(view: StatusView, width: int, per_minute: float | None, *, workers_start: bool = False) -> Any:
    """What a terminal shows, as something Rich can draw in `width` columns."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    stands = status_text.stall_reason(view)
    if workers_start and status_text.waits_for_worker(view):
        stands = "A worker starts …"
    drawn = Text(status_text.bar(view, status_text.bar_width(view, width - 1)))
    for mark, colour in COLOURS.items():
        drawn.highlight_regex(f"{mark}+", colour)
    drawn.append(status_text.share(view))
    lines = [
        Text(status_text.head(view), style=STYLES[view.batch.state], no_wrap=True, overflow="ellipsis"),
        drawn,
        Text(status_text.by_status(view)),
        Text(status_text.pace(view, per_minute)),
        Text(status_text.money(view)),
        Text(status_text.anomalies(view)),
        Text(stands, style="bold"),
    ]
    return Group(*(line for line in lines if line.plain))

"""Progress on stderr: a live panel on a terminal, otherwise one plain line every ten seconds.

███████████▓▓▒▒▒░░░░░░   green: completed · red: otherwise finished · cyan: running · dim: queued
"""

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from askmill.config import text as plain_text
from askmill.jobs.display import status_text
from askmill.jobs.display.idle_slots import idle_line
from askmill.jobs.display.shards_text import shards_line
from askmill.jobs.display.stall_text import stall_or_start
from askmill.jobs.model.models import BatchState
from askmill.jobs.store.views import StatusView

LINE_INTERVAL_S = 10.0
REQUEST_RATE_WINDOW_S = 60.0
STYLES = {
    BatchState.QUEUED: "bold",
    BatchState.RUNNING: "bold cyan",
    BatchState.PAUSED: "bold yellow",
    BatchState.CANCELLED: "bold magenta",
    BatchState.DONE: "bold green",
}
COLOURS = {"█": "green", "▓": "red", "▒": "cyan", "░": "bright_black"}
"""From the terminal's own sixteen colours, which are readable on a light and on a dark background."""


class Display(Protocol):
    """Shows the progress of a batch until the block ends."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def show(self, view: StatusView, answers: Sequence[str] = (), /) -> None: ...


def has_live_terminal() -> bool:
    """Whether stderr is a terminal that redraws lines: not a log of CI (`CI`), and not a dumb terminal."""
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") not in {"dumb", ""}


class Silent:
    """The display of `--quiet`: shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was shown, so nothing ends."""

    def show(self, view: StatusView, answers: Sequence[str] = ()) -> None:
        """Ignore the view."""


class Progress:
    """Context manager that shows a batch until the block ends; `show` may be called at any rate.

    Args:
        worker_starting: the caller is starting a worker, so the panel does not ask the user to start one.
    """

    def __init__(self, *, worker_starting: bool = False) -> None:
        self._worker_starting = worker_starting
        self._live: Any = None
        self._last_line_s = time.monotonic()
        self._requests: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Self:
        if has_live_terminal():
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
        """Redraw the panel, or in a pipe print a line when one is due; `answers` are printed above it."""
        per_minute = self._requests_per_minute(view)
        for answer in answers:
            self._print(answer)
        if self._live is not None:
            width = self._live.console.width
            drawing = panel(view, width, per_minute, worker_starting=self._worker_starting)
            self._live.update(drawing, refresh=True)
        elif time.monotonic() - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = time.monotonic()
            self._print(status_text.log_line(view, worker_starting=self._worker_starting))

    def note(self, text: str) -> None:
        """Print a message above the panel."""
        if self._live is not None:
            from rich.text import Text  # noqa: PLC0415

            self._live.console.print(Text(text), soft_wrap=True)
            return
        self._print(text)

    def _print(self, text: str) -> None:
        if self._live is not None:
            from rich.text import Text  # noqa: PLC0415

            width = shutil.get_terminal_size().columns
            self._live.console.print(Text(plain_text.one_line(text, width)), soft_wrap=True)
            return
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _requests_per_minute(self, view: StatusView) -> float | None:
        """Requests per minute over the last minute that was watched; None in the first second."""
        now_s, requests = time.monotonic(), view.counts.totals.get("requests", 0)
        self._requests.append((now_s, requests))
        while now_s - self._requests[0][0] > REQUEST_RATE_WINDOW_S:
            self._requests.popleft()
        first_s, before = self._requests[0]
        return (requests - before) / (now_s - first_s) * 60 if now_s - first_s >= 1 else None


def panel(view: StatusView, width: int, per_minute: float | None, *, worker_starting: bool = False) -> Any:
    """The panel as something Rich can draw in `width` columns."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    stall = stall_or_start(view, worker_starting=worker_starting)
    bar = Text(status_text.bar(view, status_text.bar_width(view, width - 1)))
    for mark, colour in COLOURS.items():
        bar.highlight_regex(f"{mark}+", colour)
    bar.append(status_text.share(view) if bar.plain else status_text.share(view).lstrip())
    lines = [
        Text(
            status_text.header_line(view), style=STYLES[view.batch.state], no_wrap=True, overflow="ellipsis"
        ),
        bar,
        Text(status_text.counts_line(view)),
        Text(status_text.pace_line(view, per_minute)),
        Text(status_text.usage_line(view)),
        Text(status_text.accuracy_line(view)),
        Text(status_text.anomalies_line(view)),
        Text(shards_line(view)),
        Text(status_text.fault_line(view)),
        Text(status_text.waiting_line(view)),
        Text(idle_line(view)),
        Text(stall, style="bold"),
    ]
    return Group(*(line for line in lines if line.plain))

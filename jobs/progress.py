"""Progress on stderr: a live panel on a terminal, else one plain line now and then."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from jobs.models import BatchState
from jobs.records import StatusView
from jobs.telling import plain_line, status_lines

LINE_EVERY_S = 10.0
STYLES = {
    BatchState.QUEUED: "bold",
    BatchState.RUNNING: "bold cyan",
    BatchState.PAUSED: "bold yellow",
    BatchState.CANCELLED: "bold magenta",
    BatchState.DONE: "bold green",
}


class Progress:
    """Shows a batch until the block ends. `show` may be called as often as one likes.

    `workers_start`: a worker is on its way, so that nobody is told to start one.
    """

    def __init__(self, *, workers_start: bool = False) -> None:
        self._workers_start = workers_start
        self._live: Any = None
        self._said_at_s = time.monotonic()

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

    def show(self, view: StatusView) -> None:
        """Draw it anew, or, in a pipe, say it when it is time."""
        if self._live is not None:
            self._live.update(self._panel(view), refresh=True)
            return
        if time.monotonic() - self._said_at_s >= LINE_EVERY_S:
            self._said_at_s = time.monotonic()
            sys.stderr.write(plain_line(view) + "\n")
            sys.stderr.flush()

    def _panel(self, view: StatusView) -> Any:
        from rich.text import Text  # noqa: PLC0415

        head, *rest = status_lines(view, self._live.console.width - 2, workers_start=self._workers_start)
        text = Text(head, style=STYLES[view.batch.state], no_wrap=True, overflow="ellipsis")
        for shown in rest:
            text.append(f"\n{shown}", style="default")
        return text

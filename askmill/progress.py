"""Progress of a call: a panel on a terminal, a bar in a notebook, else lines in the log `askmill`.

The log has no handler of ours: a program that configures logging sees the lines, others see nothing.
"""

import html
import logging
import sys
import time
from types import TracebackType
from typing import Any, Self

from askmill.config.text import safe_text
from askmill.jobs.display import status_text
from askmill.jobs.display.progress import Progress
from askmill.jobs.display.stall_text import stall_or_start
from askmill.jobs.store.views import StatusView

log = logging.getLogger("askmill")
log.addHandler(logging.NullHandler())
LINE_INTERVAL_S = 10.0
COLOURS = {"completed": "#2da44e", "running": "#54aeff", "queued": "#d0d7de"}
OTHER_COLOUR = "#cf222e"


class Display:
    """Shows what a call reports; this one writes it to the log. For one thread."""

    _last_line_s = 0.0

    @staticmethod
    def choose(*, progress: bool) -> "Display":
        """The display of this process; the log alone with `progress=False`."""
        if progress and _in_notebook():
            return NotebookDisplay()
        return TerminalDisplay() if progress and sys.stderr.isatty() else Display()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the display."""

    def say(self, text: str) -> None:
        """Report a message."""
        log.log(logging.WARNING if text.startswith("Warning") else logging.INFO, "%s", safe_text(text))

    def show(self, view: StatusView, *, worker_starting: bool = False) -> None:
        """Report the progress; at most a line in ten seconds. `worker_starting`: the call starts a worker."""
        if time.monotonic() - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = time.monotonic()
            log.info("%s", status_text.log_line(view, worker_starting=worker_starting))


class TerminalDisplay(Display):
    """The panel of `askmill run`, and messages, on stderr."""

    def __init__(self) -> None:
        self._panel: Any = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._panel is not None:
            self._panel.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        if self._panel is not None:
            self._panel.note(safe_text(text))
        else:
            sys.stderr.write(safe_text(text) + "\n")

    def show(self, view: StatusView, *, worker_starting: bool = False) -> None:
        if self._panel is None:
            self._panel = Progress(worker_starting=worker_starting).__enter__()
        self._panel.show(view)


class NotebookDisplay(Display):
    """A bar under the cell, which stays there; messages above it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = ""

    def say(self, text: str) -> None:
        sys.stderr.write(safe_text(text) + "\n")

    def show(self, view: StatusView, *, worker_starting: bool = False) -> None:
        from IPython.display import HTML, display  # noqa: PLC0415 -- only a notebook has it

        page = bar_html(view, worker_starting=worker_starting)
        if page == self._shown:
            return
        self._shown = page
        if self._handle is None:
            self._handle = display(HTML(page), display_id=True)
        else:
            self._handle.update(HTML(page))


def bar_html(view: StatusView, *, worker_starting: bool = False) -> str:
    """The progress as HTML: a bar, and the lines of `askmill status` below it."""
    counts, rows = view.counts.by_status, max(view.batch.rows, 1)
    parts = [
        (COLOURS.get(status, OTHER_COLOUR), 100 * number / rows)
        for status, number in sorted(counts.items(), key=lambda item: _place(item[0]))
        if number
    ]
    bar = "".join(f'<div style="width:{share:.2f}%;background:{colour}"></div>' for colour, share in parts)
    lines = [
        status_text.header_line(view) + status_text.share(view),
        status_text.counts_line(view),
        status_text.pace_line(view),
        status_text.usage_line(view),
        status_text.fault_line(view),
        status_text.waiting_line(view),
        stall_or_start(view, worker_starting=worker_starting),
    ]
    text = "<br>".join(html.escape(line) for line in lines if line)
    return (
        '<div style="display:flex;height:8px;max-width:40em;border-radius:4px;overflow:hidden;margin:4px 0">'
        f'{bar}</div><div style="font-size:90%">{text}</div>'
    )


def _place(status: str) -> int:
    """The place in the bar: completed rows first, then the others that ended, then the unfinished."""
    return {"completed": 0, "running": 2, "queued": 3}.get(status, 1)


def _in_notebook() -> bool:
    """Whether the caller is a cell of a notebook."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")

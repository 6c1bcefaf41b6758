"""Show an answer while it arrives: text, tool calls with their code and logs, sources."""

from collections.abc import Callable

from askmill.config.text import redact, strip_control
from askmill.jobs.model.api_errors import next_step, report_of_text

OPENS, CLOSES = "【", "】"


class Screen:
    """Writes the stream of one answer after the other. `write` takes text without a line end of its own.

    The API's citation markers, which are unreadable, become `[1]`, `[2]`, … as they stream by.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._at_start = True
        self._marker: str | None = None
        self._markers: list[str] = []

    def begin(self) -> None:
        """Start a new answer."""
        self._marker, self._markers = None, []

    def text(self, piece: str) -> None:
        """Show a piece of the answer; a marker may be split over several pieces."""
        for letter in piece:
            if letter == OPENS:
                self._marker = ""
            elif self._marker is not None and letter == CLOSES:
                self._cite(self._marker)
                self._marker = None
            elif self._marker is not None:
                self._marker += letter
            else:
                self._put(letter)

    def _cite(self, marker: str) -> None:
        if marker not in self._markers:
            self._markers.append(marker)
        self._put(f"[{self._markers.index(marker) + 1}]")

    def line(self, text: str) -> None:
        """Show a separate line."""
        if not self._at_start:
            self._put("\n")
        self._put(f"{text}\n")

    def tool(self, name: str, *details: str) -> None:
        """Show a tool call, with its input and output indented below."""
        self.line(f"  · {name}")
        for detail in details:
            for row in detail.strip("\n").splitlines():
                self.line(f"      {row}")

    def sources(self, names: list[str]) -> None:
        """Show the files that the answer cites."""
        for number, name in enumerate(names, 1):
            self.line(f"  [{number}] {name}")

    def waiting(self) -> None:
        """Show that an earlier answer locks the thread."""
        self.line("(an earlier answer still holds this thread; waiting for its end)")

    def generated(self, names: list[str]) -> None:
        """Show files that the answer generated: they stay at the API, from where a batch would fetch them."""
        for name in names:
            self.line(f"  (made {name}, which `run` would keep)")

    def ended(self, kind: str, status: str, error: str) -> None:
        """A run that did not complete: the API's words, and kind to do about them where that is known."""
        self.line(f"(the {kind} ended {status}{error and ': '}{redact(error)})")
        if step := next_step(report_of_text(error)):
            self.line(step)

    def end(self) -> None:
        """End the answer."""
        if not self._at_start:
            self._put("\n")

    def _put(self, text: str) -> None:
        if text:
            self._write(strip_control(text))
            self._at_start = text.endswith("\n")

"""When to look at a run again: planned from the run times its batch has shown, never a fixed second.

Pure: run times come in, seconds go out. A server's own hint (`openai-poll-after-ms`, read anew each time)
is never undercut while nothing better is known.
"""

from bisect import insort
from collections import deque
from dataclasses import dataclass, field


@dataclass
class RunTimes:
    """The latest run times of one batch on this worker, in seconds."""

    kept: int = 200
    _arrived: deque[float] = field(default_factory=deque)
    _sorted: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Another run has ended after `seconds`."""
        if len(self._arrived) == self.kept:
            self._sorted.remove(self._arrived.popleft())
        self._arrived.append(seconds)
        insort(self._sorted, seconds)

    def next_look_s(self, elapsed_s: float, hint_s: float | None = None) -> float:
        """Seconds until the next look at a run that has taken `elapsed_s` so far."""
        later = [seconds for seconds in self._sorted if seconds > elapsed_s]
        if len(later) < 3:
            grown = max(0.05, min(10.0, elapsed_s * 0.2))
            return max(grown, min(hint_s or 0.0, 10.0)) if not self._sorted else grown
        target = later[len(later) // 4]
        return min(60.0, max(0.01, (target - elapsed_s) * 1.02))

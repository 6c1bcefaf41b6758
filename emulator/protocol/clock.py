"""The emulator's clock: Unix seconds, advanced by a clock that cannot be set."""

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """`now` never jumps. `offset_s`: how far this server's clock is ahead of the machine's, or behind it."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self._ahead_s = time.time() + offset_s - time.clock_gettime(_BOOTTIME)

    def now(self) -> float:
        """Unix seconds by this clock."""
        return time.clock_gettime(_BOOTTIME) + self._ahead_s

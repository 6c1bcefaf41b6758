"""A Redis that loses power: it ends at once, and what it wrote to its append-only file lately is gone."""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.stack import Stack

SAMPLE_S = 0.02


class PowerLoss:
    """Records how the append-only file of a stack's Redis grows: `with PowerLoss(stack) as power: power.cut(1)`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sizes: list[tuple[float, int]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def cut(self, seconds: float) -> int:
        """Kill Redis, cut off what it wrote in the last `seconds`, start it again; returns the bytes lost."""
        self.stack.redis.kill()
        before = time.monotonic() - seconds
        size = next((size for at, size in reversed(self.sizes) if at <= before), 0)
        file = self._file()
        lost = file.stat().st_size - size
        with file.open("r+b") as log:
            log.truncate(size)
        self.stack.redis.start()
        self.stack.wait_for_servers()
        return lost

    def _file(self) -> Path:
        (file,) = self.stack.folder.glob("redis/appendonlydir/*.incr.aof")
        return file

    def _record(self) -> None:
        while not self._end.wait(SAMPLE_S):
            self.sizes.append((time.monotonic(), self._file().stat().st_size))

"""Clocks that a test sets: of a worker (stepped_worker.py) and of a Redis (libfaketime)."""

from pathlib import Path

from tests.stack import HELPERS, Child, Stack

LIBRARY = "libfaketimeMT.so.1"


def faketime_library() -> Path | None:
    """The library that gives one process its own clock, where it is installed."""
    for folder in ("/usr/lib", "/usr/local/lib", "/opt"):
        for library in Path(folder).glob(f"**/faketime/{LIBRARY}"):
            return library
    return None


class WallClock:
    """A clock that the test sets. A rename replaces the file, so a reader never sees half a number."""

    def __init__(self, folder: Path, name: str = "wall-clock") -> None:
        self.file = folder / name
        self.set(0)

    def set(self, ahead_s: float, rate: float = 1.0) -> None:
        """Set how far the clock is ahead; a clock with another `rate` than 1 drifts (of a Redis only)."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead_s:+g}" + (f" x{rate:g}" if rate != 1.0 else "") + "\n")
        new.replace(self.file)

    def worker(self, stack: Stack, concurrency: int, times: dict[str, float] | None = None) -> Child:
        """Start a worker that reads this wall clock."""
        worker = stack.worker(concurrency, times, MILL_WALL_CLOCK=str(self.file))
        worker.kill()
        script = str(HELPERS / "workers" / "stepped_worker.py")
        worker.command[2 : 4 if times is None else 3] = [script]
        return worker.start()

    def redis_env(self) -> dict[str, str]:
        """The environment of a Redis that reads this clock."""
        return {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
        }

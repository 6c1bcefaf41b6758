"""What a Redis had written when: the size of its append-only file, noted every 50 ms, so that a test can cut it."""

import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Self

INTERVAL_S = 0.05
KEPT_S = 15.0


class WriteHistory:
    """Notes the sizes of the append-only files of all servers in `root` while the `with` block runs.

    A server killed by a power cut loses what it has written since its last fsync. Its file then is what it was at
    that moment: a file of the size that it had, for nothing but its end ever changes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sizes = deque[tuple[float, dict[Path, int]]](maxlen=int(KEPT_S / INTERVAL_S))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._note)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _note(self) -> None:
        while not self._end.wait(INTERVAL_S):
            self._sizes.append((time.monotonic(), self.sizes(self._root)))

    def sizes(self, folder: Path) -> dict[Path, int]:
        """The size in bytes of each file of appended commands below the folder, now."""
        sizes = dict[Path, int]()
        with suppress(FileNotFoundError):  # a server that ends has just removed its folder
            for file in folder.glob("**/appendonlydir/*.incr.aof"):
                with suppress(FileNotFoundError):  # a rewrite has just replaced it
                    sizes[file] = file.stat().st_size
        return sizes

    def cut(self, data: Path, killed_s: float, lost_s: float) -> int:
        """Take away what the server in `data` wrote in the last `lost_s` before `killed_s`; returns the bytes.

        The server is not running. The last command may be cut in its middle, as by a power cut.
        """
        earlier = [sizes for at_s, sizes in list(self._sizes) if at_s <= killed_s - lost_s]
        assert earlier, f"no sizes are known from {lost_s:.1f} s before the cut"
        lost = 0
        for file, size in self.sizes(data).items():
            kept = min(size, earlier[-1].get(file, 0))
            lost += size - kept
            with file.open("r+b") as content:
                content.truncate(kept)
        return lost

"""A real worker whose wall clock a test may set: the file MILL_WALL_CLOCK says how far it is ahead, in seconds.

The clock is replaced before anything else is imported, so that every library of the process reads it too.
(libfaketime cannot do it for Python: since 3.11 `time.sleep` fails under it with EINVAL.)
"""

import os
import runpy
import time
from pathlib import Path

_file, _true, _true_ns = Path(os.environ["MILL_WALL_CLOCK"]), time.time, time.time_ns


def _ahead_s() -> float:
    return float(_file.read_text())


time.time = lambda: _true() + _ahead_s()
time.time_ns = lambda: _true_ns() + int(_ahead_s() * 1e9)
if "MILL_TIMES" in os.environ:
    runpy.run_path(str(Path(__file__).with_name("quick_worker.py")), run_name="__main__")
else:
    runpy.run_module("askmill.worker", run_name="__main__")

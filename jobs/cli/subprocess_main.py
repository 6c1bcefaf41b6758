"""`python -P -m askmill.jobs.cli.subprocess_main FAULT_FILE COMMAND …`: the other end of askmill/client.py.

Does one command as the console script does it, except that an error is written to FAULT_FILE, by its class,
and that it ends with the process that called, however that ended.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from askmill.jobs.cli.exit_codes import error_to_json
from askmill.jobs.cli.root import run_for_api

LOOK_EVERY_S = 1.0


def main() -> int:
    """Returns the command's exit code."""
    fault_file, *words = sys.argv[1:]
    threading.Thread(target=_end_with, args=(os.getppid(),), name="askmill-caller", daemon=True).start()
    try:
        return run_for_api(words)
    except BaseException as ended:  # noqa: BLE001 -- every ending is told
        Path(fault_file).write_text(json.dumps(error_to_json(ended)), encoding="utf-8")
        return 1


def _end_with(caller: int) -> None:
    """A caller that was killed leaves us with another parent; what was begun is stored."""
    while os.getppid() == caller:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
